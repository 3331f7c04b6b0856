"""A compressed request laid open."""

import json

from hypothesis import given
from hypothesis import strategies as st

from proxy.compress.show import Fate, Shown, Stretch, show
from proxy.policy.schema import Tagging
from proxy.tagging import turns
from proxy.types import Address, Component, Kind, LeafEdit, Mark, Quote, Span
from proxy.wire import leaves_of, parse_chat, render

CONTEXT = "The mill stands in Kiel. It was built in 1895."


def request(*contents, role="user"):
    messages = [{"role": role, "content": content} for content in contents]
    return parse_chat(json.dumps({"messages": messages}).encode())


def shown(of, *edits):
    segments = (segment for turn in turns(of, Tagging()) for segment in turn.segments)
    return show(of, segments, edits)


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
