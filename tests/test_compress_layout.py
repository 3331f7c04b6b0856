from itertools import accumulate

import pytest
from driving import ENCODING, examples, is_subsequence, passages, policy, turn
from hypothesis import given
from hypothesis import strategies as st

from proxy.compress.layout import (
    read_material,
    render,
    render_spans,
    strongest,
    token_counts,
    totals,
)
from proxy.types import (
    Address,
    Component,
    Count,
    Kind,
    Leaf,
    LeafEdit,
    Mark,
    Message,
    Segment,
    Span,
    Turn,
)
from proxy.wire import render as render_leaf

HERE = Address(0, 0)
texts = st.lists(
    st.sampled_from(
        [
            "The river rose. ",
            "[2] It fell. ",
            "\n\n",
            "今天下雨。我们在家。",
            "# Town\n",
            "- one\n",
            "🌧️ ",
            "\ud800 ",
            "نعم. ",
            "It cost $3.50 in all. ",
        ]
    ),
    max_size=15,
).map("".join)


def read(text, kind=Kind.PROSE, **choices):
    return read_material(turn(text, kind), policy(**choices), ENCODING)


def rendered(material, kept):
    """The leaf's text with a selection in place."""
    edits = render(material, kept, ENCODING).edits
    text = material.texts[HERE]
    if not edits:
        return text
    return render_leaf(edits[0], {HERE: Leaf(HERE, text, Span(0, 0))})


@examples(200)
@given(texts, st.sampled_from(Kind), st.sets(st.integers(0, 20)))
def test_a_selection_renders_to_the_callers_own_characters(text, kind, kept):
    material = read(text, kind)
    result = rendered(material, kept)
    if result != Mark.ELISION:
        assert is_subsequence(result, text)
        assert all(material.text(i) in result for i in kept if i < len(material.units))


@examples(200)
@given(texts, st.sampled_from(Kind), st.sets(st.integers(0, 20)))
def test_a_leaf_is_edited_only_where_that_saves_tokens(text, kind, kept):
    material = read(text, kind)
    out = render(material, kept, ENCODING)
    after = sum(out.after.values())
    assert after == ENCODING.count(rendered(material, kept))
    assert (after < ENCODING.count(text)) == bool(out.edits)


@examples(200)
@given(texts, st.sampled_from(Kind))
def test_components_add_up_to_the_leaf(text, kind):
    material = read(text, kind)
    assert sum(material.before.values()) == ENCODING.count(text)
    assert (material.before, material.sizes) == token_counts(material.turn, ENCODING)
    assert len(material.costs) == len(material.units)
    assert sum(material.costs) <= ENCODING.count(text)


@examples(100)
@given(texts, st.sampled_from(Kind))
def test_keeping_everything_changes_nothing(text, kind):
    material = read(text, kind)
    assert render(material, range(len(material.units)), ENCODING).edits == ()


def test_paragraphs_stay_apart_where_what_stood_between_them_went():
    text = "One is here. Two is there.\n\nThree is far away. Four is near."
    material = read(text)
    assert [material.text(i) for i in range(4)] == [
        "One is here.",
        "Two is there.",
        "Three is far away.",
        "Four is near.",
    ]
    assert rendered(material, {0, 3}) == "One is here.\n\nFour is near."
    assert rendered(material, {0, 1}) == "One is here. Two is there."


def test_what_is_embedded_is_the_document_and_its_units_without_its_number():
    material = read(passages("Ada came by."))
    (document,) = material.embeddable
    assert document.text == material.texts[HERE].removeprefix("[1]")
    assert [span.of(document.text) for span in document.units] == [
        material.text(i).removeprefix("[1]") for i in range(len(material.units))
    ]


@pytest.mark.parametrize(
    ("label", "left"),
    [
        ("[{}] ", " "),
        ("{}. ", " "),
        ("Document [{}](Title: Ada) ", "Document (Title: Ada) "),
        ("Source {}: ", "Source  "),
    ],
)
def test_a_passage_is_the_same_document_wherever_it_stands(label, left):
    found = [
        read(f"{label.format(number)}Ada came by in May. She left.").embeddable[0]
        for number in (1, 9, 12)
    ]
    assert found[0] == found[1] == found[2]
    assert found[0].text == f"{left}Ada came by in May. She left."
    assert [span.of(found[0].text) for span in found[0].units][1:] == [
        "Ada came by in May.",
        "She left.",
    ]


def test_segments_that_keep_all_or_are_protected_have_no_units():
    text = "One here. Two there."
    assert read(text, components={"question": {"rate": 0.5}}).units == ()
    assert read(text, Kind.CODE, protect_kinds=["code"]).units == ()
    assert read(text, Kind.CODE).units != ()


def test_only_the_labelled_stretch_of_a_leaf_is_selected_from():
    text = "Read this: One came by. Two went off. Who came?"
    leaf = Leaf(HERE, text, Span(0, 0))
    cuts = [
        (0, 11, Component.INSTRUCTION),
        (11, 38, Component.CONTEXT),
        (38, 47, Component.QUESTION),
    ]
    segments = tuple(
        Segment(HERE, Span(a, b), text[a:b], c, Kind.PROSE, "test") for a, b, c in cuts
    )
    given_turn = Turn(0, (Message(0, "user", (leaf,)),), segments, "Who came?", own_question=True)
    material = read_material(given_turn, policy(), ENCODING)
    out = render(material, {0}, ENCODING)
    assert rendered(material, {0}) == "Read this: One came by. Who came?"
    assert out.edits == (LeafEdit(HERE, (Span(0, 23), Span(37, 47))),)
    counts = totals(material.before, out.after)
    assert counts[Component.INSTRUCTION] == Count(4, 4)
    assert counts[Component.QUESTION].saved == 0
    assert counts[Component.CONTEXT].saved > 0


def test_leaves_with_nothing_selected_from_stay_and_segments_are_counted_by_number():
    texts = ["Say it at length.", "One came by. Two went off."]
    leaves = [Leaf(Address(0, part), text, Span(0, 0)) for part, text in enumerate(texts)]
    cuts = [(0, 0, 17), (1, 0, 12), (1, 12, 26)]
    segments = tuple(
        Segment(Address(0, leaf), Span(a, b), texts[leaf][a:b], Component.CONTEXT, Kind.PROSE, "t")
        for leaf, a, b in cuts
    )
    given_turn = Turn(0, (Message(0, "user", tuple(leaves)),), segments, None)
    material = read_material(given_turn, policy(), ENCODING)
    out = render_spans(material, {1: [Span(0, 7)], 2: []}, ENCODING)
    saved = sum(material.before.values()) - sum(out.after.values())
    assert out.edits == (LeafEdit(Address(0, 1), (Span(0, 7),)),)
    assert out.sizes == {1: ENCODING.count("One cam"), 2: 0}
    assert saved == ENCODING.count(texts[1]) - ENCODING.count("One cam")


@pytest.mark.parametrize(
    ("gaps", "found"), [(["  ", "\n", "    "], 1), (["X", "\n ", " \n "], 2), (["   ", " "], 0)]
)
def test_of_several_gaps_the_one_with_most_line_breaks_is_kept_then_the_longest(gaps, found):
    text = "|".join(gaps)
    ends = [*accumulate(len(gap) + 1 for gap in gaps)]
    spans = [Span(end - 1 - len(gap), end - 1) for end, gap in zip(ends, gaps, strict=True)]
    assert strongest(spans, text) == spans[found]


def test_the_closing_answer_is_no_leaf_of_its_turn():
    said = Leaf(Address(1, 0), "Yes. Indeed. It is so.", Span(0, 0))
    asked = turn("One came by. Two went off.")
    closed = Turn(0, (*asked.messages, Message(1, "assistant", (said,))), asked.segments, "what?")
    assert list(read_material(closed, policy(), ENCODING).texts) == [HERE]


@examples(100)
@given(texts, st.sampled_from(Kind))
def test_a_text_that_was_cut_before_is_laid_out_as_if_it_were_not(text, kind):
    cuts = Cuts()
    for _ in range(2):
        material = read_material(turn(text, kind), policy(), ENCODING, cuts)
        plain = read(text, kind)
        assert (material.layouts, material.costs) == (plain.layouts, plain.costs)
        for found, expected in zip(material.terms, plain.terms, strict=True):
            assert found.vocabulary == expected.vocabulary
            assert found.grams.entries.tolist() == expected.grams.entries.tolist()
    assert cuts.found == len(cuts) == bool(text)


class Cuts(dict):
    found = 0

    def get(self, key):
        self.found += key in self
        return super().get(key)

    put = dict.__setitem__
