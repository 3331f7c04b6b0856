"""Where an answer ends by its own framing it is whole, whatever follows it over its connection."""

import asyncio

import pytest
from servers import answer, chunk, replies, upstream

from proxy.errors import UpstreamUnavailable
from proxy.upstream import Outgoing, Upstream
from proxy.upstream.answers import AnswerHandler

CHUNKED = answer(body=b"", headers=[("Transfer-Encoding", "chunked")], length=False)
ANSWERS = {
    "a length": ("POST", answer(200, b"whole"), 200, b"whole"),
    "a length of none": ("POST", answer(200, b""), 200, b""),
    "chunks": ("POST", CHUNKED + chunk(b"wh") + chunk(b"ole") + b"0\r\n\r\n", 200, b"whole"),
    "blank chunks": ("POST", CHUNKED + chunk(b"a\r\n\r\n") + b"0\r\n\r\n", 200, b"a\r\n\r\n"),
    "chunks and trailers": (
        "POST",
        CHUNKED + chunk(b"whole") + b"0\r\nx-t: caf\xe9\r\nx-u: \r\n\r\n",
        200,
        b"whole",
    ),
    "lines that end bare": ("POST", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nwhole", 200, b"whole"),
    "an interim answer": (
        "POST",
        b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" + answer(200, b"whole"),
        200,
        b"whole",
    ),
    "no content": ("DELETE", answer(204, b"", length=False), 204, b""),
    "not modified": ("GET", answer(304, b"", length=False), 304, b""),
    "a head": ("HEAD", answer(200, b"", length=False, headers=[("Content-Length", "5")]), 200, b""),
}
SURPLUS = {
    "a byte": b"X",
    "a zero": b"\0",
    "a blank line": b"\r\n",
    "half a blank line": b"\r",
    "a bare line's end": b"\n",
    "a body": b"whole",
    "the beginning of another answer": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX-Not: ",
    "another answer": answer(200, b"smuggled"),
    "an answer that is broken": answer(200, b"smuggled") + b"X",
    "trailers": b"x-t: 1\r\n\r\n",
}


def says(*packets):
    """A script that sends what it is given in packets of their own."""

    async def script(seen, wire):
        for packet in packets:
            await wire.send(packet)
            await asyncio.sleep(0.01 if len(packets) > 1 else 0)

    return script


async def ask(near, method, url):
    async with near.send(Outgoing(method, url, ())) as reply:
        return reply.status, b"".join([piece async for piece in reply.chunks])


async def ask_twice(method, *packets):
    """What two requests are answered, the first in these packets, and over how many connections."""
    async with upstream(says(*packets), replies(200, b"second")) as far, Upstream() as near:
        first = await ask(near, method, far.url + "/")
        second = await ask(near, "POST", far.url + "/")
    return first, second, far.connections


@pytest.mark.parametrize("surplus", SURPLUS)
@pytest.mark.parametrize("framing", ANSWERS)
async def test_an_answer_is_whole_whatever_follows_it_in_its_packet(framing, surplus):
    method, sent, status, body = ANSWERS[framing]
    assert await ask_twice(method, sent + SURPLUS[surplus]) == (
        (status, body),
        (200, b"second"),
        2,
    )


@pytest.mark.parametrize("framing", ANSWERS)
async def test_a_connection_over_which_nothing_more_came_is_used_again(framing):
    method, sent, status, body = ANSWERS[framing]
    assert await ask_twice(method, sent) == ((status, body), (200, b"second"), 1)


@pytest.mark.parametrize("surplus", ["", *SURPLUS])
@pytest.mark.parametrize("framing", ["a length", "chunks", "chunks and trailers"])
@pytest.mark.parametrize("last", [1, 2, 4, 9])
async def test_the_end_of_an_answer_may_come_in_a_packet_of_its_own(framing, surplus, last):
    method, sent, status, body = ANSWERS[framing]
    surplus = SURPLUS.get(surplus, b"")
    assert await ask_twice(method, sent[:-last], sent[-last:] + surplus) == (
        (status, body),
        (200, b"second"),
        2 if surplus else 1,
    )


@pytest.mark.parametrize("framing", ["a length", "chunks", "an interim answer"])
async def test_a_head_may_come_in_two_packets(framing):
    method, sent, status, body = ANSWERS[framing]
    end = sent.index(b"\r\n\r\n")
    for cut in range(end - 1, end + 6):
        got = await ask_twice(method, sent[:cut], sent[cut:] + b"X")
        assert got == ((status, body), (200, b"second"), 2)


async def test_a_flood_before_an_answer_costs_its_connection_alone():
    for flood in (b"\r\n" * 9_000, b"HTTP/1.1 100 Continue\r\n\r\n" * 300):
        assert await ask_twice("POST", flood + answer(200, b"whole")) == (
            (200, b"whole"),
            (200, b"second"),
            2,
        )


async def test_a_large_answer_that_is_read_slowly_is_whole_too():
    body = bytes(range(256)) * 8_192
    for sent in (answer(200, body), CHUNKED + chunk(body) + b"0\r\n\r\n"):
        for surplus, connections in ((b"X", 2), (b"\r\n", 2), (b"", 1)):
            script = says(sent + surplus)
            async with upstream(script, replies(200, b"second")) as far, Upstream() as near:
                read = b""
                async with near.send(Outgoing("POST", far.url + "/", ())) as reply:
                    async for piece in reply.chunks:
                        read += piece
                        await asyncio.sleep(0.01)  # more has come than is held: the parser waits
                assert read == body
                assert await ask(near, "POST", far.url + "/") == (200, b"second")
            assert far.connections == connections


async def test_what_comes_unasked_over_a_kept_connection_ends_it():
    for unasked in SURPLUS.values():
        kept, sent = asyncio.Event(), asyncio.Event()

        async def says_more(seen, wire, unasked=unasked, kept=kept, sent=sent):
            await wire.send(answer(200, b"first"))
            await kept.wait()
            await wire.send(unasked)
            sent.set()

        async with upstream(says_more, replies(200, b"second")) as far, Upstream() as near:
            assert await ask(near, "POST", far.url + "/") == (200, b"first")
            kept.set()
            await sent.wait()
            for _ in range(3):  # what is in the socket is read when the loop next looks
                await asyncio.sleep(0)
            assert await ask(near, "POST", far.url + "/") == (200, b"second")
        assert far.connections == 2


async def test_what_comes_before_the_first_request_is_no_answer_to_it():
    class Closing(asyncio.Transport):
        closed = False

        def close(self):
            self.closed = True

    line = Closing()
    end = AnswerHandler(asyncio.get_running_loop())
    end.connection_made(line)
    end.data_received(answer(200, b"unasked"))
    assert (line.closed, end.is_connected()) == (True, False)


@pytest.mark.parametrize(
    "sent",
    [
        CHUNKED + b"4\r\nhalf\r\nzz\r\n",
        CHUNKED + b"zz\r\n",
        CHUNKED + chunk(b"half") + b"0\r\n no trailer\r\n\r\n",
    ],
)
async def test_an_answer_whose_framing_is_broken_in_its_first_packet_is_none(sent):
    async with upstream(says(sent)) as far, Upstream() as near:
        with pytest.raises(UpstreamUnavailable):
            async with near.send(Outgoing("POST", far.url + "/", ())):
                pass
