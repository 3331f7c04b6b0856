"""Content-Encoding undone, a bounded step at a time.

A kilobyte can unpack to a gigabyte, so nothing is unpacked at once: each layer takes its input in
slices small enough (or, brotli, with an output limit) that one step yields 16 MiB at most, and the
next step happens only when somebody asks.  One incremental decoder serves both request bodies,
which must be whole, and the tee of a response, which may stop anywhere.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import brotli  # type: ignore[import-untyped]
import zstandard

from proxy.wire.errors import BodyTooLarge, Unparsed

LIMIT_BYTES = 64 * 1024 * 1024
MAX_LAYERS = 4
ZSTD_WINDOW_BYTES = 8 * 1024 * 1024  # RFC 9659: what a Content-Encoding may ask of a decoder

_ZLIB_STEP = 8 * 1024  # deflate grows its input 1,032 times at most
_ZSTD_STEP = 512  # a block of 4 bytes can stand for 128 KiB
_BROTLI_OUTPUT = 1024 * 1024


def decode_body(
    raw: bytes,
    content_encoding: str | None,
    *,
    limit_bytes: int = LIMIT_BYTES,
    max_layers: int = MAX_LAYERS,
) -> bytes:
    """Return the body that ``content_encoding`` (a header's value) was applied to.

    Raises :class:`Unparsed` for an encoding we do not know, too many of them, or bytes that are
    broken, cut short or followed by others; :class:`BodyTooLarge` above ``limit_bytes``, counted
    after each layer.
    """
    decoder = Decoder(content_encoding, limit_bytes=limit_bytes, max_layers=max_layers)
    body = b"".join(decoder.feed(raw))
    decoder.finish()
    return body


class Decoder:
    """Undoes stacked encodings of a body that arrives in chunks."""

    def __init__(
        self,
        content_encoding: str | None,
        *,
        limit_bytes: int = LIMIT_BYTES,
        max_layers: int = MAX_LAYERS,
    ) -> None:
        """Raise :class:`Unparsed` for encodings that cannot be undone."""
        names = _encodings(content_encoding) if content_encoding else []
        if len(names) > max_layers:
            raise Unparsed(f"content-encoding: found {len(names)}, wanted at most {max_layers}")
        self._layers = [_LAYERS[name]() for name in reversed(names)]  # the last applied comes first
        self._counts = [_Count(limit_bytes) for _ in range(len(names) + 1)]

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what ``chunk`` decodes to, piece by piece; exhaust it before the next call.

        Raises :class:`Unparsed` and :class:`BodyTooLarge`.
        """
        pieces = self._counts[0].through([chunk])
        for layer, count in zip(self._layers, self._counts[1:], strict=True):
            pieces = count.through(_decoded(layer, pieces))
        return pieces

    def finish(self) -> None:
        """Raise :class:`Unparsed` unless every layer came to its end."""
        if self._counts[0].bytes and not all(layer.whole for layer in self._layers):
            raise Unparsed("body: found the end, wanted the rest of its content-encoding")


class _Layer(Protocol):
    """One encoding being undone."""

    @property
    def whole(self) -> bool:
        """Whether the encoded stream has come to its end."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what ``data`` decodes to, in bounded pieces."""


class _Stream(Protocol):
    """What zlib's and zstandard's incremental decompressors have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class _Frames:
    """Gzip members or zstd frames: one stream after another makes one body."""

    def __init__(self, open_stream: Callable[[], _Stream], step_bytes: int) -> None:
        self._open = open_stream
        self._step = step_bytes
        self._stream = open_stream()

    @property
    def whole(self) -> bool:
        return self._stream.eof

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), self._step):
            rest = data[start : start + self._step]
            while rest:
                if self._stream.eof:
                    self._stream = self._open()
                yield self._stream.decompress(rest)
                rest = self._stream.unused_data


class _Deflate:
    """RFC 9110 means zlib's wrapping; some senders mean the bare stream.  The first bytes tell."""

    def __init__(self) -> None:
        self._head = b""
        self._stream: _Stream | None = None

    @property
    def whole(self) -> bool:
        return self._stream is not None and self._stream.eof

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._stream is None:
            self._head += data
            if len(self._head) < 2:
                return
            data, self._head = self._head, b""
            self._stream = zlib.decompressobj(15 if _is_zlib(data) else -15)
        for start in range(0, len(data), _ZLIB_STEP):
            yield self._stream.decompress(data[start : start + _ZLIB_STEP])
            if self._stream.unused_data:
                raise Unparsed("body: found more bytes, wanted the end of its deflate stream")


class _Brotli:
    """Brotli keeps what it could not put out and is asked for it with empty input."""

    def __init__(self) -> None:
        self._stream = brotli.Decompressor()

    @property
    def whole(self) -> bool:
        return bool(self._stream.is_finished())

    def feed(self, data: bytes) -> Iterator[bytes]:
        piece: bytes = self._stream.process(data, output_buffer_limit=_BROTLI_OUTPUT)
        while piece:
            yield piece
            if self._stream.is_finished():
                return
            piece = self._stream.process(b"", output_buffer_limit=_BROTLI_OUTPUT)


class _Count:
    """Counts what flows through, and stops it at the limit."""

    def __init__(self, limit_bytes: int) -> None:
        self.bytes = 0
        self._limit = limit_bytes

    def through(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.bytes += len(piece)
            if self.bytes > self._limit:
                raise BodyTooLarge(self._limit)
            if piece:
                yield piece


def _gzip() -> _Layer:
    return _Frames(lambda: zlib.decompressobj(31), _ZLIB_STEP)


def _zstd() -> _Layer:
    window = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
    return _Frames(window.decompressobj, _ZSTD_STEP)


_LAYERS: dict[str, Callable[[], _Layer]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _zstd,
}


def _encodings(header: str) -> list[str]:
    """Return the encodings in the order of application, identity left out."""
    names = [name.strip().lower() for name in header.split(",")]
    names = [name for name in names if name not in {"", "identity"}]
    for name in names:
        if name not in _LAYERS:
            wanted = ", ".join(_LAYERS)
            raise Unparsed(f"content-encoding: found an unknown one, wanted {wanted} or identity")
    return names


def _decoded(layer: _Layer, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Run pieces through a layer, its library's errors translated."""
    try:
        for piece in pieces:
            yield from layer.feed(piece)
    except (zlib.error, brotli.error, zstandard.ZstdError) as error:
        raise Unparsed("body: found bytes that its content-encoding cannot have made") from error


def _is_zlib(data: bytes) -> bool:
    """Tell by RFC 1950: method 8 in the low half of the first byte, and a check modulo 31."""
    return data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
