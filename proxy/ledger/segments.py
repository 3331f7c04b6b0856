"""What each segment of a request came to: where it stands, its labels, its tokens; no text.

A row's column ``segments`` holds them packed, so that a long conversation costs some hundreds of
bytes; whoever reads a row unpacks it here.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

from proxy.types import Component

if TYPE_CHECKING:
    from proxy.compress.result import Sized

NAMES: Final = ("message", "part", "component", "kind", "rule", "before", "after")
"""What is told of a segment, in the order in which it is packed."""

RECALLED: Final = "recalled"
"""The rule of what recall brought back from earlier turns, at the head of a message."""

_FASTEST: Final = 1


def told(sized: Sequence[Sized], *, sent: bool = True) -> list[tuple[Any, ...]]:
    """Return what there is to tell of each segment, oldest first, as :data:`NAMES` has it.

    Where the edits were not ``sent`` after all, nothing became shorter.
    """
    return [row for turn in sized for row in _of_turn(turn, sent=sent)]


def _of_turn(turn: Sized, *, sent: bool) -> Iterator[tuple[Any, ...]]:
    if turn.at is not None and sent:
        yield (*turn.at, Component.CONTEXT, None, RECALLED, 0, turn.recalled)
    for segment, size in zip(turn.segments, turn.sizes, strict=True):
        after = size.after if sent else size.before
        labels = (segment.component, segment.kind, segment.rule)
        yield (*segment.address, *labels, size.before, after)


def packed(rows: Sequence[tuple[Any, ...]]) -> bytes | None:
    """Return rows of figures as one column; None where there are none."""
    return zlib.compress(orjson.dumps(rows), _FASTEST) if rows else None


def unpacked(column: bytes) -> list[dict[str, Any]]:
    """Return what was packed, by name.

    >>> unpacked(packed([(0, 0, "context", "prose", "long", 9, 4)]))[0]["after"]
    4
    """
    return [dict(zip(NAMES, row, strict=True)) for row in orjson.loads(zlib.decompress(column))]


def opened(row: sqlite3.Row) -> dict[str, Any]:
    """Return an exchange's columns, its segments unpacked."""
    columns: dict[str, Any] = dict(row)
    if (column := columns.get("segments")) is not None:
        columns["segments"] = unpacked(column)
    return columns
