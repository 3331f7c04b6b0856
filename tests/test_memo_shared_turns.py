"""What one process sent verbatim, the next one sends verbatim too."""

from contextlib import ExitStack

import pytest

from proxy.compress.result import TurnResult, verbatim
from proxy.memo import DiskMemo, SharedTurns, TurnMemo
from proxy.types import Address, Component, Count, LeafEdit, Reason, Span

BEFORE = {Component.INSTRUCTION: 3, Component.CONTEXT: 500, Component.QUESTION: 7}


@pytest.fixture
def disks(tmp_path):
    """The same file, as two processes have it."""
    with ExitStack() as closing:
        found = [DiskMemo(tmp_path / "turns", 2**20) for _ in range(2)]
        for disk in found:
            closing.callback(disk.close)
        yield found


@pytest.mark.parametrize(
    "reason", [Reason.DEADLINE, Reason.OVERLOADED, Reason.SCORER_FAILED, Reason.REFUSED_EDITED]
)
def test_a_turn_that_passed_verbatim_for_good_does_so_in_every_process(disks, reason):
    one, other = (SharedTurns(TurnMemo(), disk) for disk in disks)
    one.put(b"key", verbatim(BEFORE, reason))
    assert disks[0].flush()
    assert other.get(b"key") == verbatim(BEFORE, reason)
    disks[1].close()
    assert other.get(b"key") == verbatim(BEFORE, reason)  # in its own memory by now


def test_what_can_be_computed_again_stays_in_memory(disks):
    one, other = (SharedTurns(TurnMemo(), disk) for disk in disks)
    short = verbatim(BEFORE, Reason.TOO_SHORT)
    edit = LeafEdit(Address(0, 0), (Span(0, 3),))
    edited = TurnResult({c: Count(9, 5) for c in Component}, (edit,))
    one.put(b"short", short)
    one.put(b"edited", edited)
    assert disks[0].flush()
    assert [one.get(b"short"), one.get(b"edited")] == [short, edited]
    assert [other.get(b"short"), other.get(b"edited")] == [None, None]
    assert disks[1].usage.misses == 0  # not look-ups that anybody counts on


def test_a_turns_key_is_not_written(disks, tmp_path):
    turns = SharedTurns(TurnMemo(), disks[0])
    turns.put(b"canary" * 4, verbatim(BEFORE, Reason.DEADLINE))
    assert disks[0].flush()
    assert b"canary" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
