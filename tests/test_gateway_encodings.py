"""Encoded request bodies, at every endpoint: looked into, forwarded as they came, or refused."""

import gzip
import json
import zlib

import brotli
import pytest
import zstandard
from house import house
from servers import JSON, call, chunk, connected, read_message, replies, request_bytes, upstream

from proxy.types import Reason

LIMIT_BYTES = 1_000_000


def bare(body):
    """A deflate stream without zlib's wrapping, as some senders have it."""
    made = zlib.compressobj(wbits=-15)
    return made.compress(body) + made.flush()


ENCODINGS = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "upper case": ("GZip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "bare deflate": ("deflate", bare),
    "br": ("br", brotli.compress),
    "zstd": ("zstd", zstandard.compress),
    "two members": ("gzip", lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:])),
    "stacked": (
        "deflate, gzip, zstd, br",
        lambda body: brotli.compress(zstandard.compress(gzip.compress(zlib.compress(body)))),
    ),
    "identity too": ("identity, gzip", gzip.compress),
}
ENDPOINTS = {
    "/v1/chat/completions": lambda text: {"messages": [{"role": "user", "content": text}]},
    "/v1/responses": lambda text: {"input": [{"role": "user", "content": text}]},
    "/v1/completions": lambda text: {"prompt": text},
}
every_endpoint = pytest.mark.parametrize("path", ENDPOINTS)


def written(path, text):
    return json.dumps({"model": "gpt-4o", **ENDPOINTS[path](text)}).encode()


def encoded(header):
    return [JSON, ("Content-Encoding", header), ("X-After", "1")]


async def exchange(path, body, headers, **options):
    """Send a body; return what the upstream saw, if anything, the answer and the entry."""
    script = replies(200, b"{}", headers=[JSON])
    async with upstream(script) as far, house(far, max_body_bytes=LIMIT_BYTES, **options) as home:
        got = await call(home.port, "POST", path, body, headers)
        entry = await home.ledger.entry()
    return far.seen[-1] if far.seen else None, got, entry


@every_endpoint
@pytest.mark.parametrize("name", ENCODINGS)
async def test_an_edited_body_goes_out_unencoded(path, name):
    header, encode = ENCODINGS[name]
    body = encode(written(path, "keep xdrop this"))
    seen, _, entry = await exchange(path, body, encoded(header))
    assert seen.body == written(path, "keep this")
    assert seen.get("content-encoding") is None
    assert (seen.get("content-length"), seen.get("x-after")) == (str(len(seen.body)), "1")
    assert (entry.tokens_saved, entry.bytes_in) == (1, len(body))


@every_endpoint
@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("policy", ["on", "off", "audit"])
async def test_a_body_that_is_not_edited_goes_as_it_came(path, name, policy):
    header, encode = ENCODINGS[name]
    body = encode(written(path, "keep" if policy == "on" else "keep xdrop"))
    seen, *_ = await exchange(path, body, encoded(header), fallback=policy)
    assert (seen.body, seen.get("content-encoding")) == (body, header)
    assert seen.get("content-length") == str(len(body))


PLAIN = written("/v1/chat/completions", "keep xdrop")
LIES = {
    "not gzip": ("gzip", PLAIN),
    "not deflate": ("deflate", PLAIN),
    "not br": ("br", PLAIN),
    "not zstd": ("zstd", PLAIN),
    "cut short": ("gzip", gzip.compress(PLAIN)[:-9]),
    "more behind it": ("br", brotli.compress(PLAIN) + b"more"),
    "a broken checksum": ("gzip", gzip.compress(PLAIN)[:-8] + bytes(8)),
    "encoded, not said": ("identity", gzip.compress(PLAIN)),
    "the wrong order": ("br, gzip", brotli.compress(gzip.compress(PLAIN))),
    "unknown": ("x-own", PLAIN),
    "a list with a gap": ("gzip, , x-own", PLAIN),
    "five layers": ("gzip, gzip, gzip, gzip, gzip", PLAIN),
}


@every_endpoint
@pytest.mark.parametrize("name", LIES)
async def test_a_body_that_is_not_what_its_header_says_goes_as_it_came(path, name):
    header, body = LIES[name]
    seen, got, entry = await exchange(path, body, encoded(header))
    assert (seen.body, seen.get("content-encoding")) == (body, header)
    assert (got.status, entry.reason) == (200, Reason.UNPARSED)


async def test_encodings_in_two_lines_are_a_list():
    path, body = "/v1/responses", written("/v1/responses", "keep xdrop this")
    twice = brotli.compress(gzip.compress(body))
    headers = [JSON, ("Content-Encoding", "gzip"), ("content-encoding", "br")]
    seen, *_ = await exchange(path, twice, headers)
    assert (seen.body, seen.all("content-encoding")) == (written(path, "keep this"), [])


BIG = bytes(LIMIT_BYTES + 1)
BOMBS = {
    "gzip": gzip.compress(BIG),
    "deflate": zlib.compress(BIG),
    "br": brotli.compress(BIG),
    "zstd": zstandard.compress(BIG),
    "gzip, gzip": gzip.compress(gzip.compress(BIG)),
    "br, gzip": gzip.compress(brotli.compress(BIG)),
}


@every_endpoint
@pytest.mark.parametrize("header", BOMBS)
@pytest.mark.parametrize("policy", ["on", "off"])
async def test_a_bomb_is_unpacked_up_to_the_limit_and_goes_on_as_it_came(path, header, policy):
    headers = [*encoded(header), ("x-laconic-policy", policy)]
    seen, got, entry = await exchange(path, BOMBS[header], headers)
    assert len(BOMBS[header]) < LIMIT_BYTES / 100
    assert (seen.body, seen.get("content-encoding")) == (BOMBS[header], header)
    assert got.status == 200
    assert entry.reason is (Reason.OFF if policy == "off" else Reason.UNPARSED)


@every_endpoint
@pytest.mark.parametrize("header", ["gzip", None])
async def test_a_chunked_upload_that_waits_to_be_asked_for(path, header):
    """``Expect`` is answered here; the edited body has a length, the original stays chunked."""
    encode = gzip.compress if header else bytes
    headers = [JSON, ("Expect", "100-continue"), ("Transfer-Encoding", "chunked")]
    headers += [("Content-Encoding", header)] if header else []
    async with upstream() as far, house(far) as home:
        for text in ("keep xdrop", "keep"):
            body = encode(written(path, text))
            async with connected(home.port) as wire:
                await wire.send(request_bytes("POST", path, None, headers))
                assert await wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
                await wire.send(chunk(body[:7]) + chunk(body[7:]) + b"0\r\n\r\n")
                assert (await read_message(wire, answers="POST")).status == 200
    edited, original = far.seen
    assert [seen.get("expect") for seen in far.seen] == [None, None]
    assert (edited.body, edited.get("transfer-encoding")) == (written(path, "keep"), None)
    assert edited.get("content-length") == str(len(edited.body))
    assert (original.body, original.get("content-encoding")) == (body, header)


async def test_an_upload_that_passes_and_waits_to_be_asked_for():
    content = gzip.compress(bytes(range(256)) * 1000)
    headers = [("Content-Encoding", "gzip"), ("Expect", "100-continue")]
    async with upstream() as far, house(far) as home, connected(home.port) as wire:
        head = request_bytes("POST", "/v1/files", None, headers)
        await wire.send(head[:-2] + b"Content-Length: %d\r\n\r\n" % len(content))
        assert await wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await wire.send(content)
        assert (await read_message(wire, answers="POST")).status == 200
    seen = far.last
    assert (seen.body, seen.get("content-encoding"), seen.get("expect")) == (content, "gzip", None)
