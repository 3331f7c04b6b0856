"""A compressed request laid open: each leaf as stretches, kept, dropped or inserted.

Joined, the stretches that are not inserted are the leaf's own text, in its order, whatever order a
method sends them in; those that are not dropped are, but for that order, what is sent.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from proxy.compress.layout import Material
from proxy.compress.result import Ratings, Sized
from proxy.types import Address, Component, Kind, Leaf, LeafEdit, Quote, Request, Segment, Span
from proxy.wire import leaves_of


class Fate(StrEnum):
    """What becomes of a stretch."""

    KEPT = "kept"
    DROPPED = "dropped"
    INSERTED = "inserted"  # a mark of ours, or what recall brings back from another leaf


@dataclass(frozen=True, slots=True)
class Stretch:
    """Characters of one segment with one fate; what is inserted belongs to no segment.

    ``score`` is how high what they are part of was rated, among all that its turn has: 0 is the
    least, 1 the best; None where nothing was rated.
    """

    text: str = field(repr=False)
    fate: Fate
    component: Component | None = None
    kind: Kind | None = None
    rule: str | None = None
    score: float | None = None

    def record(self) -> dict[str, Any]:
        """Return it as JSON values; lone surrogates, which none of these can hold, are replaced."""
        return {
            "text": self.text.encode("utf-8", "replace").decode(),
            "fate": self.fate,
            "component": self.component,
            "kind": self.kind,
            "rule": self.rule,
            "score": self.score,
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
            record["score"],
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


class Rated(NamedTuple):
    """A stretch of a leaf, and its score."""

    span: Span
    score: float


def show(
    request: Request,
    segments: Iterable[Segment],
    edits: Sequence[LeafEdit],
    rated: Mapping[Address, Sequence[Rated]] = MappingProxyType({}),
) -> tuple[Shown, ...]:
    """Lay every leaf of a request open, in its order; ``rated`` is what :func:`scores_of` found."""
    by_leaf = {edit.address: edit for edit in edits}
    leaves = leaves_of(request)
    labelled: dict[Address, list[Segment]] = {}
    for segment in segments:
        labelled.setdefault(segment.address, []).append(segment)

    def laid(leaf: Leaf) -> tuple[Stretch, ...]:
        at = leaf.address
        edit, own = by_leaf.get(at), labelled.get(at, ())
        return tuple(_stretches(leaf, edit, own, leaves, rated.get(at, ())))

    return tuple(
        Shown(leaf.address, message.role, laid(leaf))
        for message in request.messages
        for leaf in message.leaves
    )


def scores_of(sized: Iterable[Sized]) -> dict[Address, list[Rated]]:
    """Return how high what was selected from was rated, by leaf and in its order."""
    found: dict[Address, list[Rated]] = {}
    for turn in sized:
        if turn.material is None or turn.ratings is None:
            continue
        scores = _standing(turn.ratings.scores)
        for (unit, span), score in zip(_places(turn.material, turn.ratings), scores, strict=True):
            if score == score:  # noqa: PLR0124 - no nan
                address = turn.material.address(unit)
                found.setdefault(address, []).append(Rated(span, round(score, 2)))
    return {address: sorted(rated) for address, rated in found.items()}


def _places(material: Material, ratings: Ratings) -> Iterator[tuple[int, Span]]:
    if ratings.words is None:
        yield from ((number, unit.span) for number, unit in enumerate(material.units))
    else:
        yield from ((unit, Span(start, end)) for unit, start, end in ratings.words.tolist())


def _standing(scores: NDArray[np.float32]) -> list[float]:
    """Return where each score stands among all: 0 is the least, 1 the highest; nan stays.

    >>> _standing(np.array([5.0, -1.0, 5.0, 2.0], np.float32))
    [1.0, 0.0, 1.0, 0.5]
    """
    known = ~np.isnan(scores)
    standing = np.full(len(scores), np.nan)
    _, ranks = np.unique(scores[known], return_inverse=True)
    standing[known] = ranks / max(1, ranks.max(initial=0))
    return list(standing.tolist())


def _stretches(
    leaf: Leaf,
    edit: LeafEdit | None,
    segments: Sequence[Segment],
    leaves: Mapping[Address, Leaf],
    rated: Sequence[Rated],
) -> Iterator[Stretch]:
    whole = Span(0, len(leaf.text))
    kept = [whole] if edit is None else sorted(p for p in edit.pieces if isinstance(p, Span))
    inserted = {} if edit is None else _inserted(edit, leaves)
    for part, fate in _fates(kept, whole.end):
        if fate is Fate.KEPT:
            yield from inserted.pop(part.start, ())
        for stretch, segment in _labelled(part, segments):
            for span, score in _scored(leaf.text, stretch, rated):
                yield _stretch(span.of(leaf.text), fate, segment, score)
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


def _labelled(part: Span, segments: Sequence[Segment]) -> Iterator[tuple[Span, Segment | None]]:
    """Divide a part where segments end, which cover the leaf, if it was tagged at all."""
    if not segments:
        yield part, None
    for segment in segments:
        start, end = max(part.start, segment.span.start), min(part.end, segment.span.end)
        if start < end:
            yield Span(start, end), segment


def _scored(text: str, part: Span, rated: Sequence[Rated]) -> Iterator[tuple[Span, float | None]]:
    """Divide a part where what was rated ends; white space goes with what it follows.

    >>> rated = [Rated(Span(0, 2), 0.5), Rated(Span(3, 5), 1.0)]
    >>> [(tuple(span), score) for span, score in _scored("ab cd.", Span(1, 6), rated)]
    [((1, 3), 0.5), ((3, 5), 1.0), ((5, 6), None)]
    """
    done = part.start
    first = max(0, bisect_right(rated, part.start, key=lambda each: each.span.start) - 1)
    for span, score in rated[first:]:
        if span.start >= part.end:
            break
        start, end = max(done, span.start), min(part.end, span.end)
        if start >= end:  # it ends before the part begins
            continue
        if done < start:
            yield Span(done, start), None
        while end < part.end and text[end].isspace():
            end += 1
        yield Span(start, end), score
        done = end
    if done < part.end:
        yield Span(done, part.end), None


def _stretch(text: str, fate: Fate, segment: Segment | None, score: float | None) -> Stretch:
    if segment is None:
        return Stretch(text, fate, score=score)
    return Stretch(text, fate, segment.component, segment.kind, segment.rule, score)
