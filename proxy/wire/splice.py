r"""New bytes from old: only the edited strings change, and what they keep is the caller's spelling.

A compressed leaf is a list of pieces.  Kept spans are counted in characters, the body is bytes, and
one character may be written ``é``, ``\u00e9`` or, beyond the basic plane, ``\ud83d\ude00``.  So
each leaf is taken as it is *written*, with a table of its escapes: a character's place in the
written text is its place in the decoded text plus what the escapes before it add.  Most clients
write strings in one of two ways throughout: only what JSON wants escaped is, or all beyond ASCII,
too.  A leaf that such a writer gives the very bytes of is spelled by it, and so are its pieces.

One trap: a piece that ends in half a surrogate pair, before a piece that begins with the other
half, would make a character that nobody wrote.  Such a leaf is left as it was.
"""

from __future__ import annotations

import json
import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeAlias

import orjson

from proxy.types import Address, Leaf, LeafEdit, Piece, Quote, Request, Span, Spelling

_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)"
)


def leaves_of(request: Request) -> dict[Address, Leaf]:
    """Return every leaf of the request by its address."""
    return {leaf.address: leaf for message in request.messages for leaf in message.leaves}


def render(edit: LeafEdit, leaves: Mapping[Address, Leaf]) -> str:
    """Return the text that ``edit`` makes of its leaf.

    Raises ``ValueError`` for an unknown address and for spans that overlap or leave their leaf.
    """
    texts = _texts(edit, leaves)
    return _leaf(edit.address, leaves).text if _forges_character(texts) else "".join(texts)


def splice(request: Request, edits: Sequence[LeafEdit]) -> bytes:
    """Return the body with the strings of the edited leaves replaced, every other byte as sent.

    What ``json`` reads from an edited string equals ``render``.  Raises ``ValueError`` as
    ``render`` does, and for two edits of one leaf.
    """
    leaves = leaves_of(request)
    speller = _Speller(request.raw, leaves)
    replaced: dict[Span, bytes] = {}
    for edit in edits:
        place = _leaf(edit.address, leaves).raw
        if place in replaced:
            raise ValueError(f"{edit.address}: found two edits, wanted one")
        known = request.spellings.get(edit.address)
        if known is None or not _still_holds(known, edit, leaves):
            known = speller.spelling(edit)
            request.spellings[edit.address] = known
        replaced[place] = known.written
    return replaced_in(request.raw, replaced)


def _still_holds(known: Spelling, edit: LeafEdit, leaves: Mapping[Address, Leaf]) -> bool:
    """Tell whether an edit is what it was, and of the very leaves that it was of."""
    return known.edit == edit and all(leaves.get(s.address) is s for s in known.sources)


def _leaf(address: Address, leaves: Mapping[Address, Leaf]) -> Leaf:
    if address not in leaves:
        raise ValueError(f"{address}: found no such leaf")
    return leaves[address]


def _texts(edit: LeafEdit, leaves: Mapping[Address, Leaf]) -> list[str]:
    """Return the decoded text of each piece, after checking them all."""
    leaf = _leaf(edit.address, leaves)
    kept = sorted(piece for piece in edit.pieces if isinstance(piece, Span))
    if any(after.start < before.end for before, after in pairwise(kept)):
        raise ValueError(f"{edit.address}: found overlapping spans")
    return [
        _own_text(piece, leaf) if isinstance(piece, Span) else _foreign_text(piece, leaves)
        for piece in edit.pieces
    ]


def _own_text(span: Span, leaf: Leaf) -> str:
    start, end = span
    if not 0 <= start <= end <= len(leaf.text):
        raise ValueError(f"{leaf.address}: found {span}, wanted a span of [0, {len(leaf.text)})")
    return leaf.text[start:end]


def _foreign_text(piece: Piece, leaves: Mapping[Address, Leaf]) -> str:
    if isinstance(piece, Quote):
        return _own_text(piece.span, _leaf(piece.address, leaves))
    return str(piece)


def _forges_character(texts: Sequence[str]) -> bool:
    return not all(map(str.isascii, texts)) and any(
        "\ud800" <= before[-1] <= "\udbff" and "\udc00" <= after[0] <= "\udfff"
        for before, after in pairwise(text for text in texts if text)
    )


class _Speller:
    """Spells edits as a body's leaves are written, each looked at once."""

    def __init__(self, raw: bytes, leaves: Mapping[Address, Leaf]) -> None:
        self._raw = raw
        self._leaves = leaves
        self._usual: dict[tuple[Address, _Writer], bool] = {}
        self._written: dict[Address, _Written] = {}

    def spelling(self, edit: LeafEdit) -> Spelling:
        """Return the JSON string that an edit makes, after checking it."""
        texts, sources = _texts(edit, self._leaves), _sources(edit)
        if _forges_character(texts):
            place = self._leaves[edit.address].raw
            written = self._raw[place.start : place.end]
        else:
            written = self._spelled(edit, texts, sources)
        return Spelling(edit, tuple(self._leaves[address] for address in sources), written)

    def _spelled(
        self, edit: LeafEdit, texts: Sequence[str], sources: AbstractSet[Address]
    ) -> bytes:
        for writer in _WRITERS:
            if all(self._is_usual(address, writer) for address in sources):
                return writer("".join(texts))
        for address in sources - self._written.keys():
            self._written[address] = _as_written(self._raw, self._leaves[address])
        pieces = [_written_piece(edit.address, piece, self._written) for piece in edit.pieces]
        return b'"' + "".join(pieces).encode() + b'"'

    def _is_usual(self, address: Address, writer: _Writer) -> bool:
        """Tell whether a leaf is written as ``writer`` does it."""
        known = self._usual.get((address, writer))
        if known is None:
            leaf = self._leaves[address]
            known = writer(leaf.text) == self._raw[leaf.raw.start : leaf.raw.end]
            self._usual[address, writer] = known
        return known


def _tersely(text: str) -> bytes:
    """Write a string with no more escapes than JSON wants; nothing, where UTF-8 cannot have it."""
    try:
        return orjson.dumps(text)
    except orjson.JSONEncodeError:
        return b""


def _in_ascii(text: str) -> bytes:
    """Write a string with all that is not ASCII escaped."""
    return json.dumps(text).encode()


_Writer: TypeAlias = Callable[[str], bytes]
_WRITERS: Final[tuple[_Writer, ...]] = (_tersely, _in_ascii)
"""Character by character: what they make of a text is what they make of its pieces, joined."""


@dataclass(frozen=True, slots=True)
class _Written:
    r"""The inside of a JSON string as written, and where its characters are.

    For ``a\nb\u00e9``: escapes at characters 1 and 3, and before each of 0, 1, 2 escapes
    the written text is ahead of the decoded one by 0, 1, 6.
    """

    text: str
    escapes: array[int]  # character positions, ascending
    ahead: array[int]  # one more than escapes

    def of(self, span: Span) -> str:
        return self.text[self._at(span.start) : self._at(span.end)]

    def _at(self, position: int) -> int:
        return position + self.ahead[bisect_left(self.escapes, position)]


def _as_written(raw: bytes, leaf: Leaf) -> _Written:
    escapes, ahead = array("I"), array("I", [0])
    inside = raw[leaf.raw.start + 1 : leaf.raw.end - 1]
    if b"\\" not in inside:
        return _Written(leaf.text, escapes, ahead)
    text = inside.decode()
    excess = 0
    for escape in _ESCAPE.finditer(text):
        escapes.append(escape.start() - excess)
        excess += escape.end() - escape.start() - 1
        ahead.append(excess)
    return _Written(text, escapes, ahead)


def _sources(edit: LeafEdit) -> set[Address]:
    """Return the leaves whose characters ``edit`` copies."""
    quoted = {piece.address for piece in edit.pieces if isinstance(piece, Quote)}
    return quoted | {edit.address}


def _written_piece(own: Address, piece: Piece, written: Mapping[Address, _Written]) -> str:
    if isinstance(piece, Span):
        return written[own].of(piece)
    if isinstance(piece, Quote):
        return written[piece.address].of(piece.span)
    return json.dumps(str(piece))[1:-1]


def replaced_in(raw: bytes, replaced: Mapping[Span, bytes]) -> bytes:
    """Return ``raw`` with other bytes at the given places, which do not overlap."""
    pieces, done = list[bytes](), 0
    for place in sorted(replaced):
        pieces += raw[done : place.start], replaced[place]
        done = place.end
    return b"".join([*pieces, raw[done:]])
