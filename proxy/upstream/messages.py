"""What goes to an upstream and what comes back, and how a request is spelt (RFC 9112, 3 and 5)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, TypeAlias

HOP_HEADER: Final = "x-laconic-hop"
"""Goes along where a loop is suspected, and nowhere beyond addresses that are not public."""

_LENGTH: Final = "content-length"
_WITHOUT_CONTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

Headers: TypeAlias = tuple[tuple[str, str], ...]
"""Header fields in the order of the wire, repeats included."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """A request body that is passed on as it comes; ``length`` is None where it is chunked."""

    chunks: AsyncIterator[bytes]
    length: int | None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request to the upstream: the target verbatim, the headers without framing fields.

    ``hops`` go along as :data:`HOP_HEADER`, to near addresses alone.
    """

    method: str
    url: str
    headers: Headers = field(repr=False)
    body: bytes | Streamed | None = field(default=None, repr=False)
    hops: str | None = None

    @property
    def chunked(self) -> bool:
        """Whether the body goes in chunks: where its length is not known."""
        return isinstance(self.body, Streamed) and self.body.length is None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the upstream answered; ``chunks`` are its body's bytes, undecoded, as they come.

    ``begun`` says that some of them were there as soon as status and headers were.
    Iterating raises UpstreamTimeout or UpstreamUnavailable where the upstream is lost midway.
    """

    status: int
    reason: str
    headers: Headers = field(repr=False)
    chunks: AsyncIterator[bytes] = field(repr=False)
    begun: bool = False


def fields(raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Decode header fields as :func:`spelt_head` encodes them; their names keep their case."""
    return tuple(
        [(_decoded_name(name), value.decode("utf-8", "surrogateescape")) for name, value in raw]
    )


@lru_cache(maxsize=1024)
def _decoded_name(name: bytes) -> str:
    return name.decode("ascii", "replace")


def spelt_head(start: str, headers: Iterable[tuple[str, str]]) -> bytes:
    r"""Spell a start line and header fields, in the bytes that :func:`fields` read.

    Raises ValueError where something in them would end a line: what came over a wire cannot.

    >>> spelt_head("HTTP/1.1 200 OK", [("a", "caf\udce9")])
    b'HTTP/1.1 200 OK\r\na: caf\xe9\r\n\r\n'
    """
    lines = [start]
    lines += [f"{name}: {value}" for name, value in headers]
    head = "\r\n".join(lines)
    if head.count("\n") >= len(lines) or head.count("\r") >= len(lines) or "\0" in head:
        raise ValueError("head: found a line's end inside a header, wanted none")
    return f"{head}\r\n\r\n".encode("utf-8", "surrogateescape")


def head_of(message: Outgoing, target: str, *first: tuple[str, str]) -> bytes:
    r"""Spell the request line and the headers, ``first`` ones before the message's own.

    Raises ValueError as :func:`spelt_head`.

    >>> head_of(Outgoing("POST", "http://h/x", (("a", "1"),), b"{}"), "/x", ("Host", "h"))
    b'POST /x HTTP/1.1\r\nHost: h\r\na: 1\r\nContent-Length: 2\r\n\r\n'
    """
    return spelt_head(f"{message.method} {target} HTTP/1.1", (*first, *_framed(message)))


def _framed(message: Outgoing) -> Iterable[tuple[str, str]]:
    """Return the headers with the body's framing."""
    match message.body:
        case bytes(body):
            return _with_length(message.headers, str(len(body)))
        case Streamed(length=int(length)):
            return _with_length(message.headers, str(length))
        case Streamed():
            return (*message.headers, ("Transfer-Encoding", "chunked"))
    if message.method in _WITHOUT_CONTENT or _stated(message.headers):
        return message.headers
    return (*message.headers, ("Content-Length", "0"))  # RFC 9110, 8.6


def _with_length(headers: Headers, length: str) -> Iterable[tuple[str, str]]:
    """Put the length, unless the caller's own field says it: that keeps its spelling."""
    stated = _stated(headers)
    if stated == [length]:
        return headers
    put = ("Content-Length", length)
    if not stated:
        return (*headers, put)
    first = [name.lower() for name, _ in headers].index(_LENGTH)
    rest = [pair for pair in headers[first:] if pair[0].lower() != _LENGTH]
    return (*headers[:first], put, *rest)


def _stated(headers: Headers) -> list[str]:
    return [value for name, value in headers if name.lower() == _LENGTH]
