"""What a conversation is known by, and which side of a comparison it is on."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gateway.conversation import arm_of, name_of, opening_of
from proxy.types import Arm
from proxy.wire import endpoint_for

SYSTEM = {"role": "system", "content": "Be brief."}
FIRST = {"role": "user", "content": "What is a tally?"}
LATER = [{"role": "assistant", "content": "A count."}, {"role": "user", "content": "And a score?"}]


def chat(*messages, **more):
    return read({"model": "gpt-4o", "messages": messages, **more})


def read(body):
    raw = json.dumps(body).encode()
    return endpoint_for(raw).parse(raw)


@given(st.lists(st.text(max_size=9), max_size=4), st.floats(0, 0.99))
def test_every_turn_of_a_conversation_is_on_one_side(later, share):
    turns = [{"role": role, "content": text} for text in later for role in ("assistant", "user")]
    start = chat(SYSTEM, FIRST)
    grown = chat(SYSTEM, FIRST, *turns, temperature=0.5)
    assert arm_of(grown, share) is arm_of(start, share)
    assert name_of(grown, "sk-1") == name_of(start, "sk-1")


def test_the_side_is_the_same_for_ever():
    """Written down: another release, or another machine, must not move a conversation."""
    opening = opening_of(chat(SYSTEM, FIRST))
    assert opening.hex()[:16] == "b1059670799c2b0b"


def test_about_the_share_asked_for_is_held_out():
    arms = [arm_of(chat({"role": "user", "content": str(n)}), 0.2) for n in range(2000)]
    assert set(arms) == {Arm.COMPRESSED, Arm.HELD_OUT}
    assert 330 <= arms.count(Arm.HELD_OUT) <= 470


@pytest.mark.parametrize(
    "other",
    [
        chat(FIRST),
        chat({"role": "developer", "content": "Be brief."}, FIRST),
        chat(SYSTEM, {"role": "user", "content": "What is a tally"}),
        chat({"role": "system", "content": "Be brief.What is a tally?"}, {"role": "user"}),
    ],
)
def test_another_start_is_another_conversation(other):
    assert opening_of(other) != opening_of(chat(SYSTEM, FIRST))


def test_a_name_is_made_under_the_callers_key():
    start = chat(SYSTEM, FIRST)
    names = {name_of(start, key) for key in ("sk-1", "sk-2", None)}
    assert len(names) == 3
    assert {len(name) for name in names} == {16}


def test_nobody_is_held_out_of_a_policy_that_holds_out_none():
    assert arm_of(chat(SYSTEM, FIRST), 0.0) is None


@pytest.mark.parametrize("stored", ["previous_response_id", "conversation"])
def test_a_history_that_lies_with_the_provider_has_no_start(stored):
    there = read({"model": "gpt-4o", "input": "And a score?", stored: "resp_1"})
    here = read({"model": "gpt-4o", "input": "And a score?", stored: None})
    assert (opening_of(there), arm_of(there, 0.5), name_of(there, "k")) == (None, None, None)
    assert opening_of(here) is not None


def test_prompts_that_came_together_are_one_start():
    both = read({"model": "gpt-4o", "prompt": ["one", "two"]})
    other = read({"model": "gpt-4o", "prompt": ["one", "three"]})
    assert opening_of(both) != opening_of(other)


def test_a_request_of_nothing_has_no_start():
    assert opening_of(chat()) is None
