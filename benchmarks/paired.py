"""Figures of the same cases set side by side: means and ratios with paired bootstrap intervals.

And the tables made of them, put where a page has its marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
Draws = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, and the 95 % interval of what other cases of the kind would have given."""

    value: float
    low: float
    high: float

    def told(self, form: str = "{:.2f}") -> str:
        """Say it as ``value (low to high)``.

        >>> Estimate(0.5, 0.25, 1.0).told("{:+.1f}")
        '+0.5 (+0.2 to +1.0)'
        """
        value, low, high = (form.format(each) for each in (self.value, self.low, self.high))
        return f"{value} ({low} to {high})"


def mean(values: Sequence[float] | NDArray[np.float64]) -> Estimate:
    """Return the mean of a figure over cases: (n,).

    >>> mean([1.0, 1.0, 1.0])
    Estimate(value=1.0, low=1.0, high=1.0)
    """
    given = np.asarray(values, dtype=float)
    return _estimate(float(given.mean()), given[_draws(len(given))].mean(axis=1))


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """Return the mean of ours less theirs, case by case: both (n,).

    >>> difference([3.0, 5.0, 4.0], [1.0, 3.0, 2.0])
    Estimate(value=2.0, low=2.0, high=2.0)
    """
    return mean(np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float))


def ratio(over: Sequence[float], under: Sequence[float]) -> Estimate:
    """Return the ratio of two sums over the same cases: both (n,).

    >>> ratio([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    Estimate(value=2.0, low=2.0, high=2.0)
    """
    a, b = np.asarray(over, dtype=float), np.asarray(under, dtype=float)
    draws = _draws(len(a))
    return _estimate(float(a.sum() / b.sum()), a[draws].sum(axis=1) / b[draws].sum(axis=1))


def _draws(cases: int) -> Draws:
    """Draw cases with replacement: (DRAWS, cases); a case brings all its figures along."""
    return np.random.default_rng(0).integers(0, cases, (DRAWS, cases))


def _estimate(value: float, drawn: NDArray[np.float64]) -> Estimate:
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Estimate(value, float(low), float(high))


def table(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Return a markdown table: a heading over each column, a name before each row.

    >>> print(table(["June"], [("rain, mm", ["41"])]))
    | | June |
    |---|---|
    | rain, mm | 41 |
    """
    lines = [["", *columns], *([name, *cells] for name, cells in rows)]
    written = ["|" + "".join(f" {cell} |" if cell else " |" for cell in line) for line in lines]
    return "\n".join([written[0], "|" + "---|" * (len(columns) + 1), *written[1:]])


def write_block(path: Path, name: str, text: str) -> None:
    """Put ``text`` between the comments ``<!-- name -->`` and ``<!-- /name -->`` of a file.

    Raises ValueError where the file does not have them, in this order, once.
    """
    replace_between(path, f"<!-- {name} -->\n", f"<!-- /{name} -->", f"{text.strip()}\n")


def replace_between(path: Path, opening: str, closing: str, text: str) -> None:
    """Put ``text``, as it is, in place of what stands between two marks of a file.

    Raises ValueError where the file does not have them, in this order, once.
    """
    before, found, rest = path.read_text("utf-8").partition(opening)
    _, ended, after = rest.partition(closing)
    if not found or not ended or opening in after:
        raise ValueError(f"{path}: wanted {opening.strip()} and {closing}, once")
    path.write_text(f"{before}{opening}{text}{closing}{after}", "utf-8")
