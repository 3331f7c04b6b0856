"""WebSockets through the proxy: handshake, bytes both ways, every way to end."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import aiohttp
import pytest
from aiohttp import WSCloseCode, WSMsgType, web
from house import house
from servers import (
    PATIENCE_S,
    answer,
    call,
    connected,
    read_message,
    replies,
    request_bytes,
    upstream,
)
from test_wire_websocket import frame

from proxy.ledger import Ended

TARGET = "/v1/realtime?model=gpt-realtime&x=%2f"
OFFER = [
    ("Authorization", "Bearer sk-test"),
    ("Connection", "keep-alive, Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Protocol", "realtime, openai-beta.realtime-v1"),
    ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
    ("x-laconic-policy", "off"),
]
GRANT = [
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ("Sec-WebSocket-Protocol", "realtime"),
    ("Sec-WebSocket-Extensions", "permessage-deflate; server_no_context_takeover"),
    ("x-request-id", "req_1"),
    ("x-odd", "caf\u00e9 caf\udce9"),
]
MASK = b"\x37\xfa\x21\x3d"
CLOSE = frame(0x8, b"\x03\xe8")


def grants(then, *ahead):
    """A script that opens the WebSocket, maybe speaks at once, and goes on as told."""

    async def script(seen, wire):
        head = answer(101, b"", headers=GRANT, reason="Switching Protocols", length=False)
        await wire.send(head + b"".join(ahead))
        await then(wire)
        await wire.close()

    return script


async def until_closed(wire):
    await asyncio.wait_for(wire.closed.wait(), PATIENCE_S)


@asynccontextmanager
async def opened(script, *ahead, **options):
    """An upstream, the proxy, and a caller whose WebSocket is open; ``ahead`` was sent before."""
    async with (
        upstream(script) as far,
        house(far, **options) as home,
        connected(home.port) as wire,
    ):
        await wire.send(request_bytes("GET", TARGET, None, OFFER) + b"".join(ahead))
        got = await read_message(wire, answers="HEAD")
        yield far, home, wire, got


async def test_the_handshake_is_that_of_the_two_ends():
    async with opened(grants(until_closed)) as (far, _, wire, got):
        wire.hang_up()
        await asyncio.wait_for(far.hung_up.wait(), PATIENCE_S)
    assert (got.status, got.reason) == (101, "Switching Protocols")
    ours = [pair for pair in got.headers if not pair[0].startswith("x-laconic-")]
    assert sorted(ours) == sorted(GRANT)
    assert got.get("x-laconic-request-id")
    assert far.last.target == TARGET
    sent = [pair for pair in far.last.headers if pair[0] != "Host"]
    assert sorted(sent) == sorted([*OFFER[:1], ("Connection", "Upgrade"), *OFFER[2:-1]])


MESSAGES = [
    frame(0x1, "größer".encode(), mask=MASK),
    frame(0x1, b"frag", mask=MASK, final=False),
    frame(0x9, b"ping", mask=MASK),
    frame(0x0, b"ment", mask=MASK),
    frame(0x2, bytes(range(256)) * 300, mask=MASK),
    b"\xc1\x83" + MASK + b"abc",  # compressed, by its reserved bit
    frame(0xA, b"pong", mask=MASK),
]


async def test_whatever_is_said_arrives_as_it_left():
    said = b"".join(MESSAGES)

    async def echo(wire):
        heard = await wire.exactly(len(said))
        await wire.send(heard)
        assert await wire.exactly(len(CLOSE) + 4) == frame(0x8, b"\x03\xe8", mask=MASK)
        await wire.send(CLOSE)

    async with opened(grants(echo)) as (_, home, wire, _):
        for message in MESSAGES:
            await wire.send(message)
        assert await wire.exactly(len(said)) == said
        await wire.send(frame(0x8, b"\x03\xe8", mask=MASK))
        assert await wire.rest() == CLOSE
        entry = await home.ledger.entry()
    assert (entry.status, entry.ended, entry.method) == (101, Ended.COMPLETE, "GET")
    assert entry.path == "/v1/realtime"
    assert (entry.bytes_in, entry.bytes_out) == (len(said) + len(CLOSE) + 4, len(said) + len(CLOSE))


async def test_what_is_said_together_with_the_handshake_is_not_lost():
    first, reply = frame(0x1, b"early", mask=MASK), frame(0x1, b"at once")

    async def hear(wire):
        assert await wire.exactly(len(first)) == first
        await wire.send(CLOSE)

    async with opened(grants(hear, reply), first) as (_, _, wire, _):
        assert await wire.rest() == reply + CLOSE


async def test_silence_is_no_fault():
    async def echo(wire):
        await wire.send(await wire.exactly(9))
        await wire.closed.wait()

    async with opened(grants(echo), read_timeout_s=0.05) as (_, _, wire, _):
        await asyncio.sleep(0.2)
        await wire.send(frame(0x1, b"abc", mask=MASK))
        assert await wire.exactly(9) == frame(0x1, b"abc", mask=MASK)


@pytest.mark.parametrize("status", [1000, 1001, 4000, 4999])
async def test_close_codes_arrive(status):
    goodbye = frame(0x8, status.to_bytes(2, "big") + b"because")

    async def leave(wire):
        await wire.send(goodbye)
        await wire.exactly(len(goodbye) + 4)

    async with opened(grants(leave)) as (_, home, wire, _):
        assert await wire.exactly(len(goodbye)) == goodbye
        await wire.send(frame(0x8, status.to_bytes(2, "big") + b"because", mask=MASK))
        await until_closed(wire)
        entry = await home.ledger.entry()
    assert entry.ended is Ended.COMPLETE


async def test_a_caller_that_closes_first_after_both_goodbyes_is_no_loss():
    async def reply(wire):
        await wire.exactly(len(CLOSE) + 4)
        await wire.send(CLOSE)
        await wire.closed.wait()

    async with opened(grants(reply)) as (far, home, wire, _):
        await wire.send(frame(0x8, b"\x03\xe8", mask=MASK))
        assert await wire.exactly(len(CLOSE)) == CLOSE
        await wire.close()
        await asyncio.wait_for(far.hung_up.wait(), PATIENCE_S)
        entry = await home.ledger.entry()
    assert (entry.ended, len(home.ledger.entries)) == (Ended.COMPLETE, 1)


LAST_WORDS = frame(0x2, bytes(range(250)) * 10_000) + frame(0x1, b"half of a long mess")[:-4]


async def test_of_an_upstream_that_is_lost_the_caller_hears_the_last_words_and_no_goodbye():
    async def vanish(wire):
        await wire.send(LAST_WORDS)

    async with opened(grants(vanish)) as (_, home, wire, _):
        assert await wire.rest() == LAST_WORDS
        entry = await home.ledger.entry()
    assert (entry.ended, entry.bytes_out) == (Ended.UPSTREAM_LOST, len(LAST_WORDS))


async def test_of_a_caller_that_is_lost_the_upstream_hears_the_last_words_and_no_goodbye():
    heard = []

    async def hear(wire):
        heard.append(await wire.rest())

    async with opened(grants(hear)) as (far, home, wire, _):
        await wire.send(LAST_WORDS)
        wire.writer.close()
        await asyncio.wait_for(far.hung_up.wait(), PATIENCE_S)
        entry = await home.ledger.entry()
    assert heard == [LAST_WORDS]
    assert (entry.ended, entry.status) == (Ended.CALLER_GONE, 101)
    assert entry.bytes_in == len(LAST_WORDS)


async def test_a_caller_that_says_goodbye_and_does_not_wait_is_no_loss():
    goodbye = frame(0x8, b"\x03\xe8", mask=MASK)
    heard = []

    async def hear(wire):
        heard.append(await wire.rest())

    async with opened(grants(hear)) as (far, home, wire, _):
        await wire.send(goodbye)
        wire.writer.close()
        await asyncio.wait_for(far.hung_up.wait(), PATIENCE_S)
        entry = await home.ledger.entry()
    assert (heard, entry.ended) == ([goodbye], Ended.COMPLETE)


async def test_a_caller_that_hangs_up_is_gone():
    async with opened(grants(until_closed)) as (far, home, wire, _):
        wire.hang_up()
        await asyncio.wait_for(far.hung_up.wait(), PATIENCE_S)
        entry = await home.ledger.entry()
    assert entry.ended is Ended.CALLER_GONE


async def test_a_refused_handshake_is_an_answer_like_any_other():
    script = replies(401, b'{"error": {}}', headers=[("x-request-id", "r")], reason="No")
    async with opened(script) as (far, home, wire, got):
        assert (got.status, got.reason, got.get("x-request-id")) == (401, "No", "r")
        assert await wire.exactly(13) == b'{"error": {}}'
        await wire.send(request_bytes("GET", "/v1/models", None))  # the connection is still in step
        assert (await read_message(wire, answers="HEAD")).status == 401
        entry = await home.ledger.entry()
    assert (entry.status, entry.ended) == (401, Ended.COMPLETE)
    assert [seen.target for seen in far.seen] == [TARGET, "/v1/models"]


async def test_no_upstream_is_our_answer():
    async with house("http://127.0.0.1:1") as home:
        got = await call(home.port, "GET", TARGET, None, OFFER)
    assert (got.status, got.get("x-laconic-origin")) == (502, "proxy")


class Flood:
    """Sends frames until nobody takes them: sockets hold some, the proxy next to none."""

    MOST = 500_000_000

    def __init__(self):
        self.sent_bytes = 0
        self.stuck = asyncio.Event()

    async def into(self, wire):
        message = frame(0x2, bytes(100_000), mask=MASK)
        with suppress(TimeoutError):
            while self.sent_bytes < self.MOST:
                await asyncio.wait_for(wire.send(message), 0.5)
                self.sent_bytes += len(message)
        self.stuck.set()


async def test_a_slow_upstream_holds_the_caller_up():
    flood, done = Flood(), asyncio.Event()

    async def reads_nothing(wire):
        wire.paused.clear()
        await done.wait()

    async with opened(grants(reads_nothing)) as (_, _, wire, _):
        await flood.into(wire)
        done.set()
    assert flood.sent_bytes < flood.MOST / 2


async def test_a_slow_caller_holds_the_upstream_up():
    flood = Flood()
    async with opened(grants(flood.into)) as (_, _, wire, _):
        wire.paused.clear()
        await asyncio.wait_for(flood.stuck.wait(), 2 * PATIENCE_S)
    assert flood.sent_bytes < flood.MOST / 2


async def test_what_was_held_up_arrives_whole():
    message = frame(0x2, bytes(range(250)) * 40_000, mask=MASK)
    done = asyncio.Event()

    async def sleeps_first(wire):
        wire.paused.clear()
        await done.wait()
        wire.paused.set()
        await wire.send(await wire.exactly(len(message)))
        await wire.send(CLOSE)

    async with opened(grants(sleeps_first)) as (_, _, wire, _):
        wire.paused.clear()
        sending = asyncio.create_task(wire.send(message))
        await asyncio.sleep(0.05)
        done.set()
        await sending
        wire.paused.set()
        assert await wire.rest() == message + CLOSE


# -- when Laconic stops ---------------------------------------------------------------------------


@asynccontextmanager
async def stopping(script):
    """A caller whose WebSocket is open; what is awaited from ``stop`` is Laconic's own end."""
    async with upstream(script) as far, AsyncExitStack() as stack:
        home = await stack.enter_async_context(house(far))
        async with connected(home.port) as wire:
            await wire.send(request_bytes("GET", TARGET, None, OFFER))
            await read_message(wire, answers="HEAD")
            yield home, wire, stack.aclose


async def test_both_ends_are_told_when_laconic_stops():
    far_heard = []

    async def hear(wire):
        await wire.closed.wait()
        far_heard.append(wire.take(len(wire.buffer)))

    async with stopping(grants(hear)) as (home, wire, stop):
        async with asyncio.timeout(PATIENCE_S):
            await stop()
        near_heard = await wire.rest()
    assert near_heard == frame(0x8, b"\x03\xe9")
    [goodbye] = far_heard
    assert goodbye == frame(0x8, b"\x03\xe9", mask=goodbye[2:6])
    assert [entry.ended for entry in home.ledger.entries] == [Ended.COMPLETE]


async def test_a_goodbye_never_lands_inside_a_frame():
    half = frame(0x2, bytes(1000))[:-10]

    async def speaks(wire):
        await wire.send(half)
        await wire.closed.wait()

    async with stopping(grants(speaks)) as (_, wire, stop):
        assert await wire.exactly(len(half)) == half
        async with asyncio.timeout(PATIENCE_S):
            await stop()
        assert await wire.rest() == b""


# -- with real clients and servers ----------------------------------------------------------------


@asynccontextmanager
async def serving(handler):
    """A WebSocket server of aiohttp's on loopback; gives its base URL."""
    app = web.Application()
    app.router.add_get("/v1/realtime", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("compress", [0, 15])
async def test_client_and_server_agree_on_compression_between_themselves(compress):
    seen = {}

    async def echo(request):
        server = web.WebSocketResponse(protocols=("realtime",))
        await server.prepare(request)
        seen["compress"], seen["protocol"] = server.compress, server.ws_protocol
        async for message in server:
            if message.type is WSMsgType.TEXT:
                await server.send_str(message.data[::-1])
            else:
                await server.send_bytes(message.data)
        seen["code"] = server.close_code
        return server

    async with serving(echo) as far, house(far) as home, aiohttp.ClientSession() as session:
        url = f"ws://127.0.0.1:{home.port}/v1/realtime"
        async with session.ws_connect(url, protocols=("realtime",), compress=compress) as client:
            assert (client.compress, client.protocol) == (compress, "realtime")
            await client.send_str("größer" * 10_000)
            assert (await client.receive()).data == "größer"[::-1] * 10_000
            await client.send_bytes(bytes(3_000_000))
            assert (await client.receive()).data == bytes(3_000_000)
            await client.ping(b"are you there?")
            await client.close(code=4321)
        entry = await home.ledger.entry()
    assert seen == {"compress": compress, "protocol": "realtime", "code": 4321}
    assert (entry.ended, entry.status) == (Ended.COMPLETE, 101)
    small = entry.bytes_out < 300_000
    assert small is bool(compress)


async def test_an_aiohttp_server_that_goes_away_says_so_to_the_client():
    async def leave(request):
        server = web.WebSocketResponse()
        await server.prepare(request)
        await server.close(code=WSCloseCode.GOING_AWAY, message=b"restart")
        return server

    async with (
        serving(leave) as far,
        house(far) as home,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"ws://127.0.0.1:{home.port}/v1/realtime") as client,
    ):
        message = await client.receive()
    assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 1001, "restart")
