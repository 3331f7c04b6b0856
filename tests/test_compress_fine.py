"""The cascade's fine stage: lesser units lose light words, so that more of them fit the budget."""

import numpy as np
import pytest
from driving import (
    ENCODING,
    Notes,
    Run,
    assistant,
    drive,
    examples,
    is_subsequence,
    passages,
    policy,
    turn,
    user,
)
from fake_lm import FakeLM, LmAnswers
from hypothesis import given
from hypothesis import strategies as st

from proxy.compress import reference
from proxy.compress.cascade import compress_turn
from proxy.compress.fine import Plan, plan, refined, spared
from proxy.compress.guarded import Past, Scene, measure_of
from proxy.compress.layout import read_material
from proxy.compress.ports import Band, SelfInformation
from proxy.compress.selection import Basket, best_first, by_budget
from proxy.compress.stop_words import LIGHT_WORDS
from proxy.compress.words import read_wording, read_words
from proxy.errors import Overloaded, ScorerFailed
from proxy.policy.schema import Cascade, Fine
from proxy.types import Component, Kind, Reason

QUESTION = "Who lit the lighthouse at Skagen?"
FACTS = (
    "The lighthouse at Skagen was lit in 1858 by Captain Holm, and it is still in use.",
    "The keeper was an old man who had been at sea, and he was never late, as they say.",
    "The bakery sells the rye bread for $4.50 on Mondays only, and it is very good.",
    "The museum keeps a whale skeleton that was found in the “Old Bay” in its cellar.",
    "The harbour was also used by the ferry, which does not sail unless the wind drops.",
)
TEXT = passages(*FACTS)
FINE = {"name": "cascade", "fine": {"rate": 0.6, "whole": 0.3}}


def choices(rate=0.5, method=FINE, **more):
    return policy(method=method, components={"context": {"rate": rate}}, **more)


def compressed(text=TEXT, rate=0.5, method=FINE, answers=None, **more):
    """The result of one turn, and what was asked for."""
    answers = answers or LmAnswers()
    scene = Scene(turn(text, question=QUESTION), Past(), choices(rate, method, **more), ENCODING)
    return drive(compress_turn(scene), answers), answers.asked


def left(result, text=TEXT):
    (edit,) = result.edits
    return "".join(span.of(text) for span in edit.pieces)


# -- as a whole ---------------------------------------------------------------------------------


def test_it_is_off_unless_asked_for_and_then_no_language_model_is_needed():
    assert Cascade().fine is None
    assert policy().fingerprint == policy(method={"name": "cascade"}).fingerprint
    assert policy().fingerprint != policy(method=FINE).fingerprint
    _, asked = compressed(method={"name": "cascade"})
    assert not any(request.passages for request in asked)


def test_more_units_fit_and_what_they_lost_is_light():
    plain, _ = compressed(method={"name": "cascade"})
    fine, _ = compressed()
    target = int(0.5 * ENCODING.count(TEXT))
    assert fine.after <= target
    assert plain.after < fine.after
    kept = [dict(lost(result, TEXT)) for result in (plain, fine)]
    assert set(kept[0]) < set(kept[1])
    assert not any(kept[0].values())
    assert any(kept[1].values())


def test_words_go_only_where_more_comes_in_for_them():
    """With one unit left out that is longer than what could be saved, nothing is rated."""
    text = "The lighthouse at Skagen was lit in 1858. " + " ".join(["Tar and rope"] * 40) + "."
    plain, _ = compressed(text, method={"name": "cascade"})
    fine, asked = compressed(text)
    assert (fine.edits, fine.after) == (plain.edits, plain.after)
    assert not any(request.passages for request in asked)


@pytest.mark.parametrize("kind", [Kind.LIST, Kind.LOG, Kind.TABLE, Kind.DEMO])
def test_only_prose_loses_words(kind):
    text = "\n".join(FACTS)
    one, answers = turn(text, kind, QUESTION), LmAnswers()
    drive(compress_turn(Scene(one, Past(), choices(), ENCODING)), answers)
    assert not any(request.passages for request in answers.asked)


def test_the_language_model_reads_only_documents_that_may_lose_words():
    _, asked = compressed(rate=0.4)
    read = [passage.text for request in asked for passage in request.passages]
    assert 0 < len(read) < len(FACTS)
    assert [request for request in asked if request.passages] == [asked[-1]]


def test_units_that_lost_words_are_there_for_recall():
    fine, _ = compressed()
    dropped = {fine.material.text(number) for number in fine.dropped}
    whole = {fine.material.text(i) for i in range(len(fine.material.units))} - dropped
    assert all(unit in left(fine) for unit in whole)
    shortened = [unit for unit in dropped if unit.split()[-1] in left(fine).split()]
    assert [unit for unit in shortened if unit not in left(fine)]


@pytest.mark.parametrize(
    ("error", "reason"),
    [(Overloaded("full"), Reason.OVERLOADED), (ScorerFailed("broke"), Reason.SCORER_FAILED)],
)
def test_a_turn_whose_language_model_fails_passes_verbatim(error, reason):
    messages = [user(f"{TEXT}\n\n{QUESTION}")]
    run = Run(messages, choices(), answers=LmAnswers(errors=[None, None, error]))
    assert [bool(request.passages) for request in run.answers.asked] == [False, False, True]
    assert (run.outcome.reason, run.sent) == (reason, run.request.raw)


def test_what_the_language_model_cannot_judge_loses_no_word():
    class Strange(FakeLM):
        def rate(self, passage):
            found = super().rate(passage)
            bands = {Kind.PROSE: Band((0.0, 0.0), (2.0, 8.0), stretch=0)}
            return SelfInformation(found.nats, found.starts, found.ends, bands)

    plain, _ = compressed(method={"name": "cascade"})
    fine, asked = compressed(answers=LmAnswers(Strange()))
    assert asked[-1].passages
    assert fine.edits == plain.edits


def lost(result, text):
    """Per unit of which anything is kept, the words that it lost."""
    sent = {i for edit in result.edits for span in edit.pieces for i in range(*span)}
    for unit in result.material.units:
        words = read_words(text, unit.span)
        gone = [w for w in words if not sent.issuperset(range(*w.span))]
        if len(gone) < len(words):
            yield unit, gone


@examples(40)
@given(
    st.lists(st.sampled_from(FACTS), min_size=2, max_size=6),
    st.floats(0.1, 0.9),
    st.floats(0.3, 0.95),
    st.floats(0, 1),
    st.booleans(),
)
def test_only_light_words_go_from_what_is_kept_within_the_budget(facts, rate, least, whole, titles):
    text = passages(*facts)
    method = {"name": "cascade", "fine": {"rate": least, "whole": whole}}
    plain, _ = compressed(text, rate, {"name": "cascade"}, titles=titles)
    fine, _ = compressed(text, rate, method, titles=titles)
    assert fine.reason == plain.reason
    assert fine.after <= int(rate * ENCODING.count(text)) or fine.edits == plain.edits
    if fine.edits:
        assert is_subsequence(left(fine, text), text)
        for unit, gone in lost(fine, text):
            told = unit.span.of(text)
            assert not any(word.scope or word.protected for word in gone)
            assert {word.span.of(text).casefold() for word in gone} <= LIGHT_WORDS["en"]
            saved = ENCODING.count(told) - (1 - least) * ENCODING.count(told)
            assert len(gone) <= ENCODING.count(told) - saved + 1


@examples(20)
@given(st.permutations(FACTS), st.sampled_from([0.2, 0.4, 0.6]))
def test_a_compressed_history_is_a_prefix_of_the_next_one(facts, rate):
    first = [user(f"{passages(*facts[:3])}\n\n{QUESTION}")]
    more = [assistant("Captain Holm."), user(f"{passages(*facts[3:])}\n\nWho sells rye bread?")]
    for memory in (None, Notes()):
        before = Run(first, choices(rate), memory=memory, answers=LmAnswers())
        after = Run(first + more, choices(rate), memory=memory, answers=LmAnswers())
        assert after.text(0) == before.text(0)
        assert Run(first + more, choices(rate), answers=LmAnswers()).sent == after.sent


# -- beside its slow twin -----------------------------------------------------------------------

NAMES = ["sun", "cat", "dog", "red", "big", "man", "day", "sea", "ice", "car", "hat", "box"]
LIGHT = ["the", "was", "it", "also", "had", "he"]


def test_the_words_of_the_twins_world_cost_a_token_each():
    words = [*NAMES, *LIGHT]
    assert ENCODING.count(" ".join(words)) == len(words)
    assert all(ENCODING.count(f"\n{word}") == 2 for word in NAMES)


@st.composite
def worlds(draw):
    """Lines of one-token words that begin and end with a name, scores, and what is asked for."""
    lines = []
    for _ in range(draw(st.integers(1, 7))):
        inner = draw(st.lists(st.sampled_from([*NAMES, *LIGHT, *LIGHT]), max_size=8))
        first, last = draw(st.sampled_from(NAMES)), draw(st.sampled_from(NAMES))
        lines.append(" ".join([first, *inner, last]))
    scores = draw(st.lists(st.integers(0, 5), min_size=len(lines), max_size=len(lines)))
    words = sum(len(line.split()) for line in lines)
    nats = draw(st.lists(st.integers(0, 40).map(lambda n: n / 4), min_size=words, max_size=words))
    fine = Fine(
        rate=draw(st.sampled_from([0.5, 0.6, 0.75, 0.9])),
        whole=draw(st.sampled_from([0, 0.3, 0.5, 1])),
    )
    return (
        "\n".join(lines),
        np.array(scores, float),
        np.array(nats),
        fine,
        draw(st.floats(0.2, 0.9)),
    )


def twin_unit(wording, number):
    words = wording.of_unit(number)
    light = [i for i in words if wording.text(i) in LIGHT]
    return reference.Unit(list(words), light, wording.material.costs[number])


def test_the_twin_gives_up_a_unit_that_costs_more_than_it_was_taken_for():
    kept, dearer = reference.Unit([0, 1], [1], 2), reference.Unit([2, 3], [], 1)
    found = reference.fine([kept], [dearer], [1.0] * 4, len, tokens=2, whole=0.0, rate=0.5)
    assert found == {0, 1}


@examples(200)
@given(worlds())
def test_the_words_kept_equal_their_slow_twin(world):
    text, scores, nats, fine, rate = world
    one, choice = turn(text, Kind.LIST), choices(rate)
    scene = Scene(one, Past(), choice, ENCODING)
    material = read_material(one, choice, ENCODING)
    wording = read_wording(material, ENCODING)
    count = measure_of(wording, scene, Component.CONTEXT)
    tokens = int(rate * ENCODING.count(text))
    order = best_first(scores, range(len(material.units)))
    measure = lambda units: count(wording.of_units(sorted(units)))  # noqa: E731
    kept = by_budget(Basket(material), order, measure, tokens).kept
    drawn = plan(material, Component.CONTEXT, order, kept, tokens, fine)
    spare = {
        unit: spared(
            [i for i in wording.of_unit(unit) if wording.text(i) in LIGHT],
            wording.costs,
            nats,
            (1 - fine.rate) * len(wording.of_unit(unit)),
        )
        for unit in drawn.short
    }
    words = frozenset(wording.of_units(sorted(kept)))
    found = refined(scene, wording, words, drawn, spare, nats)
    assert found == reference.fine(
        [twin_unit(wording, unit) for unit in order if unit in kept],
        [twin_unit(wording, unit) for unit in order if unit not in kept],
        nats.tolist(),
        count,
        tokens=tokens,
        whole=fine.whole,
        rate=fine.rate,
    )


def test_the_worked_example():
    lines = [
        "sun cat dog red big man day sea ice",
        "sun the cat dog the red big",
        "man was day it sea ice car",
        "hat the box sun cat",
    ]
    text = "\n".join(lines)
    one, choice = turn(text, Kind.LIST), choices()
    material = read_material(one, choice, ENCODING)
    drawn = plan(
        material, Component.CONTEXT, range(4), {0, 1}, 22, fine := Fine(rate=0.75, whole=0.5)
    )
    assert drawn == Plan(Component.CONTEXT, 22, (0,), (1,), (2,))
    wording = read_wording(material, ENCODING)
    told = {"was": 0.0, "the": 1.0, "it": 2.0}
    nats = np.array([told.get(wording.text(i), 9.0) for i in range(len(wording.words))])
    light = [i for i in range(len(wording.words)) if wording.text(i) in LIGHT]
    spare = {
        unit: spared(
            [i for i in wording.of_unit(unit) if i in light],
            wording.costs,
            nats,
            8 * (1 - fine.rate),
        )
        for unit in drawn.short
    }
    scene = Scene(one, Past(), choice, ENCODING)
    words = frozenset(wording.of_units([0, 1]))
    found = refined(scene, wording, words, drawn, spare, nats)
    sent = " ".join(wording.text(i) for i in sorted(found))
    assert sent == f"{lines[0]} sun cat dog red big man day it sea ice car"
    assert ENCODING.count(sent) == 20  # and two line breaks
