"""The lexical method: stop words and white space go, nothing else, and no model is asked."""

import re

import pytest
from driving import (
    ENCODING,
    Answers,
    Run,
    body,
    drive,
    examples,
    is_subsequence,
    passages,
    policy,
    turn,
    user,
)
from fake_classifier import WordCount
from hypothesis import given
from hypothesis import strategies as st

from proxy.compress import reference
from proxy.compress.abbreviations import saved_tokens
from proxy.compress.guarded import Past, Scene
from proxy.compress.lexical_method import compress_turn, lettered, squeezed
from proxy.compress.stop_words import STOP_WORDS, stop_words_of
from proxy.compress.words import is_scope
from proxy.types import Component, Kind, Reason, Span
from proxy.wire import leaves_of, parse_chat, render


def choices(target=None, **more):
    components = {"context": target} if target else {}
    return policy(method={"name": "lexical", **more}, components=components)


def left(text, choice, kind=Kind.PROSE):
    """The text of a turn that is context throughout, compressed."""
    scene = Scene(turn(text, kind), Past(), choice, ENCODING)
    return rendered(drive(compress_turn(scene), Answers()), text)


def rendered(result, text):
    if not result.edits:
        return text
    (edit,) = result.edits
    return "".join(str(p) if not isinstance(p, Span) else p.of(text) for p in edit.pieces)


WORDS = st.sampled_from(["the", "of", "is", "It", "not", "only", "harbour", "ferry", "lit", "was"])


@examples(150)
@given(st.lists(WORDS, min_size=6, max_size=40))
def test_the_words_left_equal_the_slow_twins(words):
    text = " ".join(words)
    stops = stop_words_of(text, ["en"])
    scope = {word for word in stops if is_scope(word)}
    expected = reference.without_stop_words(words, stops, scope)
    found = left(text, choices(languages=["en"]))
    assert found == (expected or "…") or ENCODING.count(expected or "…") >= ENCODING.count(text)


@examples(150)
@given(st.lists(WORDS, min_size=6, max_size=40), st.sampled_from([0.4, 0.6, 0.9]))
def test_the_words_left_under_a_target_equal_the_slow_twins(words, rate):
    text = " ".join(words)
    stops = stop_words_of(text, ["en"])
    scope = {word for word in stops if is_scope(word)}
    target = int(rate * len(words))
    scene = Scene(turn(text), Past(), choices({"rate": rate}, languages=["en"]), WordCount())
    result = drive(compress_turn(scene), Answers())
    expected = reference.without_commonest(words, stops, scope, target)
    assert rendered(result, text) == (expected or text)
    left_over = len(expected.split()) > target
    assert (result.reason is Reason.FORCED_OVER_BUDGET) == left_over


@examples(150)
@given(st.text(alphabet="aeioubcdEZ1é", min_size=1, max_size=12))
def test_the_letters_left_equal_the_slow_twins(word):
    spans = lettered(word, Span(0, len(word)), ENCODING)
    assert "".join(span.of(word) for span in spans) == reference.lettered(word, ENCODING.count)


@examples(200)
@given(st.text(alphabet=" \t\n\r\u00a0", min_size=1, max_size=12))
def test_white_space_left_equals_the_slow_twins(gap):
    text = f"a{gap}b"
    spans = squeezed(text, Span(1, len(gap) + 1))
    assert "".join(span.of(text) for span in spans) == reference.squeezed(gap)


FACTS = st.lists(
    st.sampled_from(
        [
            "The lighthouse at Skagen   was not lit before 1858 by Captain Holm.",
            "The bakery sells rye bread for $4.50 on Mondays only.",
            "Der Bahnhof von Ulm wurde nicht 1850 am Fluss eröffnet.",
            "El faro de la isla no es muy alto, y está en la costa.",
            "La gare de Lille est dans le centre de la ville.",
            "वह नदी उत्तर में बहती है और गहरी नहीं है।",
            "京都的寺庙不是建于1397年。",
            "See https://example.com/a.b?c=1 and “the  One. Two.” for 🌧️.",
        ]
    ),
    min_size=1,
    max_size=6,
)
TARGETS = st.sampled_from([None, {"rate": 0.9}, {"rate": 0.5}, {"target_tokens": 60}])


@examples(80)
@given(FACTS, TARGETS, st.booleans())
def test_what_is_kept_is_the_callers_own_within_the_budget(facts, target, letters):
    text = passages(*facts)
    run = Run([user(text + "\n\nWhat happened?")], choices(target, letters=letters))
    found = run.text(0)
    assert is_subsequence(found, text + "\n\nWhat happened?")
    if not letters:
        for piece in re.findall(r"\S+", found):
            assert piece in text + "\n\nWhat happened?"
    scope = [w for w in re.findall(r"\w+", text) if is_scope(w)]
    assert [w for w in re.findall(r"\w+", found) if is_scope(w)] == scope
    assert re.findall(r"\d[\d.]*", found) == re.findall(r"\d[\d.]*", text)
    count = run.outcome.components[Component.CONTEXT]
    wanted = {"rate": lambda x: x * count.before, "target_tokens": lambda x: x}
    if target and not run.reasons:
        ((key, value),) = target.items()
        assert count.after <= wanted[key](value)
    assert not any(request.passages or request.documents for request in run.answers.asked)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The lighthouse is at the pier, and it was lit.", "lighthouse pier, lit."),
        ("Der Hund ist nicht in dem Haus von Ulm.", "Hund nicht Haus Ulm."),
        ("El faro de la isla no es muy alto.", "faro isla no alto."),
        ("La gare de Lille est dans le centre.", "gare Lille centre."),
        ("lorem ipsum dolor sit amet", "lorem ipsum dolor sit amet"),
    ],
)
def test_stop_words_go_by_the_texts_own_language(text, expected):
    assert left(text, choices()) == expected


def test_white_space_alone_may_be_shortened():
    text = "The  pier\n\n\n\nis   long.  \n  - old"
    assert left(text, choices(stop_words=False)) == "The pier\n\nis long.\n  - old"


def test_a_target_takes_the_commonest_words_first():
    text = "The pier and the boat and the gulls of a town sleep."
    found = left(text, choices({"rate": 0.8}))
    assert "of a town" in found
    assert "the" not in found.casefold().split()


def test_a_target_that_stop_words_do_not_reach_is_named():
    text = passages(*["The lighthouse at Skagen was lit."] * 4) + "\n\nWhat happened?"
    assert Run([user(text)], choices({"rate": 0.1})).reasons == {0: Reason.FORCED_OVER_BUDGET}


def test_code_and_quotations_keep_their_white_space():
    code = "def  f( a ):\n\n\n    return  a"
    assert left(code, choices(), Kind.CODE) == code
    assert "“the  tide is in”" in left("It  is  “the  tide is in” that he said.", choices())


def test_letters_go_only_where_that_saves_tokens():
    saved = 0
    for word in ("international", "pneumonoultramicroscopic", "Zaeeuaaoieae", "lighthouse"):
        spans = lettered(word, Span(0, len(word)), ENCODING)
        short = "".join(span.of(word) for span in spans)
        assert is_subsequence(short, word)
        before, after = ENCODING.count(f" {word}"), ENCODING.count(f" {short}")
        assert short == word or after < before
        saved += before - after
    assert saved > 0


def test_stop_words_are_no_words_of_scope():
    for language, words in STOP_WORDS.items():
        assert not [w for w in words if is_scope(w)], language


NAMES = [
    "United Arab Emirates",
    "National Aeronautics and Space Administration",
    "European Organization for Nuclear Research",
]
SENTENCES = st.lists(
    st.tuples(st.sampled_from([*NAMES, "harbour"]), st.sampled_from(["", "the ", "old "])),
    min_size=2,
    max_size=9,
)


@examples(80)
@given(SENTENCES)
def test_abbreviations_equal_the_slow_twins(parts):
    text = " ".join(f"He saw {article}{name} there." for name, article in parts)
    names = [name for name in NAMES if saved_tokens(name, text.count(name), ENCODING) > 0]
    choice = choices(stop_words=False, white_space=False, abbreviations=True)
    scene = Scene(turn(text), Past(), choice, ENCODING)
    result = drive(compress_turn(scene), Answers())
    expected = reference.abbreviated(text, names)
    assert bool(result.edits) == bool(names)
    if names:
        request = parse_chat(body([user(text)]))
        assert render(result.edits[0], leaves_of(request)) == expected
        assert result.components[Component.CONTEXT].after == ENCODING.count(expected)


def test_a_name_of_two_words_or_in_a_quotation_is_left_as_it_is():
    text = "The Big Apple rose. “The United Arab Emirates” rose. " * 5
    choice = choices(stop_words=False, white_space=False, abbreviations=True)
    assert left(text, choice) == text


def test_names_are_left_alone_in_code():
    text = "call The_United Arab Emirates Union()\n" * 5
    choice = choices(stop_words=False, white_space=False, abbreviations=True)
    assert left(text, choice, Kind.CODE) == text


def test_initials_that_mean_something_else_are_not_used():
    text = "The United Arab Emirates and the UAE. " + "The United Arab Emirates sent it. " * 5
    choice = choices(stop_words=False, white_space=False, abbreviations=True)
    assert left(text, choice) == text
