"""One request on its way, over a connection of aiohttp's.

aiohttp's connector, which finds, opens, secures and keeps connections, and its parser do what they
do best; its session is left out.  That one speaks on the caller's behalf (a User-Agent, encodings
it can decode, redirects, cookies) and costs more than all else that a relay does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import cached_property, lru_cache
from ipaddress import ip_address
from typing import Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage, StreamWriter
from aiohttp.streams import EMPTY_PAYLOAD
from yarl import URL

from proxy.errors import LoopDetected, UpstreamTimeout, UpstreamUnavailable
from proxy.upstream.answers import FINAL, SWITCHING, AnswerConnector
from proxy.upstream.messages import HOP_HEADER, Answer, Outgoing, Streamed, fields, head_of
from proxy.upstream.pipe import Pipe

HEADER_COUNT: Final = 1024
"""Header fields of one message; aiohttp's own limit is 128."""

ITSELF: Final = "this proxy itself"

_AT_ONCE = 64 * 1024  # a body up to here goes in one packet with the headers
_SLICE = 256 * 1024  # a larger one is written in slices, so that a slow upstream holds it back
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})  # RFC 9110, 9.2.2
_LOST = (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)


class Origin:
    """A server that requests go to: how it is reached, and what its requests are addressed to."""

    def __init__(self, authority: str, proxy: str | None) -> None:
        """Take scheme and authority, ``http://host:port``, and the HTTP proxy that leads there."""
        self.authority = authority
        self.url = URL(authority)
        self.through_proxy = proxy is not None
        self.knock = aiohttp.ClientRequest(
            "GET", self.url, proxy=None if proxy is None else URL(proxy)
        )
        """What the connector makes connections for: it looks at where, never at what."""

    @cached_property
    def name(self) -> str:
        """What errors call it."""
        return f"upstream {self.url.host_port_subcomponent}"

    def head(self, message: Outgoing, connection: Connection) -> bytes:
        """Spell the head of a message; to an HTTP proxy the target is the whole URL."""
        first = [("Host", self.knock.headers["Host"])]
        if message.hops is not None and not self.through_proxy and _leads_near(connection):
            first.append((HOP_HEADER, message.hops))
        if not self.through_proxy or self.knock.is_ssl():
            return head_of(message, message.url[len(self.authority) :], *first)
        credential = self.knock.headers.get("Proxy-Authorization")  # the connector puts it there
        if credential is not None:
            first.append(("Proxy-Authorization", credential))
        return head_of(message, message.url, *first)


class Door:
    """What connections to upstreams are made and read with."""

    def __init__(
        self,
        connector: AnswerConnector,
        timeout: aiohttp.ClientTimeout,
        proxy: str | None,
        header_bytes: int,
    ) -> None:
        """Connect with ``connector``; a header line may have ``header_bytes``."""
        self.connector = connector
        self._timeout = timeout
        self._proxy = proxy
        self._header_bytes = header_bytes
        self._origins: dict[str, Origin] = {}

    def origin(self, url: str) -> Origin:
        """Return where a URL leads."""
        scheme, _, rest = url.partition("://")
        authority = f"{scheme}://{rest.partition('/')[0]}"
        found = self._origins.get(authority)
        if found is None:
            found = self._origins[authority] = Origin(authority, self._proxy)
        return found

    async def connect(self, origin: Origin) -> Connection:
        """Give a connection, new or kept, that is ours until it is released or closed."""
        return await self.connector.connect(origin.knock, [], self._timeout)

    def expect(self, protocol: ResponseHandler, method: str) -> None:
        """Prepare a connection for the response to a request."""
        protocol.set_response_params(
            skip_payload=method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            read_timeout=self._timeout.sock_read,
            max_line_size=self._header_bytes,
            max_field_size=self._header_bytes,
            max_headers=HEADER_COUNT,
        )


class Sending:
    """A request on its way: a context that gives its answer."""

    __slots__ = ("_body", "_connection", "_door", "_message", "_origin", "_writing")

    def __init__(self, door: Door, message: Outgoing) -> None:
        """Use :meth:`Upstream.send`."""
        self._door, self._message = door, message
        self._origin = door.origin(message.url)
        self._connection: Connection | None = None
        self._writing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Answer:
        """Send, and wait for status and headers."""
        with _Translated(self._origin):
            try:
                message, body = await self._asked()
            except _LOST:
                # A kept connection may have been closed while the request was under way.
                if not _may_be_repeated(self._message):
                    raise
                message, body = await self._asked()
        self._body = body
        body.on_eof(self._at_end)
        return Answer(
            status=message.code,
            reason=message.reason,
            headers=fields(message.raw_headers),
            chunks=self._chunks(),
            begun=body.total_bytes > 0,
        )

    async def __aexit__(self, *_: object) -> None:
        """Close the connection, unless the body was read to its end."""
        self._close()

    def pipe(self) -> Pipe:
        """Take over the connection behind a 101, for good."""
        with _Translated(self._origin):
            protocol = _protocol_of(self._connection)
        protocol.read_timeout = None  # silence is no fault in a tunnel
        return Pipe(protocol, lambda parser: protocol.set_parser(parser, EMPTY_PAYLOAD))

    async def _asked(self) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
        """Send over a connection, and read what comes back, which is not an interim answer."""
        connection = self._connection = await self._door.connect(self._origin)
        try:
            protocol = _protocol_of(connection)
            self._door.expect(protocol, self._message.method)
            self._write(protocol, self._origin.head(self._message, connection))
            return await _final(protocol)
        except BaseException:
            self._close()
            raise

    def _write(self, protocol: ResponseHandler, head: bytes) -> None:
        """Write at once what is small; what is not is written while the answer is waited for."""
        body = self._message.body
        if isinstance(body, Streamed) or (body is not None and len(body) > _AT_ONCE):
            self._writing = asyncio.create_task(self._write_on(protocol, head))
            return
        _put(protocol, head if body is None else head + body)
        protocol.start_timeout()

    async def _write_on(self, protocol: ResponseHandler, head: bytes) -> None:
        """Write head and body as the upstream takes them; a failure is told to who waits."""
        try:
            _put(protocol, head)
            writer = StreamWriter(protocol, asyncio.get_running_loop())
            if self._message.chunked:
                writer.enable_chunking()
            async for chunk in _pieces(self._message.body):
                await writer.write(chunk)
            await writer.write_eof()
        except Exception as error:  # noqa: BLE001 - the caller's body may fail in any way
            lost = error if isinstance(error, OSError) else aiohttp.ClientConnectionError()
            protocol.set_exception(lost, error)
        else:
            protocol.start_timeout()

    async def _chunks(self) -> AsyncIterator[bytes]:
        body = self._body
        with _Translated(self._origin), _WatchedForLoss(body, self._connection):
            while not body.at_eof():
                if chunk := await body.readany():
                    yield chunk

    def _at_end(self) -> None:
        """Let go of the connection: it is kept, unless our request has not been taken whole."""
        connection = self._connection
        if connection is None:
            return
        if connection.protocol is not None and connection.protocol.upgraded:
            return
        if self._writing is not None and not self._writing.done():
            self._close()
            return
        self._connection = None
        connection.release()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if self._writing is not None:
            self._writing.cancel()
        if connection is not None:
            connection.close()


def _protocol_of(connection: Connection | None) -> ResponseHandler:
    protocol = None if connection is None else connection.protocol
    if protocol is None:
        raise aiohttp.ServerDisconnectedError
    return protocol


def _may_be_repeated(message: Outgoing) -> bool:
    return message.method in _IDEMPOTENT and not isinstance(message.body, Streamed)


async def _final(protocol: ResponseHandler) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
    """Read the first response that is not interim (RFC 9110, 15.2).

    aiohttp forgets its read timeout at an interim one: those that follow are waited for no longer.
    Raises HttpProcessingError where the body that came with it is broken already.
    """
    message, body = await protocol.read()
    while message.code < FINAL and message.code != SWITCHING:
        async with asyncio.timeout(protocol.read_timeout):
            message, body = await protocol.read()
    broken = protocol.exception()
    if isinstance(broken, HttpProcessingError) and not body.is_eof():
        raise broken
    return message, body


def _put(protocol: ResponseHandler, data: bytes) -> None:
    transport = protocol.transport
    if transport is None or transport.is_closing():
        raise aiohttp.ClientConnectionResetError("the connection is closed")
    transport.write(data)


async def _pieces(body: bytes | Streamed | None) -> AsyncIterator[bytes]:
    if isinstance(body, Streamed):
        async for chunk in body.chunks:
            yield chunk
    elif body is not None:
        for start in range(0, len(body), _SLICE):
            yield body[start : start + _SLICE]


class _WatchedForLoss:
    """Ends the wait for a body whose connection is closed.

    aiohttp ends it with every loss but one: where the framing of a chunk is broken it closes the
    connection itself, and forgets who reads.
    """

    __slots__ = ("_body", "_closed", "_protocol")

    def __init__(self, body: aiohttp.StreamReader, connection: Connection | None) -> None:
        self._body = body
        self._protocol = None if connection is None else connection.protocol
        self._closed: asyncio.Future[None] | None = None

    def __enter__(self) -> None:
        if self._protocol is None or self._body.is_eof():
            return  # the body needs it no more
        self._closed = self._protocol.closed
        if self._closed is None:  # it is closed already
            self._lost()
        else:
            self._closed.add_done_callback(self._lost)

    def __exit__(self, *_: object) -> None:
        if self._closed is not None:
            self._closed.remove_done_callback(self._lost)

    def _lost(self, closed: asyncio.Future[None] | None = None) -> None:
        if closed is not None:
            closed.exception()  # told to the reader, or nobody's affair
        if not self._body.is_eof() and self._body.exception() is None:
            self._body.set_exception(aiohttp.ClientPayloadError("the body's framing is broken"))


def _leads_near(connection: Connection) -> bool:
    transport = connection.transport
    peer = None if transport is None else transport.get_extra_info("peername")
    return peer is not None and is_near(peer[0])


@lru_cache(maxsize=256)
def is_near(address: str) -> bool:
    """Whether an IP address is of this machine or of a network that is not public."""
    return not ip_address(address).is_global


class _Translated:
    """Raises aiohttp's and the socket's errors as ours; the cause is kept, the target is not."""

    __slots__ = ("_origin",)

    def __init__(self, origin: Origin) -> None:
        self._origin = origin

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None:
            return
        if isinstance(error, aiohttp.ClientConnectorError) and ITSELF in str(error.os_error):
            raise LoopDetected(f"{self._origin.name}: {ITSELF}") from error
        told = f"{self._origin.name}: {type(error).__name__}"
        if isinstance(error, TimeoutError):
            raise UpstreamTimeout(told) from error
        if isinstance(error, aiohttp.ClientError | HttpProcessingError | OSError):
            raise UpstreamUnavailable(told) from error
