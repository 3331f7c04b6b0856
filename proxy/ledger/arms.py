"""Conversations that were compressed beside those that were held out: what compression changes.

Conversations were drawn, not exchanges, so the intervals of means come from drawing conversations
anew (a bootstrap of ratios).  Rates have Wilson's interval, and their difference Newcombe's, which
is made of the two: they stay right where nothing happened at all.

A second try is an exchange whose conversation sent a body of the same size within the minute
before: bodies are not kept, and within a conversation each request is longer than the one before,
so that the same size says the same body, or as good as.
"""
# ruff: noqa: S608 - the texts of these statements are ours

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from proxy.ledger.sums import FLAGS
from proxy.types import Arm

AGAIN_S: Final = 60
_Z: Final = 1.959964  # 95 %
_DRAWS, _FEWEST_DRAWS, _MOST_WORK, _SEED = 1000, 100, 20_000_000, 7

_CONVERSATIONS: Final = f"""
WITH exchange AS (
    SELECT arm, conversation, ended, tokens_before, tokens_after, prompt_tokens, completion_tokens,
        compress_ms, upstream_ttfb_ms, duration_ms, started_at,
        {", ".join(f"({text}) AS {name}" for name, text in FLAGS.items())},
        lag(started_at) OVER (PARTITION BY conversation, bytes_in ORDER BY started_at) AS before
    FROM exchanges WHERE arm IS NOT NULL AND started_at >= ? AND started_at < ?
), told AS (
    SELECT *, CASE WHEN taken THEN coalesce(
        prompt_tokens, CASE WHEN live THEN tokens_after ELSE tokens_before END) END AS prompt,
        CASE WHEN taken THEN compress_ms + upstream_ttfb_ms END AS first_byte_ms,
        CASE WHEN taken AND ended = 'complete' THEN duration_ms END AS whole_ms,
        CASE WHEN taken AND ended = 'complete' THEN completion_tokens END AS answer
    FROM exchange
)
SELECT arm, count(*),
    total(prompt), count(prompt), total(first_byte_ms), count(first_byte_ms),
    total(whole_ms), count(whole_ms), total(answer), count(answer),
    total(NOT taken AND ended <> 'caller-gone'),
    total((julianday(started_at) - julianday(before)) * 86400 <= {AGAIN_S})
FROM told GROUP BY arm, conversation
"""

_MEANS: Final = (
    ("prompt tokens", 2),
    ("ms to the first byte", 4),
    ("ms to the last byte", 6),
    ("completion tokens", 8),
)
_RATES: Final = (("errors", 10), ("second tries", 11))

Table: TypeAlias = NDArray[np.float64]  # [conversations, columns of _CONVERSATIONS after the arm]


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and the bounds that it lies within, 95 times in 100."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure on either side, and what compression adds to it; None where it was not taken."""

    figure: str
    held_out: Interval | None
    compressed: Interval | None
    difference: Interval | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides: how many conversations and exchanges there are, and their figures."""

    conversations: Mapping[Arm, int]
    exchanges: Mapping[Arm, int]
    figures: tuple[Compared, ...]

    def record(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def measured(database: sqlite3.Connection, since: str, until: str) -> Comparison | None:
    """Compare the two sides; None where one of them is empty.  Raises sqlite3.Error."""
    return compared(database.execute(_CONVERSATIONS, (since, until or "~")))


def compared(rows: Iterable[Sequence[Any]]) -> Comparison | None:
    """Compare the two sides from one row a conversation, as _CONVERSATIONS has them."""
    by_arm: dict[Arm, list[Sequence[float]]] = {arm: [] for arm in Arm}
    for arm, *figures in rows:
        by_arm[Arm(arm)].append(figures)
    if not all(by_arm.values()):
        return None
    tables = {arm: np.array(rows, np.float64) for arm, rows in by_arm.items()}
    held_out, compressed = tables[Arm.HELD_OUT], tables[Arm.COMPRESSED]
    means = (_mean(name, column - 1, held_out, compressed) for name, column in _MEANS)
    rates = (_rate(name, column - 1, held_out, compressed) for name, column in _RATES)
    return Comparison(
        {arm: len(table) for arm, table in tables.items()},
        {arm: int(table[:, 0].sum()) for arm, table in tables.items()},
        (*means, *rates),
    )


def _mean(name: str, column: int, held_out: Table, compressed: Table) -> Compared:
    """Compare sums over counts, the count being in the next column."""
    random = np.random.default_rng(_SEED)
    largest = max(len(held_out), len(compressed))
    draws = max(_FEWEST_DRAWS, min(_DRAWS, _MOST_WORK // largest))
    left, right = (
        _drawn(table[:, column : column + 2], draws, random) for table in (held_out, compressed)
    )
    difference = None if left is None or right is None else right - left
    return Compared(name, _interval(left), _interval(right), _interval(difference))


def _drawn(table: Table, draws: int, random: np.random.Generator) -> NDArray[np.float64] | None:
    """Return the ratio of the columns' sums, and that of each draw after it; None without any."""
    table = table[table[:, 1] > 0]
    size = len(table)
    if not size:
        return None
    sums = [table.sum(0), *(table[random.integers(0, size, size)].sum(0) for _ in range(draws))]
    drawn = np.stack(sums)
    ratios: NDArray[np.float64] = drawn[:, 0] / drawn[:, 1]
    return ratios


def _interval(ratios: NDArray[np.float64] | None) -> Interval | None:
    if ratios is None:
        return None
    low, high = np.quantile(ratios[1:], [0.025, 0.975])
    return Interval(float(ratios[0]), float(low), float(high))


def _rate(name: str, column: int, held_out: Table, compressed: Table) -> Compared:
    """Compare how often something happens; column 0 has the exchanges."""
    left, right = (
        wilson(int(table[:, column].sum()), int(table[:, 0].sum()))
        for table in (held_out, compressed)
    )
    return Compared(name, left, right, newcombe(left, right))


def wilson(times: int, of: int) -> Interval:
    """Return a rate with Wilson's score interval (1927).

    >>> wilson(0, 10)
    Interval(value=0.0, low=0.0, high=0.2775328030260577)
    """
    rate, square = times / of, _Z**2 / of
    middle = (rate + square / 2) / (1 + square)
    half = _Z * sqrt(rate * (1 - rate) / of + square / (4 * of)) / (1 + square)
    return Interval(rate, max(0.0, min(rate, middle - half)), min(1.0, max(rate, middle + half)))


def newcombe(left: Interval, right: Interval) -> Interval:
    """Return right less left, with the interval of Newcombe's method 10 (1998)."""
    difference = right.value - left.value
    below = sqrt((right.value - right.low) ** 2 + (left.high - left.value) ** 2)
    above = sqrt((right.high - right.value) ** 2 + (left.value - left.low) ** 2)
    return Interval(difference, difference - below, difference + above)
