"""The HTTP client, with everything turned off that would speak on the caller's behalf.

aiohttp's client adds a User-Agent, asks for encodings it can decode, decodes what comes, follows
redirects, keeps cookies, reads proxies from the environment, and gives up after five minutes.  A
transparent proxy does none of that: what leaves is what the caller sent, what comes back is what
the upstream sent.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from typing import Any, Self, TypeAlias

import aiohttp
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import CIMultiDict
from yarl import URL

from proxy.errors import LoopDetected, UpstreamTimeout, UpstreamUnavailable
from proxy.upstream.pipe import Pipe

HEADER_COUNT = 1024
"""Header fields of one message; aiohttp's own limit is 128."""

HOP_HEADER = "x-laconic-hop"
"""Goes along where a loop is suspected, and nowhere beyond addresses that are not public."""

_ITSELF = "this proxy itself"
_SLICE = 256 * 1024  # a body in memory is written in slices, so that a slow upstream holds it back

_AUTO_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")

Headers: TypeAlias = tuple[tuple[str, str], ...]
"""Header fields in the order of the wire, repeats included."""

Address: TypeAlias = tuple[str, int]
"""An IP address and a port."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """A request body that is passed on as it comes; ``length`` is None where it is chunked."""

    chunks: AsyncIterator[bytes]
    length: int | None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request to the upstream: the target verbatim, the headers without framing fields."""

    method: str
    url: str
    headers: Headers = field(repr=False)
    body: bytes | Streamed | None = field(default=None, repr=False)


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


@dataclass(frozen=True, slots=True)
class Limits:
    """What the upstream may take: time to connect and between two reads, bytes of a header line.

    aiohttp's own limit is 8,190 bytes.
    """

    connect_s: float = 10.0
    read_s: float = 600.0
    header_bytes: int = 64 * 1024


class Upstream:
    """A pool of connections to the upstream; opened and closed inside a running loop."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        proxy: str | None = None,
    ) -> None:
        """Open the pool; nothing is connected yet.

        ``tls`` replaces the system's trust; ``proxy`` is the HTTP proxy that leads there.
        """
        limits = limits or Limits()
        self._own: tuple[Address, ...] = ()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, socket_factory=self._socket, ssl=True if tls is None else tls
            ),
            proxy=proxy,
            request_class=_Request,
            response_class=_Response,
            timeout=aiohttp.ClientTimeout(
                total=None, connect=limits.connect_s, sock_read=limits.read_s
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_AUTO_HEADERS,
            auto_decompress=False,
            trust_env=False,
            max_line_size=limits.header_bytes,
            max_field_size=limits.header_bytes,
            max_headers=HEADER_COUNT,
        )

    async def __aenter__(self) -> Self:
        """Give the pool itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        await self._session.close()

    def refuse(self, own: Iterable[Address]) -> None:
        """Never connect to these addresses: they are our own, and the request would loop."""
        self._own = tuple(own)

    def send(self, message: Outgoing) -> Sending:
        """Send one request and give its answer, once status and headers are there.

        Leaving the block before the body has been read to its end closes the connection.
        Raises UpstreamTimeout, UpstreamUnavailable and LoopDetected.
        """
        return Sending(self._session, message)

    def _socket(self, target: aiohttp.AddrInfoType) -> socket.socket:
        """Make the socket of a new connection, where it does not lead back to ourselves."""
        family, kind, protocol, _, address = target
        if any(leads_to(own, (str(address[0]), int(address[1]))) for own in self._own):
            raise OSError(f"{address[0]}:{address[1]} is {_ITSELF}")
        return socket.socket(family, kind, protocol)


class _Request(aiohttp.ClientRequest):
    """A request that tells where it passed to near ones only."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Send over ``conn``, whose peer is known by now."""
        if HOP_HEADER in self.headers and not (self.proxy is None and _leads_near(conn)):
            del self.headers[HOP_HEADER]
        return await super().send(conn)


class _Response(aiohttp.ClientResponse):
    """A response that is waited for no longer after an interim answer than before it."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Read status and headers.  aiohttp forgets its read timeout at an interim answer (1xx)."""
        protocol = connection.protocol
        if protocol is None:
            return await super().start(connection)
        read, silence_s = protocol.read, None

        async def in_time() -> Any:
            nonlocal silence_s
            async with asyncio.timeout(silence_s):
                message = await read()
            silence_s = protocol.read_timeout
            return message

        protocol.read = in_time  # type: ignore[method-assign]
        try:
            return await super().start(connection)
        finally:
            del protocol.read


def _leads_near(connection: Connection) -> bool:
    transport = connection.transport
    peer = None if transport is None else transport.get_extra_info("peername")
    return peer is not None and is_near(peer[0])


def is_near(address: str) -> bool:
    """Whether an IP address is of this machine or of a network that is not public."""
    return not ip_address(address).is_global


class Sending:
    """A request on its way: a context that gives its answer."""

    __slots__ = ("_message", "_response", "_session")

    def __init__(self, session: aiohttp.ClientSession, message: Outgoing) -> None:
        """Use :meth:`Upstream.send`."""
        self._session, self._message = session, message

    async def __aenter__(self) -> Answer:
        """Send, and wait for status and headers."""
        message, url = self._message, _verbatim(self._message.url)
        with _Translated(url):
            self._response = response = await self._session.request(
                message.method,
                url,
                headers=_framed(message),
                data=_payload(message.body),
                allow_redirects=False,
            )
        return Answer(
            status=response.status,
            reason=response.reason or "",
            headers=fields(response.raw_headers),
            chunks=_chunks(response, url),
            begun=response.content.total_bytes > 0,
        )

    def pipe(self) -> Pipe:
        """Take over the connection behind a 101, for good."""
        connection = self._response.connection
        if connection is None or connection.protocol is None:
            raise UpstreamUnavailable("upstream: the connection was lost after a 101")
        protocol = connection.protocol
        protocol.read_timeout = None  # silence is no fault in a tunnel
        return Pipe(protocol, lambda parser: protocol.set_parser(parser, EMPTY_PAYLOAD))

    async def __aexit__(self, *_: object) -> None:
        """Close the connection, unless the body was read to its end."""
        self._response.close()


def leads_to(own: Address, target: Address) -> bool:
    """Whether connecting to ``target`` reaches a server that listens on ``own``.

    A wildcard address listens on every local one, and local are those that can be bound to.
    """
    if own[1] != target[1]:
        return False
    if own[0] not in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return own[0] == target[0]
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((target[0], 0))
        except OSError:
            return False
    return True


def _verbatim(url: str) -> URL:
    """Make a URL whose request target is what follows the authority, to the byte.

    yarl would drop an empty query; as part of the path, it has no opinion on it.

    >>> _verbatim("http://h:1/a%2Fb?").raw_path_qs
    '/a%2Fb?'
    """
    scheme, _, rest = url.partition("://")
    authority, slash, target = rest.partition("/")
    return URL.build(scheme=scheme, authority=authority, path=slash + target, encoded=True)


def _framed(message: Outgoing) -> CIMultiDict[str]:
    """Headers with a Content-Length where the length is known; aiohttp chunks what has none.

    Repeats of a field take the spelling of the first: aiohttp would take `x-a` and `X-A` for one
    field set twice.
    """
    headers = CIMultiDict(message.headers)
    if len(headers) > len(set(map(str.lower, headers))):
        spelling: dict[str, str] = {}
        headers = CIMultiDict(
            (spelling.setdefault(name.lower(), name), value) for name, value in message.headers
        )
    match message.body:
        case bytes(body):
            _state_length(headers, str(len(body)))
        case Streamed(length=int(length)):
            _state_length(headers, str(length))
        case _:
            pass
    return headers


def _state_length(headers: CIMultiDict[str], length: str) -> None:
    """Put the length, unless the caller's own field says it: that keeps its spelling."""
    if headers.getall("Content-Length", []) != [length]:
        headers["Content-Length"] = length


def _payload(body: bytes | Streamed | None) -> Any:
    """Give a body in the shape aiohttp sends best: small ones in one packet with the headers."""
    match body:
        case Streamed(chunks=chunks):
            return chunks
        case bytes() if len(body) > _SLICE:
            return _slices(body)
        case _:
            return body


async def _slices(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _SLICE):
        yield body[start : start + _SLICE]


def fields(raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Decode header fields as aiohttp encodes them again; their names keep their case."""
    return tuple(
        (name.decode("ascii", "replace"), value.decode("utf-8", "surrogateescape"))
        for name, value in raw
    )


async def _chunks(response: aiohttp.ClientResponse, url: URL) -> AsyncIterator[bytes]:
    closed, tell = _closed(response), partial(_tell_of_loss, response.content)
    closed.add_done_callback(tell)
    try:
        with _Translated(url):
            async for chunk in response.content.iter_any():
                yield chunk
    finally:
        closed.remove_done_callback(tell)


def _closed(response: aiohttp.ClientResponse) -> asyncio.Future[None]:
    """Return what is done once the connection is; never, where the body needs it no more."""
    never = asyncio.get_running_loop().create_future()
    protocol = None if response.connection is None else response.connection.protocol
    if protocol is None:
        return never
    closed = protocol.closed
    if closed is None:  # it is already
        never.set_result(None)
        return never
    return closed


def _tell_of_loss(body: aiohttp.StreamReader, closed: asyncio.Future[None]) -> None:
    """End the wait for a body whose connection was closed.

    aiohttp ends it with every loss but one: where the framing of a chunk is broken it closes the
    connection itself, and forgets who reads.
    """
    closed.exception()  # told to the reader, or nobody's affair
    if not body.is_eof() and body.exception() is None:
        body.set_exception(aiohttp.ClientPayloadError("the body's framing is broken"))


class _Translated:
    """Raises aiohttp's and the socket's errors as ours; the cause is kept, the target is not."""

    __slots__ = ("_url",)

    def __init__(self, url: URL) -> None:
        self._url = url

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, aiohttp.ClientConnectorError) and _ITSELF in str(error.os_error):
            raise LoopDetected(f"upstream {self._url.host_port_subcomponent}: {_ITSELF}") from error
        if isinstance(error, TimeoutError):
            raise UpstreamTimeout(self._told(error)) from error
        if isinstance(error, aiohttp.ClientError | HttpProcessingError | OSError):
            raise UpstreamUnavailable(self._told(error)) from error

    def _told(self, error: BaseException) -> str:
        return f"upstream {self._url.host_port_subcomponent}: {type(error).__name__}"
