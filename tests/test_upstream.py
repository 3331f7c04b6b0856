"""The client adds nothing, changes nothing, and names what went wrong."""

import asyncio
import socket

import pytest
from servers import PATIENCE_S, answer, chunk, free_port, replies, upstream

from proxy.errors import LoopDetected, UpstreamTimeout, UpstreamUnavailable
from proxy.upstream import Limits, Outgoing, Streamed, Upstream, is_near, leads_to


async def body_of(reply):
    return b"".join([piece async for piece in reply.chunks])


async def exchange(*messages):
    """Send the messages one after another, read each answer, and give the last."""
    async with Upstream() as near:
        for message in messages:
            async with near.send(message) as reply:
                body = await body_of(reply)
    return reply, body


async def test_nothing_is_added_to_a_bare_request():
    async with upstream() as far:
        await exchange(Outgoing("GET", far.url + "/x", ()))
    assert [("Host", f"127.0.0.1:{far.port}")] == far.last.headers
    assert far.last.start == "GET /x HTTP/1.1"


async def test_headers_keep_order_repeats_and_case():
    sent = (("x-b", "2"), ("X-a", "1"), ("x-b", "3"), ("AUTHORIZATION", "Bearer k"))
    async with upstream() as far:
        await exchange(Outgoing("GET", far.url + "/", sent))
    assert far.last.headers[1:] == list(sent)


async def test_repeats_spelt_differently_are_both_sent():
    async with upstream() as far:
        await exchange(Outgoing("GET", far.url + "/", (("a-b", "1"), ("A-B", "2"))))
    assert far.last.headers[1:] == [("a-b", "1"), ("A-B", "2")]


@pytest.mark.parametrize(
    "target",
    [
        "/v1/a%2Fb%20c/%E4%BD%A0?q=%2B+a&q=&r",
        "/a/../b/./c",
        "//double//slash",
        "/x?",
        "/with%zzbad",
        "/pipe|brace{}\"quote'",
        "/%41%61",
        "/umlaut-ü",
        "/a?b?c#d",
    ],
)
async def test_the_target_is_sent_verbatim(target):
    async with upstream() as far:
        await exchange(Outgoing("GET", far.url + target, ()))
    assert far.last.target == target


async def test_a_body_in_memory_is_sent_with_its_length():
    async with upstream() as far:
        await exchange(Outgoing("POST", far.url + "/", (), b"abc"))
    assert (far.last.get("content-length"), far.last.body) == ("3", b"abc")
    assert sorted(far.last.names()) == ["Content-Length", "Host"]


@pytest.mark.parametrize("stated", ["3", "4"])
async def test_the_callers_own_length_keeps_its_spelling_while_it_is_right(stated):
    async with upstream() as far:
        headers = (("a", "1"), ("content-length", stated), ("b", "2"))
        await exchange(Outgoing("POST", far.url + "/", headers, b"abc"))
    kept = [("a", "1"), ("content-length", "3"), ("b", "2")]
    replaced = [("a", "1"), ("Content-Length", "3"), ("b", "2")]
    assert [field for field in far.last.headers if field[0] != "Host"] == (
        kept if stated == "3" else replaced
    )


async def test_a_large_body_is_sent_whole_with_its_length():
    body = bytes(range(256)) * 16_384
    async with upstream() as far:
        await exchange(Outgoing("POST", far.url + "/", (), body))
    assert far.last.body == body
    assert far.last.get("transfer-encoding") is None


async def pieces(*parts):
    for part in parts:
        yield part


@pytest.mark.parametrize(("length", "framing"), [(4, ("4", None)), (None, (None, "chunked"))])
async def test_a_streamed_body_is_framed_as_the_caller_framed_it(length, framing):
    async with upstream() as far, Upstream() as near:
        message = Outgoing("PUT", far.url + "/", (), Streamed(pieces(b"ab", b"cd"), length))
        async with near.send(message) as reply:
            await body_of(reply)
    assert far.last.body == b"abcd"
    assert (far.last.get("content-length"), far.last.get("transfer-encoding")) == framing


async def test_the_answer_comes_undecoded_unredirected_and_in_order():
    headers = [
        ("Content-Encoding", "gzip"),
        ("set-cookie", "a=1"),
        ("X-One", "1"),
        ("set-cookie", "b=2"),
        ("Location", "/elsewhere"),
    ]
    async with upstream(replies(302, b"not gzip", headers=headers, reason="Sort Of")) as far:
        reply, body = await exchange(Outgoing("GET", far.url + "/", ()))
    assert (reply.status, reply.reason, body) == (302, "Sort Of", b"not gzip")
    assert list(reply.headers) == [*headers, ("Content-Length", "8")]
    assert len(far.seen) == 1


async def test_cookies_are_not_kept():
    async with upstream(replies(200, headers=[("Set-Cookie", "a=1; Path=/")])) as far:
        await exchange(*[Outgoing("GET", far.url + "/", ())] * 2)
    assert far.last.get("cookie") is None
    assert far.connections == 1


async def test_chunks_come_as_they_are_sent():
    step = asyncio.Event()

    async def script(seen, wire):
        await wire.send(answer(headers=[("Transfer-Encoding", "chunked")], body=b"", length=False))
        for data in (b"one", b"two", b"three"):
            await wire.send(chunk(data))
            await step.wait()
            step.clear()
        await wire.send(b"0\r\n\r\n")

    async with upstream(script) as far, Upstream() as near:
        got = []
        async with near.send(Outgoing("GET", far.url + "/", ())) as reply:
            async for piece in reply.chunks:
                got.append(piece)
                step.set()
    assert got == [b"one", b"two", b"three"]


async def test_a_refused_connection_is_unavailable():
    async with Upstream() as near:
        with pytest.raises(UpstreamUnavailable, match=r"upstream 127\.0\.0\.1:\d+: ") as raised:
            async with near.send(Outgoing("GET", f"http://127.0.0.1:{free_port()}/secret", ())):
                pass
    assert isinstance(raised.value.__cause__, OSError)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("interim", [b"", b"HTTP/1.1 102 Processing\r\n\r\n"])
async def test_an_upstream_that_never_answers_times_out(interim):
    async def silent(seen, wire):
        await wire.send(interim)
        await wire.closed.wait()

    async with upstream(silent) as far, Upstream(Limits(read_s=0.05)) as near:
        with pytest.raises(UpstreamTimeout):
            async with near.send(Outgoing("POST", far.url + "/", (), b"{}")):
                pass
        await asyncio.wait_for(far.hung_up.wait(), PATIENCE_S)


async def breaks_off(seen, wire):
    await wire.send(answer(body=b"half", length=False, headers=[("Content-Length", "99")]))
    wire.writer.close()


async def resets(seen, wire):
    await wire.send(
        answer(body=b"4\r\nhalf\r\n", length=False, headers=[("Transfer-Encoding", "chunked")])
    )
    wire.hang_up()


async def garbles(seen, wire):
    await wire.send(
        answer(
            body=b"4\r\nhalf\r\nzz\r\n", length=False, headers=[("Transfer-Encoding", "chunked")]
        )
    )


async def garbles_later(seen, wire):
    await wire.send(
        answer(body=b"4\r\nhalf\r\n", length=False, headers=[("Transfer-Encoding", "chunked")])
    )
    await asyncio.sleep(0.05)  # so that it is read by itself
    await wire.send(b"zz\r\n")
    await wire.closed.wait()


@pytest.mark.parametrize("script", [breaks_off, resets, garbles, garbles_later])
async def test_an_upstream_lost_midway_is_unavailable(script):
    async with upstream(script) as far, Upstream() as near:
        with pytest.raises(UpstreamUnavailable):
            async with near.send(Outgoing("GET", far.url + "/", ())) as reply:
                await body_of(reply)


async def test_an_upstream_that_speaks_no_http_is_unavailable():
    async def script(seen, wire):
        await wire.send(b"220 smtp.example ESMTP\r\n\r\n")

    async with upstream(script) as far, Upstream() as near:
        with pytest.raises(UpstreamUnavailable):
            async with near.send(Outgoing("GET", far.url + "/", ())):
                pass


async def test_leaving_early_closes_the_connection():
    async def endless(seen, wire):
        await wire.send(answer(headers=[("Transfer-Encoding", "chunked")], body=b"", length=False))
        while not wire.closed.is_set():
            await wire.send(chunk(b"x"))
            await asyncio.sleep(0.01)

    async with upstream(endless) as far, Upstream() as near:
        async with near.send(Outgoing("GET", far.url + "/", ())):
            pass
        await asyncio.wait_for(far.hung_up.wait(), PATIENCE_S)


async def test_a_header_of_60_kib_passes():
    long = "v" * 60_000
    async with upstream(replies(200, headers=[("X-Long", long)])) as far:
        reply, _ = await exchange(Outgoing("GET", far.url + "/", (("X-Long", long),)))
    assert far.last.get("x-long") == long
    assert dict(reply.headers)["X-Long"] == long


async def test_our_own_address_is_never_connected_to():
    async with upstream() as far, Upstream() as near:
        near.refuse([("0.0.0.0", far.port)])  # noqa: S104 - the wildcard is the case
        with pytest.raises(LoopDetected):
            async with near.send(Outgoing("GET", far.url + "/", ())):
                pass
    assert far.connections == 0


@pytest.mark.parametrize(
    ("own", "target", "expected"),
    [
        (("127.0.0.1", 80), ("127.0.0.1", 80), True),
        (("127.0.0.1", 80), ("127.0.0.1", 81), False),
        (("127.0.0.1", 80), ("192.0.2.1", 80), False),
        (("0.0.0.0", 80), ("127.0.0.1", 80), True),  # noqa: S104
        (("0.0.0.0", 80), ("192.0.2.1", 80), False),  # noqa: S104
    ],
)
def test_leads_to_itself(own, target, expected):
    assert leads_to(own, target) is expected


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_a_wildcard_of_ipv6_does_not_cover_foreign_addresses():
    assert leads_to(("::", 80), ("2001:db8::1", 80)) is False


@pytest.mark.parametrize(
    ("address", "near"),
    [
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("100.64.0.1", True),
        ("::1", True),
        ("fe80::1%eth0", True),
        ("fd00::1", True),
        ("8.8.8.8", False),
        ("2606:4700::1111", False),
    ],
)
def test_near_is_what_is_not_public(address, near):
    assert is_near(address) is near
