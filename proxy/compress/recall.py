"""Recall (law 12): bring back what earlier turns dropped and the newest question needs.

Question-aware selection keeps what the question of its own turn needed.  The caller resends
everything, so nothing is lost to us: the newest turn's question ranks all units of the earlier
documents, and those of the best that were dropped are quoted, verbatim and in their order, at the
head of the newest turn's first user text.  The block depends on this turn and earlier ones only, so
it freezes like the rest (law 5).  Vectors of the earlier documents are in the turns' results, or
else in the memo.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice
from typing import Self

import numpy as np

from proxy.compress.layout import Material
from proxy.compress.lexical import Terms
from proxy.compress.ports import Document, DocumentVectors, QuestionVectors
from proxy.compress.reading import shortlist
from proxy.compress.relevance import Stack, rate_units
from proxy.compress.result import TurnResult
from proxy.policy.schema import Recall
from proxy.types import Address, Mark, Piece, Quote, Span, Turn

SIMILARITY = 0.15
"""Nothing comes back where even the best unit is less similar than this: the turn is about
something else."""

UnitOf = tuple[int, int]
"""(turn, unit number)"""


@dataclass(frozen=True, slots=True)
class Chapter:
    """A turn that dropped some of its units; ``vectors`` are its documents', where known."""

    turn: int
    material: Material = field(repr=False)
    dropped: frozenset[int]
    vectors: Stack | None = field(repr=False)


@dataclass(frozen=True)
class Archive:
    """The earlier turns that dropped something, and what turns since then brought back.

    Made anew for every new turn, so an earlier one must cost next to nothing: what is in here, the
    turns' results hold anyway.  Without slots, so that what it is asked again is kept.
    """

    chapters: tuple[Chapter, ...] = ()
    recalled: tuple[frozenset[UnitOf], ...] = ()

    @classmethod
    def of(cls, results: Iterable[tuple[int, TurnResult]]) -> Self:
        """Return what these turns come to, oldest first."""
        chapters: list[Chapter] = []
        recalled: list[frozenset[UnitOf]] = []
        for turn, result in results:
            if result.recalled:
                recalled.append(result.recalled)
            if result.dropped and result.material is not None:
                chapters.append(Chapter(turn, result.material, result.dropped, result.vectors))
        return cls(tuple(chapters), tuple(recalled))

    @cached_property
    def back(self) -> frozenset[UnitOf]:
        """What was brought back."""
        return frozenset[UnitOf]().union(*self.recalled)

    @cached_property
    def misses(self) -> bool:
        """Whether anything was dropped that did not come back."""
        return any(self.is_missing(c, number) for c in self.chapters for number in c.dropped)

    def is_missing(self, chapter: Chapter, number: int) -> bool:
        """Whether a unit was dropped and did not come back."""
        return number in chapter.dropped and (chapter.turn, number) not in self.back

    @cached_property
    def documents(self) -> tuple[Document, ...]:
        """The documents whose vectors are not known, turn by turn."""
        return tuple(chain.from_iterable(c.material.embeddable for c in self._unread))

    def shortlist(self, question: str) -> tuple[int, ...]:
        """Return which of the documents have to be embedded."""
        data = [rows for chapter in self._unread for rows in chapter.material.data]
        return shortlist(question, _terms(self._unread), self.documents, data)

    def stacks(self, read: Sequence[DocumentVectors]) -> list[Stack]:
        """Return the vectors of each chapter; ``read`` are those of ``documents``."""
        rest = iter(read)
        return [
            Stack.of([*islice(rest, len(chapter.material.embeddable))])
            if chapter.vectors is None
            else chapter.vectors
            for chapter in self.chapters
        ]

    @cached_property
    def _unread(self) -> list[Chapter]:
        return [chapter for chapter in self.chapters if chapter.vectors is None]


def _terms(chapters: Iterable[Chapter]) -> list[Terms]:
    return [part for chapter in chapters for part in chapter.material.terms]


def wanted(
    store: Archive,
    question: str,
    asked: QuestionVectors,
    stacks: Sequence[Stack],
    policy: Recall,
) -> frozenset[UnitOf]:
    """Return the missing units among the best under a question, as far as ``policy`` goes.

    ``stacks`` are the vectors of the chapters.  Units that are still there count towards the
    share, so a question that the kept text answers brings back little.
    """
    relevance = rate_units(question, asked, _terms(store.chapters), stacks)
    if relevance.similarity.max(initial=0.0) < SIMILARITY:
        return frozenset()
    ends = np.cumsum([len(chapter.material.units) for chapter in store.chapters])
    high = np.flatnonzero(relevance.standing >= policy.min_relevance)
    best = high[np.argsort(-relevance.scores[high], kind="stable")]
    room = policy.share * sum(chapter.material.cost for chapter in store.chapters)
    chosen: set[UnitOf] = set()
    for unit, at in zip(best.tolist(), ends.searchsorted(best, "right").tolist(), strict=True):
        chapter = store.chapters[at]
        number = unit - int(ends[at]) + len(chapter.material.units)
        cost = chapter.material.costs[number]
        if chapter.material.units[number].frame or cost > room:
            continue
        room -= cost
        if store.is_missing(chapter, number):
            chosen.add((chapter.turn, number))
    return frozenset(chosen)


def block(store: Archive, chosen: frozenset[UnitOf]) -> tuple[Piece, ...]:
    """Return the quoted block: heading, then each document's title and its chosen units."""
    pieces: list[Piece] = [Mark.RECALL_HEADING]
    turns = {turn for turn, _ in chosen}
    for chapter in (c for c in store.chapters if c.turn in turns):
        material = chapter.material
        for numbers in material.documents:
            mine = [n for n in numbers if (chapter.turn, n) in chosen]
            if mine:
                title = [n for n in numbers if material.units[n].frame and n < mine[0]]
                pieces += _quoted(material, [*title, *mine])
                pieces.append(Mark.NEWLINE)
    pieces[-1] = Mark.RECALL_END
    return tuple(pieces)


def _quoted(material: Material, numbers: Sequence[int]) -> Iterator[Piece]:
    """Quote units; neighbours keep the caller's own gap, others are parted by a blank."""
    address = material.address(numbers[0])
    start = end = numbers[0]
    for number in [*numbers[1:], None]:
        if number == end + 1:
            end = number
            continue
        yield Quote(address, Span(material.units[start].span.start, material.units[end].span.end))
        if number is not None:
            yield Mark.GAP
            start = end = number


def landing(turn: Turn) -> Address | None:
    """Return the leaf that a recalled block is put before: the turn's first user text."""
    for message in turn.messages:
        if message.role == "user" and message.leaves:
            return message.leaves[0].address
    return None


def text_of(pieces: Sequence[Piece], texts: Mapping[Address, str]) -> str:
    """Return the characters of quotes and marks."""
    return "".join(
        piece.span.of(texts[piece.address]) if isinstance(piece, Quote) else str(piece)
        for piece in pieces
    )
