"""Rows of the quality bench made into figures: means with intervals, per set, method and rate.

Intervals are 95 % bootstrap over cases; differences are paired: the cascade and the other on the
same cases.  A cell is *off target* where a case's achieved rate is more than .01 from what was
asked: its figures are then not at equal tokens, and whatever is made of them says so.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final, TypeAlias

import numpy as np

from contenders import OWN
from paired import mean
from proxy.types import Reason
from sets import SETS

TOLERANCE: Final = 0.01
"""How far an achieved rate may be from the one asked for."""
DECILES: Final = 10

Estimate: TypeAlias = tuple[float, float, float]
"""A mean with its interval: (mean, low, high)."""

MISSED: Final = (Reason.BUDGET_INFEASIBLE, Reason.FORCED_OVER_BUDGET)
COUNTED: Final = ("corrupt", "joined", "broken")
"""Figures that are summed over cases; all others are means."""


@dataclass(frozen=True)
class Row:
    """One case, shortened once."""

    set: str
    case: int
    method: str
    rate: float
    before: int  # context tokens
    after: int
    reason: str | None
    figures: dict[str, float]
    ms: float

    @property
    def error(self) -> float:
        """Achieved rate less the one asked for."""
        return self.after / max(1, self.before) - self.rate


@dataclass(frozen=True)
class Cell:
    """A set, a method and a rate.

    ``off`` counts the cases that are off target, ``missed`` those of them that ended in a named
    outcome (law 7); ``estimates`` are the figures that a set is judged
    by, and likelihoods; ``difference`` is the headline less the cascade's.
    """

    set: str
    method: str
    rate: float
    cases: int
    achieved: float
    off: int
    missed: int
    estimates: dict[str, Estimate]
    difference: Estimate | None
    figures: dict[str, float]

    @property
    def headline(self) -> Estimate:
        """What the set is judged by."""
        return self.estimates[SETS[self.set].headline]


@dataclass(frozen=True)
class Summary:
    """All cells; ``models`` made them; ``errors`` are mean rate errors by decile of length."""

    models: dict[str, str | None]
    cells: tuple[Cell, ...]
    errors: dict[str, list[float]]
    lengths: list[int]  # the longest context of each decile, in tokens

    def to_json(self) -> str:
        """Return one line a cell."""
        head = {"models": self.models, "errors": self.errors, "lengths": self.lengths}
        lines = ",\n".join(json.dumps(asdict(cell)) for cell in self.cells)
        return f'{json.dumps(head)[:-1]},\n"cells": [\n{lines}\n]}}\n'

    @classmethod
    def from_json(cls, text: str) -> Summary:
        """Read what to_json wrote."""
        value = json.loads(text)
        cells = tuple(_read_cell(cell) for cell in value.pop("cells"))
        return cls(cells=cells, **value)

    @property
    def sets(self) -> list[str]:
        """The sets measured, in their order."""
        return [name for name in SETS if any(cell.set == name for cell in self.cells)]

    @property
    def methods(self) -> list[str]:
        """The methods measured, in the order of their first cell."""
        return list(dict.fromkeys(cell.method for cell in self.cells))

    @property
    def rates(self) -> list[float]:
        """The rates asked for, the mildest first."""
        return sorted({cell.rate for cell in self.cells}, reverse=True)

    def at(self, name: str, method: str, rate: float) -> Cell | None:
        """Return a cell, or None where it was not measured."""
        return self._index.get((name, method, rate))

    @cached_property
    def _index(self) -> Mapping[tuple[str, str, float], Cell]:
        return {(cell.set, cell.method, cell.rate): cell for cell in self.cells}


def _read_cell(value: dict[str, Any]) -> Cell:
    """Read one cell; JSON has lists where there were tuples."""
    difference = value["difference"]
    return Cell(
        **value
        | {
            "estimates": {key: tuple(found) for key, found in value["estimates"].items()},
            "difference": difference and tuple(difference),
        }
    )


def summarised(rows: Sequence[Row], models: Mapping[str, str | None]) -> Summary:
    """Make cells of rows."""
    groups: dict[tuple[str, str, float], dict[int, Row]] = defaultdict(dict)
    for row in rows:
        groups[row.set, row.method, row.rate][row.case] = row
    cells = tuple(
        _cell(list(group.values()), groups.get((name, OWN, rate), {}))
        for (name, _, rate), group in groups.items()
    )
    return Summary(dict(models), cells, *_errors(rows))


def _cell(rows: Sequence[Row], own: Mapping[int, Row]) -> Cell:
    first = rows[0]
    headline = SETS[first.set].headline
    estimated = [key for key in (headline, "nll", "kl") if any(key in row.figures for row in rows)]
    keys = sorted({key for row in rows for key in row.figures} - set(estimated))
    pairs = [(row, own[row.case]) for row in rows if row.case in own]
    gaps = [row.figures[headline] - other.figures[headline] for row, other in pairs]
    return Cell(
        first.set,
        first.method,
        first.rate,
        len(rows),
        round(float(np.mean([row.rate + row.error for row in rows])), 4),
        sum(abs(row.error) > TOLERANCE for row in rows),
        sum(row.reason in MISSED for row in rows),
        {key: estimate(_values(rows, key)) for key in estimated},
        estimate(gaps) if gaps and first.method != OWN else None,
        {key: _combined(key, _values(rows, key)) for key in keys},
    )


def _values(rows: Iterable[Row], key: str) -> list[float]:
    return [row.figures[key] for row in rows if key in row.figures]


def _combined(key: str, values: Sequence[float]) -> float:
    return sum(values) if key in COUNTED else round(float(np.mean(values)), 4)


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean and its 95 % bootstrap interval; the draws are the same each time.

    >>> estimate([1.0, 1.0, 1.0])
    (1.0, 1.0, 1.0)
    """
    found = mean(values)
    return round(found.value, 4), round(found.low, 4), round(found.high, 4)


def _errors(rows: Sequence[Row]) -> tuple[dict[str, list[float]], list[int]]:
    """Return, per method, the mean rate error by decile of context length; and the deciles."""
    lengths: list[int] = sorted({(row.set, row.case): row.before for row in rows}.values())
    edges = [lengths[(len(lengths) - 1) * (d + 1) // DECILES] for d in range(DECILES)]
    found: dict[str, list[list[float]]] = defaultdict(lambda: [[] for _ in edges])
    for row in rows:
        found[row.method][min(bisect_left(edges, row.before), DECILES - 1)].append(row.error)
    means = {
        method: [round(float(np.mean(each)), 4) if each else 0.0 for each in groups]
        for method, groups in found.items()
    }
    return means, edges
