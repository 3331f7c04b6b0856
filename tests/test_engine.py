import asyncio
import re
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from fakes import HashScorer, models_of
from hypothesis import given
from hypothesis import strategies as st

from proxy.compress.ports import (
    Document,
    Heard,
    Passage,
    ScoreRequest,
    ScoreTimings,
    SelfInformation,
)
from proxy.engine import Engine
from proxy.engine.jobs import Item, dealt
from proxy.engine.pace import Pace
from proxy.errors import DeadlineExceeded, Overloaded, PolicyError, ScorerFailed
from proxy.memo import DiskMemo, DiskShelf, VectorMemo
from proxy.scorers.ensemble import Asked, Ensemble
from proxy.scorers.pooling import States, Together
from proxy.scorers.shapes import shaped_batches
from proxy.types import Span

SOON_S = 20  # never waited for, unless something is broken


def doc(text):
    return Document(text, (Span(0, len(text)),))


def ask(*texts, questions=()):
    return ScoreRequest(tuple(doc(text) for text in texts), tuple(questions))


def whale(windows):
    return ask(" ".join(f"word{i}" for i in range(HashScorer.window * windows)))


@contextmanager
def engine_of(scorer, memo=None, **options):
    models = models_of(scorer)
    engine = Engine(lambda: models, memo or VectorMemo(), **options)
    engine.start()
    engine.wait_ready_blocking(SOON_S)
    if isinstance(scorer, Gated):
        scorer.arm()
    try:
        yield engine
    finally:
        if isinstance(scorer, Gated):
            scorer.open()
        engine.close()


class Gated(HashScorer):
    """Once armed, stops before each window until it is let through; says which it read."""

    def __init__(self):
        super().__init__()
        self.read_texts = []
        self.at_gate = threading.Semaphore(0)
        self._let = threading.Semaphore(0)
        self._armed = False

    def arm(self):
        self._armed = True

    def open(self):
        self._armed = False
        self._let.release(1000)

    def let(self, windows=1):
        self._let.release(windows)

    def arrived(self):
        assert self.at_gate.acquire(timeout=SOON_S)

    def read(self, ids):
        if self._armed:
            self.at_gate.release()
            assert self._let.acquire(timeout=SOON_S)
            self.read_texts.append(len(ids))
        return super().read(ids)


class Broken(HashScorer):
    """Fails on any text that holds the word 'bad'."""

    def __init__(self, error):
        super().__init__()
        self._error = error

    def tokenise(self, text):
        if "bad" in text:
            raise self._error
        return super().tokenise(text)


class Nan(HashScorer):
    def read(self, ids):
        states = super().read(ids)
        spoilt = len(ids) == 3
        return States(states.final * (np.nan if spoilt else 1), states.middle)


async def score(engine, request, deadline_s=None):
    """Submit and wait, as the gateway does; cancelling drops the work."""
    return await asyncio.wait_for(asyncio.wrap_future(engine.submit(request)), deadline_s)


def predicted_s(engine, request):
    """Return how long the engine thinks that a request would take; nothing is queued."""
    try:
        engine.submit(request, within_s=-1)
    except DeadlineExceeded as late:
        return float(re.match(r"would take (\S+) s", str(late))[1])
    return 0.0


async def until_arrived(scorer):
    await asyncio.to_thread(scorer.arrived)


async def test_scores_come_in_the_order_of_the_request():
    scorer = HashScorer()
    request = ask("one two", "three", "one two", questions=["four five", "six"])
    with engine_of(scorer, threads=3) as engine:
        scores = await score(engine, request)
    expected = scorer.embed_documents(request.documents)
    assert [d.whole.tolist() for d in scores.documents] == [d.whole.tolist() for d in expected]
    assert [d.unit_tokens.tolist() for d in scores.documents] == [[2], [1], [2]]
    questions = scorer.embed_questions(request.questions)
    assert [q.final.tolist() for q in scores.questions] == [q.final.tolist() for q in questions]


async def test_an_empty_request_is_answered_without_the_model():
    with engine_of(Gated()) as engine:
        scores = await score(engine, ScoreRequest())
    assert (scores.documents, scores.questions) == ((), ())
    assert scores.timings == ScoreTimings()


async def test_what_the_memo_knows_costs_no_model_time():
    scorer = Gated()
    with engine_of(scorer) as engine:
        scorer.let(2)
        first = await score(engine, ask("red fox", questions=["who"]))
        again = await score(engine, ask("red fox", questions=["who"]))
    assert first.timings.scored_tokens == 3
    assert (first.timings.memo_hits, first.timings.memo_misses) == (0, 2)
    assert again.timings == ScoreTimings(memo_hits=2)
    assert again.documents[0] is first.documents[0]


async def test_only_what_the_memo_lacks_is_read():
    scorer = Gated()
    with engine_of(scorer) as engine:
        scorer.let(1)
        await score(engine, ask("red fox"))
        scorer.let(1)
        scores = await score(engine, ask("red fox", "one two three"))
    assert scorer.read_texts == [2, 3]
    assert (scores.timings.memo_hits, scores.timings.memo_misses) == (1, 1)


async def test_equal_documents_in_one_request_are_read_once():
    scorer = Gated()
    with engine_of(scorer) as engine:
        scorer.let(1)
        scores = await score(engine, ask("red fox", "red fox", "red fox"))
    assert scorer.read_texts == [2]
    assert len(scores.documents) == 3


async def test_a_full_queue_is_overloaded():
    scorer = Gated()
    with engine_of(scorer, queue_entries=2) as engine:
        waiting = [asyncio.create_task(score(engine, ask(text))) for text in ("one", "two")]
        await until_arrived(scorer)
        assert engine.queued == 2
        with pytest.raises(Overloaded):
            await score(engine, ask("three"))
        scorer.let(2)
        await asyncio.gather(*waiting)
        assert engine.queued == 0
        scorer.let(1)
        await score(engine, ask("three"))


async def test_a_deadline_that_passes_ends_the_wait_and_frees_the_queue():
    scorer = Gated()
    with engine_of(scorer, queue_entries=1) as engine:
        with pytest.raises(TimeoutError):
            await score(engine, ask("one"), deadline_s=0.01)
        assert engine.queued == 0
        scorer.let(2)
        await score(engine, ask("two three"))


def test_a_deadline_binds_a_blocking_request_too():
    scorer = Gated()
    with engine_of(scorer) as engine:
        with pytest.raises(DeadlineExceeded):
            engine.score_blocking(ask("one"), deadline_s=0.01)
        assert engine.queued == 0


async def test_a_cancelled_request_stops_at_the_next_window():
    scorer = Gated()
    with engine_of(scorer) as engine:
        task = asyncio.create_task(score(engine, whale(10)))
        await until_arrived(scorer)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        scorer.let(2)
        await score(engine, ask("two three"))
    assert scorer.read_texts == [HashScorer.window, 2]


async def test_a_request_cancelled_while_queued_is_never_read():
    scorer = Gated()
    with engine_of(scorer) as engine:
        first = asyncio.create_task(score(engine, ask("one")))
        await until_arrived(scorer)
        queued = asyncio.create_task(score(engine, ask("one two three")))
        last = asyncio.create_task(score(engine, ask("one two")))
        await asyncio.sleep(0)
        queued.cancel()
        await asyncio.sleep(0)
        scorer.let(2)
        await asyncio.gather(first, last)
    assert scorer.read_texts == [1, 2]


async def test_a_small_request_does_not_wait_for_the_whole_of_a_large_one():
    scorer = Gated()
    with engine_of(scorer) as engine:
        large = asyncio.create_task(score(engine, whale(100)))
        await until_arrived(scorer)
        small = asyncio.create_task(score(engine, ask("one two three")))
        await asyncio.sleep(0)
        scorer.let(17)  # a quantum of 16 windows, and the small one
        await small
        assert not large.done()
        assert scorer.read_texts == [HashScorer.window] * 16 + [3]
        scorer.let(100)
        await large


async def test_prefetch_waits_for_those_who_ask():
    scorer = Gated()
    with engine_of(scorer) as engine:
        first = asyncio.create_task(score(engine, ask("one")))
        await until_arrived(scorer)
        engine.prefetch(ask("one two three"))
        second = asyncio.create_task(score(engine, ask("one two")))
        await asyncio.sleep(0)
        scorer.let(2)
        await asyncio.gather(first, second)
        for _ in range(2):
            await until_arrived(scorer)
        scorer.let(1)
        scorer.open()
        again = await score(engine, ask("one two three"))
    assert scorer.read_texts[:2] == [1, 2]
    assert len(again.documents) == 1


async def test_what_was_prefetched_is_in_the_memo():
    scorer = Gated()
    with engine_of(scorer) as engine:
        engine.prefetch(ask("one two three"))
        await until_arrived(scorer)
        engine.prefetch(ask("four"))
        scorer.let(1)
        await until_arrived(scorer)  # the first is done: the second is at the gate
        scores = await score(engine, ask("one two three"))
    assert scores.timings == ScoreTimings(memo_hits=1)


async def test_prefetch_beyond_its_limit_is_dropped_silently():
    scorer = Gated()
    with engine_of(scorer, prefetch_entries=1) as engine:
        engine.prefetch(ask("one"))
        await until_arrived(scorer)
        for words in ("a b", "a b c", "a b c d"):
            engine.prefetch(ask(words))
        assert len(engine._background) == 1
        scorer.let(3)
        await score(engine, ask("a b c d e"))
    assert set(scorer.read_texts) <= {1, 2, 5}


@pytest.mark.parametrize("error", [RuntimeError("secret"), SystemError(), KeyboardInterrupt()])
async def test_a_model_that_raises_fails_the_request_with_its_cause(error):
    with engine_of(Broken(error)) as engine:
        with pytest.raises(ScorerFailed) as caught:
            await score(engine, ask("good", "bad", "good too"))
        scores = await score(engine, ask("good"))
    assert caught.value.__cause__ is error
    assert "secret" not in str(caught.value)
    assert len(scores.documents) == 1


async def test_prefetching_what_the_model_cannot_read_hurts_nobody():
    with engine_of(Broken(RuntimeError())) as engine:
        engine.prefetch(ask("bad"))
        assert len((await score(engine, ask("good"))).documents) == 1


async def test_an_answer_of_nan_is_a_failure_and_is_not_remembered():
    with engine_of(Nan()) as engine:
        for _ in range(2):
            with pytest.raises(ScorerFailed):
                await score(engine, ask("one two three"))
        assert len((await score(engine, ask("one two"))).documents) == 1


async def test_a_model_that_cannot_be_loaded_is_told_to_who_waits_for_it():
    def load():
        raise PolicyError("no such model")

    engine = Engine(load, VectorMemo())
    engine.start()
    with pytest.raises(PolicyError, match="no such model"):
        await engine.wait_ready()
    assert not engine.ready()
    with pytest.raises(Overloaded):
        await score(engine, ask("one"))
    engine.close()


async def test_before_the_model_is_loaded_requests_are_refused_and_nothing_waits():
    loading = threading.Event()

    def load():
        assert loading.wait(SOON_S)
        return models_of(HashScorer())

    engine = Engine(load, VectorMemo())
    engine.start()
    with pytest.raises(Overloaded):
        await score(engine, ask("one"))
    engine.prefetch(ask("one"))
    assert (engine.ready(), engine.revision) == (False, "")
    loading.set()
    await engine.wait_ready()
    assert (engine.ready(), engine.revision) == (True, "hash/1")
    assert len((await score(engine, ask("one"))).documents) == 1
    engine.close()


async def test_closing_fails_those_who_wait_and_ends_the_threads():
    scorer = Gated()
    engine = Engine(lambda: models_of(scorer), VectorMemo(), threads=2)
    engine.start()
    await engine.wait_ready()
    scorer.arm()
    tasks = [asyncio.create_task(score(engine, ask(text))) for text in ("a", "b c", "d e f")]
    await until_arrived(scorer)
    await until_arrived(scorer)
    closing = asyncio.create_task(asyncio.to_thread(engine.close, SOON_S))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [ScorerFailed] * 3
    scorer.open()
    await closing
    assert not any(thread.is_alive() for thread in engine._threads)
    with pytest.raises(Overloaded):
        await score(engine, ask("one"))


async def test_a_model_that_hangs_does_not_hold_up_closing():
    scorer = Gated()
    engine = Engine(lambda: models_of(scorer), VectorMemo())
    engine.start()
    await engine.wait_ready()
    scorer.arm()
    task = asyncio.create_task(score(engine, ask("one")))
    await until_arrived(scorer)
    await asyncio.to_thread(engine.close, 0.01)
    with pytest.raises(ScorerFailed):
        await task
    scorer.open()


async def test_prediction_grows_with_what_is_missing_and_what_waits():
    scorer = Gated()
    with engine_of(scorer) as engine:
        small, large = ask("one two three"), whale(50)
        alone = predicted_s(engine, small)
        assert 0 < alone < predicted_s(engine, large)
        task = asyncio.create_task(score(engine, large))
        await until_arrived(scorer)
        queued = asyncio.create_task(score(engine, whale(20)))
        await asyncio.sleep(0)
        assert alone < predicted_s(engine, small) < predicted_s(engine, large)
        scorer.open()
        await asyncio.gather(task, queued)
        await score(engine, small)
        assert predicted_s(engine, small) == 0.0


async def test_many_at_once_get_what_they_asked_for():
    scorer = HashScorer()
    requests = [ask(*(f"text {i} {j} " * (j * 9) for j in range(4))) for i in range(40)]
    with engine_of(scorer, threads=4) as engine:
        answers = await asyncio.gather(*(score(engine, request) for request in requests))
    for request, scores in zip(requests, answers, strict=True):
        for found, expected in zip(
            scores.documents, scorer.embed_documents(request.documents), strict=True
        ):
            assert np.array_equal(found.units, expected.units)


def test_the_first_measurement_replaces_the_guess_and_later_ones_are_smoothed():
    pace = Pace(1.0)
    pace.measured(100, 1.0)
    assert pace.s_per_token == pytest.approx(0.01)
    pace.measured(4096, 4096 * 0.03)
    assert pace.s_per_token == pytest.approx(0.02)
    pace.measured(0, 5.0)
    assert pace.s_per_token == pytest.approx(0.02)


# -- the memo's shelf ------------------------------------------------------------------------------


async def test_what_another_process_read_costs_no_model_time(tmp_path):
    scorer, path = HashScorer(), tmp_path / "memo.sqlite3"
    request = ask("one two", "three", questions=["four"])
    disk = DiskMemo(path, 2**20)
    with engine_of(scorer, VectorMemo(shelf=DiskShelf(disk))) as engine:
        first = await score(engine, request)
    disk.close()  # commits
    disk = DiskMemo(path, 2**20)
    with engine_of(scorer, VectorMemo(shelf=DiskShelf(disk))) as engine:
        assert predicted_s(engine, request) == 0.0
        again = await score(engine, request)
        newer = await score(engine, ask("one two", "five six seven"))
    disk.close()
    timings = [(s.timings.scored_tokens, s.timings.memo_hits) for s in (first, again, newer)]
    assert timings == [(4, 0), (0, 3), (3, 1)]
    assert again.timings.memo_misses == 0
    for one, other in zip(first.documents, again.documents, strict=True):
        assert one.units.tobytes() == other.units.tobytes()


class InOneCall(Gated):
    """Reads windows in one call; says how many tokens each call held."""

    together = Together(0, 8)

    def __init__(self):
        super().__init__()
        self.calls = []

    def read_together(self, windows):
        found = super().read_together(windows)
        self.calls.append([len(ids) for ids in windows])
        return found


async def test_short_documents_are_read_in_one_call():
    scorer = InOneCall()
    request = ask("one two", "three", "whale " * 40, "four", "five six", questions=["seven"])
    with engine_of(scorer) as engine:
        scorer.calls.clear()
        scorer.open()
        scores = await score(engine, request)
    assert scorer.calls == [[32], [8], [2, 1, 2, 1]]
    expected = HashScorer().embed_documents(request.documents)
    assert [d.whole.tolist() for d in scores.documents] == [d.whole.tolist() for d in expected]
    assert scores.timings.scored_tokens == 47


async def test_each_thread_is_left_its_share_of_short_documents():
    scorer = InOneCall()
    with engine_of(scorer, threads=4) as engine:
        scorer.calls.clear()
        scorer.open()
        await score(engine, ask("abcdefgh", "bcdefghi", "cdefghij", "defghijk"))
    assert scorer.calls == [[1], [1], [1], [1]]


async def test_equal_documents_are_not_read_in_one_call():
    scorer = InOneCall()
    with engine_of(scorer) as engine:
        scorer.calls.clear()
        scorer.open()
        scores = await score(engine, ask("red", "red", "fox"))
    assert scorer.calls == [[1, 1]]
    assert scores.documents[0] is scores.documents[1]


ITEMS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 60)), min_size=1, max_size=40)


@given(ITEMS, st.integers(0, 50), st.integers(0, 50), st.integers(1, 5))
def test_items_are_dealt_into_calls_of_about_equal_length(drawn, least, more, threads):
    items = [
        Item(place, bytes([key]), estimate, Asked.DOCUMENT, str(place))
        for place, (key, estimate) in enumerate(drawn)
    ]
    most = least + more
    calls = dealt(items, Together(least, most), threads)
    assert all(calls)
    assert sorted(item.place for call in calls for item in call) == [*range(len(items))]
    assert all(len({item.key for item in call}) == len(call) for call in calls)
    assert all(len(call) == 1 for call in calls if call[0].estimate > most)
    first, again = set(), []
    for call in calls:
        again += [item.key in first for item in call]
        first |= {item.key for item in call}
    assert again == sorted(again)  # what was met before comes last
    joined = [call for call in calls if len(call) > 1]
    if joined:
        tokens = [sum(item.estimate for item in call) for call in joined]
        longest = max(item.estimate for call in joined for item in call)
        assert max(tokens) - min(tokens) <= (2 * longest if least else longest)
        assert sum(tokens) / len(tokens) <= most + longest


@pytest.mark.parametrize(
    ("sizes", "threads", "loads"),
    [
        ([50] * 8, 2, [100] * 4),  # as many calls for each thread
        ([50] * 8, 1, [100] * 4),
        ([50] * 8, 3, [50] * 2 + [100] * 3),
        ([10] * 4, 8, [20, 20]),  # no call shorter than is worth it
        ([10] * 21, 2, [50] * 3 + [60]),
        ([90, 30, 30, 30], 2, [90, 90]),
        ([500, 10, 10], 2, [20, 500]),  # what is longer than goes together is alone
        ([5], 4, [5]),
        ([0, 0], 4, [0]),
    ],
)
def test_threads_end_together(sizes, threads, loads):
    items = [Item(n, bytes([n]), size, Asked.DOCUMENT, "") for n, size in enumerate(sizes)]
    calls = dealt(items, Together(20, 100), threads)
    assert sorted(sum(item.estimate for item in call) for call in calls) == loads


@pytest.mark.parametrize("longest", [40, 150, 400])
@pytest.mark.parametrize("texts", [20, 200, 2_000])
def test_calls_for_fixed_shapes_have_few_lengths_each(texts, longest):
    """A GPU reads whole batches of one shape: what does not fill them costs as if it did."""
    lengths = [10 + 7_919 * number % (longest - 9) for number in range(texts)]
    items = [Item(n, n.to_bytes(2), size, Asked.DOCUMENT, "") for n, size in enumerate(lengths)]

    def filled(calls):
        shapes = [shaped_batches([i.estimate for i in call], 8_192, 512) for call in calls]
        return sum(len([*found]) for found in shapes)

    calls = dealt(items, Together(8_192, 4 * 8_192), threads=4)
    assert filled([items]) <= filled(calls) <= filled([items]) + len(calls)


async def test_of_documents_taken_together_only_unknown_ones_are_read(tmp_path):
    scorer, path = InOneCall(), tmp_path / "memo.sqlite3"
    disk = DiskMemo(path, 2**20)
    with engine_of(HashScorer(), VectorMemo(shelf=DiskShelf(disk))) as engine:
        await score(engine, ask("red"))
    disk.close()  # commits
    disk = DiskMemo(path, 2**20)
    with engine_of(scorer, VectorMemo(shelf=DiskShelf(disk))) as engine:
        scorer.calls.clear()
        scorer.open()
        scores = await score(engine, ask("red", "fox", "hen"))
    disk.close()
    assert scorer.calls == [[1, 1]]
    assert (scores.timings.memo_hits, scores.timings.memo_misses) == (1, 2)


class Reads:
    """Rates passages by the length of their words; says which it was given together."""

    together = Together(6, 12)

    def __init__(self):
        self.calls = []

    def steps(self, passages):
        self.calls.append([passage.text for passage in passages])
        for passage in passages:
            yield len(passage.text.split())
        return [self._rated(passage.text) for passage in passages]

    def _rated(self, text):
        lengths = np.array([len(word) for word in text.split()], np.float32)
        places = np.arange(len(lengths), dtype=np.int32)
        return SelfInformation(lengths, places, places + 1)


def rating(*texts, heard=()):
    return ScoreRequest(passages=tuple(Passage(text, heard) for text in texts))


@pytest.mark.parametrize(
    ("threads", "calls"),
    [  # tokens are guessed: a quarter of the bytes
        (1, [["one two three four five", "nine ten eleven"], ["seven eight", "six"]]),
        (9, [["nine ten eleven"], ["one two three four five"], ["seven eight", "six"]]),
    ],
)
async def test_passages_are_read_together_as_many_as_a_call_is_worth(threads, calls):
    reader, texts = Reads(), ["one two three four five", "six", "seven eight", "nine ten eleven"]
    models = Ensemble(HashScorer(), reader=lambda: reader, classifier=None)
    engine = Engine(lambda: models, VectorMemo(0), threads=threads)
    engine.start()
    await engine.wait_ready()
    await score(engine, rating("loads it"))  # until it is loaded, one text is read at a time
    reader.calls.clear()
    scores = await score(engine, rating(*texts))
    heard = (Heard("before", ()),)
    await score(engine, rating("six seven", "eight nine", heard=heard))
    engine.close()
    assert sorted(reader.calls[: len(calls)]) == calls
    assert sorted(reader.calls[len(calls) :]) == [["eight nine"], ["six seven"]]
    rated = [passage.nats.tolist() for passage in scores.passages]
    assert rated == [[len(word) for word in text.split()] for text in texts]
    assert scores.timings.scored_tokens == sum(len(text.split()) for text in texts)
