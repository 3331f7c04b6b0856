"""Recall (law 12): bring back what earlier turns dropped and the newest question needs.

Question-aware selection keeps what the question of its own turn needed.  The caller resends
everything, so nothing is lost to us: the newest turn's question ranks all units of the earlier
documents, and those of the best that were dropped are quoted, verbatim and in their order, at the
head of the newest turn's first user text.  The block depends on this turn and earlier ones only, so
it freezes like the rest (law 5), and its vectors are in the memo.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from proxy.compress.layout import Material
from proxy.compress.lexical import Terms
from proxy.compress.ports import Document, DocumentVectors, QuestionVectors
from proxy.compress.reading import shortlist
from proxy.compress.relevance import rate_units
from proxy.compress.result import TurnResult
from proxy.policy.schema import Recall
from proxy.types import Address, Mark, Piece, Quote, Span, Turn

SIMILARITY = 0.15
"""Nothing comes back where even the best unit is less similar than this: the turn is about
something else."""

UnitOf = tuple[int, int]
"""(turn, unit number)"""


@dataclass(frozen=True, slots=True)
class Archive:
    """The earlier turns that dropped something, and what is still missing of them."""

    materials: Mapping[int, Material]
    missing: frozenset[UnitOf]

    def then(self, turn: int, result: TurnResult) -> Archive:
        """Return the archive after one more turn; this very one where nothing changed."""
        missing = (self.missing - result.recalled) if result.recalled else self.missing
        if not result.dropped or result.material is None:
            return replace(self, missing=missing) if result.recalled else self
        dropped = frozenset((turn, number) for number in result.dropped)
        return Archive({**self.materials, turn: result.material}, missing | dropped)

    def documents(self) -> tuple[Document, ...]:
        """Return the documents, turn by turn."""
        return tuple(d for material in self.materials.values() for d in material.embeddable)

    def shortlist(self, question: str) -> tuple[int, ...]:
        """Return which of the documents have to be embedded."""
        data = [rows for material in self.materials.values() for rows in material.data]
        return shortlist(question, self.terms(), self.documents(), data)

    def numbered(self) -> Iterator[UnitOf]:
        """Yield every unit, kept or dropped, in the order of the conversation."""
        for turn, material in self.materials.items():
            yield from ((turn, number) for number in range(len(material.units)))

    def cost(self, unit: UnitOf) -> int:
        """Tokens of a unit with the gap after it."""
        return self.materials[unit[0]].costs[unit[1]]

    def terms(self) -> list[Terms]:
        """Return the index of the units, in the order of ``numbered``."""
        return [part for material in self.materials.values() for part in material.terms]

    def is_frame(self, unit: UnitOf) -> bool:
        """Whether a unit only frames its document."""
        return self.materials[unit[0]].units[unit[1]].frame


EMPTY = Archive({}, frozenset())


def archive(past: Iterable[TurnResult]) -> Archive:
    """Collect what the earlier turns dropped, less what turns since then brought back."""
    store = EMPTY
    for turn, result in enumerate(past):
        store = store.then(turn, result)
    return store


def wanted(
    store: Archive,
    question: str,
    asked: QuestionVectors,
    documents: Sequence[DocumentVectors],
    policy: Recall,
) -> frozenset[UnitOf]:
    """Return the missing units among the best under a question, as far as ``policy`` goes.

    Units that are still there count towards the share, so a question that the kept text answers
    brings back little.
    """
    units = list(store.numbered())
    relevance = rate_units(question, asked, store.terms(), documents)
    if not units or relevance.similarity.max() < SIMILARITY:
        return frozenset()
    room = policy.share * sum(sum(material.costs) for material in store.materials.values())
    chosen: set[UnitOf] = set()
    for i in np.argsort(-relevance.scores, kind="stable"):
        unit = units[i]
        if relevance.standing[i] < policy.min_relevance:
            break
        if store.is_frame(unit) or store.cost(unit) > room:
            continue
        room -= store.cost(unit)
        if unit in store.missing:
            chosen.add(unit)
    return frozenset(chosen)


def block(store: Archive, chosen: frozenset[UnitOf]) -> tuple[Piece, ...]:
    """Return the quoted block: heading, then each document's title and its chosen units."""
    pieces: list[Piece] = [Mark.RECALL_HEADING]
    for turn, material in store.materials.items():
        for numbers in material.documents:
            mine = [n for n in numbers if (turn, n) in chosen]
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
