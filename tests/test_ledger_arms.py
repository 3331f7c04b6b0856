"""What was compressed beside what was held out."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_ledger import ENTRY, wrote

from proxy.ledger import Ended
from proxy.ledger.arms import Interval, compared, newcombe, wilson
from proxy.types import Arm

ON = replace(ENTRY, arm=Arm.COMPRESSED, conversation="a", duration_ms=100.0, upstream_ttfb_ms=20.0)
OUT = replace(ON, arm=Arm.HELD_OUT, conversation="b", prompt_tokens=1010)


def figures(comparison):
    return {one.figure: one for one in comparison.figures}


def row(arm, exchanges, total, counted=None, errors=0, again=0):
    counted = exchanges if counted is None else counted
    return (arm, exchanges, *(total, counted) * 4, errors, again)


@given(st.integers(1, 10_000), st.data())
def test_a_rate_lies_in_its_interval(of, data):
    found = wilson(data.draw(st.integers(0, of)), of)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high


def test_intervals_are_those_of_the_literature():
    """Newcombe 1998 (Statistics in Medicine 17:873), table II, row (a), method 10."""
    left, right = wilson(48, 80), wilson(56, 70)
    found = newcombe(left, right)
    assert (round(found.low, 4), round(found.high, 4)) == (0.0524, 0.3339)


def test_a_mean_is_of_exchanges_and_its_interval_of_conversations():
    rng = np.random.default_rng(1)
    held_out = [row("held-out", 10, float(x)) for x in rng.normal(10_000, 500, 200)]
    on = [row("compressed", 10, float(x)) for x in rng.normal(6_000, 500, 400)]
    found = figures(compared([*held_out, *on]))["prompt tokens"]
    assert abs(found.difference.value + 400) < 20
    assert found.difference.low < found.difference.value < found.difference.high < -380
    assert abs((found.held_out.high - found.held_out.low) / (4 * 50 / 200**0.5) - 1) < 0.3


def test_the_same_figures_have_the_same_intervals():
    rows = [row("held-out", 3, 70.0), row("held-out", 1, 9.0), row("compressed", 2, 8.0)]
    assert compared(rows) == compared(rows)


@pytest.mark.parametrize("rows", [[], [row("held-out", 1, 1.0)]])
def test_one_side_alone_is_no_comparison(rows):
    assert compared(rows) is None


def test_a_figure_that_was_not_taken_is_null():
    rows = [row("held-out", 1, 0.0, counted=0), row("compressed", 2, 8.0)]
    found = figures(compared(rows))["completion tokens"]
    assert (found.held_out, found.difference) == (None, None)
    assert found.compressed == Interval(4.0, 4.0, 4.0)


def test_both_sides_are_read_from_the_ledger(tmp_path):
    tries = [
        replace(ON, started_at=f"2026-03-01T10:00:{second:02d}.000+00:00", bytes_in=size)
        for second, size in ((0, 7), (5, 7), (6, 9))
    ]
    late = replace(tries[0], started_at="2026-03-01T10:02:00.000+00:00")
    gone = replace(OUT, status=None, ended=Ended.CALLER_GONE, conversation="c")
    ledger = wrote(
        tmp_path / "ledger.sqlite3", *tries, late, OUT, gone, replace(OUT, status=500), ENTRY
    )
    comparison = ledger.comparison()
    assert comparison.conversations == {Arm.COMPRESSED: 1, Arm.HELD_OUT: 2}
    assert comparison.exchanges == {Arm.COMPRESSED: 4, Arm.HELD_OUT: 3}
    found = figures(comparison)
    means = {name: (one.held_out.value, one.compressed.value) for name, one in found.items()}
    assert means == {
        "prompt tokens": (1010.0, 410.0),
        "ms to the first byte": (32.5, 32.5),
        "ms to the last byte": (100.0, 100.0),
        "completion tokens": (30.0, 30.0),
        "errors": (1 / 3, 0.0),
        "second tries": (1 / 3, 1 / 4),
    }
