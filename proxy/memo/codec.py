"""What a model says of one text, as bytes for the disk and back: equal bits, or nothing.

Layout: CRC-32 of the rest (4 bytes), the kind (1 byte), then safetensors, whose reader runs no
code and checks its own bounds.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from proxy.compress.ports import (
    DocumentVectors,
    KeepProbabilities,
    QuestionVectors,
    SelfInformation,
)
from proxy.memo.vectors import Vectors, arrays_of

_KINDS: Final[tuple[type[Vectors], ...]] = (
    DocumentVectors,
    QuestionVectors,
    SelfInformation,
    KeepProbabilities,
)
"""A kind's number is its place here: append only."""

_HEAD: Final = 5  # bytes before the arrays


class Damaged(Exception):
    """The bytes are not what was packed."""


def pack(vectors: Vectors) -> bytes:
    """Return ``vectors`` as bytes."""
    arrays = {str(place): array for place, array in enumerate(arrays_of(vectors))}
    if isinstance(vectors, QuestionVectors):
        arrays["known"] = np.array([vectors.known, vectors.tokens], dtype=np.float64)
    body = bytes([_KINDS.index(type(vectors))]) + save(arrays)
    return zlib.crc32(body).to_bytes(4, "little") + body


def unpack(packed: bytes) -> Vectors:
    """Return what was packed, its arrays read-only.  Raises Damaged."""
    checksum, body = packed[: _HEAD - 1], packed[_HEAD - 1 :]
    if not body or zlib.crc32(body) != int.from_bytes(checksum, "little"):
        raise Damaged("found another checksum")
    try:
        kind, arrays = _KINDS[body[0]], load(body[1:])
        return _made(kind, arrays)
    except (IndexError, KeyError, TypeError, SafetensorError) as error:
        raise Damaged(f"found no vectors: {type(error).__name__}") from error


def _made(kind: type[Vectors], arrays: dict[str, NDArray[Any]]) -> Vectors:
    for array in arrays.values():
        array.flags.writeable = False
    if kind is QuestionVectors:
        known, tokens = arrays["known"]
        return QuestionVectors(arrays["0"], arrays["1"], float(known), int(tokens))
    return kind(arrays["0"], arrays["1"], arrays["2"])  # type: ignore[arg-type]
