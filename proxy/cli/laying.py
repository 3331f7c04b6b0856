"""A request laid open, as text on a terminal."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.text import Text

from proxy.compress.show import Fate, Shown, Stretch
from proxy.types import Component

_COLOURS: Final = {
    Component.INSTRUCTION: "blue",
    Component.CONTEXT: "green",
    Component.QUESTION: "yellow",
}
_SHADES: Final = ("", " on grey15", " on grey23", " on grey30", " on grey35")
"""Behind a stretch: the lighter, the higher it was rated."""
_MARKS: Final = {Fate.KEPT: "{}", Fate.DROPPED: "[-{}-]", Fate.INSERTED: "{{+{}+}}"}
"""Where there are no colours: as word differences are commonly written."""


def is_plain(console: Console) -> bool:
    """Tell whether a console has no colours."""
    return console.no_color or not console.is_terminal


def laid_open(leaf: Shown, *, plain: bool) -> Text:
    """Return a leaf, each stretch coloured by component, and by score behind it.

    ``plain``: no colours; what is dropped and inserted is marked.
    """
    told = Text()
    told.append(f"── message {leaf.address.message}, {leaf.role}\n", style="" if plain else "bold")
    for stretch in leaf.stretches:
        told.append(_MARKS[stretch.fate].format(stretch.text) if plain else _coloured(stretch))
    return told


def _coloured(stretch: Stretch) -> Text:
    colour = "" if stretch.component is None else _COLOURS[stretch.component]
    behind = "" if stretch.score is None else _behind(stretch.score)
    if stretch.fate is Fate.DROPPED:
        return Text(stretch.text, style=f"strike dim {colour}{behind}")
    return Text(stretch.text, style=f"{colour or 'italic magenta'}{behind}")


def _behind(score: float) -> str:
    """Return the background of a score from 0 to 1: the lowest fifth has none.

    >>> [_behind(score) for score in (0.0, 0.5, 1.0)]
    ['', ' on grey23', ' on grey35']
    """
    return _SHADES[min(int(score * len(_SHADES)), len(_SHADES) - 1)]


def legend() -> Text:
    """Return what the backgrounds mean."""
    shades = ((f" {number / 5:.1f} ", shade.strip()) for number, shade in enumerate(_SHADES))
    return Text("\nscore within its turn, from ") + Text.assemble(*shades)
