"""Vectors of documents and questions, by content: seen again, they cost no model time.

Keys are keyed hashes (BLAKE2b under a secret drawn at start), so that a key says nothing about the
text even to one who can guess it (law 11).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from hashlib import blake2b

import numpy as np

from proxy.compress.ports import Document, DocumentVectors, QuestionVectors
from proxy.memo.lru import Lru, Usage

_OVERHEAD_BYTES = 700  # key, entry, two to four array objects


class VectorMemo:
    """Vectors in memory, up to a number of bytes."""

    def __init__(self, limit_bytes: int = 128 * 2**20, secret: bytes | None = None) -> None:
        """Hold up to ``limit_bytes``; ``secret`` (at most 64 bytes) keys the hashes."""
        self._secret = secrets.token_bytes(32) if secret is None else secret
        self._vectors: Lru[DocumentVectors | QuestionVectors] = Lru(limit_bytes)

    def document_key(self, revision: str, document: Document) -> bytes:
        """Return the key of a document as one model sees it: (revision, text, units)."""
        spans = np.array(document.units, dtype="<i8").reshape(-1, 2)
        return self._key([b"document", revision.encode(), _bytes(document.text), spans.tobytes()])

    def question_key(self, revision: str, question: str) -> bytes:
        """Return the key of a question as one model sees it."""
        return self._key([b"question", revision.encode(), _bytes(question)])

    def get(self, key: bytes) -> DocumentVectors | QuestionVectors | None:
        """Return what was put under ``key``, or None."""
        return self._vectors.get(key)

    def peek(self, key: bytes) -> DocumentVectors | QuestionVectors | None:
        """Do the same without counting a hit or a miss."""
        return self._vectors.peek(key)

    def put(self, key: bytes, vectors: DocumentVectors | QuestionVectors) -> None:
        """Remember vectors, in place of those not used for longest."""
        self._vectors.put(key, vectors, size_bytes(vectors))

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


def size_bytes(vectors: DocumentVectors | QuestionVectors) -> int:
    """Return the memory that vectors take."""
    if isinstance(vectors, QuestionVectors):
        return vectors.final.nbytes + vectors.middle.nbytes + _OVERHEAD_BYTES
    arrays = (vectors.units, vectors.unit_tokens, vectors.whole)
    return sum(array.nbytes for array in arrays) + _OVERHEAD_BYTES


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
