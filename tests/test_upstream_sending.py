"""One request over one connection: what a kept one may have come to, and what ends early."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from servers import PATIENCE_S, answer, replies, upstream

from proxy.errors import UpstreamUnavailable
from proxy.upstream import Outgoing, Streamed, Upstream
from proxy.upstream.messages import head_of


async def ask(near, message):
    async with near.send(message) as reply:
        return reply.status, b"".join([piece async for piece in reply.chunks])


async def forgets(seen, wire):
    """Take the request over a kept connection and close it without a word."""
    wire.writer.close()


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_what_may_be_repeated_is_where_a_kept_connection_was_closed(method):
    async with upstream(replies(200, b""), forgets, replies(200, b"")) as far, Upstream() as near:
        await ask(near, Outgoing(method, far.url + "/", ()))
        status, _ = await ask(near, Outgoing(method, far.url + "/again", ()))
    assert (status, [seen.target for seen in far.seen]) == (200, ["/", "/again", "/again"])


async def test_it_is_repeated_once():
    async with upstream(forgets) as far, Upstream() as near:
        with pytest.raises(UpstreamUnavailable):
            await ask(near, Outgoing("GET", far.url + "/", ()))
    assert len(far.seen) == 2


async def pieces(*parts):
    for part in parts:
        yield part


@pytest.mark.parametrize(
    ("method", "body"),
    [("POST", b"{}"), ("PATCH", None), ("PUT", Streamed(pieces(b"once"), None))],
)
async def test_what_may_not_be_repeated_is_sent_once(method, body):
    async with upstream(replies(200), forgets) as far, Upstream() as near:
        await ask(near, Outgoing("GET", far.url + "/", ()))
        with pytest.raises(UpstreamUnavailable):
            await ask(near, Outgoing(method, far.url + "/", (), body))
    assert len(far.seen) == 2


@asynccontextmanager
async def hasty(reply):
    """A server that answers as soon as it has seen the headers, and reads no body."""
    connections = []

    async def serve(reader, writer):
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], connections
    finally:
        for writer in connections:
            writer.close()
        server.close()


async def test_an_answer_ahead_of_the_bodys_end_is_given_and_its_connection_is_not_kept():
    begun, over = asyncio.Event(), asyncio.Event()

    async def endless():
        begun.set()
        try:
            yield b"the beginning"
            await asyncio.Event().wait()
        finally:
            over.set()

    refusal = answer(413, b"too large")
    async with hasty(refusal) as (port, connections), Upstream() as near:
        url = f"http://127.0.0.1:{port}/"
        assert await ask(near, Outgoing("POST", url, (), Streamed(endless(), None))) == (
            413,
            b"too large",
        )
        await asyncio.wait_for(asyncio.gather(begun.wait(), over.wait()), PATIENCE_S)
        assert await ask(near, Outgoing("GET", url, ())) == (413, b"too large")
        assert len(connections) == 2


async def test_a_body_that_breaks_off_ends_the_request():
    async def breaks_off():
        yield b"half"
        raise ConnectionResetError("the caller is gone")

    async with upstream() as far, Upstream() as near:
        with pytest.raises(UpstreamUnavailable, match="ConnectionResetError"):
            await ask(near, Outgoing("POST", far.url + "/", (), Streamed(breaks_off(), 8)))
        await asyncio.wait_for(far.hung_up.wait(), PATIENCE_S)
    assert far.seen == [] or not far.last.complete


async def test_a_body_with_a_fault_of_its_own_ends_the_request():
    async def faulty():
        yield b"half"
        raise KeyError("a secret")

    async with upstream() as far, Upstream() as near:
        with pytest.raises(UpstreamUnavailable) as raised:
            await ask(near, Outgoing("POST", far.url + "/", (), Streamed(faulty(), None)))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_no_content_is_stated_where_content_is_usual(method):
    async with upstream() as far, Upstream() as near:
        await ask(near, Outgoing(method, far.url + "/", ()))
        await ask(near, Outgoing(method, far.url + "/", (("content-length", "0"),)))
    stated = [[pair for pair in seen.headers if pair[0] != "Host"] for seen in far.seen]
    assert stated == [[("Content-Length", "0")], [("content-length", "0")]]


@pytest.mark.parametrize(
    ("method", "target", "field"),
    [
        ("GET\r\nx: y", "/", ("a", "b")),
        ("GET", "/ HTTP/1.1\nx: y\n", ("a", "b")),
        ("GET", "/", ("a\rx", "b")),
        ("GET", "/", ("a", "b\r\n\r\nGET /")),
        ("GET", "/", ("a", "b\0")),
    ],
)
def test_no_header_ends_its_line(method, target, field):
    with pytest.raises(ValueError, match="found a line's end"):
        head_of(Outgoing(method, f"http://h{target}", (field,)), target)


async def test_bytes_that_are_not_utf_8_are_sent_as_they_came():
    async with upstream() as far, Upstream() as near:
        await ask(near, Outgoing("GET", far.url + "/", (("x-l", "caf\u00e9 \udce9"),)))
    assert far.last.get("x-l") == "caf\u00e9 \udce9"
