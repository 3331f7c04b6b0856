"""A turn laid out: its units, their token costs, and how a selection of them renders.

The pure half of a method: no scores in here.  What is kept renders to spans of the caller's own
leaves (law 3); what a component costs after that is counted in the upstream's encoding (law 7).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from proxy.compress.json_units import readable
from proxy.compress.lexical import Terms
from proxy.compress.ports import Document, Encoding
from proxy.compress.reading import DATA
from proxy.compress.units import Cut, Cuts, Layout, Unit, cut, number_of, place
from proxy.policy.schema import Policy
from proxy.types import (
    Address,
    Component,
    Count,
    Fold,
    Kind,
    LeafEdit,
    LeftOut,
    Mark,
    Piece,
    Quote,
    Segment,
    Span,
    Turn,
)

HALF_OF_A_PAIR = "example"
"""Tagging's rule for a demonstration given as chat messages: its answer stands in an assistant
message, which cannot be dropped with it."""

RESULT = "tool-result"
"""Tagging's rule for what a tool returned."""
COUNTED = DATA - {Kind.JSON}
"""Kinds of result in which a mark tells what is left out; within JSON none may (law 3)."""
LEAST_FOLD = 2
"""An entry of which fewer repeats are left out has no mark."""
LONG_TOKEN = 8
"""Characters of a token beyond which hardly any text has as many."""

_VARIES = re.compile(r"\b(?:0x)?[0-9a-fA-F]*\d[0-9a-fA-F]*\b|\d+")


@dataclass(frozen=True)
class Material:
    """What a turn offers to selection; without slots, so that what it is asked again is kept.

    ``units`` are those of all selectable segments, in order, and a unit's number is its index
    here; ``costs[i]`` the tokens of unit i with the gap after it; ``documents[d]`` the units of
    document d, ``stretches`` those of each run that is embedded by itself; ``whole`` the tokens of
    each leaf per component, selectable or not; ``sizes[i]`` those of segment i, 0 where it closes
    the turn.
    """

    turn: Turn
    layouts: Mapping[int, Layout]
    cuts: tuple[Cut, ...] = field(repr=False)
    units: tuple[Unit, ...]
    costs: tuple[int, ...]
    documents: tuple[tuple[int, ...], ...]
    stretches: tuple[tuple[int, ...], ...]
    whole: Mapping[Address, Mapping[Component, int]]
    sizes: tuple[int, ...]
    texts: Mapping[Address, str] = field(repr=False)

    @property
    def before(self) -> dict[Component, int]:
        """Return the turn's tokens per component."""
        return _summed(self.whole.values())

    def text(self, number: int) -> str:
        """Return the caller's characters of one unit."""
        unit = self.units[number]
        return unit.span.of(self.texts[self.address(number)])

    def address(self, number: int) -> Address:
        """Return the leaf that a unit lies in."""
        return self.turn.segments[self.units[number].segment].address

    def component(self, number: int) -> Component:
        """Return the label of the segment that a unit lies in."""
        return self.turn.segments[self.units[number].segment].component

    def selectable(self, component: Component) -> list[int]:
        """Return the units of a component that selection may drop, frames included."""
        return [i for i in range(len(self.units)) if self.component(i) is component]

    def frames(self, document: int) -> list[int]:
        """Return the units that go with their document: title, tags, rulers."""
        return [i for i in self.documents[document] if self.units[i].frame]

    @cached_property
    def cost(self) -> int:
        """The tokens of all units."""
        return sum(self.costs)

    @cached_property
    def embeddable(self) -> tuple[Document, ...]:
        """Every stretch of the documents as the encoder is to see it."""
        return tuple(self._document(numbers) for numbers in self.stretches)

    @cached_property
    def data(self) -> tuple[bool, ...]:
        """Whether each stretch is of data: rows, entries, hunks, hits, definitions."""
        segments = (self.turn.segments[self.units[s[0]].segment] for s in self.stretches)
        return tuple(segment.kind in DATA for segment in segments)

    @cached_property
    def sayings(self) -> dict[int, str]:
        """What each entry of a log says, without the numbers and times in it, by unit."""
        return {
            number: _VARIES.sub("0", self.text(number))
            for number, unit in enumerate(self.units)
            if self.turn.segments[unit.segment].kind is Kind.LOG
        }

    @cached_property
    def terms(self) -> tuple[Terms, ...]:
        """The units' words and character n-grams, for BM25."""
        return tuple(part for made in self.cuts for part in made.terms)

    def _document(self, numbers: tuple[int, ...]) -> Document:
        """Return a stretch without its number: the same passage elsewhere is the same document."""
        first = self.units[numbers[0]]
        start = first.span.start
        text = document_text(self, numbers)
        if self.turn.segments[first.segment].kind is Kind.JSON and len(numbers) == 1:
            text = readable(text)
            return Document(text, (Span(0, len(text)),))
        gone = number_of(self.text(numbers[0])) if first.frame else Span(0, 0)
        shift = start + gone.end - gone.start
        own = Span(0, first.span.end - shift)
        others = (self.units[i].span for i in numbers[1:])
        spans = (own, *(Span(s.start - shift, s.end - shift) for s in others))
        return Document(text[: gone.start] + text[gone.end :], spans)


def open_leaves(turn: Turn) -> dict[Address, str]:
    """Return the turn's leaves that may be edited: all but the closing assistant message's.

    That message was not there when the turn was first sent, so nothing may depend on it (law 5).
    """
    return {
        leaf.address: leaf.text
        for message in turn.messages
        if message.role != "assistant"
        for leaf in message.leaves
    }


def read_material(
    turn: Turn, policy: Policy, encoding: Encoding, memory: Cuts | None = None
) -> Material:
    """Lay out the selectable segments of a turn and count what everything in it costs.

    Texts that ``memory`` knows are not cut again.
    """
    texts = open_leaves(turn)
    layouts, cuts = _layouts(turn, policy, texts, encoding, memory)
    units = tuple(unit for layout in layouts.values() for unit in layout.units)
    unit_costs, whole, sizes = _costs(turn, layouts, texts, encoding)
    return Material(
        turn=turn,
        layouts=layouts,
        cuts=cuts,
        units=units,
        costs=unit_costs,
        documents=_grouped(unit.document for unit in units),
        stretches=_grouped(unit.stretch for unit in units),
        whole=whole,
        sizes=sizes,
        texts=texts,
    )


def document_texts(material: Material) -> list[str]:
    """Return the caller's text of each document, frames included."""
    return [document_text(material, numbers) for numbers in material.documents]


def document_text(material: Material, numbers: Sequence[int]) -> str:
    """Return the caller's text from the first to the last of some units of one leaf."""
    start, end = material.units[numbers[0]].span.start, material.units[numbers[-1]].span.end
    return material.texts[material.address(numbers[0])][start:end]


def _grouped(keys: Iterable[int]) -> tuple[tuple[int, ...], ...]:
    """Group the positions of equal keys, in order of first appearance."""
    groups: dict[int, list[int]] = {}
    for position, key in enumerate(keys):
        groups.setdefault(key, []).append(position)
    return tuple(map(tuple, groups.values()))


def token_counts(turn: Turn, encoding: Encoding) -> tuple[dict[Component, int], tuple[int, ...]]:
    """Return the tokens of a turn's open leaves, per component and per segment.

    Nothing is laid out.
    """
    _, whole, sizes = _costs(turn, {}, open_leaves(turn), encoding)
    return _summed(whole.values()), sizes


def _layouts(
    turn: Turn,
    policy: Policy,
    texts: Mapping[Address, str],
    encoding: Encoding,
    memory: Cuts | None,
) -> tuple[dict[int, Layout], tuple[Cut, ...]]:
    """Return the layouts by segment, and the cuts that they were made of in the same order."""
    layouts: dict[int, Layout] = {}
    cuts: list[Cut] = []
    documents = stretches = 0
    for index, segment in enumerate(turn.segments):
        if segment.address not in texts or not _may_go(segment, policy):
            continue
        if segment.rule == RESULT and _is_small(texts[segment.address], policy, encoding):
            continue
        made = cut(segment.text, segment.kind, memory)
        layout = place(made, segment, index, documents, stretches)
        if layout.units:
            layouts[index] = layout
            cuts.append(made)
            documents = layout.units[-1].document + 1
            stretches = layout.units[-1].stretch + 1
    return layouts, tuple(cuts)


def _may_go(segment: Segment, policy: Policy) -> bool:
    """Whether a policy selects from a segment at all."""
    if segment.rule == HALF_OF_A_PAIR or segment.kind in policy.protect_kinds:
        return False
    if policy.tool_results.only and segment.rule != RESULT:
        return False
    return not getattr(policy.components, segment.component.value).keeps_all


def _is_small(result: str, policy: Policy, encoding: Encoding) -> bool:
    """Whether what a tool returned is left alone for its size; what is long is not counted."""
    least = policy.tool_results.min_tokens
    return len(result) < LONG_TOKEN * least and encoding.count(result) < least


def _costs(
    turn: Turn, layouts: Mapping[int, Layout], texts: Mapping[Address, str], encoding: Encoding
) -> tuple[tuple[int, ...], dict[Address, dict[Component, int]], tuple[int, ...]]:
    """One pass over each leaf: tokens per unit with its gap, per component, and per segment."""
    costs: list[int] = []
    sizes = [0] * len(turn.segments)
    whole: dict[Address, dict[Component, int]] = {}
    for address, segments in _by_leaf(turn, texts):
        text = texts[address]
        whole[address] = dict.fromkeys(Component, 0)
        starts: list[tuple[int, int, bool]] = []
        for index, segment in segments:
            starts.append((segment.span.start, index, False))
            layout = layouts.get(index)
            if layout:
                for unit in layout.units:
                    if unit.head:
                        starts.append((unit.head.start, index, False))
                    starts.append((unit.span.start, index, True))
        counts = encoding.count_by(text, [*(at for at, _, _ in starts), len(text)])
        for (_, index, is_unit), count in zip(starts, counts, strict=True):
            sizes[index] += count
            if is_unit:
                costs.append(count)
        for index, segment in segments:
            whole[address][segment.component] += sizes[index]
    return tuple(costs), whole, tuple(sizes)


def _by_leaf(
    turn: Turn, texts: Mapping[Address, str]
) -> Iterator[tuple[Address, list[tuple[int, Segment]]]]:
    leaves: dict[Address, list[tuple[int, Segment]]] = {}
    for index, segment in enumerate(turn.segments):
        if segment.address in texts:
            leaves.setdefault(segment.address, []).append((index, segment))
    yield from leaves.items()


# -- rendering a selection ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rendered:
    """A selection as edits, and what the turn costs with them in place.

    ``sizes`` are the tokens of segments by number: of those whose leaf is edited.
    """

    edits: tuple[LeafEdit, ...]
    after: Mapping[Component, int]
    sizes: Mapping[int, int]


def render(material: Material, kept: Collection[int], encoding: Encoding) -> Rendered:
    """Render a selection of units."""
    chosen = set(kept)
    spans: dict[int, list[Piece]] = {}
    first = 0
    for index, layout in material.layouts.items():
        segment = material.turn.segments[index]
        text = material.texts[segment.address]
        spans[index] = list(kept_spans(layout, chosen, first, text))
        if segment.rule == RESULT and segment.kind in COUNTED:
            numbers = range(first, first + len(layout.units))
            spans[index] = _counted(material, numbers, chosen, spans[index])
        first += len(layout.units)
    return render_spans(material, spans, encoding)


def _counted(
    material: Material, numbers: Sequence[int], kept: Collection[int], pieces: Sequence[Piece]
) -> list[Piece]:
    """Put to the pieces of one result how much of it is left out, and how often entries repeat."""
    units = [number for number in numbers if not material.units[number].frame]
    gone = [number for number in units if number not in kept]
    if not gone or len(gone) == len(units):
        return [*pieces]
    folds = _folds(material, units, kept)
    told: list[Piece] = []
    for piece in pieces[:-1]:
        told.append(piece)
        if isinstance(piece, Span) and piece in folds:
            told.append(folds[piece])
    return [*told, LeftOut(len(gone), len(units)), pieces[-1]]


def _folds(material: Material, units: Sequence[int], kept: Collection[int]) -> dict[Span, Fold]:
    """Return, by the first kept entry of those that say the same, how many these are."""
    groups: dict[str, list[int]] = {}
    for number in units:
        if number in material.sayings:
            groups.setdefault(material.sayings[number], []).append(number)
    folds: dict[Span, Fold] = {}
    for group in groups.values():
        stays = [number for number in group if number in kept]
        if stays and len(group) - len(stays) >= LEAST_FOLD:
            folds[material.units[stays[0]].span] = Fold(len(group))
    return folds


def render_spans(
    material: Material, kept: Mapping[int, Sequence[Piece]], encoding: Encoding
) -> Rendered:
    """Render what is kept of some segments, by segment number; the others stay whole.

    A quote in it is of the segment's own leaf.

    A leaf that would not save a token stays as it was (law 6).  A leaf of which nothing is left
    becomes a mark: some providers refuse blank text.
    """
    edits: list[LeafEdit] = []
    sizes: dict[int, int] = {}
    after = material.before
    for address, segments in _by_leaf(material.turn, material.texts):
        if not any(index in kept for index, _ in segments):
            continue
        text = material.texts[address]
        runs = [
            (piece, index)
            for index, segment in segments
            for piece in kept.get(index, (segment.span,))
        ]
        edited = _count_runs(text, runs, encoding)
        pieces: tuple[Piece, ...] = tuple(_merged(piece for piece, _ in runs))
        if text.strip() and all(not _said(piece, text).strip() for piece, _ in runs):
            pieces = (Mark.ELISION,)
            edited = {segments[0][0]: encoding.count(Mark.ELISION)}
        if sum(edited.values()) < sum(material.whole[address].values()):
            edits.append(LeafEdit(address, pieces))
            for index, segment in segments:
                sizes[index] = edited.get(index, 0)
                after[segment.component] += sizes[index] - material.sizes[index]
    return Rendered(tuple(edits), after, sizes)


def _summed(counts: Iterable[Mapping[Component, int]]) -> dict[Component, int]:
    listed = list(counts)
    return {component: sum(count[component] for count in listed) for component in Component}


def kept_spans(layout: Layout, kept: Collection[int], first: int, text: str) -> Iterator[Span]:
    """Spans of one segment's kept units; ``first`` is the number of its first unit.

    Between two kept units that were not neighbours stands the strongest of the gaps between them
    (most line breaks, then the longest), so that paragraphs stay apart and array items keep their
    comma.  The head of the segment, that of a further array, and the segment's last gap are always
    kept.
    """
    yield layout.head
    gaps: list[Span] = []
    for offset, unit in enumerate(layout.units):
        if unit.head:
            yield unit.head
            gaps = []
        if first + offset in kept:
            if gaps:
                yield strongest(gaps, text)
            yield unit.span
            gaps = [unit.gap]
        elif gaps:
            gaps.append(unit.gap)
    yield layout.units[-1].gap


def strongest(gaps: Iterable[Span], text: str) -> Span:
    """Return the gap with most line breaks, then the longest."""
    return max(gaps, key=lambda gap: (gap.of(text).count("\n"), gap.end - gap.start))


def _said(piece: Piece, text: str) -> str:
    """Return the characters of a piece of the leaf whose text this is."""
    if isinstance(piece, Mark | Fold | LeftOut):
        return str(piece)
    return (piece.span if isinstance(piece, Quote) else piece).of(text)


def _merged(pieces: Iterable[Piece]) -> Iterator[Piece]:
    current: Piece | None = None
    for piece in pieces:
        if isinstance(piece, Span):
            if piece.start == piece.end:
                continue
            if isinstance(current, Span) and current.end == piece.start:
                current = Span(current.start, piece.end)
                continue
        if current is not None:
            yield current
        current = piece
    if current is not None:
        yield current


def _count_runs(text: str, runs: Iterable[tuple[Piece, int]], encoding: Encoding) -> dict[int, int]:
    """Tokens per segment of the runs joined; a token belongs where its first character lies."""
    parts: list[str] = []
    boundaries = [0]
    indexes: list[int] = []
    for piece, index in runs:
        said = _said(piece, text)
        if not said:
            continue
        parts.append(said)
        if indexes and indexes[-1] == index:
            boundaries[-1] += len(said)
        else:
            indexes.append(index)
            boundaries.append(boundaries[-1] + len(said))
    counts = encoding.count_by("".join(parts), boundaries)
    return dict(zip(indexes, counts, strict=True))


def totals(
    before: Mapping[Component, int], after: Mapping[Component, int]
) -> dict[Component, Count]:
    """Pair the figures up, component by component."""
    return {component: Count(before[component], after[component]) for component in Component}
