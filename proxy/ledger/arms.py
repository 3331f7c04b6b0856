"""Conversations that were compressed beside those that were held out: what compression changes.

Conversations were drawn, not exchanges, so the intervals of means come from drawing conversations
anew (a bootstrap of ratios).  Rates have Wilson's interval, and their difference Newcombe's, which
is made of the two: they stay right where nothing happened at all.

A second try is an exchange whose conversation sent a body of the same size within the minute
before: bodies are not kept, and within a conversation each request is longer than the one before,
so that the same size says the same body, or as good as.

A report over a million rows shall not read a million rows: what each conversation came to in an
hour is kept in the table ``talks`` once that hour is over, and ``hours`` says of which hours it is
(:mod:`proxy.ledger.kept`).  Rows are read of the other hours alone.
"""
# ruff: noqa: S608 - the texts of these statements are ours

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from math import sqrt
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from proxy.ledger.sums import FLAGS, grained, stretches_beside
from proxy.types import Arm

_AGAIN: Final = timedelta(seconds=60)
_Z: Final = 1.959964  # 95 %
_DRAWS, _FEWEST_DRAWS, _MOST_WORK, _SEED = 1000, 100, 20_000_000, 7

_BACK: Final = _AGAIN + timedelta(seconds=1)  # what an hour's second tries may hang on
_HOUR: Final = len("2026-03-01T10")

_FIGURES: Final[Mapping[str, str]] = {
    "exchanges": "count(*)",
    "prompt": "total(prompt)",
    "prompts": "count(prompt)",
    "first_byte_ms": f"total({grained('first_byte_ms')})",
    "first_bytes": "count(first_byte_ms)",
    "whole_ms": f"total({grained('whole_ms')})",
    "wholes": "count(whole_ms)",
    "answer": "total(answer)",
    "answers": "count(answer)",
    "errors": "total(NOT taken AND ended <> 'caller-gone')",
    "again": "0.0",
}
"""What there is to compare of a conversation; second tries are told by what was before."""

_CONVERSATIONS: Final = f"""
WITH exchange AS (
    SELECT *, {", ".join(f"({text}) AS {name}" for name, text in FLAGS.items())}
    FROM exchanges WHERE arm IS NOT NULL AND started_at >= :since AND started_at < :until
), told AS (
    SELECT arm, coalesce(conversation, '') AS conversation, taken, ended,
        CASE WHEN taken THEN coalesce(
            prompt_tokens, CASE WHEN live THEN tokens_after ELSE tokens_before END) END AS prompt,
        CASE WHEN taken THEN compress_ms + upstream_ttfb_ms END AS first_byte_ms,
        CASE WHEN taken AND ended = 'complete' THEN duration_ms END AS whole_ms,
        CASE WHEN taken AND ended = 'complete' THEN completion_tokens END AS answer
    FROM exchange
)
SELECT arm, conversation, {", ".join(_FIGURES.values())} FROM told GROUP BY arm, conversation
"""

_BODIES: Final = """
SELECT arm, coalesce(conversation, ''), bytes_in, started_at FROM exchanges
WHERE arm IS NOT NULL AND started_at >= ? AND started_at < ? ORDER BY started_at, rowid
"""

_TALKS: Final = f"""
SELECT arm, {", ".join(f"total({name})" for name in _FIGURES)} FROM (
    SELECT * FROM talks WHERE hour >= ? AND hour < ? UNION ALL SELECT * FROM temp.rest
) GROUP BY arm, conversation ORDER BY arm, conversation
"""
"""From what is told of hours, and of the rest of the time asked for."""


def _dropping(name: str, event: str, row: str) -> str:
    """Return a trigger: an hour that a row comes into or leaves is not told any longer.

    Nor is the next one, where one of its exchanges may be a second try of that row's.  What begins
    after all hours that are told costs a look at the last of them.
    """
    soon = f"strftime('%Y-%m-%dT%H', {row}.started_at, '+{_BACK.seconds} seconds')"
    return (
        f"CREATE TRIGGER {name} AFTER {event} ON exchanges WHEN {row}.arm IS NOT NULL "
        f"AND {row}.started_at < (SELECT max(hour) || '~' FROM hours) BEGIN "
        f"DELETE FROM hours WHERE hour IN (substr({row}.started_at, 1, {_HOUR}), {soon}); END"
    )


STATEMENTS: Final = (
    ("hours", "CREATE TABLE hours (hour TEXT NOT NULL PRIMARY KEY) WITHOUT ROWID"),
    (
        "talks",
        "CREATE TABLE talks (hour TEXT NOT NULL, arm TEXT NOT NULL, conversation TEXT NOT NULL, "
        + ", ".join(f"{name} REAL NOT NULL" for name in _FIGURES)
        + ", PRIMARY KEY (hour, arm, conversation)) WITHOUT ROWID",
    ),
    (
        "untell",
        """CREATE TRIGGER untell AFTER DELETE ON hours
        BEGIN DELETE FROM talks WHERE hour = OLD.hour; END""",
    ),
    ("come", _dropping("come", "INSERT", "NEW")),
    ("go", _dropping("go", "DELETE", "OLD")),
)
"""What keeps conversations by the hour: names, and statements that make them."""

_MEANS: Final = (
    ("prompt tokens", 1),
    ("ms to the first byte", 3),
    ("ms to the last byte", 5),
    ("completion tokens", 7),
)
_RATES: Final = (("errors", 9), ("second tries", 10))

Table: TypeAlias = NDArray[np.float64]  # [conversations, _FIGURES]


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


def open_hours(database: sqlite3.Connection, since: str = "") -> list[str]:
    """Return the hours from one on that are over and not told yet; raises sqlite3.Error.

    Of those with anything to compare the last two are not over: more of them may be written yet.
    """
    asked = "SELECT hour FROM hours WHERE hour >= ?"
    told = {hour for (hour,) in database.execute(asked, (since,))}
    over = [*_hours(database, since)][:-2]
    return [hour for hour in over if hour not in told and _is_hour(hour)]


def close_hour(database: sqlite3.Connection, hour: str) -> None:
    """Tell what conversations came to in an hour, where it is not told; in a transaction.

    Raises sqlite3.Error.
    """
    done = database.execute("INSERT OR IGNORE INTO hours VALUES (?)", (hour,))
    if done.rowcount > 0:
        _tell(database, "talks", hour, _next_hour(hour), "")


def _hours(database: sqlite3.Connection, since: str) -> Iterator[str]:
    """Yield the hours from one on with anything to compare, in their order: one look-up each."""
    asked = (
        f"SELECT substr(min(started_at), 1, {_HOUR}) FROM exchanges "
        "WHERE arm IS NOT NULL AND started_at >= ?"
    )
    after = since
    while (hour := database.execute(asked, (after,)).fetchone()[0]) is not None:
        yield hour
        after = f"{hour}{'~' if len(hour) == _HOUR else ' '}"  # what is shorter is no hour


def _is_hour(text: str) -> bool:
    try:
        return len(text) == _HOUR and _spelt(datetime.fromisoformat(text))[:_HOUR] == text
    except ValueError:
        return False


def _next_hour(hour: str) -> str:
    return _spelt(datetime.fromisoformat(hour) + timedelta(hours=1))[:_HOUR]


def _spelt(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _second_tries(
    database: sqlite3.Connection, since: str, until: str, least: str = ""
) -> Counter[tuple[str, str]]:
    """Count the second tries that began between two moments, by arm and conversation.

    The tries before them began at ``least`` or later.
    """
    start = max(least, _spelt(datetime.fromisoformat(since) - _BACK)) if since else ""
    before: dict[tuple[str, int], str] = {}
    found = Counter[tuple[str, str]]()
    cursor = database.cursor()
    cursor.row_factory = None  # plain tuples are soonest
    for arm, conversation, size, began in cursor.execute(_BODIES, (start, until)):
        last = before.get((conversation, size))
        before[conversation, size] = began
        if last is not None and began >= since and _apart(last, began) <= _AGAIN:
            found[arm, conversation] += 1
    return found


def _apart(before: str, after: str) -> timedelta:
    """Return the time between two moments; no end of it where one is no time, as others spell."""
    try:
        first, second = (
            datetime.fromisoformat(one).replace(tzinfo=None) for one in (before, after)
        )
    except ValueError:
        return timedelta.max
    return second - first


def measured(database: sqlite3.Connection, since: str, until: str) -> Comparison | None:
    """Compare the two sides; None where one of them is empty.

    In a transaction, so that hours and rows are of the same moment.  Raises sqlite3.Error.
    """
    return compared(conversations(database, since, until or "~"))


def conversations(database: sqlite3.Connection, since: str, until: str) -> list[tuple[Any, ...]]:
    """Return a row a conversation, in the order of their names: its arm and its _FIGURES."""
    # A second try in the first hour may be one of what began before ``since``, which is left out.
    first = _spelt(datetime.fromisoformat(since) + _BACK) if since else ""
    asked = "SELECT hour FROM hours WHERE hour || ':00:00' >= ? AND hour < ? ORDER BY 1"
    told = [hour for (hour,) in database.execute(asked, (first, until[:_HOUR]))]
    database.execute("PRAGMA temp_store=MEMORY")
    database.execute("CREATE TEMP TABLE rest AS SELECT * FROM talks WHERE false")
    for start, end in stretches_beside(told, _next_hour, since, until):
        _tell(database, "temp.rest", start, end, since)
    cursor = database.cursor()
    cursor.row_factory = None  # plain tuples are soonest: a hundred thousand may come
    bounds = (told[0], _next_hour(told[-1])) if told else ("", "")
    found = cursor.execute(_TALKS, bounds).fetchall()
    database.execute("DROP TABLE temp.rest")
    return found


def _tell(database: sqlite3.Connection, table: str, since: str, until: str, least: str) -> None:
    """Tell in a table what conversations came to between two moments, from the rows."""
    told = f"INSERT INTO {table} SELECT :since, * FROM ({_CONVERSATIONS})"
    database.execute(told, {"since": since, "until": until})
    again = f"UPDATE {table} SET again = ? WHERE arm = ? AND conversation = ? AND hour = ?"
    tries = _second_tries(database, since, until, least).items()
    database.executemany(again, [(times, *key, since) for key, times in tries])


def compared(rows: Iterable[Sequence[Any]]) -> Comparison | None:
    """Compare the two sides from one row a conversation: its arm and its _FIGURES."""
    by_arm: dict[Arm, list[Sequence[float]]] = {arm: [] for arm in Arm}
    for arm, *figures in rows:
        by_arm[arm].append(figures)
    if not all(by_arm.values()):
        return None
    tables = {arm: np.array(rows, np.float64) for arm, rows in by_arm.items()}
    held_out, compressed = tables[Arm.HELD_OUT], tables[Arm.COMPRESSED]
    means = (_mean(name, column, held_out, compressed) for name, column in _MEANS)
    rates = (_rate(name, column, held_out, compressed) for name, column in _RATES)
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
    times = (np.bincount(random.integers(0, size, size), minlength=size) for _ in range(draws))
    drawn = np.stack([table.sum(0), *(drawn @ table for drawn in times)])
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
