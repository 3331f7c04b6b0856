"""Reading the ledger: sums per route, policy, model, day or reason.

What was saved is counted once and kept apart by worth: ``first_saved`` never reached the upstream
at all, ``repeat_saved`` is the same text left out again on a later turn (worth a cache read), and
``audit_saved`` was only measured.  An exchange that was sent again verbatim saved nothing.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from proxy.errors import PolicyError


class Group(StrEnum):
    """What a report has one row per."""

    ROUTE = "route"
    POLICY = "policy"
    MODEL = "model"
    DAY = "day"
    REASON = "reason"
    KEY = "key"
    UPSTREAM = "upstream"


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
    reported: int = 0  # counted exchanges whose upstream reported its usage
    reported_after: int = 0  # our count of what was sent, over these
    prompt_tokens: int = 0  # the upstream's count, over these
    cached_tokens: int = 0
    completion_tokens: int = 0
    resent: int = 0
    incomplete: int = 0  # exchanges that did not end complete
    compress_ms: float = 0.0  # mean over counted exchanges
    passes: Mapping[str, int] = field(default_factory=dict)  # reason -> exchanges

    @property
    def rate(self) -> float | None:
        """Tokens sent / tokens before."""
        return round(self.tokens_after / self.tokens_before, 4) if self.tokens_before else None

    def record(self) -> dict[str, Any]:
        """Return the row as JSON values, ``rate`` included."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {"rate": self.rate, "passes": dict(self.passes)}


_KEYS = {
    Group.ROUTE: "route",
    Group.POLICY: "policy",
    Group.MODEL: "model",
    Group.DAY: "substr(started_at, 1, 10)",
    Group.REASON: "reason",
    Group.KEY: "key_name",
    Group.UPSTREAM: "upstream",
}

# What was sent: the compressed form, unless it was only measured or had to be sent again verbatim.
_VIEW = """
WITH exchange AS (
    SELECT *, {key} AS key, (mode = 'on' AND NOT resent) AS live, tokens_before IS NOT NULL AS known
    FROM exchanges WHERE started_at >= ?
), sent AS (
    SELECT *, CASE WHEN live THEN tokens_after ELSE tokens_before END AS tokens_sent FROM exchange
)
"""

_SUMS = """
SELECT key,
    count(*) AS exchanges,
    total(known) AS counted,
    total(tokens_sent < tokens_before) AS compressed,
    total(known AND estimated) AS estimated,
    total(tokens_before) AS tokens_before,
    total(tokens_sent) AS tokens_after,
    total(tokens_before - tokens_sent) AS tokens_saved,
    total(CASE WHEN live THEN first_saved END) AS first_saved,
    total(CASE WHEN live THEN repeat_saved END) AS repeat_saved,
    total(CASE WHEN mode = 'audit' THEN tokens_saved END) AS audit_saved,
    total(CASE WHEN live THEN recalled_tokens END) AS recalled_tokens,
    total(CASE WHEN live THEN cache_breaks END) AS cache_breaks,
    total(known AND prompt_tokens IS NOT NULL) AS reported,
    total(CASE WHEN prompt_tokens IS NOT NULL THEN tokens_sent END) AS reported_after,
    total(CASE WHEN known THEN prompt_tokens END) AS prompt_tokens,
    total(cached_tokens) AS cached_tokens,
    total(completion_tokens) AS completion_tokens,
    total(resent) AS resent,
    total(ended <> 'complete') AS incomplete,
    coalesce(avg(CASE WHEN known THEN compress_ms END), 0) AS compress_ms
FROM sent GROUP BY key ORDER BY tokens_saved DESC, key
"""

_PASSES = "SELECT key, reason, count(*) FROM sent WHERE reason IS NOT NULL GROUP BY key, reason"


class Ledger:
    """A ledger file, opened for reading."""

    def __init__(self, path: Path) -> None:
        """Raise PolicyError where there is no ledger at ``path``."""
        if not path.is_file():
            raise PolicyError(f"{path}: found no file, wanted a ledger written by `laconic serve`")
        self.path = path

    def rows(self, by: Group, since: str = "") -> list[Row]:
        """Return a row per group of the exchanges from ``since`` (ISO 8601, UTC) on.

        The group that saved most comes first.
        """
        return self._read(_KEYS[by], since)

    def total(self, since: str = "") -> Row:
        """Return the sums over all exchanges."""
        return next(iter(self._read("'total'", since)), Row("total"))

    def _read(self, key: str, since: str) -> list[Row]:
        view = _VIEW.format(key=key)
        try:
            with closing(
                sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)
            ) as db:
                # One transaction: both questions see the same moment.
                db.execute("BEGIN")
                passes = _by_key(db.execute(view + _PASSES, (since,)).fetchall())
                cursor = db.execute(view + _SUMS, (since,))
                names = [column[0] for column in cursor.description]
                return [_row(names, values, passes) for values in cursor]
        except sqlite3.Error as error:
            raise PolicyError(f"{self.path}: {error}, wanted a Laconic ledger") from error


def _by_key(passes: list[tuple[str | None, str, int]]) -> dict[str | None, dict[str, int]]:
    found: dict[str | None, dict[str, int]] = defaultdict(dict)
    for key, reason, exchanges in passes:
        found[key][reason] = exchanges
    return found


def _row(
    names: list[str], values: tuple[Any, ...], passes: Mapping[str | None, dict[str, int]]
) -> Row:
    """Return a Row; SQLite's total() yields floats so that sums cannot overflow."""
    sums = dict(zip(names, values, strict=True))
    key = sums.pop("key")
    mean = round(sums.pop("compress_ms"), 3)
    whole = {name: int(value) for name, value in sums.items()}
    return Row(key, compress_ms=mean, passes=passes.get(key, {}), **whole)
