"""Words: never cut, never glued, and rendered as the caller wrote them."""

import json
import re
import unicodedata
from itertools import pairwise

import numpy as np
import pytest
from driving import ENCODING, examples, is_subsequence, policy, turn
from hypothesis import given
from hypothesis import strategies as st

from proxy.compress import reference
from proxy.compress.layout import kept_spans, read_material, render
from proxy.compress.ports import SelfInformation
from proxy.compress.protect import protected_spans
from proxy.compress.words import (
    fit_words,
    read_wording,
    read_words,
    render_words,
    word_nats,
    word_spans,
)
from proxy.types import Component, Kind, Span

SNIPPETS = st.sampled_from(
    [
        "The lighthouse was lit in 1858.",
        "See https://example.com/a.b?c=1 and “One. Two.”, e.g. a_b/c.",
        "It costs $4.50, not $1 000 000 or twenty-five euros.",
        "京都的寺庙建于1397年，很大。使用Python编写。",
        "東京は大きい。コーヒーを飲みました",
        "वह नदी उत्तर में बहती है और गहरी है।",
        "السفينة غادرت الميناء في الصباح.",
        "ภาษาไทยไม่มีช่องว่าง แต่ อ่านได้",
        "👩‍👩‍👧 went 🌧️ home 👍🏽 e\u0301te\u0301",
        "서울은 크다. 비가 오지 않았다.",
        " ",
        "\n\n",
        "- a: b\n",
        '"',
    ]
)
texts = st.one_of(
    st.lists(SNIPPETS, min_size=1, max_size=6).map(" ".join),
    st.lists(SNIPPETS, min_size=1, max_size=6).map("".join),
    st.text(max_size=60),
)


def words(text):
    return [word.span.of(text) for word in read_words(text)]


@examples(150)
@given(texts)
def test_words_and_gaps_make_the_text(text):
    found = read_words(text)
    head = text[: found[0].span.start] if found else text
    assert head + "".join(w.span.of(text) + w.gap.of(text) for w in found) == text
    assert not head.strip()
    assert not any(w.gap.of(text).strip() for w in found)


@examples(150)
@given(texts)
def test_no_word_ends_inside_a_grapheme_or_a_protected_span(text):
    for word in read_words(text)[1:]:
        assert unicodedata.category(text[word.span.start])[0] != "M"
        assert text[word.span.start] not in "\u200d\ufe0f"
    edges = {edge for word in read_words(text) for edge in word.span}
    for span in protected_spans(text):
        assert not any(span.start < edge < span.end for edge in edges if not _blank(text, span))


def _blank(text, span):
    return not span.of(text).strip()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("don't cut well-known (words).", ["don't", "cut", "well-known", "(words)."]),
        ("1 000 000 people", ["1 000 000 people"]),
        ("about twenty five, or 3.5 kg; then", ["about", "twenty five,", "or", "3.5 kg;", "then"]),
        ("两百三十五个人。你好", ["两百三十五", "个", "人。", "你", "好"]),
        ("使用Python编写", ["使", "用", "Python编", "写"]),
        ("東京は大きい。水を飲む", ["東京は", "大きい。", "水を", "飲む"]),
        ("ภาษาไทย ดี", ["ภาษาไทย", "ดี"]),
        ("นี่ 👩‍👩‍👧 e\u0301", ["นี่", "👩‍👩‍👧", "e\u0301"]),
        ("a `code b` c “to be” d", ["a", "`code b`", "c", "“to be”", "d"]),
    ],
)
def test_words_are_whole(text, found):
    assert words(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "not",
        "Never,",
        "(unless",
        "doesn't",
        "at least",
        "at most",
        "ONLY",
        "if",
        "nicht",
        "mindestens",
        "sans",
        "n'est",
        "никогда",
        "नहीं",
        "لا",
        "不",
        "飲まない",
        "않았다",
    ],
)
def test_negations_and_words_of_scope_are_marked(text):
    assert all(word.scope for word in read_words(text))


def test_ordinary_words_are_not_marked():
    text = "Note the knot: an iffy notion; least of all the most onlyness. 天气很好"
    assert not [word.span.of(text) for word in read_words(text) if word.scope]


# -- scores -------------------------------------------------------------------------------------


def rated(tokens):
    starts, ends, nats = zip(*tokens, strict=True) if tokens else ((), (), ())
    return SelfInformation(
        np.array(nats, np.float32), np.array(starts, np.int32), np.array(ends, np.int32)
    )


@st.composite
def tokenised(draw):
    """A text, and tokens of it that ascend; those of one character may share it."""
    text = draw(texts)
    edges = sorted(draw(st.sets(st.integers(0, len(text)), max_size=30)) | {0, len(text)})
    tokens = []
    for start, end in pairwise(edges):
        times = draw(st.integers(1, 2)) if end == start + 1 else 1
        tokens += [(start, end, draw(st.integers(0, 80)) / 8) for _ in range(times)]
    return text, tokens


@examples(150)
@given(tokenised())
def test_scores_of_words_equal_their_slow_twin(pair):
    text, tokens = pair
    found = read_words(text)
    expected = reference.word_nats([word.span for word in found], tokens)
    assert word_nats(found, rated(tokens)).tolist() == expected


def test_a_words_score_is_that_of_its_own_tokens():
    text = "the cat sat"
    tokens = [(0, 3, 1.0), (3, 7, 2.0), (7, 9, 4.0), (9, 11, 8.0)]
    assert word_nats(read_words(text), rated(tokens)).tolist() == [1.0, 2.0, 12.0]


def test_a_token_over_two_words_counts_for_both():
    assert word_nats(read_words("经济好"), rated([(0, 2, 3.0), (2, 3, 1.0)])).tolist() == [3, 3, 1]


# -- back to the text ---------------------------------------------------------------------------

KINDS = st.sampled_from([Kind.PROSE, Kind.LIST, Kind.LOG, Kind.DEMO, Kind.TABLE, Kind.JSON])


@st.composite
def wordings(draw):
    text = draw(
        st.lists(SNIPPETS, min_size=1, max_size=6).map(
            draw(st.sampled_from([" ", "\n\n", ""])).join
        )
    )
    material = read_material(turn(text, draw(KINDS)), policy(), ENCODING)
    return text, read_wording(material, ENCODING)


@examples(100)
@given(wordings(), st.data())
def test_whole_units_render_as_a_selection_of_units_does(pair, data):
    _, wording = pair
    numbers = range(len(wording.material.units))
    units = data.draw(st.sets(st.sampled_from(numbers))) if numbers else set()
    kept = wording.of_units(sorted(units))
    material = wording.material
    assert render_words(wording, kept, ENCODING) == render(material, units, ENCODING)
    for index, layout in material.layouts.items():
        text = material.texts[material.turn.segments[index].address]
        spans = list(kept_spans(layout, units, 0, text))
        assert whole(word_spans(wording, kept)[index]) == whole(spans)


def test_numbers_of_an_array_do_not_read_as_one():
    text = "[1, 20, 300]"
    wording = read_wording(read_material(turn(text, Kind.JSON), policy(), ENCODING), ENCODING)
    assert "".join(span.of(text) for span in word_spans(wording, [0, 2])[0]) == "[1, 300]"


def whole(spans):
    """The characters that some spans cover, however they are cut."""
    return [i for start, end in spans for i in range(start, end)]


@examples(150)
@given(wordings(), st.data())
def test_leaving_words_out_glues_and_invents_nothing(pair, data):
    text, wording = pair
    numbers = range(len(wording.words))
    kept = data.draw(st.sets(st.sampled_from(numbers))) if numbers else set()
    spans = [span for spans in word_spans(wording, kept).values() for span in spans]
    left = "".join(span.of(text) for span in spans)
    assert is_subsequence(left, text)
    assert all(a.end <= b.start for a, b in pairwise(spans))
    for piece in re.findall(r"[A-Za-z0-9][A-Za-z0-9.,_-]*", left):
        assert piece.rstrip(".,_-") in text


@pytest.mark.parametrize(
    ("text", "kept", "left"),
    [
        ("She paid 10 + 170 crowns.", {"10", "170"}, "10 + 170 crowns."),
        ("He had 3 of the big 400 stamps.", {"3", "400"}, "3 of 400 stamps."),
        ("There are 12 red 45 boats.", {"12", "45"}, "12 red 45 boats."),
        ("It cost 40.\n\nThen 170 came.", {"40.", "170"}, "40.\n\n170 came."),
    ],
)
def test_two_numbers_never_read_as_one(text, kept, left):
    wording = read_wording(read_material(turn(text), policy(), ENCODING), ENCODING)
    numbers = [i for i in range(len(wording.words)) if wording.text(i).split()[0] in kept]
    assert "".join(span.of(text) for span in word_spans(wording, numbers)[0]) == left


def test_paragraphs_stay_apart():
    text = "Ada ran.\n\nBo sat down. Cy slept well."
    material = read_material(turn(text), policy(), ENCODING)
    wording = read_wording(material, ENCODING)
    kept = [i for i in range(len(wording.words)) if wording.text(i) in {"Ada", "down.", "well."}]
    left = "".join(span.of(text) for span in word_spans(wording, kept)[0])
    assert left == "Ada\n\ndown. well."


@pytest.mark.parametrize("kind", [Kind.JSON, Kind.TABLE, Kind.CODE])
def test_nothing_is_deleted_inside_data_and_code(kind):
    text = {"json": '[{"a": 1}, {"b": "two words"}]', "table": "| a | b |\n|---|---|\n| 1 | 2 |"}
    text = text.get(kind.value, "def f(x):\n    return x + 1")
    material = read_material(turn(text, kind), policy(), ENCODING)
    wording = read_wording(material, ENCODING)
    assert [w.span for w in wording.words] == [u.span for u in material.units]


def test_what_stands_between_two_lists_of_rows_stays():
    text = '{"open": [{"a": 1}, {"a": 2}, {"a": 3}], "shut": [{"b": 4}, {"b": 5}, {"b": 6}]}'
    wording = read_wording(read_material(turn(text, Kind.JSON), policy(), ENCODING), ENCODING)
    kept = [i for i in range(len(wording.words)) if wording.text(i) in {'{"a": 2}', '{"b": 6}'}]
    left = "".join(span.of(text) for span in word_spans(wording, kept)[0])
    assert json.loads(left) == {"open": [{"a": 2}], "shut": [{"b": 6}]}


@examples(60)
@given(wordings())
def test_costs_of_words_make_the_cost_of_the_text(pair):
    text, wording = pair
    assert all(cost >= 1 for cost in wording.costs)
    if len(wording.words) == len(text.split()):
        (tokens,) = ENCODING.count_by(text, [0, len(text.rstrip())])
        assert sum(wording.costs) >= tokens


# -- budgets ------------------------------------------------------------------------------------


@st.composite
def budgets(draw):
    n = draw(st.integers(0, 30))
    true = draw(st.lists(st.integers(1, 5), min_size=n, max_size=n))
    told = [max(1, cost + draw(st.integers(-1, 1))) for cost in true]
    forced = draw(st.sets(st.integers(0, n - 1))) if n else set()
    start = draw(st.sets(st.integers(0, n - 1))) if n else set()
    return true, told, forced, start | forced, draw(st.integers(0, 80))


@examples(300)
@given(budgets())
def test_a_budget_is_met_from_below_by_less_than_the_next_word(case):
    true, told, forced, start, target = case
    ranked = [i for i in range(len(true)) if i not in forced]
    count = lambda kept: sum(true[i] for i in kept)  # noqa: E731
    kept = fit_words(start, ranked, told, count, target)
    assert forced <= kept
    if count(forced) > target:
        assert kept == forced
        return
    assert count(kept) <= target
    missing = [i for i in ranked if i not in kept]
    assert not missing or count(kept) + true[missing[0]] > target


def test_components_other_than_the_context_are_counted_apart():
    material = read_material(turn("Ada ran home. Bo sat down."), policy(), ENCODING)
    wording = read_wording(material, ENCODING)
    after = render_words(wording, [0, 1], ENCODING).after
    assert (after[Component.CONTEXT], after[Component.QUESTION]) == (ENCODING.count("Ada ran"), 0)
    assert wording.material.units[0].span == Span(0, 13)
