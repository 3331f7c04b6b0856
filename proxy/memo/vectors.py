"""Vectors of documents and questions, by content: seen again, they cost no model time.

Keys are keyed hashes (BLAKE2b under a secret drawn at start, or the shelf's own where there is one
behind the memory), so that a key says nothing about the text even to one who can guess it (law 11).
"""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import chain
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from proxy.compress.ports import (
    Document,
    DocumentVectors,
    KeepProbabilities,
    Passage,
    QuestionVectors,
    SelfInformation,
)
from proxy.memo.lru import Lru, Usage

Vectors: TypeAlias = DocumentVectors | QuestionVectors | SelfInformation | KeepProbabilities
"""Whatever a model says of one text."""

_OVERHEAD_BYTES = 700  # key, entry, two to four array objects


class Shelf(Protocol):
    """What is behind the memory: vectors that outlive the process (``proxy.memo.shelf``)."""

    @property
    def secret(self) -> bytes:
        """The key of the hashes, one for all processes that share the shelf."""

    def get(self, key: bytes) -> Vectors | None:
        """Return what was put under ``key``, or None."""

    def holds(self, keys: Sequence[bytes]) -> set[bytes]:
        """Return those of ``keys`` that are there."""

    def put(self, key: bytes, vectors: Vectors) -> None:
        """Keep vectors, at some time soon."""


class VectorMemo:
    """Vectors in memory, up to a number of bytes, and on a shelf behind it where there is one."""

    def __init__(
        self,
        limit_bytes: int = 128 * 2**20,
        secret: bytes | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        """Hold up to ``limit_bytes``; ``secret`` (at most 64 bytes) keys the hashes.

        A shelf's own secret goes before.
        """
        own = secrets.token_bytes(32) if secret is None else secret
        self._secret = own if shelf is None else shelf.secret
        self._shelf = shelf
        self._vectors: Lru[Vectors] = Lru(limit_bytes)

    def document_key(self, revision: str, document: Document) -> bytes:
        """Return the key of a document as one model sees it: (revision, text, units)."""
        spans = _packed(document.units)
        return self._key([b"document", revision.encode(), _bytes(document.text), spans])

    def question_key(self, revision: str, question: str) -> bytes:
        """Return the key of a question as one model sees it."""
        return self._key([b"question", revision.encode(), _bytes(question)])

    def passage_key(self, revision: str, passage: Passage) -> bytes:
        """Return the key of a passage as one model reads it after what it heard."""
        heard = [part for stretch in passage.heard for part in _heard(stretch.text, stretch.kept)]
        way = b"exact" if passage.exact else b"gather"
        return self._key([b"passage", revision.encode(), way, _bytes(passage.text), *heard])

    def classified_key(self, revision: str, text: str) -> bytes:
        """Return the key of a text as one token classifier sees it."""
        return self._key([b"classified", revision.encode(), _bytes(text)])

    def get(self, key: bytes) -> Vectors | None:
        """Return what was put under ``key``, or None."""
        return self._vectors.get(key)

    def peek(self, key: bytes) -> Vectors | None:
        """Do the same without counting a hit or a miss."""
        return self._vectors.peek(key)

    def fetch(self, key: bytes) -> Vectors | None:
        """Peek, then look on the shelf; what is found there comes into memory.  Reads the disk."""
        found = self._vectors.peek(key)
        if found is None and self._shelf is not None:
            found = self._shelf.get(key)
            if found is not None:
                self._vectors.put(key, found, size_bytes(found))
        return found

    def lacks(self, keys: Sequence[bytes]) -> set[bytes]:
        """Return those of ``keys`` that are neither in memory nor on the shelf.  Reads the disk."""
        missing = [key for key in keys if self._vectors.peek(key) is None]
        if not missing or self._shelf is None:
            return set(missing)
        return set(missing) - self._shelf.holds(missing)

    def put(self, key: bytes, vectors: Vectors) -> None:
        """Remember vectors, in place of those not used for longest."""
        self._vectors.put(key, vectors, size_bytes(vectors))
        if self._shelf is not None:
            self._shelf.put(key, vectors)

    @property
    def usage(self) -> Usage:
        """How it has served so far; sizes in bytes."""
        return self._vectors.usage

    def _key(self, parts: Iterable[bytes]) -> bytes:
        digest = blake2b(key=self._secret, digest_size=16)
        for part in parts:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        return digest.digest()


def arrays_of(vectors: Vectors) -> tuple[NDArray[Any], ...]:
    """Return the arrays that a model's answer is made of."""
    match vectors:
        case QuestionVectors():
            return (vectors.final, vectors.middle)
        case DocumentVectors():
            return (vectors.units, vectors.unit_tokens, vectors.whole)
        case SelfInformation():
            return (vectors.nats, vectors.starts, vectors.ends)
        case KeepProbabilities():
            return (vectors.keep, vectors.starts, vectors.ends)


def size_bytes(vectors: Vectors) -> int:
    """Return the memory that vectors take."""
    return sum(array.nbytes for array in arrays_of(vectors)) + _OVERHEAD_BYTES


def _heard(text: str, kept: Iterable[tuple[int, int]]) -> tuple[bytes, bytes]:
    return _bytes(text), _packed(kept)


def _packed(spans: Iterable[tuple[int, int]]) -> bytes:
    """Write positions as eight bytes each."""
    return array("q", chain.from_iterable(spans)).tobytes()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
