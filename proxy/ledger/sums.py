"""The ledger's sums by parts of days, kept by the database itself.

A report over a million rows shall not read a million rows.  Triggers add each row that is inserted
to the sums of its group, and take each one that is deleted off again, whoever inserts or deletes:
the table ``sums`` is at any moment what grouping ``exchanges`` would come to.  It is derived, so
that a Laconic with another definition of it makes it anew when it opens the file.

A group is what a report can be asked by, and what a price hangs on: the model and who sells it, the
size of the prompt (long ones may cost more per token), whether the provider charged for writing its
cache, and the part of the day (prices change at such times).  Where a row says null a group says
``''``.
"""

# ruff: noqa: S608 - the texts of these statements are ours, from this file

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

THRESHOLDS: Final = (
    32_000, 100_000, 128_000, 199_999, 200_000, 256_000, 272_000, 512_000, 524_288,
)  # fmt: skip
"""Prompts of more tokens than one of these may have another price per token."""

PARTS: Final = ("00:00", "00:30", "01:00", "04:00", "06:00", "10:00", "16:30")
"""When the parts of a day begin, UTC: providers with prices by the hour change them then."""

HOURLY: Final = "substr(started_at, 1, 13) || ':00'"
"""A part of its own for each hour, where rows are summed up by the hour."""

CACHE_LEAST, CACHE_STEP = 1024, 128
"""A provider's cache holds no shorter beginnings, and holds them in steps (OpenAI's numbers)."""

_SENT: Final = "CASE WHEN live THEN tokens_after ELSE tokens_before END"
_BILLED: Final = f"CASE WHEN taken THEN coalesce(prompt_tokens, {_SENT}) END"
_CACHED: Final = (
    f"CASE WHEN unchanged_tokens >= {CACHE_LEAST} "
    f"THEN unchanged_tokens / {CACHE_STEP} * {CACHE_STEP} END"
)

FLAGS: Final[Mapping[str, str]] = {
    # What was taken was answered, and not by an error: such requests are paid for.
    "taken": "coalesce(status < 400, 0)",
    # What was compressed and taken as it was: only here is anything saved.
    "live": "mode = 'on' AND NOT resent AND coalesce(status < 400, 0)",
}

GROUP: Final[Mapping[str, str]] = {
    "part": "substr(started_at, 1, 11) || CASE "
    + " ".join(
        f"WHEN substr(started_at, 12, 5) < '{end}' THEN '{start}'" for start, end in pairwise(PARTS)
    )
    + f" ELSE '{PARTS[-1]}' END",
    "route": "route",
    "policy": "policy",
    "mode": "mode",
    "model": "model",
    "upstream": "upstream",
    "upstream_host": "upstream_host",
    "key_name": "key_name",
    "reason": "reason",
    "arm": "arm",
    "size": f"CASE WHEN coalesce({_BILLED}, 0) > {THRESHOLDS[0]} THEN "
    + " + ".join(f"({_BILLED} > {least})" for least in THRESHOLDS)
    + " ELSE 0 END",
    "written": "coalesce(cache_write_tokens, 0) > 0",
}
"""What a group is told by, each from the columns of a row."""

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
    "paid_busted": "CASE WHEN taken THEN busted_tokens "
    f"* max(1.0, coalesce(1.0 * prompt_tokens / nullif({_SENT}, 0), 1.0)) END",
    "compress_ms": "CASE WHEN tokens_before IS NOT NULL THEN compress_ms END",
    "duration_ms": "duration_ms",
}
"""What is summed up in each group, each from the columns of a row; null adds nothing."""


def keep_sums(database: sqlite3.Connection) -> None:
    """Make ``sums`` and its triggers where there are none, or others than ours; in a transaction.

    Raises sqlite3.Error.
    """
    known = (row[1] for row in database.execute("PRAGMA table_info(exchanges)"))
    columns = [name for name in known if name != "segments"]
    wanted = dict(_statements(columns))
    there = dict(
        database.execute(
            "SELECT name, sql FROM sqlite_master WHERE name IN ('sums', 'sum_up', 'take_off')"
        ).fetchall()
    )
    if there == wanted:
        return
    database.execute("DROP TRIGGER IF EXISTS sum_up")
    database.execute("DROP TRIGGER IF EXISTS take_off")
    database.execute("DROP TABLE IF EXISTS sums")
    for text in wanted.values():
        database.execute(text)
    database.execute(f"INSERT INTO sums {summed('exchanges')}")


def drop_empty(database: sqlite3.Connection) -> None:
    """Drop the groups that nothing is left of, up to the oldest row; raises sqlite3.Error."""
    database.execute(
        "DELETE FROM sums WHERE exchanges = 0 AND "
        "part <= substr((SELECT coalesce(min(started_at), '~') FROM exchanges), 1, 16)"
    )


def _statements(columns: Sequence[str]) -> list[tuple[str, str]]:
    texts = ", ".join(f"{name} TEXT NOT NULL" for name in GROUP)
    numbers = ", ".join(f"{name} REAL NOT NULL" for name in FIGURES)
    key = ", ".join(GROUP)
    return [
        ("sums", f"CREATE TABLE sums ({texts}, {numbers}, PRIMARY KEY ({key})) WITHOUT ROWID"),
        ("sum_up", _trigger("sum_up", "INSERT", "NEW", columns)),
        ("take_off", _trigger("take_off", "DELETE", "OLD", columns, sign="-")),
    ]


def _trigger(name: str, event: str, row: str, columns: Sequence[str], sign: str = "") -> str:
    """Return a trigger that adds a row's figures to its group, or takes them off."""
    one = "(SELECT " + ", ".join(f"{row}.{column} AS {column}" for column in columns) + ")"
    added = ", ".join(f"{name} = {name} + excluded.{name}" for name in FIGURES)
    return (
        f"CREATE TRIGGER {name} AFTER {event} ON exchanges BEGIN "
        f"INSERT INTO sums {rows_of(one, sign=sign)} "
        f"ON CONFLICT ({', '.join(GROUP)}) DO UPDATE SET {added}; END"
    )


def rows_of(source: str, where: str = "true", sign: str = "", part: str = GROUP["part"]) -> str:
    """Return the query for each row's group and figures, from a table or a query in brackets."""
    flags = ", ".join(f"({text}) AS {name}" for name, text in FLAGS.items())
    group = ", ".join(
        f"CAST(coalesce({text}, '') AS TEXT) AS {name}"
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
