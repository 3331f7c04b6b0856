"""Selective Context: the units of least self-information go, within the exact budget."""

import re
from dataclasses import replace
from itertools import chain, pairwise

import numpy as np
import pytest
from driving import (
    ENCODING,
    Run,
    drive,
    examples,
    is_subsequence,
    passages,
    policy,
    segment,
    turn,
    user,
)
from fake_classifier import WordCount
from fake_lm import FakeLM, LmAnswers
from hypothesis import given
from hypothesis import strategies as st

from proxy.compress import reference
from proxy.compress.companions import company_of
from proxy.compress.guarded import Past, Scene
from proxy.compress.layout import read_material
from proxy.compress.selective_context import compress_turn, keep_groups, phrases
from proxy.compress.words import read_wording
from proxy.types import Component, Reason

UNITS = ["token", "phrase", "sentence"]


def choices(unit, rate=0.5, **more):
    method = {"name": "selective_context", "unit": unit, **more}
    return policy(method=method, components={"context": {"rate": rate}}, recall={"share": 0})


def compressed(text, choices, lm=None):
    return Run([user(text + "\n\nWhat happened?")], choices, answers=LmAnswers(lm))


VOCABULARY = st.sampled_from(
    ["the", "cat", "sat", "mats,", "harbour", "lit.", "ferry", "of", "a", "Skagen", "was", "x-1"]
)


@examples(150)
@given(st.lists(VOCABULARY, max_size=30))
def test_phrases_equal_their_slow_twin(words):
    assert [list(p) for p in phrases(words)] == reference.phrases(words)


NAMES = ["sun", "cat", "dog", "red", "big", "man", "day", "sea", "ice", "car", "hat", "box"]


def test_the_names_cost_a_token_each():
    assert [ENCODING.count(" ".join(NAMES[:n])) for n in range(13)] == list(range(13))


@st.composite
def grouped(draw):
    n = draw(st.integers(5, len(NAMES)))
    cuts = sorted(draw(st.sets(st.integers(1, n))) | {0, n})
    groups = [list(range(a, b)) for a, b in pairwise(cuts)]
    nats = draw(st.lists(st.integers(0, 40).map(lambda x: x / 4), min_size=n, max_size=n))
    return NAMES[:n], groups, nats, draw(st.sampled_from([0.2, 0.5, 0.8]))


@examples(120)
@given(grouped())
def test_the_units_kept_equal_their_slow_twin(case):
    words, groups, nats, rate = case
    choice = choices("phrase", rate)
    one = turn(" ".join(words))
    wording = read_wording(read_material(one, choice, ENCODING), ENCODING)
    scene = Scene(one, Past(), choice, ENCODING)
    company = company_of(scene, wording, Component.CONTEXT, (), frozenset(range(len(words))))
    found = keep_groups(company, groups, np.array(nats))
    twin = reference.selective_context(
        groups,
        nats,
        lambda kept: ENCODING.count(" ".join(words[i] for i in kept)),
        company.target(),
    )
    if twin:
        assert (sorted(found.words), found.reason) == (twin, None)
    else:
        assert (sorted(found.words), found.reason) == (
            list(range(len(words))),
            Reason.BUDGET_INFEASIBLE,
        )


PLAIN = ["the", "cat", "sat", "mats", "harbour", "lit", "ferry", "into", "she", "was"]
SENTENCE = st.lists(st.sampled_from(PLAIN), min_size=2, max_size=7)
DOCUMENTS = st.lists(st.lists(SENTENCE, min_size=1, max_size=4), min_size=1, max_size=4)


STRANGE = {word: 8.0 + place for place, word in enumerate([*PLAIN, "."])}
STRANGE |= {word.capitalize(): nats for word, nats in STRANGE.items()}
"""What a model says of text that it does not know: more than noise would tell."""


@examples(120)
@given(DOCUMENTS, st.sampled_from(UNITS), st.sampled_from([0.2, 0.5, 0.8]), st.booleans())
def test_the_whole_method_equals_its_slow_twin(documents, unit, rate, strange):
    """On documents of plain sentences whose words cost a token each.

    Sentences that the LM cannot judge go whole, whatever the unit.
    """
    lm = FakeLM(STRANGE if strange else None)
    texts = [" ".join(f"{' '.join(words).capitalize()}." for words in one) for one in documents]
    text, groups, first = "\n\n".join(texts), [], 0
    for words in chain(*documents):
        parts = parts_of(words, "sentence" if strange else unit)
        groups += [[first + i for i in group] for group in parts]
        first += len(words)
    kept = reference.selective_context(groups, nats_of_words(texts, lm), len, int(rate * first))
    words = text.split()
    assert left_of(text, choices(unit, rate), lm) == [words[i] for i in kept or range(len(words))]


def nats_of_words(texts, lm):
    """The nats of every word, with the full stop that it bears."""
    found = []
    for text in texts:
        for span, nats in zip(lm.tokens(text), lm.read(text)[0], strict=True):
            if span.of(text) == ".":
                found[-1] += nats
            else:
                found.append(nats)
    return found


def parts_of(words, unit):
    """The words of a sentence that stand or fall together, as numbers."""
    if unit == "sentence":
        return [list(range(len(words)))]
    if unit == "token":
        return [[i] for i in range(len(words))]
    spoken = [*words[:-1], f"{words[-1]}."]
    return reference.phrases([spoken[0].capitalize(), *spoken[1:]])


def left_of(text, choice, lm):
    """The words left of a turn that is context throughout, but for the question."""
    one = turn(text)
    ask = segment("\n\nWhat happened?", component=Component.QUESTION, start=len(text))
    leaf = replace(one.messages[0].leaves[0], text=text + ask.text)
    message = replace(one.messages[0], leaves=(leaf,))
    one = replace(one, messages=(message,), segments=(*one.segments, ask))
    result = drive(compress_turn(Scene(one, Past(), choice, WordCount())), LmAnswers(lm))
    if not result.edits:
        return text.split()
    (edit,) = result.edits
    return "".join(span.of(leaf.text) for span in edit.pieces).split()[:-2]


FACTS = st.lists(
    st.sampled_from(
        [
            "The lighthouse at Skagen was lit in 1858 by Captain Holm. It was not red.",
            "The bakery sells rye bread for $4.50 on Mondays only. It is old.",
            "Der Bahnhof von Ulm wurde nicht 1850 am Fluss eröffnet.",
            "वह नदी उत्तर में बहती है और गहरी नहीं है।",
            "京都的寺庙不是建于1397年。",
            "See https://example.com/a.b?c=1 and “One. Two.” for 🌧️.",
        ]
    ),
    min_size=1,
    max_size=5,
)


@examples(60)
@given(FACTS, st.sampled_from(UNITS), st.sampled_from([0.15, 0.4, 0.6, 0.9]), st.booleans())
def test_what_is_kept_is_the_callers_own_within_the_budget(facts, unit, rate, keep):
    text = passages(*facts)
    run = compressed(text, choices(unit, rate, keep_protected=keep))
    left = run.text(0)
    assert is_subsequence(left, text + "\n\nWhat happened?")
    for piece in re.findall(r"[A-Za-z0-9$][\w.,:/?=$]*", left):
        assert piece.rstrip(".,:?") in text + "What happened?"
    count = run.outcome.components[Component.CONTEXT]
    assert count.after <= rate * count.before or run.reasons


@pytest.mark.parametrize(
    ("unit", "left"),
    [
        ("token", "quiet harbour sleeps deeply."),
        ("phrase", "The quiet harbour sleeps deeply."),
        ("sentence", "The quiet harbour sleeps deeply."),
    ],
)
def test_what_tells_least_goes_first(unit, left):
    telling = dict.fromkeys(["quiet", "harbour", "sleeps", "deeply"], 9.0)
    lm = FakeLM(telling, most=0.5)
    text = "The quiet harbour sleeps deeply. The same the same of it again."
    target = {"context": {"target_tokens": ENCODING.count(left) + 2 * (unit == "sentence")}}
    choice = policy(method={"name": "selective_context", "unit": unit}, components=target)
    scene = Scene(turn(text), Past(), choice, ENCODING)
    (edit,) = drive(compress_turn(scene), LmAnswers(lm)).edits
    assert "".join(span.of(text) for span in edit.pieces) == left


@pytest.mark.parametrize("unit", ["token", "phrase"])
@pytest.mark.parametrize("rate", [0.25, 0.5])
def test_titles_that_go_with_the_units_do_not_leave_the_budget_unspent(unit, rate):
    days = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
    told = "\n".join(
        f"Document [{n}](Title: The long history of the harbour ferry on a {day}) "
        f"On {day} the ferry left quay {n} only when the tide was high. It never waited for long."
        for n, day in enumerate(days * 3, 1)
    )
    count = compressed(told, choices(unit, rate)).outcome.components[Component.CONTEXT]
    a_title_and_its_scope_words = 30
    assert (
        int(rate * count.before) - a_title_and_its_scope_words < count.after <= rate * count.before
    )


def test_a_sentence_is_kept_or_dropped_whole():
    text = passages(*["The pier is long. The pier is not old. The pier is red."] * 4)
    left = compressed(text, choices("sentence")).text(0)
    for sentence in re.findall(r"The pier[^.]*\.?", left):
        assert sentence in text


@pytest.mark.parametrize("unit", ["token", "phrase"])
def test_negations_of_what_is_kept_stay(unit):
    lm = FakeLM({"not": 0.0, "unless": 0.0})
    text = " ".join(["The ferry does not sail unless the wind drops."] * 10)
    left = compressed(text, choices(unit, 0.6), lm).text(0)
    for sentence in left.split("\n\n")[0].split("."):
        assert not sentence.strip() or {"not", "unless"} <= set(sentence.split())


@examples(20)
@given(FACTS, st.sampled_from(UNITS))
def test_the_form_of_a_turn_is_the_same_each_time(facts, unit):
    text = passages(*facts)
    assert compressed(text, choices(unit)).sent == compressed(text, choices(unit)).sent
