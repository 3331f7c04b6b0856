"""A caller that hangs up, at whatever moment: the upstream hears of it, no work is left over."""

import asyncio
import threading
from concurrent.futures import Future

import pytest
from house import InstantEngine, house
from servers import (
    CHAT,
    JSON,
    PATIENCE_S,
    SSE,
    answer,
    chat,
    chunk,
    connected,
    request_bytes,
    upstream,
)

from proxy.ledger import Ended

ASKED = "keep xdrop this"
SOON_S = 0.5  # within which a hang-up must reach the upstream
CHUNKED = ("Transfer-Encoding", "chunked")
ENDPOINTS = {
    "chat": (CHAT, b'{"messages": [{"role": "user", "content": "keep xdrop"}], "stream": %s}'),
    "responses": ("/v1/responses", b'{"input": "keep xdrop", "stream": %s}'),
    "completions": ("/v1/completions", b'{"prompt": "keep xdrop", "stream": %s}'),
    "passing": ("/v1/files", b'{"stream": %s}'),
}
streamed_or_not = pytest.mark.parametrize("stream", [b"true", b"false"], ids=["stream", "whole"])
everywhere = pytest.mark.parametrize("endpoint", ENDPOINTS)
politely_or_not = pytest.mark.parametrize("politely", [True, False], ids=["close", "reset"])


def request_of(endpoint, stream):
    target, body = ENDPOINTS[endpoint]
    return request_bytes("POST", target, body % stream, [JSON])


async def silent(seen, wire):
    await wire.closed.wait()


async def endless(seen, wire):
    """A chunk of an event and no more."""
    await wire.send(answer(200, b"", headers=[SSE, CHUNKED], length=False))
    await wire.send(chunk(b"data: 1\n\n"))
    await wire.closed.wait()


async def half_way(seen, wire):
    """Half of what was promised: of a chunk, or of a length."""
    if b"true" in seen.body:
        await wire.send(answer(200, b"", headers=[SSE, CHUNKED], length=False) + b"99\r\nhalf")
    else:
        await wire.send(answer(200, b"half", headers=[("Content-Length", "99")], length=False))
    await wire.closed.wait()


def hang_up(wire, *, politely):
    if politely:
        wire.writer.close()
    else:
        wire.hang_up()


# -- while uploading -------------------------------------------------------------------------------


@streamed_or_not
@politely_or_not
@pytest.mark.parametrize("endpoint", ["chat", "responses", "completions"])
async def test_during_the_upload_of_a_text_nothing_has_left_yet(endpoint, stream, politely):
    async with upstream() as far, house(far) as home, connected(home.port) as wire:
        await wire.send(request_of(endpoint, stream)[:-4])
        await asyncio.sleep(0.05)
        hang_up(wire, politely=politely)
        entry = await asyncio.wait_for(home.ledger.entry(), SOON_S)
    assert (entry.ended, entry.status, far.connections) == (Ended.CALLER_GONE, None, 0)


@streamed_or_not
@politely_or_not
async def test_during_an_upload_that_passes_the_upstream_hears_of_it(stream, politely):
    async with upstream() as far, house(far) as home, connected(home.port) as wire:
        await wire.send(request_of("passing", stream)[:-4])
        async with asyncio.timeout(PATIENCE_S):
            while not far.connections:  # noqa: ASYNC110 - the upstream counts, no more
                await asyncio.sleep(0.01)
        hang_up(wire, politely=politely)
        await asyncio.wait_for(far.hung_up.wait(), SOON_S)
        entry = await home.ledger.entry()
    assert (entry.ended, entry.status) == (Ended.CALLER_GONE, None)
    assert far.seen == [] or not far.last.complete


# -- while the model is waited for -----------------------------------------------------------------


class Never(InstantEngine):
    """Takes what is asked, and answers nobody."""

    def __init__(self):
        super().__init__()
        self.asked, self.answer, self.dropped = asyncio.Event(), Future(), asyncio.Event()
        self.answer.add_done_callback(lambda _: self.dropped.set())

    def submit(self, request, *, within_s=None):
        self.asked.set()
        return self.answer


@streamed_or_not
@politely_or_not
@pytest.mark.parametrize("endpoint", ["chat", "responses", "completions"])
async def test_while_queued_the_work_is_dropped(endpoint, stream, politely):
    async with upstream() as far, house(far, engine=Never()) as home, connected(home.port) as wire:
        await wire.send(request_of(endpoint, stream))
        await asyncio.wait_for(home.engine.asked.wait(), PATIENCE_S)
        hang_up(wire, politely=politely)
        await asyncio.wait_for(home.engine.dropped.wait(), SOON_S)
        entry = await home.ledger.entry()
    assert (entry.ended, entry.status, far.connections) == (Ended.CALLER_GONE, None, 0)
    assert home.engine.answer.cancelled()


async def test_while_submitting_the_work_is_dropped():
    class Slow(InstantEngine):
        def __init__(self):
            super().__init__()
            self.asked, self.go = threading.Event(), threading.Event()
            self.answer = Future()

        def submit(self, request, *, within_s=None):
            self.asked.set()
            assert self.go.wait(PATIENCE_S)
            return self.answer

    body = chat("word " * 2_000)  # so large that a thread submits it
    async with upstream() as far, house(far, engine=Slow()) as home, connected(home.port) as wire:
        await wire.send(request_bytes("POST", CHAT, body, [JSON]))
        assert await asyncio.to_thread(home.engine.asked.wait, PATIENCE_S)
        wire.hang_up()
        entry = await home.ledger.entry()
        dropped = threading.Event()
        home.engine.answer.add_done_callback(lambda _: dropped.set())
        home.engine.go.set()
        assert await asyncio.to_thread(dropped.wait, PATIENCE_S)
    assert home.engine.answer.cancelled()
    assert (entry.ended, far.seen) == (Ended.CALLER_GONE, [])


# -- while the upstream answers --------------------------------------------------------------------


@streamed_or_not
@politely_or_not
@everywhere
async def test_before_the_first_byte_the_upstream_hears_of_it(endpoint, stream, politely):
    async with upstream(silent) as far, house(far) as home, connected(home.port) as wire:
        await wire.send(request_of(endpoint, stream))
        await asyncio.wait_for(far.arrived.wait(), PATIENCE_S)
        hang_up(wire, politely=politely)
        await asyncio.wait_for(far.hung_up.wait(), SOON_S)
        entry = await home.ledger.entry()
    assert (entry.ended, entry.status) == (Ended.CALLER_GONE, None)


@streamed_or_not
@politely_or_not
@everywhere
async def test_between_chunks_the_upstream_hears_of_it(endpoint, stream, politely):
    async with upstream(endless) as far, house(far) as home, connected(home.port) as wire:
        await wire.send(request_of(endpoint, stream))
        await wire.until(b"data: 1\n\n")
        hang_up(wire, politely=politely)
        await asyncio.wait_for(far.hung_up.wait(), SOON_S)
        entry = await home.ledger.entry()
    assert (entry.ended, entry.status, entry.bytes_out) == (Ended.CALLER_GONE, 200, 9)


@streamed_or_not
@politely_or_not
@everywhere
async def test_in_the_middle_of_a_body_the_upstream_hears_of_it(endpoint, stream, politely):
    async with upstream(half_way) as far, house(far) as home, connected(home.port) as wire:
        await wire.send(request_of(endpoint, stream))
        await wire.until(b"half")
        hang_up(wire, politely=politely)
        await asyncio.wait_for(far.hung_up.wait(), SOON_S)
        entry = await home.ledger.entry()
    assert (entry.ended, entry.status, entry.bytes_out) == (Ended.CALLER_GONE, 200, 4)


async def test_every_exchange_is_written_when_the_server_stops():
    async with upstream(endless) as far:
        async with house(far) as home, connected(home.port) as wire:
            await wire.send(request_bytes("POST", CHAT, chat(ASKED, stream=True), [JSON]))
            await wire.until(b"data: 1\n\n")
            wire.hang_up()
        assert len(home.ledger.entries) == 1
