"""What the encoder reads: all prose, and of long data the rows that share most words with the ask.

Ten thousand rows are some hundred thousand encoder tokens, minutes of work, and names, numbers and
identifiers in them say little to an encoder.  So where data (JSON, tables, logs, diffs, hits, code)
is longer than READ_CHARS, BM25 says which stretches are read.  The others count as not similar.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from proxy.compress.lexical import Terms, count_terms
from proxy.compress.ports import Document, DocumentVectors
from proxy.types import Kind

DATA: Final = frozenset({Kind.JSON, Kind.TABLE, Kind.LOG, Kind.DIFF, Kind.SEARCH, Kind.CODE})
"""Kinds that are made of rows, entries, hunks, hits, definitions: as many as it may be."""
READ_CHARS: Final = 12_000
"""Characters of data that are read at most, in one turn: about a second's work."""


def shortlist(
    question: str, terms: Sequence[Terms], documents: Sequence[Document], data: Sequence[bool]
) -> tuple[int, ...]:
    """Return the documents that are read, in order; ``data`` tells which are data.

    ``terms`` index the units of the documents, one after the other.
    """
    sizes = [len(document.text) for document in documents]
    if sum(size for size, rows in zip(sizes, data, strict=True) if rows) <= READ_CHARS:
        return tuple(range(len(documents)))
    units = [len(document.units) for document in documents]
    scores = count_terms(question, terms).of_documents(units).scores()
    room, chosen = READ_CHARS, {i for i, rows in enumerate(data) if not rows}
    for i in np.argsort(-scores, kind="stable").tolist():
        if room <= 0:
            break
        if data[i] and sizes[i] <= room:
            room -= sizes[i]
            chosen.add(i)
    return tuple(sorted(chosen))


def filled(
    documents: Sequence[Document],
    chosen: Sequence[int],
    read: Sequence[DocumentVectors],
    width: int,
) -> tuple[DocumentVectors, ...]:
    """Return vectors (``width``,) for all documents: those not read are similar to nothing."""
    found = dict(zip(chosen, read, strict=True))
    nothing = np.zeros(width, dtype=np.float32)
    return tuple(
        found.get(i) or _unread(len(document.units), nothing)
        for i, document in enumerate(documents)
    )


def _unread(units: int, nothing: np.ndarray) -> DocumentVectors:
    return DocumentVectors(
        np.broadcast_to(nothing, (units, len(nothing))), np.zeros(units, np.int32), nothing
    )
