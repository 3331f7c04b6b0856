"""The engine: many requests, one model.

Theory of operation.  A score request becomes a job; what the memo knows is answered from it, and
what it lacks waits as items, one per text.  Threads of the engine's own take items from a ring of
jobs, so that jobs take turns: a thread reads windows of one item until it has read a quantum of
tokens, gives an unfinished item back, and serves the next job.  A small request thus waits for a
quantum of each larger one, never for the whole of it.  Short texts of a job are read in one call
where the model gives each the bits that it gets alone: a few on a processor, thousands of tokens on
a GPU.  Background jobs (prefetch) are served only when nobody waits.

A job whose future was cancelled, by a caller that hung up or a deadline that passed, is dropped
when it is next to be served, and its item in work at the next window.  What was read up to then
stays in the memo.  A model that raises, or answers with NaN, fails the job that asked, and no
other.  Everything that a window's vectors depend on is in the window: neither threads nor turns
can move a score (law 9).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from itertools import count
from threading import Condition, Thread
from typing import Any, Final

from proxy.compress.ports import Document, ScoreRequest, Scores
from proxy.engine.jobs import Item, Job, Ring, is_finite
from proxy.engine.pace import Pace
from proxy.errors import DeadlineExceeded, Overloaded, ScorerFailed
from proxy.memo import VectorMemo
from proxy.memo.vectors import Vectors
from proxy.scorers.ensemble import Asked, Models
from proxy.scorers.pooling import Steps
from proxy.types import Span

QUANTUM_TOKENS: Final = 512
_WARM_UP: Final = "The engine reads this line a few times, so that it knows how fast it reads. " * 8
_CLOSE_S: Final = 5.0
_PREFETCH_TOKENS: Final = 200_000  # more would push everything else out of the memo


class Engine:
    """Answers score requests from one model and one memo.  Any thread may ask."""

    def __init__(
        self,
        load: Callable[[], Models],
        memo: VectorMemo,
        *,
        threads: int = 1,
        queue_entries: int = 64,
        prefetch_entries: int = 16,
    ) -> None:
        """Use the scorer that ``load`` returns, called in the engine's first thread.

        ``threads`` read windows side by side; at most ``queue_entries`` requests wait, and
        ``prefetch_entries`` background ones.
        """
        self._load = load
        self._memo = memo
        self._limit = queue_entries
        self._prefetch_limit = prefetch_entries
        self._changed = Condition()  # guards everything below
        self._scorer: Models | None = None
        self._loaded: Future[None] = Future()
        self._asked, self._background = Ring(), Ring()
        self._open: dict[int, Job] = {}  # by id: the jobs that someone waits for
        self._pace = Pace()
        self._closing = False
        first = Thread(target=self._load_and_work, name="laconic-model-0", daemon=True)
        others = (
            Thread(target=self._work, name=f"laconic-model-{i}", daemon=True)
            for i in range(1, threads)
        )
        self._threads = [first, *others]

    def start(self) -> None:
        """Begin loading the model; returns at once."""
        self._threads[0].start()

    def ready(self) -> bool:
        """Tell whether the model is loaded and warm."""
        return self._scorer is not None and not self._closing

    async def wait_ready(self) -> None:
        """Wait until the model is loaded; raises what loading raised."""
        await asyncio.shield(asyncio.wrap_future(self._loaded))

    def wait_ready_blocking(self, timeout_s: float | None = None) -> None:
        """Wait, without an event loop, until the model is loaded; raises what loading raised."""
        self._loaded.result(timeout_s)

    def close(self, timeout_s: float = _CLOSE_S) -> bool:
        """Stop after the windows in work; who still waits gets ScorerFailed.

        A thread that hangs in the model is left behind after ``timeout_s``.  Return whether none
        was.
        """
        with self._changed:
            self._closing = True
            self._asked, self._background = Ring(), Ring()
            for job in list(self._open.values()):
                _fail(job, ScorerFailed("the engine was closed"))
            self._changed.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def revision(self) -> str:
        """The scorer's revision; empty until it is loaded."""
        return "" if self._scorer is None else self._scorer.revision

    @property
    def queued(self) -> int:
        """How many requests wait or are in work."""
        return len(self._open)

    @property
    def tokens_per_s(self) -> float:
        """The measured speed of one thread, in encoder tokens."""
        return 1 / self._pace.s_per_token

    def submit(self, request: ScoreRequest, *, within_s: float | None = None) -> Future[Scores]:
        """Take a request in; cancelling the future drops the work.  May hash much: not for a loop.

        The future fails with ScorerFailed, with its cause.  Raises Overloaded (the queue is full,
        or the model still loading) and DeadlineExceeded, where the answer would, by the pace so
        far and with all that waits, take longer than ``within_s`` seconds.
        """
        scorer = self._scorer
        if self._closing or scorer is None:
            raise Overloaded("the model is not ready")
        known: dict[int, Vectors] = {}
        missing: list[Item] = []
        for item in self._items(scorer, request):
            found = self._memo.get(item.key)
            if found is None:
                missing.append(item)
            else:
                known[item.place] = found
        job = _job(request, missing, known)
        if not missing:
            job.future.set_result(job.scores())
            return job.future
        if within_s is not None:
            predicted_s = self._predict_s(self._lacking(missing))
            if predicted_s > within_s:
                raise DeadlineExceeded(
                    f"would take {predicted_s:.3g} s, found {within_s:.3g} s left"
                )
        self._enqueue(job)
        return job.future

    def score_blocking(self, request: ScoreRequest, *, deadline_s: float | None = None) -> Scores:
        """Submit, and wait at most ``deadline_s`` seconds.  Raises what either raises."""
        future = self.submit(request)
        try:
            return future.result(deadline_s)
        except TimeoutError as error:
            future.cancel()
            raise DeadlineExceeded(f"not scored within {deadline_s} s") from error

    def _predict_s(self, lacking: Sequence[Item]) -> float:
        """Guess the seconds until these would be read, taking turns with what waits."""
        with self._changed:
            others = [job.remaining for job in self._asked]
        own = sum(item.estimate for item in lacking)
        if not own:
            return 0.0
        ahead = sum(min(other, own) for other in others)
        side_by_side = min(len(self._threads), len(lacking) + len(others))
        return (own + ahead) * self._pace.s_per_token / side_by_side

    def prefetch(self, request: ScoreRequest) -> None:
        """Embed into the memo when nobody waits; dropped where too much waits already."""
        with self._changed:
            scorer = self._scorer
            full = len(self._background) >= self._prefetch_limit
        if scorer is None or full or self._closing:
            return
        missing = self._lacking(list(self._items(scorer, request)))
        if 0 < sum(item.estimate for item in missing) <= _PREFETCH_TOKENS:
            with self._changed:
                self._background.add(_job(request, missing, {}))
                self._changed.notify()

    def _enqueue(self, job: Job) -> None:
        with self._changed:
            if self._closing or len(self._open) >= self._limit:
                raise Overloaded(f"{len(self._open)} requests wait, wanted at most {self._limit}")
            self._open[id(job)] = job
            job.future.add_done_callback(lambda _: self._open.pop(id(job), None))
            self._asked.add(job)
            self._changed.notify_all()

    def _items(self, scorer: Models, request: ScoreRequest) -> Iterator[Item]:
        """Make an item of each text: documents, questions, passages, classified texts."""
        memo, revision, guess = self._memo, scorer.revision, scorer.estimate_tokens
        place = count()
        for d in request.documents:
            key = memo.document_key(revision, d)
            yield Item(next(place), key, guess(d.text), Asked.DOCUMENT, d)
        for q in request.questions:
            yield Item(next(place), memo.question_key(revision, q), guess(q), Asked.QUESTION, q)
        for p in request.passages:
            yield Item(next(place), memo.passage_key(revision, p), guess(p.text), Asked.PASSAGE, p)
        for t in request.classified:
            yield Item(next(place), memo.classified_key(revision, t), guess(t), Asked.CLASSIFIED, t)

    def _lacking(self, items: Sequence[Item]) -> list[Item]:
        """Return the items that a model would have to read.  Looks on the memo's shelf, too."""
        lacking = self._memo.lacks([item.key for item in items])
        return [item for item in items if item.key in lacking]

    def _load_and_work(self) -> None:
        try:
            scorer = self._load()
            self._warm_up(scorer)
        except BaseException as error:  # noqa: BLE001 - who waits for the model is told, whatever it is
            self._loaded.set_exception(error)
            return
        self._scorer = scorer
        self._loaded.set_result(None)
        for thread in self._threads[1:]:
            thread.start()
        self._work()

    def _warm_up(self, scorer: Models) -> None:
        """Read a little, twice: the first time allocates, the second is measured."""
        document = Document(_WARM_UP, (Span(0, len(_WARM_UP)),))
        for _ in range(2):
            started_s = time.perf_counter()
            tokens = sum(scorer.documents_steps([document]))
            elapsed_s = time.perf_counter() - started_s
        self._pace.measured(tokens, elapsed_s)

    def _work(self) -> None:
        """Serve the ring until the engine closes."""
        while True:
            with self._changed:
                taken = self._take()
                while taken is None and not self._closing:
                    self._changed.wait()
                    taken = self._take()
            if taken is None:
                return
            self._serve(*taken)

    def _take(self) -> tuple[Ring, Job, list[Item]] | None:
        if self._scorer is None or self._closing:
            return None
        for ring in (self._asked, self._background):
            taken = ring.take(self._scorer.together, len(self._threads))
            if taken is not None:
                return ring, *taken
        return None

    def _serve(self, ring: Ring, job: Job, items: list[Item]) -> None:
        """Read a quantum of the items; then they are done, go back, or fail with their job."""
        started_s = time.perf_counter()
        if job.begun_s is None:
            job.begun_s = started_s
        try:
            tokens, done = self._read(job, items)
        except BaseException as error:  # noqa: BLE001 - a panic must not end the thread
            with self._changed:
                job.in_work -= len(items)
                _fail(job, _translated(error))
            return
        elapsed_s = time.perf_counter() - started_s
        estimate = sum(item.estimate for item in items)
        with self._changed:
            self._pace.measured(tokens, elapsed_s)
            job.in_work -= len(items)
            job.model_s += elapsed_s
            job.scored_tokens += tokens
            job.remaining = max(job.remaining - (estimate if done else tokens), 0)
            self._put_away(ring, job, items, done)

    def _read(self, job: Job, items: list[Item]) -> tuple[int, dict[int, Vectors]]:
        """Read until a quantum is full, the items are complete, or nobody wants them.

        Returns the tokens read and, once they are complete, the items' vectors by place.
        """
        # Another job may have read it meanwhile, or another process: the shelf is asked here, not
        # where the request came in, because it is a disk.
        fresh = {item.place: item.key for item in items if item.steps is None}
        looked = {place: self._memo.fetch(key) for place, key in fresh.items()}
        found = {place: vectors for place, vectors in looked.items() if vectors is not None}
        if found:
            with self._changed:
                job.found(len(found))
        left = [item for item in items if item.place not in found]
        tokens, vectors = self._read_on(job, left) if left else (0, [])
        for item, each in zip(left, vectors, strict=False):
            if not is_finite(each):
                raise FloatingPointError("the model answered with NaN or infinity")
            self._memo.put(item.key, each)
            found[item.place] = each
        return tokens, found if len(found) == len(items) else {}

    def _read_on(self, job: Job, items: list[Item]) -> tuple[int, list[Vectors]]:
        """Read one item for a quantum, or several to their end: they were taken as they are short.

        Returns the tokens read and, once they are complete, the vectors.
        """
        steps = items[0].steps or self._begin(items)
        tokens = 0
        while not job.future.done() and (len(items) > 1 or tokens < QUANTUM_TOKENS):
            try:
                tokens += next(steps)
            except StopIteration as done:
                return tokens, done.value
        items[0].steps = steps
        return tokens, []

    def _begin(self, items: Sequence[Item]) -> Steps[list[Vectors]]:
        scorer = self._scorer
        assert scorer is not None  # noqa: S101 - who reads has a model
        ways: dict[Asked, Callable[[Any], Steps[Any]]] = {
            Asked.DOCUMENT: scorer.documents_steps,
            Asked.QUESTION: scorer.questions_steps,
            Asked.PASSAGE: scorer.passages_steps,
            Asked.CLASSIFIED: scorer.classified_steps,
        }
        return ways[items[0].asked]([item.text for item in items])

    def _put_away(self, ring: Ring, job: Job, items: list[Item], done: dict[int, Vectors]) -> None:
        if done:
            for place, vectors in done.items():
                job.vectors[place] = vectors
            if job.finished:
                _answer(job)
        elif not job.future.done():
            ring.give_back(job, items)
            self._changed.notify()


def _job(request: ScoreRequest, missing: list[Item], known: dict[int, Vectors]) -> Job:
    parts = (request.documents, request.questions, request.passages, request.classified)
    places = sum(map(len, parts))
    return Job(
        vectors=[known.get(place) for place in range(places)],
        waiting=deque(missing),
        submitted_s=time.perf_counter(),
        memo_hits=len(known),
    )


def _answer(job: Job) -> None:
    if not job.future.done() and job.future.set_running_or_notify_cancel():
        job.future.set_result(job.scores())


def _fail(job: Job, error: ScorerFailed) -> None:
    if not job.future.done() and job.future.set_running_or_notify_cancel():
        job.future.set_exception(error)


def _translated(error: BaseException) -> ScorerFailed:
    """Say what kind of error it was; its message may quote text (law 11)."""
    failed = ScorerFailed(f"the model raised {type(error).__name__}")
    failed.__cause__ = error
    return failed
