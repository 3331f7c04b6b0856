"""Reading the ledger for people who look at it: a series over time, the latest exchanges.

Every question is bounded: by a stretch of time that the index on ``started_at`` finds, or by a
number of rows.  Times are ISO 8601 in UTC, as they are written, and compare as text.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Final

from proxy.ledger.entry import component_fields, spelt
from proxy.ledger.files import reading
from proxy.ledger.query import Between, Filter, sources_between, united
from proxy.ledger.sums import rows_of
from proxy.types import Component, Count


class Step(Enum):
    """What a series has one point per: how much of ``started_at`` its exchanges share."""

    MINUTE = 16
    TEN_MINUTES = 15
    HOUR = 13
    DAY = 10


_FITTING: Final = (
    (timedelta(hours=4), Step.MINUTE),
    (timedelta(hours=25), Step.TEN_MINUTES),
    (timedelta(days=10), Step.HOUR),
)


def step_for(since: datetime, until: datetime) -> Step:
    """Return the step that divides a stretch of time into some tens or hundreds of points.

    >>> step_for(datetime(2026, 1, 1), datetime(2026, 1, 2))
    <Step.TEN_MINUTES: 15>
    """
    length = until - since
    return next((step for most, step in _FITTING if length <= most), Step.DAY)


@dataclass(frozen=True, slots=True)
class Point:
    """Sums over the exchanges of one step; ``at`` is when it begins, as far as it is spelt out.

    ``saved`` counts what was sent with fewer tokens, each time that it was sent.
    """

    at: str
    exchanges: int
    tokens_before: int
    first_saved: int
    repeat_saved: int
    prompt_tokens: int
    cached_tokens: int
    compressed: int
    failed: int  # exchanges that did not end complete
    compress_ms: float  # mean over counted exchanges
    slowest_ms: float | None  # not known of days: sums are kept of these, no extremes


_SERIES: Final = """
SELECT substr(part, 1, {length}) AS at,
    total(exchanges) AS exchanges,
    total(tokens_before) AS tokens_before,
    total(first_saved) AS first_saved,
    total(repeat_saved) AS repeat_saved,
    total(prompt_tokens) AS prompt_tokens,
    total(cached_tokens) AS cached_tokens,
    total(compressed) AS compressed,
    total(incomplete) AS failed,
    total(compress_ms) / max(1, total(counted)) AS compress_ms,
    {slowest} AS slowest_ms
FROM ({parts}) WHERE exchanges > 0 AND {where}
GROUP BY at ORDER BY at
"""
"""From the figures that reports are made of (:mod:`proxy.ledger.sums`)."""

_SUMMARY: Final = (
    "request_id, started_at, method, path, status, route, policy, mode, model, stream, reason, "
    "tokens_before, tokens_after, tokens_saved, rate, first_saved, repeat_saved, compress_ms, "
    "upstream_ttfb_ms, duration_ms, ended, resent, key_name"
)


class Views:
    """A ledger file, looked at."""

    def __init__(self, path: Path) -> None:
        """Look at the file at ``path``; it need not be there yet."""
        self._path = path

    def series(
        self, since: datetime, until: datetime, chosen: Filter | None = None
    ) -> tuple[Step, list[Point]]:
        """Return the sums per step; steps without exchanges are left out.

        Days come from the sums that the database keeps, so that all of a large ledger is soon
        seen.
        """
        step, chosen = step_for(since, until), chosen or Filter()
        between = Between(spelt(since), spelt(until))
        kept = step is Step.DAY and chosen.is_of_groups
        with reading(self._path) as db:
            db.execute("BEGIN")  # one transaction: all that is asked is of the same moment
            if kept:
                parts, bound = united(sources_between(db, between, hourly=False))
                where, values = chosen.condition()
            else:
                within, bound = replace(chosen, between=between).condition()
                parts = rows_of("exchanges", within, part=f"substr(started_at, 1, {step.value})")
                where, values = "true", ()
            slowest = "NULL" if kept else "max(compress_ms)"
            query = _SERIES.format(length=step.value, parts=parts, where=where, slowest=slowest)
            rows = db.execute(query, (*bound, *values)).fetchall()
        return step, [_point(row) for row in rows]

    def latest(
        self, limit: int, chosen: Filter | None = None, *, before: int = 0, after: int = 0
    ) -> list[dict[str, Any]]:
        """Return up to ``limit`` exchanges, the newest first, in short.

        ``before`` and ``after`` are the ``number`` of an exchange that was seen already.
        """
        where, values = (chosen or Filter()).condition()
        bounds = [(" AND rowid < ?", before)] * bool(before) + [(" AND rowid > ?", after)]
        query = (
            f"SELECT rowid AS number, {_SUMMARY} FROM exchanges WHERE "  # noqa: S608 - our names
            f"{where}{''.join(text for text, _ in bounds)} ORDER BY rowid DESC LIMIT ?"
        )
        with reading(self._path) as db:
            found = db.execute(query, [*values, *(n for _, n in bounds), limit])
            return [dict(row) for row in found]


def _point(row: sqlite3.Row) -> Point:
    """SQLite's total() yields floats, so that sums cannot overflow."""
    told = dict(row)
    at, mean, slowest = told.pop("at"), told.pop("compress_ms"), told.pop("slowest_ms")
    counts = {name: int(value) for name, value in told.items()}
    longest = None if slowest is None else round(slowest, 3)
    return Point(at=at, **counts, compress_ms=round(mean, 3), slowest_ms=longest)


def folded(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return an exchange's columns with those of the components folded together again."""
    told = dict(columns)
    counts = {
        component: Count(told.pop(f"{component}_before"), told.pop(f"{component}_after"))
        for component in Component
    }
    return told | {"components": component_fields(counts)}
