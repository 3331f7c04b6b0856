"""A compressed request laid open: each leaf as stretches, kept, dropped or inserted.

Joined, the stretches that are not inserted are the leaf's own text, in its order, whatever order a
method sends them in; those that are not dropped are, but for that order, what is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from proxy.types import Address, Component, Kind, Leaf, LeafEdit, Quote, Request, Segment, Span
from proxy.wire import leaves_of


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

    def record(self) -> dict[str, Any]:
        """Return it as JSON values; lone surrogates, which none of these can hold, are replaced."""
        return {
            "text": self.text.encode("utf-8", "replace").decode(),
            "fate": self.fate,
            "component": self.component,
            "kind": self.kind,
            "rule": self.rule,
        }

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """Return what a record tells of."""
        component, kind = record["component"], record["kind"]
        return cls(
            record["text"],
            Fate(record["fate"]),
            None if component is None else Component(component),
            None if kind is None else Kind(kind),
            record["rule"],
        )


@dataclass(frozen=True, slots=True)
class Shown:
    """One leaf, laid open."""

    address: Address
    role: str
    stretches: tuple[Stretch, ...]

    def record(self) -> dict[str, Any]:
        """Return it as JSON values."""
        message, part = self.address
        stretches = [stretch.record() for stretch in self.stretches]
        return {"message": message, "part": part, "role": self.role, "stretches": stretches}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """Return what a record tells of."""
        address = Address(record["message"], record["part"])
        stretches = tuple(map(Stretch.of, record["stretches"]))
        return cls(address, record["role"], stretches)


def show(
    request: Request, segments: Iterable[Segment], edits: Sequence[LeafEdit]
) -> tuple[Shown, ...]:
    """Lay every leaf of a request open, in its order."""
    by_leaf = {edit.address: edit for edit in edits}
    leaves = leaves_of(request)
    labelled: dict[Address, list[Segment]] = {}
    for segment in segments:
        labelled.setdefault(segment.address, []).append(segment)
    return tuple(
        Shown(
            leaf.address,
            message.role,
            tuple(
                _stretches(leaf, by_leaf.get(leaf.address), labelled.get(leaf.address, []), leaves)
            ),
        )
        for message in request.messages
        for leaf in message.leaves
    )


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
    """Divide a part where segments end, which cover the leaf; label each stretch with its own."""
    for segment in segments:
        start, end = max(part.start, segment.span.start), min(part.end, segment.span.end)
        if start < end:
            yield Stretch(text[start:end], fate, segment.component, segment.kind, segment.rule)
