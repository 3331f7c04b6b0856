"""Which text the causal LM can judge: what it says of single words of any other means little.

A unit is looked at twice: by itself, and in the run of units of about STRETCH characters that it
lies in, since short text tells little.  Where either is outside the band of the segment's kind
(another script, base64, minified code) the unit loses no word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from proxy.compress.layout import Material, document_text
from proxy.compress.ports import STRETCH, Band, Manner, SelfInformation
from proxy.compress.words import speaks
from proxy.types import Kind, Span

UNMEASURED: Final = Band((0.0, 7.0), (2.0, 8.0), (0.0, 0.25), stretch=0)
"""The band of an LM that was not calibrated: noise is near the logarithm of its vocabulary, a
script that it does not know has few characters per token."""


def band_of(rated: SelfInformation, kind: Kind) -> Band:
    """Return the band of a kind; that of prose where the LM was not shown the kind."""
    return rated.bands.get(kind) or rated.bands.get(Kind.PROSE, UNMEASURED)


def strange_units(material: Material, rated: Mapping[int, SelfInformation]) -> frozenset[int]:
    """Return the units that the LM cannot judge; ``rated`` is of documents' texts, by number."""
    return frozenset(
        unit
        for document, one in rated.items()
        for unit in _strange(material, material.documents[document], one)
    )


def _strange(material: Material, numbers: Sequence[int], rated: SelfInformation) -> Iterator[int]:
    """Yield the strange units of one document."""
    first = material.units[numbers[0]]
    document, start = document_text(material, numbers), first.span.start
    band = band_of(rated, material.turn.segments[first.segment].kind)
    for run in _runs(material, numbers):
        spans = [material.units[i].span for i in run]
        own = [Span(a - start, b - start) for a, b in spans]
        whole = _within(document, rated, Span(own[0].start, own[-1].end), band)
        for number, span in zip(run, own, strict=True):
            if not (whole and _within(document, rated, span, band)):
                yield number


def _runs(material: Material, numbers: Sequence[int]) -> list[list[int]]:
    """Divide a document's units into runs of STRETCH characters or more, if it has so many."""
    runs: list[list[int]] = [[]]
    for number in numbers:
        if runs[-1] and _length(material, runs[-1]) >= STRETCH:
            runs.append([])
        runs[-1].append(number)
    if len(runs) > 1 and _length(material, runs[-1]) < STRETCH:
        last = runs.pop()
        runs[-1] += last
    return runs


def _length(material: Material, run: Sequence[int]) -> int:
    return material.units[run[-1]].span.end - material.units[run[0]].span.start


def _within(text: str, rated: SelfInformation, span: Span, band: Band) -> bool:
    """Whether a stretch of a rated text is in a band; text without tokens is in none."""
    first = int(np.searchsorted(rated.ends, span.start, side="right"))
    last = int(np.searchsorted(rated.starts, span.end, side="left"))
    if last <= first:
        return False
    own = span.of(text)
    nats = float(rated.nats[first:last].mean(dtype=np.float64))
    return band.holds(Manner(nats, len(own) / (last - first), symbol_share(own)), len(own))


def symbol_share(text: str) -> float:
    """Return the share of solid characters that are neither letters, marks nor digits.

    >>> symbol_share("a+=(b[0]);"), symbol_share("It ran.")
    (0.7, 0.16666666666666666)
    """
    solid = [character for character in text if not character.isspace()]
    return sum(not speaks(character) for character in solid) / max(1, len(solid))
