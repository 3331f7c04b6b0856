"""Where an upstream's answer ends, and that nothing behind it counts.

aiohttp parses a packet as one: where what stands behind an answer is none, it forgets the answer
too, though that was complete by its own framing, and where it is the beginning of one, it forgets
that there was anything.  So a head is parsed by itself here, and a connection over which more came
than an answer is closed: it is not to be told whose that is (RFC 9112, 6.3).
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.streams import EMPTY_PAYLOAD

SWITCHING: Final = 101
FINAL: Final = 200
"""The first status that is not of an interim answer."""

_BLANK_LINE = re.compile(rb"\n\r?\n")  # with the end of the line before
_FIRST_BLANK = re.compile(rb"\r?\n")  # where that came in a packet before
_CHUNKS_END = re.compile(rb"[^\r\n]\r?\n\r?\n\Z")  # one blank line, after one that is not
_END_BYTES = 5  # of the longest end
_CUTS = 64  # of one packet: interim answers, or blank lines, beyond these are a flood


class AnswerHandler(ResponseHandler):
    """aiohttp's end of a connection, which closes it at what no request asked for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin before the first request."""
        super().__init__(loop)
        self._heading = False  # whether the head of an answer is waited for
        self._asked = False  # whether it, or what follows it, is waited for
        self._body: aiohttp.StreamReader | None = None
        self._chunked = False
        self._body_bytes = 0  # with what frames them
        self._end = b""  # the last bytes that came, enough to see an end in

    def set_response_params(self, **params: Any) -> None:
        """Wait for an answer."""
        self._heading = self._asked = True
        self._body, self._body_bytes, self._end = None, 0, b""
        super().set_response_params(**params)

    def feed_data(
        self, data: tuple[RawResponseMessage, aiohttp.StreamReader], size: int = 0
    ) -> None:
        """Take the head of an answer from the parser."""
        message, body = data
        if self._heading and (message.code >= FINAL or message.code == SWITCHING):
            self._heading, self._body = False, body
            self._chunked = bool(message.chunked) and body is not EMPTY_PAYLOAD
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Take a packet; an empty one asks for what the parser holds back."""
        if data and not self._asked:
            self.close()
            return
        rest = self._parse_heads(data) if self._heading else data
        if rest or not data:
            super().data_received(rest)
        if self._body is not None and not self._upgraded:
            self._see_end(self._body, rest)

    def _parse_heads(self, data: bytes) -> bytes:
        """Parse each head up to the answer's, and return what follows."""
        start = 0
        blank = _FIRST_BLANK.match(data) or _BLANK_LINE.search(data)
        for _ in range(_CUTS):
            if blank is None:
                break
            super().data_received(data[start : blank.end()])
            start = blank.end()
            if not self._heading or self.exception() is not None:
                break
            blank = _BLANK_LINE.search(data, start - 1)
        return data[start:]

    def _see_end(self, body: aiohttp.StreamReader, came: bytes) -> None:
        """Close the connection where an answer is over and this is more than its last bytes."""
        self._body_bytes += len(came)
        if self._chunked:
            self._end = (self._end + came[-_END_BYTES:])[-_END_BYTES:]
        if not body.is_eof():
            return
        self._body, self._asked = None, False
        if self._chunked:
            exact = _CHUNKS_END.search(self._end) is not None
        else:
            exact = self._body_bytes == body.total_bytes
        if not exact:
            self.close()


class AnswerConnector(aiohttp.TCPConnector):
    """Opens connections of which each is an :class:`AnswerHandler`'s."""

    def __init__(self, **params: Any) -> None:
        """Take what aiohttp's own takes."""
        super().__init__(**params)
        self._factory = partial(_handler, loop=self._loop)


def _handler(loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    return AnswerHandler(loop)
