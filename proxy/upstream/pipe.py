"""A connection that has left HTTP behind: bytes in, bytes out, with back-pressure both ways.

aiohttp lends its connections to whoever speaks WebSocket on them: after a 101, a parser is set on
the protocol of the connection and gets what comes in.  This parser parses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import StreamWriter

BUFFER_BYTES: Final = 64 * 1024
"""What may wait to be read: twice as much pauses the peer."""


class Pipe:
    """Either end of a tunnel."""

    def __init__(self, protocol: BaseProtocol, set_parser: Callable[[Any], None]) -> None:
        """Take a connection over; ``set_parser`` is its protocol's, which gives what came ahead."""
        loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._reader = StreamReader(protocol, BUFFER_BYTES, loop=loop)
        self._writer = StreamWriter(protocol, loop)
        set_parser(_Feed(self._reader))

    @property
    def over(self) -> bool:
        """Whether the peer has closed or lost the connection."""
        return self._reader.is_eof()

    async def read(self) -> bytes:
        """Return what has come, some of it at least; nothing at the end, whatever ended it."""
        return await self._reader.readany()

    async def write(self, data: bytes) -> None:
        """Send, and wait while the peer holds back.  Raises ConnectionError."""
        self.put(data)
        await self._writer.drain()

    def put(self, data: bytes) -> None:
        """Send, however much waits already.  Raises ConnectionError."""
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the connection is closed")
        transport.write(data)

    def close(self) -> None:
        """Close the connection, once all that was written is sent."""
        if self._protocol.transport is not None:
            self._protocol.transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._protocol.transport is not None:
            self._protocol.transport.abort()


class _Feed:
    """A parser, as aiohttp's protocols know them, that gives the bytes as they are."""

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._reader.feed_data(data)
        return False, b""

    def feed_eof(self) -> None:
        self._reader.feed_eof()
