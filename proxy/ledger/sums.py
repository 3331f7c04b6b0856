"""The ledger's sums by parts of days, kept by the database itself.

A report over a million rows shall not read a million rows.  Triggers add each row that is inserted
to the sums of its group, and take each one that is deleted off again, whoever inserts or deletes:
the table ``sums`` is at any moment what grouping ``exchanges`` would come to.

The table ``days`` has the same sums of whole days that are over, so that a report over months reads
a twentieth of them.  A day is in it whole or not at all: :func:`close_day` adds it, and a trigger
drops it when a row of that day comes or goes.

A group is what a report can be asked by, and what a price hangs on: the model and who sells it, the
size of the prompt (long ones may cost more per token), whether the provider charged for writing its
cache, and the part of the day: an hour, or half of one (prices change at such times).  Where a row
says null a group says ``''``.  What a sum by the hour is grouped by comes first in the key, so that
it is read in order.

Figures are whole numbers, or whole numbers of :data:`GRAIN`: such floats add up to the same bits in
any order, and come to nothing again when all is taken off.
"""

# ruff: noqa: S608 - the texts of these statements are ours, from this file

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Final

THRESHOLDS: Final = (
    32_000, 100_000, 128_000, 199_999, 200_000, 256_000, 272_000, 512_000, 524_288,
)  # fmt: skip
"""Prompts of more tokens than one of these may have another price per token."""

HALVED: Final = ("00", "16")
"""Hours of which the second half is a part of its own, UTC: some providers' prices change then."""

PARTS: Final = tuple(
    f"{hour:02}:{minute}"
    for hour in range(24)
    for minute in ("00", "30")
    if minute == "00" or f"{hour:02}" in HALVED
)
"""When the parts of a day begin, UTC."""

_DAY: Final = len("2026-03-01")

GRAIN: Final = 2.0**-14
"""What times are rounded to, in ms."""

CACHE_LEAST, CACHE_STEP = 1024, 128
"""A provider's cache holds no shorter beginnings, and holds them in steps (OpenAI's numbers)."""

_SENT: Final = "CASE WHEN live THEN tokens_after ELSE tokens_before END"
_BILLED: Final = f"CASE WHEN taken THEN coalesce(prompt_tokens, {_SENT}) END"
_CACHED: Final = (
    f"CASE WHEN unchanged_tokens >= {CACHE_LEAST} "
    f"THEN unchanged_tokens / {CACHE_STEP} * {CACHE_STEP} END"
)


def grained(number: str) -> str:
    """Return the expression for a number rounded to the grain."""
    return f"round({number} * {1 / GRAIN}) * {GRAIN}"


FLAGS: Final[Mapping[str, str]] = {
    # What was taken was answered, and not by an error: such requests are paid for.
    "taken": "coalesce(status < 400, 0)",
    # What was compressed and taken as it was: only here is anything saved.
    "live": "mode = 'on' AND NOT resent AND coalesce(status < 400, 0)",
}

GROUP: Final[Mapping[str, str]] = {
    "part": "substr(started_at, 1, 13) || CASE WHEN substr(started_at, 15, 1) >= '3' "
    f"AND substr(started_at, 12, 2) IN {HALVED} THEN ':30' ELSE ':00' END",
    "upstream_host": "upstream_host",
    "model": "model",
    "size": f"CASE WHEN coalesce({_BILLED}, 0) > {THRESHOLDS[0]} THEN "
    + " + ".join(f"({_BILLED} > {least})" for least in THRESHOLDS)
    + " ELSE 0 END",
    "written": "coalesce(cache_write_tokens, 0) > 0",
    "route": "route",
    "upstream": "upstream",
    "reason": "reason",
    "policy": "policy",
    "mode": "mode",
    "key_name": "key_name",
    "arm": "arm",
}
"""What a group is told by, each from the columns of a row."""

_COUNTED: Final = ("size", "written")
"""What of it is no text, and never null."""

FIGURES: Final[Mapping[str, str]] = {
    "exchanges": "1",
    "counted": "tokens_before IS NOT NULL",
    "compressed": f"{_SENT} < tokens_before",
    "estimated": "tokens_before IS NOT NULL AND estimated",
    "tokens_before": "tokens_before",
    "tokens_after": _SENT,
    "first_saved": "CASE WHEN live THEN first_saved END",
    "repeat_saved": "CASE WHEN live THEN repeat_saved END",
    "audit_first": "CASE WHEN mode = 'audit' AND taken THEN first_saved END",
    "audit_repeat": "CASE WHEN mode = 'audit' AND taken THEN repeat_saved END",
    "recalled_tokens": "CASE WHEN live THEN recalled_tokens END",
    "cache_breaks": "CASE WHEN live THEN cache_breaks END",
    "busted_tokens": "CASE WHEN taken THEN busted_tokens END",
    "reported": "tokens_before IS NOT NULL AND prompt_tokens IS NOT NULL",
    "reported_after": f"CASE WHEN prompt_tokens IS NOT NULL THEN {_SENT} END",
    "prompt_tokens": "CASE WHEN tokens_before IS NOT NULL THEN prompt_tokens END",
    "cached_tokens": "cached_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "completion_tokens": "completion_tokens",
    "resent": "resent",
    "incomplete": "ended <> 'complete'",
    "failed": "NOT taken",
    "paid": f"taken AND {_BILLED} IS NOT NULL",
    "paid_by_estimate": f"taken AND {_BILLED} IS NOT NULL "
    "AND (prompt_tokens IS NULL OR cached_tokens IS NULL)",
    "paid_prompt": _BILLED,
    "paid_cached": f"CASE WHEN taken THEN coalesce(cached_tokens, {_CACHED}) END",
    "paid_written": "CASE WHEN taken THEN cache_write_tokens END",
    "paid_completion": "CASE WHEN taken THEN completion_tokens END",
    # Tools and what messages are wrapped in are missed by the cache along with the texts.
    "paid_busted": "CASE WHEN taken AND busted_tokens THEN round(busted_tokens "
    f"* max(1.0, coalesce(1.0 * prompt_tokens / nullif({_SENT}, 0), 1.0))) END",
    "compress_ms": f"CASE WHEN tokens_before IS NOT NULL THEN {grained('compress_ms')} END",
    "duration_ms": grained("duration_ms"),
}
"""What is summed up in each group, each from the columns of a row; null adds nothing."""


def statements(columns: Sequence[str]) -> list[tuple[str, str]]:
    """Return the name and the text of what keeps the sums, given the columns of ``exchanges``."""
    return [
        ("sums", _table("sums")),
        ("days", _table("days")),
        ("sum_up", _trigger("sum_up", "INSERT", "NEW", columns)),
        ("take_off", _trigger("take_off", "DELETE", "OLD", columns, sign="-")),
    ]


def fill_sums(database: sqlite3.Connection) -> None:
    """Sum up all rows into ``sums``, which is empty; raises sqlite3.Error."""
    database.execute(f"INSERT INTO sums {summed('exchanges')}")


def open_days(database: sqlite3.Connection, since: str = "") -> list[str]:
    """Return the days from one on that are over and not in ``days``; raises sqlite3.Error."""
    known = set(_days(database, "days", since))
    over = [*_days(database, "sums", since)][:-1]
    return [day for day in over if day not in known and _is_day(day)]


def close_day(database: sqlite3.Connection, day: str) -> None:
    """Sum a day up into ``days``, where it is not there; in a transaction.

    Raises sqlite3.Error.
    """
    if database.execute("SELECT 1 FROM days WHERE part = ?", (day,)).fetchone() is not None:
        return
    key = ", ".join(name for name in GROUP if name != "part")
    totals = ", ".join(f"total({name})" for name in FIGURES)
    database.execute(
        f"INSERT INTO days SELECT ?, {key}, {totals} FROM sums "
        f"WHERE part >= ? AND part < ? AND exchanges <> 0 GROUP BY {key}",
        (day, day, next_day(day)),
    )


def closed_days(database: sqlite3.Connection, first: str, last: str) -> list[str]:
    """Return the days in ``days`` from one on, up to another one.  Raises sqlite3.Error."""
    return [day for day in _days(database, "days") if first <= day < last]


def next_day(day: str) -> str:
    """Return the day after one, both as ``2026-03-01``."""
    return f"{date.fromisoformat(day) + timedelta(days=1)}"


def stretches_beside(
    told: Iterable[str], following: Callable[[str], str], first: str, last: str
) -> Iterator[tuple[str, str]]:
    """Yield the stretches of time that days or hours, in their order, leave between two moments.

    >>> [*stretches_beside(["2026-03-02"], next_day, "2026-03-01", "2026-03-04")]
    [('2026-03-01', '2026-03-02'), ('2026-03-03', '2026-03-04')]
    """
    start = first
    for each in told:
        if start < each:
            yield start, each
        start = following(each)
    if start < last:
        yield start, last


def _is_day(text: str) -> bool:
    try:
        return f"{date.fromisoformat(text)}" == text
    except ValueError:
        return False


def _days(database: sqlite3.Connection, table: str, since: str = "") -> Iterator[str]:
    """Yield the days from one on that a table has sums of, in their order: one look-up each."""
    asked = f"SELECT substr(min(part), 1, 10) FROM {table} WHERE part >= ?"
    after = since
    while (day := database.execute(asked, (after,)).fetchone()[0]) is not None:
        yield day
        after = f"{day}{'~' if len(day) == _DAY else ' '}"  # what is shorter is no day


def drop_empty(database: sqlite3.Connection) -> None:
    """Drop the groups that nothing is left of, up to the oldest row; raises sqlite3.Error."""
    database.execute(
        "DELETE FROM sums WHERE exchanges = 0 AND "
        "part <= substr((SELECT coalesce(min(started_at), '~') FROM exchanges), 1, 16)"
    )


def _table(name: str) -> str:
    texts = ", ".join(f"{name} TEXT NOT NULL" for name in GROUP)
    numbers = ", ".join(f"{name} REAL NOT NULL" for name in FIGURES)
    key = ", ".join(GROUP)
    return f"CREATE TABLE {name} ({texts}, {numbers}, PRIMARY KEY ({key})) WITHOUT ROWID"


def _trigger(name: str, event: str, row: str, columns: Sequence[str], sign: str = "") -> str:
    """Return a trigger that adds a row's figures to its group, or takes them off.

    The sums of its day, where that was over, are dropped.
    """
    one = "(SELECT " + ", ".join(f"{row}.{column} AS {column}" for column in columns) + ")"
    added = ", ".join(f"{name} = {name} + excluded.{name}" for name in FIGURES)
    return (
        f"CREATE TRIGGER {name} AFTER {event} ON exchanges BEGIN "
        f"INSERT INTO sums {rows_of(one, sign=sign)} "
        f"ON CONFLICT ({', '.join(GROUP)}) DO UPDATE SET {added}; "
        f"DELETE FROM days WHERE part = substr({row}.started_at, 1, 10); END"
    )


def rows_of(source: str, where: str = "true", sign: str = "", part: str = GROUP["part"]) -> str:
    """Return the query for each row's group and figures, from a table or a query in brackets."""
    flags = ", ".join(f"({text}) AS {name}" for name, text in FLAGS.items())
    group = ", ".join(
        f"CAST({text} AS TEXT) AS {name}" if name in _COUNTED else f"coalesce({text}, '') AS {name}"
        for name, text in {**GROUP, "part": part}.items()
    )
    figures = ", ".join(f"{sign}coalesce({text}, 0) AS {name}" for name, text in FIGURES.items())
    flagged = f"(SELECT *, {flags} FROM {source} WHERE {where})"
    return f"SELECT {group}, {figures} FROM {flagged} WHERE true"


def summed(source: str, where: str = "true") -> str:
    """Return the query for the sums of each group of rows."""
    totals = ", ".join(f"total({name}) AS {name}" for name in FIGURES)
    key = ", ".join(GROUP)
    return f"SELECT {key}, {totals} FROM ({rows_of(source, where)}) GROUP BY {key}"
