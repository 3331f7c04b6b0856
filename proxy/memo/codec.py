"""What a model says of one text, as bytes for the disk and back: equal bits, or nothing.

Layout: CRC-32 of the rest (4 bytes), the kind (1 byte), then safetensors, whose reader runs no
code and checks its own bounds.
"""

from __future__ import annotations

import zlib
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from proxy.compress.ports import (
    NO_BANDS,
    Band,
    DocumentVectors,
    KeepProbabilities,
    QuestionVectors,
    SelfInformation,
)
from proxy.memo.vectors import Vectors, arrays_of
from proxy.types import Kind

_KINDS: Final[tuple[type[Vectors], ...]] = (
    DocumentVectors,
    QuestionVectors,
    SelfInformation,
    KeepProbabilities,
)
"""A kind's number is its place here: append only."""

_BAND: Final = "band."
"""Before the kind, in the name of a band's limits."""

_HEAD: Final = 5  # bytes before the arrays


class Damaged(Exception):
    """The bytes are not what was packed."""


def pack(vectors: Vectors) -> bytes:
    """Return ``vectors`` as bytes."""
    arrays = {str(place): array for place, array in enumerate(arrays_of(vectors))}
    if isinstance(vectors, QuestionVectors):
        arrays["known"] = np.array([vectors.known, vectors.tokens], dtype=np.float64)
    if isinstance(vectors, SelfInformation):
        arrays |= {f"{_BAND}{kind}": _limits(band) for kind, band in vectors.bands.items()}
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
    except (IndexError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise Damaged(f"found no vectors: {type(error).__name__}") from error


def _made(kind: type[Vectors], arrays: dict[str, NDArray[Any]]) -> Vectors:
    for array in arrays.values():
        array.flags.writeable = False
    if kind is QuestionVectors:
        known, tokens = arrays["known"]
        return QuestionVectors(arrays["0"], arrays["1"], float(known), int(tokens))
    if kind is SelfInformation:
        bands = {
            Kind(name.removeprefix(_BAND)): _band(limits)
            for name, limits in arrays.items()
            if name.startswith(_BAND)
        }
        return SelfInformation(
            arrays["0"], arrays["1"], arrays["2"], MappingProxyType(bands) if bands else NO_BANDS
        )
    return kind(arrays["0"], arrays["1"], arrays["2"])  # type: ignore[arg-type]


def _limits(band: Band) -> NDArray[np.float64]:
    """Return a band as (7,): two limits each of nats, characters per token, symbols; stretch."""
    pairs = (*band.nats, *band.chars_per_token, *band.symbols)
    return np.array([*pairs, band.stretch], dtype=np.float64)


def _band(limits: NDArray[Any]) -> Band:
    a, b, c, d, e, f, stretch = limits.tolist()
    return Band((a, b), (c, d), (e, f), int(stretch))
