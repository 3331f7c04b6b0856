"""A compressed request laid open."""

import json

import pytest
from driving import Run, passages, policy, user
from fake_lm import LmAnswers
from hypothesis import given
from hypothesis import strategies as st
from test_compress_llmlingua2 import WordAnswers

from proxy.compress.show import Fate, Rated, Shown, Stretch, scores_of, show
from proxy.policy.schema import Tagging
from proxy.tagging import turns
from proxy.types import Address, Component, Kind, LeafEdit, Mark, Quote, Span
from proxy.wire import leaves_of, parse_chat, render

CONTEXT = "The mill stands in Kiel. It was built in 1895."


def request(*contents, role="user"):
    messages = [{"role": role, "content": content} for content in contents]
    return parse_chat(json.dumps({"messages": messages}).encode())


def shown(of, *edits, rated=None):
    segments = (segment for turn in turns(of, Tagging()) for segment in turn.segments)
    return show(of, segments, edits, rated or {})


def pairs(leaf):
    return [(stretch.text, stretch.fate) for stretch in leaf.stretches]


def test_a_leaf_that_is_left_alone_is_kept_and_says_what_it_was_tagged_as():
    (leaf,) = shown(request("You are terse.", role="system"))
    assert leaf == Shown(
        Address(0, 0),
        "system",
        (
            Stretch(
                "You are terse.",
                Fate.KEPT,
                Component.INSTRUCTION,
                Kind.PROSE,
                leaf.stretches[0].rule,
            ),
        ),
    )
    assert leaf.stretches[0].rule


def test_what_is_dropped_stands_where_it_stood():
    edit = LeafEdit(Address(0, 0), (Span(25, 46),))
    (leaf,) = shown(request(CONTEXT), edit)
    dropped = "".join(s.text for s in leaf.stretches if s.fate is Fate.DROPPED)
    assert dropped == "The mill stands in Kiel. "


def test_each_stretch_is_of_one_segment():
    text = f"Context:\n{CONTEXT}\n\nQuestion: Why is it?"
    start = text.index("It was")
    edit = LeafEdit(Address(0, 0), (Span(0, start), Span(start + 23, len(text))))
    (leaf,) = shown(request(text), edit)
    labels = [(s.text.strip(), s.component) for s in leaf.stretches if s.fate is Fate.KEPT]
    assert labels == [
        ("Context:", Component.INSTRUCTION),
        ("The mill stands in Kiel.", Component.CONTEXT),
        ("Question:", Component.INSTRUCTION),
        ("Why is it?", Component.QUESTION),
    ]


def test_marks_and_recalled_text_are_inserted_before_what_they_come_before():
    quote = Quote(Address(0, 0), Span(0, 24))
    edit = LeafEdit(Address(1, 0), (Mark.RECALL_HEADING, quote, Span(0, 4), Mark.GAP))
    _, leaf = shown(request(CONTEXT, "Why is it?"), edit)
    assert pairs(leaf)[:2] == [
        (str(Mark.RECALL_HEADING), Fate.INSERTED),
        ("The mill stands in Kiel.", Fate.INSERTED),
    ]
    assert "".join(t for t, fate in pairs(leaf) if fate is Fate.DROPPED) == "is it?"
    assert pairs(leaf)[-1] == (" ", Fate.INSERTED)


def test_a_leaf_of_which_nothing_is_kept_shows_its_mark():
    (leaf,) = shown(request(CONTEXT), LeafEdit(Address(0, 0), (Mark.ELISION,)))
    assert {fate for _, fate in pairs(leaf)[:-1]} == {Fate.DROPPED}
    assert pairs(leaf)[-1] == ("…", Fate.INSERTED)


@st.composite
def edits(draw):
    text = draw(st.text(st.characters(codec="utf-8"), max_size=60))
    ends = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    spans = [Span(a, b) for a, b in zip(ends[::2], ends[1::2], strict=False)]
    pieces = []
    for span in spans:
        pieces += [*draw(st.lists(st.sampled_from(list(Mark)), max_size=2)), span]
    return text, tuple(pieces)


@given(edits())
def test_own_stretches_join_to_the_leaf_and_sent_ones_to_what_is_sent(drawn):
    text, pieces = drawn
    of = request(text)
    edit = LeafEdit(Address(0, 0), pieces)
    (leaf,) = shown(of, edit)
    assert "".join(t for t, fate in pairs(leaf) if fate is not Fate.INSERTED) == text
    sent = "".join(t for t, fate in pairs(leaf) if fate is not Fate.DROPPED)
    assert sent == render(edit, leaves_of(of))
    assert all(stretch.text for stretch in leaf.stretches if stretch.fate is not Fate.INSERTED)


@given(edits(), st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=6))
def test_stretches_with_scores_join_alike(drawn, places):
    text, pieces = drawn
    of, edit = request(text), LeafEdit(Address(0, 0), pieces)
    done, rated = 0, []
    for gap, length in places:
        start, end = done + gap // 10, done + gap // 10 + length
        if end <= len(text):
            rated.append(Rated(Span(start, end), 0.5))
            done = end
    (plain,) = shown(of, edit)
    (leaf,) = shown(of, edit, rated={Address(0, 0): rated})
    for fate in Fate:
        assert "".join(s.text for s in leaf.stretches if s.fate is fate) == "".join(
            s.text for s in plain.stretches if s.fate is fate
        )
    assert all(stretch.text for stretch in leaf.stretches if stretch.fate is not Fate.INSERTED)


# -- scores ---------------------------------------------------------------------------------------

FACTS = ("Ada came by in the month of May.", "The mill is old.", "The bread costs four crowns.")
ASKED = user(f"{passages(*FACTS)}\n\nWhat does the bread cost?")


def scored(answers=None, **choices):
    run = Run([ASKED], policy(**choices), answers=answers)
    segments = (segment for turn in run.turns for segment in turn.segments)
    (leaf,) = show(run.request, segments, run.compressed.edits, scores_of(run.compressed.sized))
    return leaf.stretches


def test_what_was_selected_from_has_its_score_and_nothing_else():
    found = scored()
    scores = [(s.text.strip(), s.score) for s in found if s.score is not None]
    assert ("The bread costs four crowns.", 1.0) in scores
    assert min(score for _, score in scores) == 0.0
    assert {s.score for s in found if s.component is Component.QUESTION} == {None}


@pytest.mark.parametrize(
    ("method", "answers", "by_words"),
    [
        ({"name": "cascade"}, None, False),
        ({"name": "selective_context", "unit": "sentence"}, LmAnswers(), False),
        ({"name": "selective_context"}, LmAnswers(), True),
        ({"name": "llmlingua"}, LmAnswers(), True),
        ({"name": "longllmlingua"}, LmAnswers(), True),
        ({"name": "llmlingua2"}, WordAnswers(), True),
    ],
)
def test_every_method_that_rates_shows_its_scores(method, answers, by_words):
    found = [s for s in scored(answers, method=method) if s.score is not None]
    assert {min(s.score for s in found), max(s.score for s in found)} == {0.0, 1.0}
    assert {Fate.DROPPED, Fate.KEPT} == {s.fate for s in found}
    assert any(len(s.text.split()) == 1 for s in found) or not by_words


def test_a_method_that_rates_nothing_shows_no_score():
    found = scored(method={"name": "lexical"})
    assert {s.score for s in found} == {None}
    assert Fate.DROPPED in {s.fate for s in found}


# -- as records -----------------------------------------------------------------------------------


def test_a_record_tells_of_the_same():
    (leaf,) = shown(
        request(CONTEXT),
        LeafEdit(Address(0, 0), (Span(25, 46), Mark.GAP)),
        rated={Address(0, 0): [Rated(Span(0, 24), 0.5)]},
    )
    assert Shown.of(json.loads(json.dumps(leaf.record()))) == leaf


def test_a_lone_surrogate_is_replaced_in_a_record():
    assert Stretch("a\ud800b", Fate.KEPT).record()["text"] == "a?b"


def test_what_was_not_tagged_is_shown_all_the_same():
    (leaf,) = show(request(CONTEXT), (), ())
    assert leaf.stretches == (Stretch(CONTEXT, Fate.KEPT),)
