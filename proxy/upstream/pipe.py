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

LINGER_S: Final = 5.0
"""How long what was written may take to leave, once the connection is to be closed."""


class Pipe:
    """Either end of a tunnel."""

    def __init__(self, protocol: BaseProtocol, set_parser: Callable[[Any], None]) -> None:
        """Take a connection over; ``set_parser`` is its protocol's, which gives what came ahead."""
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._reader = StreamReader(protocol, BUFFER_BYTES, loop=self._loop)
        self._writer = StreamWriter(protocol, self._loop)
        set_parser(_Feed(self._reader))

    @property
    def over(self) -> bool:
        """Whether the peer has closed or lost the connection."""
        return self._reader.is_eof()

    async def read(self) -> bytes:
        """Return what has come, some of it at least; nothing at the end, whatever ended it."""
        return await self._reader.readany()

    def read_nowait(self) -> bytes:
        """Return what has come and was not read; nothing where nothing has."""
        return self._reader.read_nowait()

    async def drain(self) -> None:
        """Wait while the peer holds back.  Raises ConnectionError."""
        await self._writer.drain()

    def put(self, data: bytes) -> None:
        """Send, however much waits already.  Raises ConnectionError."""
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the connection is closed")
        transport.write(data)

    def close(self, linger_s: float = LINGER_S) -> None:
        """Close the connection once all that was written is sent, or after ``linger_s``."""
        transport = self._protocol.transport
        if transport is None:
            return
        transport.close()
        if transport.get_write_buffer_size():
            self._loop.call_later(linger_s, transport.abort)


class _Feed:
    """A parser, as aiohttp's protocols know them, that gives the bytes as they are."""

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._reader.feed_data(data)
        return False, b""

    def feed_eof(self) -> None:
        self._reader.feed_eof()
