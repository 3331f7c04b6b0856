"""One name for many words: what tells texts apart in memory and in the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


def digest_of(words: Iterable[str]) -> bytes:
    """Hash words (BLAKE2b, RFC 7693; 32 bytes), each with its length.

    So no two lists of words are taken for one another.  Lone surrogates are words like any other.

    >>> digest_of(["ab", "c"]) == digest_of(["a", "bc"])
    False
    """
    raw = [word.encode("utf-8", "surrogatepass") for word in words]
    parts = [part for word in raw for part in (len(word).to_bytes(8, "little"), word)]
    return blake2b(b"".join(parts), digest_size=32).digest()


def linked(*parts: bytes, size: int = 32) -> bytes:
    """Hash digests or other bytes, as they are and in their order, to ``size`` bytes."""
    return blake2b(b"".join(parts), digest_size=size).digest()
