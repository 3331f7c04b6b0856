"""How our plots look: grey on nothing, so that they can be read on white and on black, in SVG.

Lines of one colour are told apart by their marks, so nothing rests on colour alone.  The same
figures give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

INK: Final = "#808080"  # readable on white and on black
COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""Okabe and Ito's palette for every kind of colour vision, less black and yellow."""
MARKS: Final = ("o", "s", "^", "D", "v", "P", "X")
SETTINGS: Final[dict[Any, Any]] = {  # the keys' type differs between matplotlib's versions
    "svg.hashsalt": "laconic",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Line:
    """A named line of a plot."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@contextmanager
def our_style() -> Iterator[Any]:
    """Give matplotlib's pyplot, set to how our plots look.  Needs matplotlib (``bench`` extra)."""
    import matplotlib as mpl  # noqa: PLC0415 - only who draws needs it

    mpl.use("svg")
    with mpl.rc_context(SETTINGS):
        import matplotlib.pyplot as plt  # noqa: PLC0415 - likewise

        yield plt


def save(figure: Any, path: Path) -> None:
    """Write a figure, without the date of the day."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})


def draw(
    path: Path, lines: Sequence[Line], *, title: str, x: str, y: str, logarithmic: bool = False
) -> None:
    """Draw lines over one pair of axes; both logarithmic, or both from 0."""
    with our_style() as plt:
        figure, axes = plt.subplots(figsize=(8.6, 4.4), layout="constrained")
        for line, colour, mark in zip(lines, COLOURS, MARKS, strict=False):
            axes.plot(line.x, line.y, color=colour, marker=mark, markersize=4, label=line.name)
        if logarithmic:
            axes.set_xscale("log")
            axes.set_yscale("log")
        else:
            axes.set_xlim(left=0)
            axes.set_ylim(bottom=0)
        axes.set(title=title, xlabel=x, ylabel=y)
        axes.grid(color=INK, alpha=0.25, linewidth=0.6)
        axes.legend(frameon=False)
        save(figure, path)
        plt.close(figure)
