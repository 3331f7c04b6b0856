"""One figure a set: what is kept over the rate achieved, a line a method, in SVG.

How they look is in ``plotting.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plotting import COLOURS, INK, MARKS, our_style, save
from quality_summary import Cell, Summary
from sets import HEADLINES, SETS


def plot_name(name: str) -> str:
    """Return the file of a set's figure."""
    return f"quality-{name.replace('_', '-')}.svg"


def write_plots(summary: Summary, folder: Path) -> None:
    """Draw every set.  Needs matplotlib (the ``bench`` extra)."""
    with our_style() as plt:
        for name in summary.sets:
            figure, axes = plt.subplots(figsize=(8.6, 4.4), layout="constrained")
            for number, method in enumerate(summary.methods):
                found = [summary.at(name, method, rate) for rate in summary.rates]
                _line(axes, number, method, [cell for cell in found if cell is not None])
            _dress(axes, summary, name)
            save(figure, folder / plot_name(name))
            plt.close(figure)


def _line(axes: Any, number: int, method: str, cells: Sequence[Cell]) -> None:
    """Draw a method: its means, and a band between its intervals."""
    if not cells:
        return
    ordered = sorted(cells, key=lambda cell: cell.achieved)
    rates = [cell.achieved for cell in ordered]
    mean, low, high = zip(*(cell.headline for cell in ordered), strict=True)
    colour, mark = COLOURS[number % len(COLOURS)], MARKS[number // len(COLOURS)]
    axes.plot(rates, _percent(mean), color=colour, marker=mark, markersize=4.5, label=method)
    axes.fill_between(rates, _percent(low), _percent(high), color=colour, alpha=0.10, linewidth=0)


def _percent(values: Sequence[float]) -> list[float]:
    return [100 * value for value in values]


def _dress(axes: Any, summary: Summary, name: str) -> None:
    """Name the axes; the legend stands beside the figure, in the order of the lines' heights."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(summary.rates, [f"{rate:g}".removeprefix("0") for rate in summary.rates])
    axes.minorticks_off()
    axes.set_ylim(-2, 102)
    axes.set_xlabel("achieved rate (context tokens sent / before)")
    axes.set_ylabel(f"{HEADLINES[SETS[name].headline]}, %")
    axes.set_title(SETS[name].title, loc="left")
    axes.grid(color=INK, alpha=0.25, linewidth=0.6)
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: -float(sum(handles[i].get_ydata())))
    axes.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
    )
