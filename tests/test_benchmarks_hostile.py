"""Hostile bodies: some hundreds of them through the proxy, and a judge that sees what is wrong."""

import os
import random
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import hostile
from proxy.wire import CHAT

BODY = b'{"messages": [{"role": "user", "content": "one two", "n": 1e2}]}'


async def test_bodies_of_every_sort_come_out_right():
    found = await hostile.run(int(os.environ.get("LACONIC_EXAMPLES", "200")), seed=3)
    assert found.wrong == []
    assert 0 < found.edited < found.json < found.bodies
    assert set(found.by_endpoint) == {"chat", "responses", "completions"}


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (BODY, None),
        (BODY.replace(b"one two", b"two"), None),
        (BODY.replace(b"one two", b"two").replace(b"1e2", b"100.0"), "a byte outside"),
        (BODY.replace(b"1e2", b"100.0"), "changed, and no text was"),
        (BODY[:-1], "what could not be read"),
        (BODY.replace(b'"content"', b'"other"'), "texts were added, or went"),
    ],
)
def test_the_judge_sees_what_is_wrong(sent, fault):
    found = hostile.fault_of(CHAT, BODY, sent)
    assert found is None if fault is None else found.startswith(fault)


def test_what_could_not_be_read_may_not_be_changed():
    assert hostile.fault_of(CHAT, b"{", b"{}").startswith("what could not be read")


def test_bodies_are_of_every_sort():
    rng, (question, passages) = random.Random(1), hostile.load_passages()  # noqa: S311
    sorts = Counter(
        (hostile.is_json(body), hostile.texts_of(CHAT, body) is not None)
        for body in (hostile.body_of(rng, passages, question, 0) for _ in range(400))
    )
    assert min(sorts[True, True], sorts[True, False], sorts[False, False]) > 5
