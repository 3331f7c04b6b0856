"""The story of one request, read downward.

A request with text is taken in whole, compressed, sent, and its answer relayed, or recovered where
the policy asks for it; everything else streams through.  The one thing that is never skipped is the
ledger entry: it is written when the exchange closes, however it closes, by a call that nothing can
interrupt.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from http import HTTPStatus

import structlog
from aiohttp import hdrs, web

from proxy.errors import (
    CallerError,
    LaconicError,
    LoopDetected,
    UpstreamError,
    UpstreamTimeout,
)
from proxy.gateway.access import Access, check_credential
from proxy.gateway.compression import Compression, Incoming
from proxy.gateway.exchange import Exchange, seen, target_of
from proxy.gateway.history import History
from proxy.gateway.loops import Look, LoopGuard
from proxy.gateway.recovery import Recovery
from proxy.gateway.relay import Relayed, abort, own_error, refuses, relay
from proxy.gateway.tunnel import Tunnels, upgrading
from proxy.gateway.way import Way
from proxy.ledger import Clerk, Ended
from proxy.policy import PolicySet, PolicyStore, RouteQuery
from proxy.settings import upstream_url
from proxy.upstream import HOP_HEADER, Answer, Headers, Outgoing, Streamed, Upstreams, fields
from proxy.wire import (
    BodyTooLarge,
    LaconicHeaders,
    asks_for_websocket,
    endpoint_of,
    forwarded_response,
)


class Gateway:
    """Serves requests; holds nothing of any of them."""

    def __init__(
        self,
        *,
        access: Access,
        upstreams: Upstreams,
        policies: PolicyStore,
        compression: Compression,
        clerk: Clerk,
        limit_bytes: int,
        history: History,
    ) -> None:
        """Forward to ``upstreams``; a request with text above ``limit_bytes`` is refused.

        ``history`` knows what was sent before, by others than this process too.
        """
        self._access = access
        self._upstreams = upstreams
        self._policies = policies
        self._compression = compression
        self._clerk = clerk
        self._limit_bytes = limit_bytes
        self._tunnels = Tunnels()
        self._loops = LoopGuard()
        self._history = history
        self._log = structlog.get_logger("laconic")

    def stop(self) -> None:
        """Close what would not end by itself."""
        self._tunnels.stop()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one request, to its ledger entry."""
        exchange = Exchange.of(request)
        try:
            with self._loops.passing(*_looks(request)) as exchange.hops:
                return await self._serve(request, exchange)
        except asyncio.CancelledError:
            exchange.ended = exchange.gone
            raise
        except Exception as error:  # noqa: BLE001 - the caller is owed an answer to any fault
            return await self._apologise(request, exchange, error)
        finally:
            exchange.close()
            self._clerk.write(partial(exchange.entry, self._history))

    async def _serve(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        """Take a request with text in, compress it, send it on; all else passes as it comes."""
        exchange.guest = self._access.admit(request.headers)
        headers = fields(request.raw_headers)
        policies = self._policies.current
        endpoint = exchange.endpoint = endpoint_of(request.method, request.rel_url.raw_path)
        if endpoint is None:
            match = policies.match(_query(request, exchange))
            way = self._way(request, exchange, policies, match.upstream)
            return await self._pass(request, exchange, way, headers)
        overrides = LaconicHeaders.read(headers)
        body = await _whole(request, exchange, self._limit_bytes)
        prepared = await self._compression.prepare(
            Incoming(
                endpoint,
                exchange.path,
                request.headers,
                overrides,
                body,
                exchange.api_key,
                exchange.guest.key,
            ),
            policies,
        )
        way = self._way(request, exchange, policies, prepared.upstream)
        exchange.prepared = prepared  # only now that it will be sent
        as_it_came = way.headers(headers, body_changed=False)
        original = way.message(request.method, as_it_came, body)
        if prepared.edited is None:
            return await self._forward(request, exchange, way, original)
        rewritten = way.headers(headers, body_changed=True)
        edited = way.message(request.method, rewritten, prepared.edited)
        return await self._forward_edited(request, exchange, way, edited, original)

    def _way(
        self, request: web.Request, exchange: Exchange, policies: PolicySet, upstream: str | None
    ) -> Way:
        """Return the way to the upstream that the routes chose, which no header of a caller can."""
        exchange.upstream = upstream
        spec = None if upstream is None else policies.upstreams[upstream]
        destination = self._upstreams.of(spec)
        exchange.host = destination.host
        check_credential(exchange.guest, destination.key)
        url = upstream_url(destination.base, target_of(request))
        return Way(destination, url, exchange.hops)

    async def _pass(
        self, request: web.Request, exchange: Exchange, way: Way, headers: Headers
    ) -> web.StreamResponse:
        """Pass what has no text of which we know, as it comes."""
        as_it_came = way.headers(headers, body_changed=False)
        if asks_for_websocket(request.method, headers):
            upgrade = way.message(request.method, upgrading(headers, as_it_came))
            return await self._tunnel(request, exchange, way, upgrade)
        passing = _passing(request, exchange, as_it_came)
        message = way.message(request.method, as_it_came, passing)
        return await self._forward(request, exchange, way, message)

    async def _forward(
        self, request: web.Request, exchange: Exchange, way: Way, message: Outgoing
    ) -> web.StreamResponse:
        exchange.send()
        async with way.send(message) as answer:
            exchange.hear()
            return await self._relay(request, exchange, answer)

    async def _tunnel(
        self, request: web.Request, exchange: Exchange, way: Way, upgrade: Outgoing
    ) -> web.StreamResponse:
        """Open a WebSocket where the upstream does; what it answers otherwise is an answer."""
        exchange.send()
        sending = way.send(upgrade)
        async with sending as answer:
            exchange.hear()
            if answer.status != HTTPStatus.SWITCHING_PROTOCOLS:
                return await self._relay(request, exchange, answer)
            return await self._tunnels.carry(request, exchange, answer, sending.pipe())

    async def _forward_edited(
        self,
        request: web.Request,
        exchange: Exchange,
        way: Way,
        edited: Outgoing,
        original: Outgoing,
    ) -> web.StreamResponse:
        """Send the edited body and, where the upstream will not have it, the original (law 8)."""
        exchange.send()
        async with way.send(edited) as first:
            exchange.hear()
            answer, refused = await refuses(first)
            prepared = exchange.prepared
            if not refused:
                if prepared is not None and answer.status < HTTPStatus.BAD_REQUEST:
                    self._compression.accepted(prepared)
                return await self._relay(request, exchange, answer)
        exchange.refuse(answer.status)
        exchange.send()
        async with way.send(original) as answer:
            exchange.hear()
            # Refused all the same: then the edits were not at fault.  429 and 500 say nothing.
            if prepared is not None and answer.status < HTTPStatus.BAD_REQUEST:
                await self._compression.refused(prepared)
            return await self._relay(request, exchange, answer)

    async def _relay(
        self, request: web.Request, exchange: Exchange, answer: Answer
    ) -> web.StreamResponse:
        """Give the caller the answer as it comes, until one side or the other ends it."""
        exchange.watch(answer)
        see = exchange.pass_on
        if exchange.source is not None and exchange.endpoint is not None:
            answer = replace(answer, chunks=seen(answer.chunks, exchange.observe), begun=False)
            see = exchange.count
            exchange.recovery = Recovery(exchange.source, self._compression.work, exchange.endpoint)
            answer = await exchange.recovery.of(answer)
        headers = forwarded_response(answer.headers, own=exchange.headers())
        response = Relayed(answer.status, answer.reason, headers)
        exchange.status = answer.status
        if self._history.shared and exchange.taken:
            self._clerk.note(partial(exchange.note, self._history))
        try:
            await relay(request, response, answer, see)
        except UpstreamError:
            exchange.ended = Ended.UPSTREAM_LOST
        except ConnectionError:
            exchange.ended = Ended.CALLER_GONE
        return response

    async def _apologise(
        self, request: web.Request, exchange: Exchange, error: Exception
    ) -> web.StreamResponse:
        """Say what went wrong in OpenAI's words, where the caller has not had an answer yet."""
        exchange.ended, status, code = _verdict(request, error)
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            self._log.error("fault", type=type(error).__name__, request_id=exchange.request_id)
        if exchange.status is not None:
            abort(request)
        message = str(error) if isinstance(error, LaconicError) else type(error).__name__
        response = own_error(status, message, code, exchange.headers())
        exchange.status = exchange.status or status
        try:
            await response.prepare(request)
            await response.write_eof()
        except ConnectionError:
            exchange.ended = Ended.CALLER_GONE
        return response


def _verdict(request: web.Request, error: Exception) -> tuple[Ended, int, str]:
    """Tell whose end it is, and the status and code that say so."""
    match error:
        case CallerError() | LoopDetected():
            return Ended.ERROR, error.status, error.code
        case web.RequestPayloadError():
            return Ended.ERROR, HTTPStatus.BAD_REQUEST, "invalid_request"
        case ConnectionError() if request.transport is None:
            return Ended.CALLER_GONE, HTTPStatus.BAD_REQUEST, "caller_gone"
        case UpstreamTimeout():
            return Ended.UPSTREAM_LOST, HTTPStatus.GATEWAY_TIMEOUT, "upstream_timeout"
        case UpstreamError():
            return Ended.UPSTREAM_LOST, HTTPStatus.BAD_GATEWAY, "upstream_unavailable"
        case _:
            return Ended.ERROR, HTTPStatus.INTERNAL_SERVER_ERROR, "proxy_error"


def _looks(request: web.Request) -> tuple[Look, str]:
    """Return what a request looks like, and the hops that came with it."""
    length = request.headers.get(hdrs.CONTENT_LENGTH, "")
    return (request.method, request.raw_path, length), request.headers.get(HOP_HEADER, "")


def _query(request: web.Request, exchange: Exchange) -> RouteQuery:
    """Return what routes look at where the body is not read."""
    return RouteQuery(exchange.path, None, request.headers, exchange.api_key, exchange.guest.key)


async def _whole(request: web.Request, exchange: Exchange, limit_bytes: int) -> bytes:
    """Read the body.  Raises BodyTooLarge, before reading where its length is announced."""
    if (request.content_length or 0) > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    chunks: list[bytes] = []
    while not request.content.at_eof():
        chunk = await request.content.readany()
        chunks.append(chunk)
        exchange.take(chunk)
        if exchange.bytes_in > limit_bytes:
            raise BodyTooLarge(limit_bytes)
    return b"".join(chunks)


def _passing(request: web.Request, exchange: Exchange, headers: Headers) -> Streamed | None:
    """Give the body as it comes, framed as it came."""
    if not request.body_exists:
        return None
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), None)
    return Streamed(_counted(request, exchange), length)


async def _counted(request: web.Request, exchange: Exchange) -> AsyncIterator[bytes]:
    async for chunk in request.content.iter_any():
        exchange.take(chunk)
        yield chunk
