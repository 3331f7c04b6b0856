"""From the upstream's answer to the caller: status, headers and bytes as they come.

Back-pressure is a chain: each chunk is awaited into the caller's socket before the next is read,
and an unread upstream stops sending.  An upstream lost midway must not look like an end: the
caller's connection is aborted, so that no client takes half an answer for a whole one.
"""

from __future__ import annotations

import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11

from proxy.errors import UpstreamError
from proxy.upstream import Answer, Headers, spelt_head
from proxy.wire import BodyTooLarge, decode_body, value_of

REFUSALS = frozenset({400, 413, 422})
"""Statuses with which an upstream may refuse a body for our edits' sake."""

_REFUSAL_BYTES = 64 * 1024  # of a refusal's body that we look at
_TOO_LONG = re.compile(r"(maximum|model's) context length|available context size")
_ORIGIN = "x-laconic-origin"
_ADDED_BY_AIOHTTP = (hdrs.CONTENT_TYPE, hdrs.DATE, hdrs.SERVER)


class Relayed(web.StreamResponse):
    """A response that is somebody else's: aiohttp adds no headers of its own to it."""

    def __init__(self, status: int, reason: str, headers: Iterable[tuple[str, str]]) -> None:
        """Take the upstream's status line and the header fields to relay."""
        super().__init__(status=status, reason=reason)
        self.headers.extend(headers)
        self.absent = [name for name in _ADDED_BY_AIOHTTP if name not in self.headers]

    def hold_headers(self, *, until_first_chunk: bool) -> None:
        """Send the headers together with the first chunk: one packet, where that is there."""
        self._send_headers_immediately = not until_first_chunk

    async def _write_headers(self) -> None:
        """Write status line and headers in the bytes that came.

        aiohttp leaves out bytes that are not UTF-8 and refuses control characters; where there are
        such, the head is spelt here, and leaves by itself.  Raises ConnectionError.
        """
        if self.reason.isprintable() and all(map(str.isprintable, self.headers.values())):
            await super()._write_headers()
            return
        request = self._req
        transport = None if request is None else request.transport
        if request is None or transport is None or transport.is_closing():
            raise ConnectionResetError("the caller is gone")
        major, minor = request.version
        start = f"HTTP/{major}.{minor} {self.status} {self.reason}"
        transport.write(spelt_head(start, self.headers.items()))


async def without_additions(_request: web.Request, response: web.StreamResponse) -> None:
    """Take back what aiohttp added to a relayed response; runs on ``on_response_prepare``.

    What aiohttp answers itself (a target that is no path, an expectation that is none) is ours.
    """
    if isinstance(response, Relayed):
        for name in response.absent:
            response.headers.popall(name, None)
    elif isinstance(response, web.HTTPException):
        response.headers[_ORIGIN] = "proxy"


async def relay(
    request: web.Request, response: Relayed, answer: Answer, count: Callable[[bytes], None]
) -> None:
    """Write the answer to the caller; ``count`` sees each chunk before it is written.

    Raises UpstreamError where the upstream is lost midway, after aborting the caller's
    connection, and ConnectionError where the caller is gone.
    """
    response.hold_headers(until_first_chunk=answer.begun)
    unframed = request.version < HttpVersion11 and hdrs.CONTENT_LENGTH not in response.headers
    if unframed:
        response.force_close()
    await response.prepare(request)
    try:
        async for chunk in answer.chunks:
            count(chunk)
            await response.write(chunk)
    except UpstreamError:
        abort(request, reset=unframed)
        raise
    await response.write_eof()


def abort(request: web.Request, *, reset: bool = False) -> None:
    """Cut the caller off; where only the close marks the end, with a reset, not a clean one."""
    transport = request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    if reset and connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def refuses(answer: Answer) -> tuple[Answer, bool]:
    """Tell whether this may be a refusal of what we edited, and give an answer still whole.

    A prompt that is too long for the model is not: verbatim it would be longer still (law 8).
    """
    if answer.status not in REFUSALS:
        return answer, False
    start = bytearray()
    try:
        async for chunk in answer.chunks:
            start += chunk
            if len(start) > _REFUSAL_BYTES:
                break
    except UpstreamError:
        return answer, True
    if not _too_long(bytes(start), answer.headers):
        return answer, True
    return replace(answer, chunks=ahead(bytes(start), answer.chunks)), False


async def ahead(start: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Give what was read already, then the rest as it comes."""
    if start:
        yield start
    async for chunk in rest:
        yield chunk


def _too_long(body: bytes, headers: Headers) -> bool:
    """Tell whether an error says that the prompt is too long for the model.

    OpenAI, Azure and llama-cpp-python have a code for it, llama.cpp's server a type, vLLM and
    SGLang a sentence; older vLLM says it without the ``error`` around.
    """
    encoding = value_of(headers, "content-encoding")
    try:
        answer = json.loads(decode_body(body, encoding, limit_bytes=_REFUSAL_BYTES))
        error = answer.get("error", answer)
        code, kind, message = (error.get(name) for name in ("code", "type", "message"))
    except (ValueError, RecursionError, AttributeError, BodyTooLarge):
        return False
    named = code == "context_length_exceeded" or kind == "exceed_context_size_error"
    return named or (isinstance(message, str) and _TOO_LONG.search(message) is not None)


def own_error(status: int, message: str, code: str, headers: Headers = ()) -> web.Response:
    """Answer for ourselves, in OpenAI's envelope, marked as ours."""
    kind = "invalid_request_error" if status < 500 else "api_error"
    error: dict[str, Any] = {"message": message, "type": kind, "param": None, "code": code}
    response = web.Response(
        status=status, body=json.dumps({"error": error}).encode(), content_type="application/json"
    )
    response.headers[_ORIGIN] = "proxy"
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers[hdrs.WWW_AUTHENTICATE] = "Bearer"  # RFC 9110, 15.5.2
    for name, value in headers:
        response.headers[name] = value
    return response
