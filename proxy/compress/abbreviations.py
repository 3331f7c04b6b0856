"""Repeated names by their initials, each after a legend at its first place.

"National Aeronautics and Space Administration" stays where it first stands, followed by
" (NASA)"; after that it is "NASA", the capitals of the name as it stands there.  This rewrites the
text: it is for the lexical method, and off unless asked for.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from proxy.compress.ports import Encoding
from proxy.compress.protect import Protection, protected_spans
from proxy.compress.stop_words import STOP_WORDS
from proxy.types import Address, Mark, Piece, Quote, Span

_LINK = r"(?:(?:of|and|for|the|de|la|du|des|und|für) ){0,2}"
_NAME = re.compile(rf"\b[A-Z][a-z]+(?: {_LINK}[A-Z][a-z]+){{2,7}}\b")
_OPENERS = frozenset().union(*STOP_WORDS.values())


@dataclass(frozen=True, slots=True)
class Place:
    """Where a name stands that is abbreviated; at its ``first`` place it gets its legend."""

    span: Span
    first: bool


def find_names(text: str, within: Sequence[Span], encoding: Encoding) -> list[Place]:
    """Return the places of the names that are worth it, in order; ``within`` is where to look.

    A name is three capitalised words or more.  It is worth it where it occurs twice, its initials
    are nobody else's, and tokens are saved, the legend counted.

    >>> from proxy.tokens import encoding_for
    >>> text = "The United Arab Emirates won. " * 4
    >>> places = find_names(text, [Span(0, len(text))], encoding_for("gpt-4o"))
    >>> [(place.span.start, place.first) for place in places]
    [(4, True), (34, False), (64, False), (94, False)]
    """
    found: dict[str, list[Span]] = {}
    protection = Protection(protected_spans(text))
    for stretch in within:
        for match in _NAME.finditer(text, *stretch):
            span = _without_opener(text, Span(*match.span()))
            if not (protection.cuts(span.start) or protection.cuts(span.end)):
                found.setdefault(span.of(text), []).append(span)
    taken = set(re.findall(r"\b[A-Z]{2,}\b", text))
    places: list[Place] = []
    for name, spans in found.items():
        initials = initials_of(name)
        if initials not in taken and saved_tokens(name, len(spans), encoding) > 0:
            taken.add(initials)
            places += [Place(span, span is spans[0]) for span in spans]
    return sorted(places, key=lambda place: place.span)


def initials_of(name: str) -> str:
    """Return the capitals of a name."""
    return "".join(letter for letter in name if letter.isupper())


def saved_tokens(name: str, times: int, encoding: Encoding) -> int:
    """Return the tokens that abbreviating a name saves; none if it has but two capitals."""
    initials = initials_of(name)
    if len(initials) < 3:
        return 0
    legend = encoding.count(f"{Mark.LEGEND_OPEN}{initials}{Mark.LEGEND_CLOSE}")
    each = encoding.count(f" {name}") - encoding.count(f" {initials}")
    return each * (times - 1) - legend


def _without_opener(text: str, span: Span) -> Span:
    """Leave out what merely opens a sentence: "The"."""
    first, _, _ = span.of(text).partition(" ")
    return Span(span.start + len(first) + 1, span.end) if first.lower() in _OPENERS else span


def abbreviated(
    spans: Iterable[Span], text: str, address: Address, places: Sequence[Place]
) -> Iterator[Piece]:
    """Yield the spans with names abbreviated; a legend quotes the name's own capitals."""
    ends = [place.span.end for place in places]
    for span in spans:
        at = span.start
        for number in range(bisect_right(ends, span.start), len(places)):
            place = places[number]
            if place.span.start >= span.end:
                break
            inside = Span(max(at, place.span.start), min(span.end, place.span.end))
            yield Span(at, inside.start)
            yield from [inside] if place.first else _capitals(text, inside)
            if place.first and inside.end == place.span.end:
                yield from _legend(text, address, place.span)
            at = inside.end
        yield Span(at, span.end)


def is_named(span: Span, places: Sequence[Place]) -> bool:
    """Whether a span overlaps one of the places."""
    number = bisect_right(places, span.start, key=lambda place: place.span.end)
    return number < len(places) and places[number].span.start < span.end


def _legend(text: str, address: Address, name: Span) -> Iterator[Piece]:
    yield Mark.LEGEND_OPEN
    yield from (Quote(address, capital) for capital in _capitals(text, name))
    yield Mark.LEGEND_CLOSE


def _capitals(text: str, span: Span) -> list[Span]:
    return [Span(i, i + 1) for i in range(*span) if text[i].isupper()]
