"""Fidelity, both ways: what the upstream saw, what the caller got, what the ledger wrote."""

import asyncio
import gzip
import hashlib
import os
from contextlib import AsyncExitStack

import pytest
from house import house
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import (
    CHAT,
    JSON,
    PATIENCE_S,
    answer,
    call,
    chat,
    chunk,
    completion,
    connected,
    free_port,
    read_message,
    replies,
    request_bytes,
    upstream,
)

from proxy.ledger import Ended
from proxy.types import Reason

OURS = {"x-laconic-request-id", "x-laconic-policy", "x-laconic-reason", "x-laconic-compress-ms"}
EXAMPLES = int(os.environ.get("LACONIC_EXAMPLES", "200"))


def not_ours(message):
    """The header fields of an answer that the proxy did not add."""
    return [pair for pair in message.headers if not pair[0].startswith("x-laconic-")]


# -- to the upstream -------------------------------------------------------------------------------


async def test_request_headers_pass_in_order_with_repeats_and_nothing_added():
    headers = [
        JSON,
        ("Authorization", "Bearer sk-secret"),
        ("OpenAI-Project", "p"),
        ("x-b", "1"),
        ("X-A", "2"),
        ("x-b", "3"),
        ("traceparent", "00-1-2-01"),
        ("Cookie", "a=b; c=d"),
    ]
    async with upstream() as far, house(far, fallback="off") as home:
        await call(home.port, "POST", CHAT, chat(), headers)
    assert far.last.headers == [
        ("Host", f"127.0.0.1:{far.port}"),
        *headers,
        ("Content-Length", str(len(chat()))),
    ]


async def test_hop_by_hop_and_our_own_headers_stay_here():
    headers = [
        ("Connection", "keep-alive, X-Per-Hop"),
        ("X-Per-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authorization", "Basic eA=="),
        ("Proxy-Connection", "keep-alive"),
        ("TE", "trailers"),
        ("Trailer", "X-T"),
        ("x-laconic-bypass", "true"),
        ("X-Laconic-Anything", "1"),
        ("X-Kept", "1"),
    ]
    async with upstream() as far, house(far) as home:
        await call(home.port, "POST", CHAT, chat(), headers)
    assert far.last.names() == ["Host", "X-Kept", "Content-Length"]


@pytest.mark.parametrize(
    "target",
    [
        "/v1/files/a%2Fb%20c?purpose=%E4%BD%A0&x=%2B+1&x=",
        "/v1/../v1/models/./x",
        "/v1//double",
        "/v1/x?",
        "/V1/%4Dodels",
        "/v1/chat/completions/",
        "/?a=1",
    ],
)
async def test_paths_and_queries_pass_verbatim(target):
    async with upstream() as far, house(far) as home:
        await call(home.port, "GET", target)
    assert far.last.target == target


async def test_a_base_with_a_path_is_put_before_the_callers():
    async with upstream() as far, house(far.url + "/api/v1") as home:
        await call(home.port, "GET", "/v1/models?x=%20")
        await call(home.port, "GET", "/models")
    assert [seen.target for seen in far.seen] == ["/api/v1/models?x=%20", "/api/v1/models"]


async def test_no_header_of_the_caller_chooses_the_upstream():
    headers = [("X-Forwarded-Host", "evil.example"), ("Forwarded", "host=evil.example")]
    async with upstream() as far, house(far) as home:
        got = await call(home.port, "GET", "http://evil.example/v1/models?a=1", None, headers)
    assert (got.status, far.last.target) == (200, "/v1/models?a=1")
    assert far.last.get("host") == f"127.0.0.1:{far.port}"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
async def test_any_method_and_path_passes(method):
    async with upstream() as far, house(far) as home:
        got = await call(
            home.port, method, "/v1/files/f-1", b"payload" if method != "GET" else None
        )
        entry = await home.ledger.entry()
    assert (got.status, far.last.method) == (200, method)
    assert far.last.body == (b"payload" if method != "GET" else b"")
    assert (entry.method, entry.path, entry.policy, entry.ended) == (
        method,
        "/v1/files/f-1",
        None,
        Ended.COMPLETE,
    )


async def test_a_get_with_a_body_passes_with_it():
    async with upstream() as far, house(far) as home:
        await call(home.port, "GET", "/v1/search", b"{}")
    assert (far.last.body, far.last.get("content-length")) == (b"{}", "2")


async def test_a_chunked_upload_streams_through_before_it_ends():
    got_first, body = asyncio.Event(), b""

    async def script(seen, wire):
        await wire.send(answer())

    async def raw_upstream(reader, writer):
        nonlocal body
        body = await reader.readuntil(b"first")
        got_first.set()
        body += await reader.readuntil(b"0\r\n\r\n")
        writer.write(answer())
        writer.close()

    server = await asyncio.start_server(raw_upstream, "127.0.0.1", 0)
    base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with house(base) as home, connected(home.port) as wire:
        head = request_bytes("POST", "/v1/files", None, [("Transfer-Encoding", "chunked")])
        await wire.send(head + chunk(b"first"))
        await asyncio.wait_for(got_first.wait(), PATIENCE_S)
        await wire.send(chunk(b"second") + b"0\r\n\r\n")
        got = await read_message(wire, answers="POST")
        entry = await home.ledger.entry()
    server.close()
    await server.wait_closed()
    assert got.status == 200
    assert b"Transfer-Encoding: chunked" in body
    assert b"content-length" not in body.lower()
    assert entry.bytes_in == len(b"firstsecond")


async def test_an_upload_with_a_length_keeps_it():
    body = bytes(range(256)) * 12_000
    async with upstream() as far, house(far) as home:
        await call(home.port, "POST", "/v1/audio/transcriptions", body)
    assert hashlib.sha256(far.last.body).digest() == hashlib.sha256(body).digest()
    assert far.last.get("content-length") == str(len(body))
    assert far.last.get("transfer-encoding") is None


async def test_a_length_beside_chunks_is_dropped():
    """Both at once is how requests are smuggled."""
    raw = (
        b"POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b"abcdef") + b"0\r\n\r\n"
    )
    async with upstream() as far, house(far) as home, connected(home.port) as wire:
        await wire.send(raw)
        got = await read_message(wire, answers="POST")
    if got.status == 400:
        assert far.seen == []
    else:
        assert (far.last.body, far.last.get("content-length")) == (b"abcdef", None)


async def test_a_chunked_chat_request_is_understood():
    body = chat("keep xdrop")
    head = request_bytes("POST", CHAT, None, [JSON, ("Transfer-Encoding", "chunked")])
    async with upstream() as far, house(far) as home, connected(home.port) as wire:
        await wire.send(head + chunk(body[:9]) + chunk(body[9:]) + b"0\r\n\r\n")
        got = await read_message(wire, answers="POST")
    assert got.status == 200
    assert far.last.json()["messages"][0]["content"] == "keep"
    assert far.last.get("content-length") == str(len(far.last.body))
    assert far.last.get("transfer-encoding") is None


async def test_expect_continue_is_answered_here():
    async with upstream() as far, house(far) as home, connected(home.port) as wire:
        body = chat()
        head = request_bytes("POST", CHAT, None, [JSON, ("Expect", "100-continue")])
        await wire.send(head[:-2] + b"Content-Length: %d\r\n\r\n" % len(body))
        assert await wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await wire.send(body)
        got = await read_message(wire, answers="POST")
    assert got.status == 200
    assert far.last.get("expect") is None


async def test_an_upgrade_to_anything_but_a_websocket_is_not_passed_on():
    headers = [
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", ""),
    ]
    async with upstream() as far, house(far) as home, connected(home.port) as wire:
        for _ in range(2):  # the connection is still in step afterwards
            await wire.send(request_bytes("GET", "/v1/models", None, headers))
            got = await read_message(wire, answers="GET")
            assert got.status == 200
    assert far.last.names() == ["Host"]


@pytest.mark.parametrize("line", ["OPTIONS *", "CONNECT evil.example:443"])
async def test_a_target_that_is_no_path_goes_nowhere(line):
    async with upstream() as far, house(far) as home, connected(home.port) as wire:
        await wire.send(f"{line} HTTP/1.1\r\nHost: evil.example\r\n\r\n".encode())
        got = await read_message(wire, answers="GET")
    assert (got.status, got.get("x-laconic-origin"), far.seen) == (404, "proxy", [])


@pytest.mark.parametrize(
    "target",
    [
        "/v1/chat/completions",
        "/chat/completions",
        "/openai/deployments/d/chat/completions?api-version=2024-10-21",
        "/openai/v1/chat/completions",
    ],
)
async def test_chat_is_understood_wherever_it_is_spoken(target):
    async with upstream() as far, house(far) as home:
        got = await call(home.port, "POST", target, chat("keep xdrop"), [JSON])
    assert got.get("x-laconic-tokens-saved") == "1"
    assert far.last.json()["messages"][0]["content"] == "keep"


# -- to the caller ---------------------------------------------------------------------------------


async def test_status_reason_headers_and_body_come_back_as_they_were():
    headers = [
        ("Date", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("Server", "cloudflare"),
        ("set-cookie", "a=1"),
        ("X-Request-ID", "req_1"),
        ("set-cookie", "b=2"),
        ("x-ratelimit-remaining-tokens", "7"),
        ("retry-after", "3"),
        JSON,
    ]
    body = b'{"error": {"message": "slow down"} }\n'
    script = replies(429, body, headers=headers, reason="Quite Busy")
    async with upstream(script) as far, house(far, fallback="off") as home:
        got = await call(home.port, "POST", CHAT, chat())
    assert (got.status, got.reason, got.body) == (429, "Quite Busy", body)
    assert not_ours(got) == [*headers, ("Content-Length", str(len(body)))]
    assert {name for name in got.names() if name.startswith("x-laconic-")} == OURS


async def test_nothing_is_added_to_a_bare_answer():
    async def script(seen, wire):
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    async with upstream(script) as far, house(far) as home:
        got = await call(home.port, "GET", "/v1/x")
    assert got.names() == ["Content-Length", "x-laconic-request-id"]


OBS_TEXT = "".join(chr(0xDC00 + byte) for byte in range(0x80, 0x100))  # as surrogates stand for it
ODD = [
    ("X-Utf-8", "caf\u00e9 \u4f60 \U0001f600"),
    ("X-Latin-1", "caf\udce9"),
    ("X-Both", "caf\u00e9 caf\udce9 \udcc3"),
    ("X-All", OBS_TEXT),
    ("X-Latin-1", "\udce9t\udce9"),
]
CONTROLS = [("X-Control", "a\tb\x01\x1b\x7f")]
CHUNKED = ("Transfer-Encoding", "chunked")
ENDS = {
    "with a length": (
        "GET",
        answer(200, b"{}", headers=[*ODD, *CONTROLS], reason="Tr\udce8s bien"),
    ),
    "streamed": (
        "GET",
        answer(200, chunk(b"{}") + b"0\r\n\r\n", headers=[*ODD, CHUNKED], length=False),
    ),
    "with trailers": (
        "GET",
        answer(
            200, chunk(b"{}") + b"0\r\nX-T: caf\xe9\r\n\r\n", headers=[*ODD, CHUNKED], length=False
        ),
    ),
    "of none": ("GET", answer(200, b"", headers=ODD)),
    "to a HEAD": ("HEAD", answer(200, b"", headers=[*ODD, ("Content-Length", "2")], length=False)),
    "no content": ("DELETE", answer(204, b"", headers=ODD, length=False, reason="R\udce9ussi")),
    "not modified": ("GET", answer(304, b"", headers=ODD, length=False)),
    "an error": ("GET", answer(429, b"{}", headers=ODD)),
}


async def relayed_twice(method, raw):
    """Ask twice over one connection: the second answer shows that it is still in step."""

    async def script(seen, wire):
        await wire.send(raw)

    async with upstream(script) as far, house(far) as home, connected(home.port) as wire:
        got = []
        for _ in range(2):
            await wire.send(request_bytes(method, "/v1/x"))
            got.append(await read_message(wire, answers=method))
    assert len(far.seen) == 2
    return got


@pytest.mark.parametrize("end", ENDS)
async def test_header_bytes_of_an_answer_pass_whatever_they_are(end):
    method, raw = ENDS[end]
    head, _, body = raw.partition(b"\r\n\r\n")
    start, *lines = head.decode("utf-8", "surrogateescape").split("\r\n")
    for got in await relayed_twice(method, raw):
        assert got.start == start
        assert not_ours(got) == [tuple(line.split(": ", 1)) for line in lines]
        assert got.body == (b"{}" if body else b"")


async def test_header_bytes_of_a_request_pass_whatever_they_are():
    async with upstream() as far, house(far) as home:
        await call(home.port, "GET", "/v1/x", None, [*ODD, ("Authorization", "Bearer \udce9")])
        await call(home.port, "POST", CHAT, chat("keep xdrop"), [JSON, *ODD])
    assert far.seen[0].headers[1:] == [*ODD, ("Authorization", "Bearer \udce9")]
    assert far.last.json()["messages"][0]["content"] == "keep"
    assert [pair for pair in far.last.headers if pair in ODD] == ODD


async def test_header_bytes_pass_to_a_caller_of_http_1_0():
    async with (
        upstream(replies(200, headers=ODD)) as far,
        house(far) as home,
        connected(home.port) as wire,
    ):
        await wire.send(request_bytes("GET", "/v1/x").replace(b"HTTP/1.1", b"HTTP/1.0"))
        got = await read_message(wire, answers="GET")
    assert got.start == "HTTP/1.0 200 OK"
    assert not_ours(got) == [*ODD, ("Content-Length", "2")]


async def test_headers_of_the_connection_stay_with_the_connection():
    headers = [
        ("Connection", "close, X-Hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authenticate", "Basic"),
        ("X-Kept", "1"),
    ]
    async with upstream(replies(200, headers=headers)) as far, house(far) as home:
        got = await call(home.port, "GET", "/v1/x")
    assert not_ours(got) == [("X-Kept", "1"), ("Content-Length", "2")]


@pytest.mark.parametrize(
    ("method", "raw", "expected"),
    [
        (
            "HEAD",
            answer(200, b"", headers=[("Content-Length", "1234")], length=False),
            ("1234", b""),
        ),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", (None, b"")),
        ("GET", b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n', (None, b"")),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ("0", b"")),
    ],
)
async def test_answers_without_a_body_have_none(method, raw, expected):
    for got in await relayed_twice(method, raw):
        assert (got.get("content-length"), got.body) == expected


async def test_an_answer_that_ends_with_its_connection_is_relayed_whole():
    async def script(seen, wire):
        await wire.send(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
        wire.writer.close()

    async with upstream(script) as far, house(far) as home:
        got = await call(home.port, "GET", "/v1/x")
    assert (got.body, got.complete) == (b"until the end", True)


@pytest.mark.parametrize("status", [301, 307, 308])
async def test_redirects_are_not_followed(status):
    script = replies(status, headers=[("Location", "/v2")], reason="Moved")
    async with upstream(script) as far, house(far) as home:
        got = await call(home.port, "POST", CHAT, chat())
    assert (got.status, got.get("location"), len(far.seen)) == (status, "/v2", 1)


async def test_an_encoded_answer_passes_byte_for_byte_and_its_usage_is_read():
    body = gzip.compress(completion())
    script = replies(200, body, headers=[JSON, ("Content-Encoding", "gzip")])
    async with upstream(script) as far, house(far) as home:
        got = await call(home.port, "POST", CHAT, chat(), [("Accept-Encoding", "gzip, br")])
        entry = await home.ledger.entry()
    assert (got.body, got.get("content-encoding")) == (body, "gzip")
    assert far.last.get("accept-encoding") == "gzip, br"
    assert (entry.prompt_tokens, entry.completion_tokens) == (11, 3)


async def test_usage_that_is_absent_is_unknown():
    async with upstream(replies(200, b"{}", headers=[JSON])) as far, house(far) as home:
        await call(home.port, "POST", CHAT, chat())
        entry = await home.ledger.entry()
    assert (entry.prompt_tokens, entry.completion_tokens) == (None, None)


EVENTS = [
    b'data: {"choices":[{"delta":{"content":"\xc3\xa9"}}]}\n\n',
    b": ping\n\n",
    b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}\r\n\r\n',
    b"data: [DO",
    b"NE]\n",
]


async def test_events_are_relayed_one_by_one_as_they_come():
    step = asyncio.Event()

    async def script(seen, wire):
        head = [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")]
        await wire.send(answer(200, b"", headers=head, length=False))
        for event in EVENTS:
            await wire.send(chunk(event))
            await asyncio.wait_for(step.wait(), PATIENCE_S)
            step.clear()
        await wire.send(b"0\r\n\r\n")

    async with upstream(script) as far, house(far) as home, connected(home.port) as wire:
        await wire.send(request_bytes("POST", CHAT, chat(stream=True), [JSON]))
        head = await wire.until(b"\r\n\r\n")
        assert b"text/event-stream" in head
        for event in EVENTS:  # the next one is sent only when this one has arrived
            assert await wire.until(event + b"\r\n") == chunk(event)
            step.set()
        assert await wire.until(b"0\r\n\r\n") == b"0\r\n\r\n"
        entry = await home.ledger.entry()
    assert (entry.prompt_tokens, entry.completion_tokens, entry.stream) == (5, 2, True)
    assert entry.bytes_out == sum(map(len, EVENTS))


async def test_stream_options_are_never_changed():
    body = chat("keep xdrop", stream=True, stream_options={"include_usage": False})
    async with upstream() as far, house(far) as home:
        await call(home.port, "POST", CHAT, body, [JSON])
    assert far.last.json()["stream_options"] == {"include_usage": False}
    assert far.last.json()["messages"][0]["content"] == "keep"


async def test_a_caller_that_does_not_read_holds_the_upstream_back():
    block, blocks, sent = b"x" * 65_536, 800, 0

    async def script(seen, wire):
        nonlocal sent
        await wire.send(
            answer(200, b"", headers=[("Content-Length", str(blocks * len(block)))], length=False)
        )
        for _ in range(blocks):
            await wire.send(block)
            sent += 1

    async with upstream(script) as far, house(far) as home:
        reader, writer = await asyncio.open_connection("127.0.0.1", home.port)
        writer.write(request_bytes("GET", "/v1/files/f/content"))
        seen = -1
        while seen != sent or not sent:  # until the sockets between are full
            seen = sent
            await asyncio.sleep(0.2)
        held = sent
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(blocks * len(block))
        writer.close()
        await writer.wait_closed()
    assert held < blocks


async def test_an_http_1_0_caller_gets_an_answer_that_ends_with_the_connection():
    async def script(seen, wire):
        await wire.send(answer(200, b"", headers=[("Transfer-Encoding", "chunked")], length=False))
        await wire.send(chunk(b"one") + chunk(b"two") + b"0\r\n\r\n")

    async with upstream(script) as far, house(far) as home, connected(home.port) as wire:
        await wire.send(b"GET /v1/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        raw = await wire.rest()
    assert raw.endswith(b"\r\n\r\nonetwo")
    assert b"transfer-encoding" not in raw.lower()


# -- when the other side is not there --------------------------------------------------------------


def assert_own_error(got, status, code):
    assert (got.status, got.get("x-laconic-origin"), got.get("content-type")) == (
        status,
        "proxy",
        "application/json",
    )
    error = got.json()["error"]
    assert sorted(error) == ["code", "message", "param", "type"]
    assert (error["code"], error["param"]) == (code, None)
    assert got.get("x-laconic-request-id")


@pytest.mark.parametrize(("method", "target"), [("POST", CHAT), ("GET", "/v1/models")])
async def test_an_absent_upstream_is_a_502(method, target):
    async with house(f"http://127.0.0.1:{free_port()}") as home:
        got = await call(home.port, method, target, chat() if method == "POST" else None)
        entry = await home.ledger.entry()
    assert_own_error(got, 502, "upstream_unavailable")
    assert (entry.status, entry.ended) == (502, Ended.UPSTREAM_LOST)


async def test_a_slow_upstream_is_a_504():
    async def silent(seen, wire):
        await wire.closed.wait()

    async with upstream(silent) as far, house(far, read_timeout_s=0.1) as home:
        got = await call(home.port, "POST", CHAT, chat())
        entry = await home.ledger.entry()
        await asyncio.wait_for(far.hung_up.wait(), PATIENCE_S)
    assert_own_error(got, 504, "upstream_timeout")
    assert (entry.status, entry.ended) == (504, Ended.UPSTREAM_LOST)


async def half_chunked(seen, wire):
    await wire.send(answer(200, b"", headers=[("Transfer-Encoding", "chunked")], length=False))
    await wire.send(chunk(b"data: half\n\n"))
    await asyncio.wait_for(seen.step.wait(), PATIENCE_S)
    wire.writer.close()


async def half_measured(seen, wire):
    await wire.send(
        answer(200, b"data: half\n\n", headers=[("Content-Length", "99")], length=False)
    )
    await asyncio.wait_for(seen.step.wait(), PATIENCE_S)
    wire.hang_up()


@pytest.mark.parametrize("half", [half_chunked, half_measured])
async def test_an_upstream_lost_midway_aborts_the_callers_connection(half):
    step = asyncio.Event()

    async def script(seen, wire):
        seen.step = step
        await half(seen, wire)

    async with upstream(script) as far, house(far) as home, connected(home.port) as wire:
        await wire.send(request_bytes("POST", CHAT, chat(stream=True), [JSON]))
        await wire.until(b"data: half\n\n")
        step.set()
        rest = await wire.rest()
        entry = await home.ledger.entry()
    assert rest in (b"", b"\r\n")  # no last chunk
    assert (entry.status, entry.ended) == (200, Ended.UPSTREAM_LOST)


async def test_a_loss_is_a_reset_where_only_the_close_marks_the_end():
    step = asyncio.Event()

    async def script(seen, wire):
        seen.step = step
        await half_chunked(seen, wire)

    async with upstream(script) as far, house(far) as home:
        reader, writer = await asyncio.open_connection("127.0.0.1", home.port)
        writer.write(b"GET /v1/x HTTP/1.0\r\n\r\n")
        await reader.readuntil(b"data: half\n\n")
        step.set()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), PATIENCE_S)
        writer.close()


async def test_an_upstream_that_is_the_proxy_itself_does_not_loop():
    port = free_port()
    async with house(f"http://localhost:{port}", port=port) as home:
        got = await call(port, "POST", CHAT, chat())
        entry = await home.ledger.entry()
    assert_own_error(got, 508, "loop_detected")
    assert (len(home.ledger.entries), entry.status, entry.ended) == (1, 508, Ended.ERROR)


# -- law 1 -----------------------------------------------------------------------------------------


def scalars():
    return st.sampled_from(
        [
            "1e400", "-0", "1e2", "1E+2", "0.10", "123456789012345678901234567890", "null", "true",
            '"\\ud83d"', '"\\u00e9é"', '"\\/"', '"<|endoftext|>"', '"x\\n\\t"', '""', '"x"',
        ]
    )  # fmt: skip


def objects(children):
    keys = st.sampled_from(['"a"', '"model"', '"messages"', '"content"', '"\\u0061"', '"é"', '""'])
    members = st.lists(st.tuples(keys, children), max_size=4)
    space = st.sampled_from(["", " ", "\n\t"])
    return st.builds(
        lambda pairs, gap: "{" + gap + ("," + gap).join(f"{k}{gap}:{v}" for k, v in pairs) + "}",
        members,
        space,
    )


def lists(children):
    return st.lists(children, max_size=4).map(lambda items: "[" + ", ".join(items) + "]")


JSON_TEXTS = st.recursive(scalars(), lambda inner: objects(inner) | lists(inner), max_leaves=12)
MESSAGES = st.lists(
    st.builds(
        lambda role, content, more: f'{{"role": {role}, "content":{content}{more}}}',
        st.sampled_from(['"user"', '"system"', '"tool"', '"\\u0075ser"', "7"]),
        JSON_TEXTS,
        st.sampled_from(["", ', "name": "n"', ', "content": "twice"', ', "x": 1e400']),
    ),
    max_size=4,
).map(lambda messages: '{"model":"gpt-4o","messages":[' + ",\n".join(messages) + '],"seed":1E5}')
BODIES = st.one_of(
    JSON_TEXTS.map(lambda text: text.encode("utf-8")),
    MESSAGES.map(lambda text: text.encode("utf-8")),
    st.binary(max_size=200),
    MESSAGES.map(lambda text: b"\xef\xbb\xbf" + text.encode("utf-8")),
    MESSAGES.map(lambda text: text.encode("utf-8")[:-3]),
)


@pytest.fixture(scope="module")
def through_off():
    """Sends a body through one long-lived proxy whose policy is off; gives what came out there."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def start():
            far = await stack.enter_async_context(upstream())
            home = await stack.enter_async_context(house(far, fallback="off"))
            return far, home, await stack.enter_async_context(connected(home.port))

        async def send(body):
            await wire.send(request_bytes("POST", CHAT, body, [JSON]))
            got = await read_message(wire, answers="POST")
            await home.ledger.entry()
            return got.status, far.seen.pop().body, home.ledger.entries.pop().reason

        far, home, wire = runner.run(start())
        yield lambda body: runner.run(send(body))
        runner.run(stack.aclose())


@settings(max_examples=EXAMPLES, deadline=None)
@given(body=BODIES)
def test_policy_off_forwards_every_body_to_the_bit(through_off, body):
    status, arrived, reason = through_off(body)
    assert (status, reason) == (200, Reason.OFF)
    assert hashlib.sha256(arrived).digest() == hashlib.sha256(body).digest()
