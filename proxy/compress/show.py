"""A compressed request laid open: each leaf as stretches, kept, dropped or inserted.

Joined, the stretches that are not inserted are the leaf's own text, in its order, whatever order a
method sends them in; those that are not dropped are, but for that order, what is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from proxy.types import Address, Component, Kind, Leaf, LeafEdit, Quote, Segment, Span, Turn


class Fate(StrEnum):
    """What becomes of a stretch."""

    KEPT = "kept"
    DROPPED = "dropped"
    INSERTED = "inserted"  # a mark of ours, or what recall brings back from another leaf


@dataclass(frozen=True, slots=True)
class Stretch:
    """Characters of one segment with one fate; what is inserted belongs to no segment."""

    text: str = field(repr=False)
    fate: Fate
    component: Component | None = None
    kind: Kind | None = None
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """One leaf, laid open."""

    address: Address
    role: str
    stretches: tuple[Stretch, ...]


def show(
    turns: Sequence[Turn], edits: Sequence[LeafEdit], leaves: Mapping[Address, Leaf]
) -> list[Shown]:
    """Lay every leaf of a request open, in its order; ``leaves`` are all of them."""
    by_leaf = {edit.address: edit for edit in edits}
    segments: dict[Address, list[Segment]] = {}
    roles: dict[int, str] = {}
    for turn in turns:
        roles |= {message.index: message.role for message in turn.messages}
        for segment in turn.segments:
            segments.setdefault(segment.address, []).append(segment)
    return [
        Shown(
            address,
            roles.get(address.message, ""),
            tuple(_stretches(leaf, by_leaf.get(address), segments.get(address, []), leaves)),
        )
        for address, leaf in leaves.items()
    ]


def _stretches(
    leaf: Leaf,
    edit: LeafEdit | None,
    segments: Sequence[Segment],
    leaves: Mapping[Address, Leaf],
) -> Iterator[Stretch]:
    whole = Span(0, len(leaf.text))
    kept = [whole] if edit is None else sorted(p for p in edit.pieces if isinstance(p, Span))
    inserted = {} if edit is None else _inserted(edit, leaves)
    for part, fate in _fates(kept, whole.end):
        if fate is Fate.KEPT:
            yield from inserted.pop(part.start, ())
        yield from _labelled(leaf.text, part, fate, segments)
    for rest in inserted.values():
        yield from rest


def _inserted(edit: LeafEdit, leaves: Mapping[Address, Leaf]) -> dict[int, list[Stretch]]:
    """Return what is inserted, by the start of the kept span that it comes before; -1 at the end.

    A quote is shown with the words of the leaf that it is from.
    """
    found: dict[int, list[Stretch]] = {}
    waiting: list[Stretch] = []
    for piece in edit.pieces:
        if isinstance(piece, Span):
            if piece.start == piece.end:
                continue
            found.setdefault(piece.start, []).extend(waiting)
            waiting = []
        elif isinstance(piece, Quote):
            waiting.append(Stretch(piece.span.of(leaves[piece.address].text), Fate.INSERTED))
        else:
            waiting.append(Stretch(str(piece), Fate.INSERTED))
    if waiting:
        found[-1] = waiting
    return found


def _fates(kept: Sequence[Span], length: int) -> Iterator[tuple[Span, Fate]]:
    """Divide a leaf of ``length`` characters into what is kept and what lies between.

    >>> [(tuple(span), str(fate)) for span, fate in _fates([Span(2, 4)], 5)]
    [((0, 2), 'dropped'), ((2, 4), 'kept'), ((4, 5), 'dropped')]
    """
    done = 0
    for span in kept:
        if done < span.start:
            yield Span(done, span.start), Fate.DROPPED
        if span.start < span.end:
            yield span, Fate.KEPT
        done = span.end
    if done < length:
        yield Span(done, length), Fate.DROPPED


def _labelled(text: str, part: Span, fate: Fate, segments: Sequence[Segment]) -> Iterator[Stretch]:
    """Divide a part where segments end, and label each stretch with its segment."""
    done = part.start
    for segment in segments:
        start, end = max(done, segment.span.start), min(part.end, segment.span.end)
        if start >= end:
            continue
        if done < start:
            yield Stretch(text[done:start], fate)
        yield Stretch(text[start:end], fate, segment.component, segment.kind, segment.rule)
        done = end
    if done < part.end:
        yield Stretch(text[done : part.end], fate)
