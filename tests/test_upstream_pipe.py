"""A connection taken over from aiohttp: bytes in, bytes out, and its end."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiohttp.base_protocol import BaseProtocol
from servers import PATIENCE_S, Wire

from proxy.upstream import Pipe


class Line(BaseProtocol):
    """A protocol as aiohttp's own two are after a 101: all that comes goes to the parser."""

    def __init__(self):
        super().__init__(asyncio.get_running_loop())
        self._upgraded = True

    def set_parser(self, parser):
        self.parser = parser

    def data_received(self, data):
        assert self.parser.feed_data(data) == (False, b"")

    def connection_lost(self, exc):
        super().connection_lost(exc)
        self.parser.feed_eof()


@asynccontextmanager
async def joined():
    """A pipe, and the peer at its other end."""
    peers = asyncio.Queue()

    async def meet(reader, writer):
        await peers.put(Wire(reader, writer))

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    line = Line()
    port = server.sockets[0].getsockname()[1]
    await asyncio.get_running_loop().create_connection(lambda: line, "127.0.0.1", port)
    pipe, peer = Pipe(line, line.set_parser), await peers.get()
    try:
        yield pipe, peer
    finally:
        pipe.close()
        await peer.close()
        server.close()
        await server.wait_closed()


async def test_what_is_written_arrives_and_what_comes_is_read():
    async with joined() as (pipe, peer):
        pipe.put(b"there")
        await pipe.drain()
        assert await peer.exactly(5) == b"there"
        await peer.send(b"back")
        assert await pipe.read() == b"back"
        assert pipe.read_nowait() == b""
        assert not pipe.over


async def test_a_close_comes_after_what_was_written():
    data = bytes(range(250)) * 40_000
    async with joined() as (pipe, peer):
        pipe.put(data)
        pipe.close()
        assert await peer.rest() == data


async def test_a_close_does_not_wait_for_ever():
    async with joined() as (pipe, peer):
        peer.paused.clear()
        pipe.put(bytes(50_000_000))
        pipe.close(linger_s=0.05)
        assert await asyncio.wait_for(pipe.read(), PATIENCE_S) == b""


async def test_after_its_end_nothing_is_written():
    async with joined() as (pipe, _):
        pipe.close()
        with pytest.raises(ConnectionError):
            pipe.put(b"late")
        assert await asyncio.wait_for(pipe.read(), PATIENCE_S) == b""
        assert pipe.over
        pipe.close()


async def test_the_peers_end_is_told_after_its_last_words():
    async with joined() as (pipe, peer):
        await peer.send(b"last words")
        peer.writer.close()
        assert await asyncio.wait_for(pipe.read(), PATIENCE_S) == b"last words"
        assert await asyncio.wait_for(pipe.read(), PATIENCE_S) == b""
        assert pipe.over


async def test_what_nobody_reads_holds_the_peer_up():
    async with joined() as (_, peer):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(peer.send(bytes(50_000_000)), 0.5)
