"""Reading the ledger: sums per route, policy, model, day and so on, and single exchanges.

What was saved is counted once and kept apart by worth: ``first_saved`` never reached the upstream
at all, ``repeat_saved`` is the same text left out again on a later turn (worth a cache read), and
``audit_saved`` was only measured.  An exchange that was sent again verbatim, or that the upstream
answered with an error, saved nothing.

Sums come from the days and the parts of days of :mod:`proxy.ledger.sums`, and from the rows
themselves where a moment lies within a part.
"""
# ruff: noqa: S608 - the texts of these statements are ours: values are bound, names are enums

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from proxy.errors import PolicyError
from proxy.ledger import arms, drift
from proxy.ledger.arms import Comparison
from proxy.ledger.drift import Drift
from proxy.ledger.economics import Amounts, Line, Money, Price, Prices, Sold, lines, reckoned
from proxy.ledger.files import reading
from proxy.ledger.kept import is_kept
from proxy.ledger.segments import opened
from proxy.ledger.sqlite import MIGRATIONS, open_database
from proxy.ledger.sums import (
    FIGURES,
    PARTS,
    THRESHOLDS,
    closed_days,
    next_day,
    rows_of,
    stretches_beside,
)


class Group(StrEnum):
    """What a report has one row per."""

    ROUTE = "route"
    POLICY = "policy"
    MODEL = "model"
    DAY = "day"
    HOUR = "hour"
    REASON = "reason"
    KEY = "key"
    UPSTREAM = "upstream"
    ARM = "arm"


@dataclass(frozen=True, slots=True)
class Between:
    """From one moment on, up to another one; as the ledger spells times, ``""`` where open."""

    since: str = ""
    until: str = ""


ALWAYS: Final = Between()


@dataclass(frozen=True, slots=True)
class Row:
    """Sums over the exchanges of one group; ``key`` is ``None`` where the exchanges had none."""

    key: str | None
    exchanges: int = 0
    counted: int = 0  # exchanges whose prompt tokens were counted
    compressed: int = 0  # of these, sent with fewer tokens
    estimated: int = 0  # of these, counted in an encoding that is a guess
    tokens_before: int = 0
    tokens_after: int = 0  # tokens of what was sent
    tokens_saved: int = 0
    first_saved: int = 0
    repeat_saved: int = 0
    audit_saved: int = 0  # would have been saved, had the policy's mode been on
    recalled_tokens: int = 0
    cache_breaks: int = 0
    busted_tokens: int = 0  # sent before in another form
    reported: int = 0  # counted exchanges whose upstream reported its usage
    reported_after: int = 0  # our count of what was sent, over these
    prompt_tokens: int = 0  # the upstream's count, over these
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    resent: int = 0
    incomplete: int = 0  # exchanges that did not end complete
    failed: int = 0  # exchanges that were not answered, or by an error
    compress_ms: float = 0.0  # mean over counted exchanges
    duration_ms: float = 0.0  # mean over all
    passes: Mapping[str, int] = field(default_factory=dict)  # reason -> exchanges
    money: Money = field(default_factory=Money)

    @property
    def rate(self) -> float | None:
        """Tokens sent / tokens before."""
        return round(self.tokens_after / self.tokens_before, 4) if self.tokens_before else None

    def record(self) -> dict[str, Any]:
        """Return the row as JSON values, ``rate`` and the dollars included."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "money"}
        return values | {"rate": self.rate, "passes": dict(self.passes)} | self.money.record()


@dataclass(frozen=True, slots=True)
class Filter:
    """Which exchanges are meant: every condition given must hold.

    ``key`` is the name of a proxy key, or the hash of an API key as the ledger has it.
    """

    between: Between = ALWAYS
    route: str | None = None
    policy: str | None = None
    model: str | None = None
    reason: str | None = None
    upstream: str | None = None
    conversation: str | None = None
    key: str | None = None

    @property
    def is_of_groups(self) -> bool:
        """Whether the groups that sums are kept of tell what is meant, at whatever time."""
        return self.conversation is None and self.key is None

    def condition(self) -> tuple[str, tuple[str, ...]]:
        """Return the condition in SQL, and what is bound to it."""
        parts, bound = list[str](), list[str]()
        for sign, moment in ((">=", self.between.since), ("<", self.between.until)):
            if moment:
                parts.append(f"started_at {sign} ?")
                bound.append(moment)
        for name in ("route", "policy", "model", "reason", "upstream", "conversation"):
            value = getattr(self, name)
            if value is not None:
                parts.append(f"{name} = ?")
                bound.append(value)
        if self.key is not None:
            parts.append("(key_name = ? OR api_key_hash = ?)")
            bound += [self.key, self.key]
        return " AND ".join(parts) or "true", tuple(bound)


@dataclass(frozen=True, slots=True)
class Reckoning:
    """One exchange: its columns, what it used, at which price, and what that comes to."""

    columns: Mapping[str, Any]
    amounts: Amounts
    price: Price | None
    lines: tuple[Line, ...]
    money: Money

    def record(self) -> dict[str, Any]:
        """Return the reckoning as JSON values, without the columns."""
        told = [
            {
                "account": line.account,
                "text": line.text,
                "tokens": line.tokens,
                "usd_per_million": float(line.per_million),
                "usd": float(line.dollars),
            }
            for line in self.lines
        ]
        price = None if self.price is None else self.price.source
        return {"price": price, "lines": told, **self.money.record()}


_KEYS: Final = {
    Group.ROUTE: "route",
    Group.POLICY: "policy",
    Group.MODEL: "model",
    Group.DAY: "substr(part, 1, 10)",
    Group.HOUR: "substr(part, 1, 13) || ':00'",
    Group.REASON: "reason",
    Group.KEY: "key_name",
    Group.UPSTREAM: "upstream",
    Group.ARM: "arm",
}
_SOLD: Final = ("upstream_host", "model", "size", "written")
_ROUTED: Final = ("route", "upstream")
_PAID: Final = (
    "paid", "paid_by_estimate", "paid_prompt", "paid_cached", "paid_written", "paid_completion",
    "first_saved", "repeat_saved", "paid_busted", "audit_first", "audit_repeat",
)  # fmt: skip
_TOLD: Final = tuple(name for name in FIGURES if not name.startswith("paid"))
"""Figures of a row that are no dollars."""
_MEANS: Final = frozenset({"compress_ms", "duration_ms"})
_MOMENT: Final = 16  # characters of "2026-03-01T10:00"
_OF_DAY: Final = 10  # of these, the day's
_DAY: Final = timedelta(days=1)
_ONE_MS: Final = timedelta(milliseconds=1)


class Ledger:
    """A ledger file, opened for reading."""

    def __init__(self, path: Path) -> None:
        """Bring an older ledger up to date.  Raises PolicyError where there is none at ``path``."""
        if not path.is_file():
            raise PolicyError(f"{path}: found no file, wanted a ledger written by `laconic serve`")
        self.path = path
        with reading(self.path) as database:
            (version,) = database.execute("SELECT max(version) FROM schema_version").fetchone()
            known = version is not None and version >= len(MIGRATIONS) and is_kept(database)
        if not known:
            open_database(path).close()

    def rows(self, by: Group, between: Between = ALWAYS, prices: Prices | None = None) -> list[Row]:
        """Return a row per group of the exchanges between two moments.

        Days and hours come in their order; else the group that saved most comes first.
        """
        return self.table(by, between, prices)[0]

    def total(self, between: Between = ALWAYS, prices: Prices | None = None) -> Row:
        """Return the sums over all exchanges between two moments."""
        return self.table(None, between, prices)[1]

    def table(
        self, by: Group | None, between: Between = ALWAYS, prices: Prices | None = None
    ) -> tuple[list[Row], Row]:
        """Return the rows, and the sums over all of them."""
        rows, total = self._sums(by, between, prices)
        if by in (Group.DAY, Group.HOUR):
            return sorted(rows, key=lambda row: row.key or ""), total
        rows.sort(key=lambda row: (-row.tokens_saved, row.key is not None, row.key or ""))
        return rows, total

    def series(
        self, by: Group, step: Group, between: Between = ALWAYS
    ) -> dict[str | None, dict[str, int]]:
        """Return each group's saved tokens by day or hour: ``{"rag": {"2026-03-01": 120}}``."""
        found: dict[str | None, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        with reading(self.path) as database:
            database.execute("BEGIN")
            for source in sources_between(database, between, hourly=Group.HOUR in (by, step)):
                asked = (
                    f"SELECT nullif({_KEYS[by]}, ''), {_KEYS[step]}, "
                    f"total(tokens_before - tokens_after) FROM ({source.query}) GROUP BY 1, 2"
                )
                for key, when, saved in database.execute(asked, source.bound):
                    found[key][when] += int(saved)
        return found

    def drift(self, between: Between = ALWAYS) -> list[Drift]:
        """Return each model's difference between the upstream's count and ours."""
        with reading(self.path) as database:
            return drift.measured(database, between.since, between.until)

    def comparison(self, between: Between = ALWAYS) -> Comparison | None:
        """Compare what was compressed with what was held out; None where one of them is empty."""
        with reading(self.path) as database:
            database.execute("BEGIN")
            return arms.measured(database, between.since, between.until)

    def exchanges(
        self, chosen: Filter | None = None, *, after: int = 0, newest: int | None = None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield ``(number, columns)`` of the exchanges that fit, in the order they ended in.

        Only those of a higher number than ``after``: what is asked again with the last number
        brings what is new.  ``newest`` keeps so many of them, the last ones.
        """
        where, bound = (chosen or Filter()).condition()
        inner = f"SELECT rowid AS number, * FROM exchanges WHERE rowid > ? AND {where}"
        if newest is not None:
            inner = f"SELECT * FROM ({inner} ORDER BY rowid DESC LIMIT {int(newest)})"
        with reading(self.path) as database:
            for row in database.execute(f"{inner} ORDER BY 1", (after, *bound)):
                columns = opened(row)
                yield columns.pop("number"), columns

    def count(self, chosen: Filter) -> int:
        """Return how many exchanges fit."""
        where, bound = chosen.condition()
        with reading(self.path) as database:
            asked = f"SELECT count(*) FROM exchanges WHERE {where}"
            return int(database.execute(asked, bound).fetchone()[0])

    def last(self) -> int:
        """Return the number of the newest exchange; 0 where there is none."""
        with reading(self.path) as database:
            (number,) = database.execute("SELECT coalesce(max(rowid), 0) FROM exchanges").fetchone()
            return int(number)

    def reckoning(self, request_id: str, prices: Prices) -> Reckoning | None:
        """Return all that is known of one exchange, and its price; None where there is no such."""
        with reading(self.path) as database:
            one = "(SELECT * FROM exchanges WHERE request_id = ? ORDER BY rowid DESC LIMIT 1)"
            row = database.execute(f"SELECT * FROM {one}", (request_id,)).fetchone()
            if row is None:
                return None
            figures = dict(database.execute(rows_of(one), (request_id,)).fetchone())
        sold, amounts = _sold(figures), _amounts(figures)
        price = prices.of(sold)
        told = () if price is None else lines(amounts, price)
        return Reckoning(opened(row), amounts, price, told, reckoned(amounts, price))

    def _sums(
        self, by: Group | None, between: Between, prices: Prices | None
    ) -> tuple[list[Row], Row]:
        """Sum up by group; what is bought at different prices is priced before it is added up."""
        key = "NULL" if by is None else f"nullif({_KEYS[by]}, '')"
        group = "part" if by is Group.HOUR else "key"  # parts are in order: nothing to sort
        found = _Found()
        with reading(self.path) as database:
            database.execute("BEGIN")  # one transaction: all questions see the same moment
            for source in sources_between(database, between, hourly=by is Group.HOUR):
                found.add(database, source, key, group, prices)
        return _rows(found)


class Source(NamedTuple):
    """A query for groups and figures, and what is bound to it.

    ``by_part`` asks for the same by parts of days, where the query does not.
    """

    query: str
    bound: tuple[str, ...]
    by_part: str | None = None


def sources_between(
    database: sqlite3.Connection, between: Between, *, hourly: bool
) -> list[Source]:
    """Return where the groups and figures between two moments are, each of them in one place.

    Days that are over are in ``days``, unless hours are asked for, other parts of days in
    ``sums``; the rows of those that a moment divides are summed up anew.  In a transaction.
    """
    since, until = between.since, between.until or "~"
    first, last = _next_part(since), _part_of(between.until)
    if first > last:
        return [_rows_between(since, until)]
    edges = [
        (start, end) for start, end in ((since, first), (last, until)) if start and start < end
    ]
    if hourly:
        whole = [_parts(first, last)]
    else:
        from_day = first.removesuffix(f"T{PARTS[0]}")
        days = closed_days(database, from_day, last[:_OF_DAY])
        beside = stretches_beside(days, next_day, first, last)
        whole = [*_days(days), *(_parts(*stretch) for stretch in beside)]
    return [*whole, *(_rows_between(*edge) for edge in edges)]


def united(sources: Sequence[Source]) -> tuple[str, tuple[str, ...]]:
    """Return one query for all sources, and what is bound to it."""
    query = " UNION ALL ".join(f"SELECT * FROM ({source.query})" for source in sources)
    return query, tuple(value for source in sources for value in source.bound)


def _rows_between(since: str, until: str) -> Source:
    return Source(rows_of("exchanges", "started_at >= ? AND started_at < ?"), (since, until))


def _parts(first: str, last: str) -> Source:
    return Source("SELECT * FROM sums WHERE part >= ? AND part < ?", (first, last))


def _days(days: Sequence[str]) -> list[Source]:
    """Return the source of all days that are summed up, given which these are."""
    if not days:
        return []
    parts = "part >= ? AND part < ? AND substr(part, 1, 10) IN (SELECT part FROM days)"
    return [
        Source(
            "SELECT * FROM days WHERE part >= ? AND part < ?",
            (days[0], next_day(days[-1])),
            f"SELECT * FROM sums WHERE {parts}",
        )
    ]


def _part_of(moment: str) -> str:
    """Return when the part of the day begins that a moment lies in; after all where it is open."""
    if not moment:
        return "~"
    when = datetime.fromisoformat(moment).isoformat()
    begun = max(part for part in PARTS if part <= when[11:_MOMENT])
    return f"{when[:11]}{begun}"


def _next_part(moment: str) -> str:
    """Return when the first part of a day begins that begins no earlier than a moment."""
    if not moment:
        return ""
    when = datetime.fromisoformat(moment).replace(tzinfo=None)
    at = when.isoformat()[11:]
    later = [part for part in PARTS if f"{part}:00" >= at]
    if later:
        return f"{when.date()}T{later[0]}"
    return f"{(when + _DAY).date()}T{PARTS[0]}"


def _priced(
    database: sqlite3.Connection, source: Source, key: str, group: str, prices: Prices
) -> Iterator[tuple[str | None, Money]]:
    """Yield what each key's groups come to, taken together as far as their price is the same.

    A model whose price changes within the source's time is priced day by day, or part by part
    where it changes within a day.
    """
    totals = ", ".join(f"total({name}) AS {name}" for name in _PAID)
    routed = prices.hang_on_routes
    sold = ", ".join((*_SOLD, *_ROUTED) if routed else _SOLD)
    columns = sold if routed else f"{sold}, '' AS route, '' AS upstream"
    steps = [(source.query, group), (source.query, "part, key"), (source.by_part, "part, key")]
    changing: set[str] | None = None
    for query, grouped in steps:
        if query is None or changing == set():
            return
        asked = (
            f"SELECT {key} AS key, {columns}, min(part) AS part, max(part) AS last, {totals} "
            f"FROM ({query}) WHERE exchanges > 0{_of_models(changing)} GROUP BY {grouped}, {sold}"
        )
        found = [
            (row, _sold(row))
            for row in database.execute(asked, (*source.bound, *sorted(changing or ())))
        ]
        changing = {row["model"] for row, one in found if not _is_steady(row, one, prices)}
        for row, one in found:
            if row["model"] not in changing:
                yield row["key"], reckoned(_amounts(row), prices.of(one))


def _of_models(models: set[str] | None) -> str:
    """Return the condition that a group is of some models; of any for None."""
    return "" if models is None else f" AND model IN ({', '.join('?' * len(models))})"


def _is_steady(group: Mapping[str, Any], sold: Sold, prices: Prices) -> bool:
    """Tell whether all of a group has one price: a part of a day has, as prices change."""
    first, last = group["part"], group["last"]
    is_part = first == last and len(first) == _MOMENT
    return is_part or prices.steady(sold, _moment(last) + (_DAY - _ONE_MS) * (len(last) == _OF_DAY))


@dataclass(slots=True)
class _Sum:
    """What is being added up; SQLite's total() yields floats: sums cannot overflow."""

    figures: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_TOLD, 0.0))
    passes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    money: Money = field(default_factory=Money)

    def add(self, other: _Sum) -> None:
        """Add figure by figure."""
        for name, value in other.figures.items():
            self.figures[name] += value
        for reason, exchanges in other.passes.items():
            self.passes[reason] += exchanges
        self.money += other.money


class _Found:
    """What the sources of a report come to, by key."""

    def __init__(self) -> None:
        self.sums: dict[str | None, _Sum] = defaultdict(_Sum)

    def add(
        self,
        database: sqlite3.Connection,
        source: Source,
        key: str,
        group: str,
        prices: Prices | None,
    ) -> None:
        """Add what a source has; what is bought at different prices is priced before it is."""
        some = f"FROM ({source.query}) WHERE exchanges > 0"
        totals = ", ".join(f"total({name})" for name in _TOLD)
        for one, *figures in database.execute(
            f"SELECT {key} AS key, {totals} {some} GROUP BY {group}", source.bound
        ):
            known = self.sums[one].figures
            for name, value in zip(_TOLD, figures, strict=True):
                known[name] += value
        for one, reason, exchanges in database.execute(
            f"SELECT {key} AS key, reason, total(exchanges) {some} AND reason <> '' "
            "GROUP BY key, reason",
            source.bound,
        ):
            self.sums[one].passes[reason] += int(exchanges)
        if prices is not None:
            for one, money in _priced(database, source, key, group, prices):
                self.sums[one].money += money


def _rows(found: _Found) -> tuple[list[Row], Row]:
    """Return a row for each key, and one for all."""
    total = _Sum()
    for one in found.sums.values():
        total.add(one)
    return [_row(key, one) for key, one in found.sums.items()], _row("total", total)


def _sold(group: Mapping[str, Any]) -> Sold:
    size = int(group["size"])
    return Sold(
        route=group["route"] or None,
        upstream=group["upstream"] or None,
        host=group["upstream_host"] or None,
        model=group["model"] or None,
        at=_moment(group["part"]),
        prompt_tokens=THRESHOLDS[size - 1] + 1 if size else 0,
    )


@lru_cache(maxsize=10_000)
def _moment(part: str) -> datetime:
    """Return when a part begins, or a day."""
    return datetime.fromisoformat(part).replace(tzinfo=UTC)


def _amounts(figures: Mapping[str, Any]) -> Amounts:
    return Amounts(
        paid=int(figures["paid"]),
        by_estimate=int(figures["paid_by_estimate"]),
        prompt=int(figures["paid_prompt"]),
        cached=int(figures["paid_cached"]),
        cache_written=int(figures["paid_written"]),
        completion=int(figures["paid_completion"]),
        first=int(figures["first_saved"]),
        repeat=int(figures["repeat_saved"]),
        busted=round(figures["paid_busted"]),
        audit_first=int(figures["audit_first"]),
        audit_repeat=int(figures["audit_repeat"]),
        written=figures["written"] == "1",
    )


def _row(key: str | None, summed: _Sum) -> Row:
    figures = summed.figures
    whole = {name: int(figures[name]) for name in _SUMMED}
    return Row(
        key,
        tokens_saved=int(figures["tokens_before"] - figures["tokens_after"]),
        audit_saved=int(figures["audit_first"] + figures["audit_repeat"]),
        compress_ms=_mean(figures["compress_ms"], figures["counted"]),
        duration_ms=_mean(figures["duration_ms"], figures["exchanges"]),
        passes=dict(summed.passes),
        money=summed.money,
        **whole,
    )


def _mean(total: float, of: float) -> float:
    return round(total / of, 3) if of else 0.0


_SUMMED: Final = tuple(f.name for f in fields(Row) if f.name in FIGURES and f.name not in _MEANS)
