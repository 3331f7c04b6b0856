"""Our count of a prompt beside the upstream's: by how much they differ, and whether edits matter.

We count texts; the upstream also counts what each message is wrapped in, tools and images.  Where
nothing was edited, the difference is that *overhead*.  Where something was, the upstream should
have counted what we say was sent, and the overhead: what is left unexplained is the error in what
we say was saved.
"""
# ruff: noqa: S608 - the texts of these statements are ours

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import Any, Final

from proxy.ledger.sums import FLAGS

NEWEST: Final = 20_000
"""So many exchanges are looked at, the newest ones."""

_SAMPLE: Final = f"""
SELECT model,
       prompt_tokens - CASE WHEN live THEN tokens_after ELSE tokens_before END AS apart,
       live AND tokens_after < tokens_before AS edited
FROM (SELECT *, {", ".join(f"({text}) AS {name}" for name, text in FLAGS.items())} FROM exchanges
      WHERE started_at >= ? AND started_at < ?
        AND tokens_before IS NOT NULL AND prompt_tokens IS NOT NULL
      ORDER BY started_at DESC LIMIT {NEWEST})
WHERE taken
"""


@dataclass(frozen=True, slots=True)
class Spread:
    """Differences in tokens: so many of them, their median and the quarters around it."""

    exchanges: int
    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Drift:
    """One model's: the upstream's count less ours where nothing was edited, and where it was.

    ``unexplained`` is what edited exchanges differ by beyond the others' median; None where either
    kind is missing.
    """

    model: str | None
    untouched: Spread | None
    edited: Spread | None
    unexplained: float | None

    def record(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def measured(database: sqlite3.Connection, since: str, until: str) -> list[Drift]:
    """Return the drift of each model, the one with most exchanges first.  Raises sqlite3.Error."""
    return drifts(database.execute(_SAMPLE, (since, until or "~")))


def drifts(samples: Iterable[tuple[str | None, int, int]]) -> list[Drift]:
    """Return the drift of each model from ``(model, tokens apart, edited)``.

    >>> drifts([("m", 7, 0), ("m", 9, 0), ("m", 8, 1)])[0].unexplained
    0.0
    """
    apart: dict[str | None, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for model, tokens, edited in samples:
        apart[model][bool(edited)].append(tokens)
    found = [_drift(model, *kinds) for model, kinds in apart.items()]
    return sorted(found, key=lambda drift: (-_exchanges(drift), drift.model or ""))


def _drift(model: str | None, plain: Sequence[int], edited: Sequence[int]) -> Drift:
    untouched, changed = _spread(plain), _spread(edited)
    both = untouched is not None and changed is not None
    unexplained = changed.median - untouched.median if both else None  # type: ignore[union-attr]
    return Drift(model, untouched, changed, unexplained)


def _spread(apart: Sequence[int]) -> Spread | None:
    if not apart:
        return None
    low, _, high = quantiles(apart, n=4, method="inclusive") if len(apart) > 1 else [*apart] * 3
    return Spread(len(apart), float(median(apart)), float(low), float(high))


def _exchanges(drift: Drift) -> int:
    return sum(spread.exchanges for spread in (drift.untouched, drift.edited) if spread)
