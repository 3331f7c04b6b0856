"""Several prompts of one completions body: each as if it had come alone."""

import json

import pytest
from driving import SCORER, Answers, Notes, drive, examples, passages, policy
from hypothesis import given
from hypothesis import strategies as st

from proxy.compress.result import Compressed
from proxy.compress.separate import together
from proxy.gateway import Cascade
from proxy.types import Address, Component, Count, LeafEdit, Mode, Outcome, Reason, Span
from proxy.wire import leaves_of, render
from proxy.wire.completions import parse_completion

FACTS = [
    "The lighthouse at Skagen was lit in 1858 by Captain Holm.",
    "The bakery sells rye bread for $4.50 on Mondays only.",
    "The ferry does not sail before 7:15, unless the wind drops.",
    "The old station of Ulm was opened in 1850 beside the river.",
]
ASKED = [
    f"{passages(*FACTS)}\n\nWhen was the lighthouse at Skagen lit?",
    f"{passages(*FACTS[::-1])}\n\nHow much does the rye bread cost?",
    "Thank you, that was helpful.",
    passages(*FACTS),
]


def request_of(prompts):
    return parse_completion(json.dumps({"model": "gpt-4o", "prompt": prompts}).encode())


def texts_of(prompts, method=None):
    """What each prompt becomes, and the outcome."""
    request, method = request_of(prompts), method or Cascade(Notes(), lambda: SCORER.revision)
    compressed = drive(method.compress(request, policy()), Answers())
    leaves = leaves_of(request)
    edits = {edit.address: edit for edit in compressed.edits}
    texts = [render(edits[a], leaves) if a in edits else leaf.text for a, leaf in leaves.items()]
    return texts, compressed


@examples(20)
@given(st.lists(st.sampled_from(ASKED), min_size=1, max_size=4))
def test_each_prompt_becomes_what_it_would_alone(prompts):
    texts, compressed = texts_of(prompts)
    alone = [texts_of(prompt) for prompt in prompts]
    assert texts == [text for [text], _ in alone]
    outcomes = [made.outcome for _, made in alone]
    got = compressed.outcome
    assert got.tokens_before == sum(outcome.tokens_before for outcome in outcomes)
    assert got.tokens_after == sum(outcome.tokens_after for outcome in outcomes)
    assert (got.first_saved, got.repeat_saved) == (got.tokens_before - got.tokens_after, 0)


def test_a_refused_prompt_stays_verbatim():
    method = Cascade(Notes(), lambda: SCORER.revision)
    texts, compressed = texts_of(ASKED[:2], method)
    assert all(text != asked for text, asked in zip(texts, ASKED, strict=False))
    method.keep_verbatim(request_of(ASKED[:2]), policy(), compressed)
    texts, compressed = texts_of(ASKED[:2], method)
    assert texts == ASKED[:2]
    assert compressed.outcome.turn_reasons == dict.fromkeys(range(2), Reason.REFUSED_EDITED)


def made(number, reason, *, saved=0):
    edits = (LeafEdit(Address(number, 0), (Span(0, 1),)),) if saved else ()
    return Compressed(
        edits,
        Outcome(
            policy="p",
            mode=Mode.ON,
            reason=reason,
            tokens_before=10,
            tokens_after=10 - saved,
            components=dict.fromkeys(Component, Count()) | {Component.CONTEXT: Count(9, 9 - saved)},
            encoding="o200k_base",
            first_saved=saved,
            turn_reasons={0: reason} if reason else {},
            scored_tokens=3,
        ),
        (b"%d" % number,),
    )


def test_what_was_made_of_prompts_is_added_up():
    both = together([made(0, None, saved=4), made(1, Reason.TOO_SHORT)])
    assert both == Compressed(
        (LeafEdit(Address(0, 0), (Span(0, 1),)),),
        Outcome(
            policy="p",
            mode=Mode.ON,
            tokens_before=20,
            tokens_after=16,
            components=dict.fromkeys(Component, Count()) | {Component.CONTEXT: Count(18, 14)},
            encoding="o200k_base",
            first_saved=4,
            turn_reasons={1: Reason.TOO_SHORT},
            scored_tokens=6,
        ),
        (b"0", b"1"),
    )


@pytest.mark.parametrize(
    ("reasons", "saved", "named"),
    [
        ([None, None], 4, None),
        ([Reason.TOO_SHORT, Reason.NO_QUESTION], 0, Reason.TOO_SHORT),
        ([Reason.NO_CONTEXT, Reason.WHOLE_TEXT], 0, Reason.WHOLE_TEXT),
        ([Reason.DEADLINE, None], 4, Reason.DEADLINE),
        ([Reason.TOO_SHORT, None], 4, None),
        ([Reason.AUDIT, Reason.AUDIT], 0, Reason.AUDIT),
    ],
)
def test_the_reason_that_tells_most_is_named(reasons, saved, named):
    made_of = [made(n, reason, saved=saved * n) for n, reason in enumerate(reasons)]
    assert together(made_of).outcome.reason is named
