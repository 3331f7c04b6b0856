import gzip
import json
import os
import zlib
from itertools import pairwise

import brotli
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.wire import Usage, UsageObserver

examples = settings(max_examples=int(os.environ.get("LACONIC_EXAMPLES", "100")), deadline=None)

JSON = "application/json; charset=utf-8"
SSE = "text/event-stream"
PACKERS = {
    None: bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "gzip, br": lambda data: brotli.compress(gzip.compress(data)),
}
CHAT = {
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_tokens_details": {"cached_tokens": 1920, "cache_write_tokens": 80, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 7},
}
RESPONSES = {
    "input_tokens": 2006,
    "output_tokens": 300,
    "total_tokens": 2306,
    "input_tokens_details": {"cached_tokens": 1920, "cache_write_tokens": 80},
}
USAGE = Usage(2006, 300, 2306, 1920, 80)


def events(*payloads):
    return (
        b"".join(b"data: %s\n\n" % json.dumps(p).encode() for p in payloads) + b"data: [DONE]\n\n"
    )


def body(usage):
    return json.dumps({"choices": [{"message": {"content": "usage: é"}}], "usage": usage}).encode()


CHUNK = {"choices": [{"delta": {"content": 'the "usage" é'}}], "usage": None}
STREAM = events(
    CHUNK, {"choices": [{"delta": {"content": "é"}}]}, CHUNK, {"choices": [], "usage": CHAT}
)


def observe(content_type, encoding, chunks):
    observer = UsageObserver(content_type, encoding)
    for chunk in chunks:
        observer.feed(chunk)
    observer.close()
    return observer


def cut(data, cuts):
    edges = [0, *sorted(min(at, len(data)) for at in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


@examples
@given(st.sampled_from(list(PACKERS)), st.lists(st.integers(0, 500), max_size=8))
def test_a_streams_usage_is_read_through_every_encoding_and_chunking(encoding, cuts):
    watched = observe(SSE, encoding, cut(PACKERS[encoding](STREAM), cuts))
    assert (watched.usage, watched.done) == (USAGE, True)


@examples
@given(st.sampled_from(list(PACKERS)), st.lists(st.integers(0, 500), max_size=8))
def test_a_bodys_usage_is_read_through_every_encoding_and_chunking(encoding, cuts):
    watched = observe(JSON, encoding, cut(PACKERS[encoding](body(CHAT)), cuts))
    assert (watched.usage, watched.done) == (USAGE, False)


def test_a_responses_body_and_its_stream_speak_other_names():
    assert observe(JSON, None, [body(RESPONSES)]).usage == USAGE
    stream = events({"type": "response.completed", "response": {"usage": RESPONSES}})
    assert observe(SSE, None, [stream]).usage == USAGE


def test_of_several_reports_in_a_stream_the_last_counts():
    first = {"usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    stream = events(first, {"usage": {"prompt_tokens": 1, "completion_tokens": 9}}, CHUNK)
    assert observe(SSE, None, [stream]).usage == Usage(1, 9)


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        (None, None),
        ({}, None),
        ([], None),
        ("12", None),
        ({"prompt_tokens": 5}, Usage(prompt_tokens=5)),
        ({"prompt_tokens": 0, "total_tokens": 0}, Usage(prompt_tokens=0, total_tokens=0)),
        ({"prompt_tokens": "5", "completion_tokens": True, "total_tokens": 1.5}, Usage()),
        ({"prompt_tokens": -1, "completion_tokens": 2**63, "total_tokens": None}, Usage()),
        ({"prompt_tokens": 5, "prompt_tokens_details": None}, Usage(5)),
        (
            {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 3}},
            Usage(5, None, None, 3),
        ),
        ({"prompt_tokens": 5, "prompt_tokens_details": [3]}, Usage(5)),
    ],
)
def test_what_is_absent_or_odd_is_null_and_never_guessed(reported, usage):
    assert observe(JSON, None, [body(reported)]).usage == usage


@pytest.mark.parametrize(
    ("content_type", "encoding", "data"),
    [
        (None, None, body(CHAT)),
        ("text/plain", None, body(CHAT)),
        ("application/octet-stream", None, STREAM),
        (JSON, None, b""),
        (JSON, None, body(CHAT)[:-1]),
        (JSON, None, b"[" * 100_000),
        (JSON, None, b'{"usage":{"prompt_tokens":' + b"9" * 5000 + b"}}"),
        (JSON, None, b'{"usage":{"prompt_tokens":1},"x":"' + b"x" * (8 * 1024 * 1024) + b'"}'),
        (JSON, "gzip", body(CHAT)),
        (JSON, "gzip", gzip.compress(bytes(16 * 1024 * 1024))),
        (JSON, "rot13", body(CHAT)),
        (JSON, "br", brotli.compress(body(CHAT))[:-4]),
        (SSE, None, events(CHUNK)),
        (SSE, None, b'data: {"usage":{"prompt_tokens":1}\n\n'),
        (SSE, None, b'data: "usage"\n\n'),
        (SSE, "rot13", STREAM),
    ],
)
def test_usage_that_cannot_be_read_is_null(content_type, encoding, data):
    assert observe(content_type, encoding, [data]).usage is None


def test_what_a_stream_reported_before_it_broke_is_kept():
    packer = zlib.compressobj(wbits=31)
    start = packer.compress(STREAM) + packer.flush(zlib.Z_SYNC_FLUSH)
    watched = observe(SSE, "gzip", [start, b"\xff" * 100, b"more"])
    assert (watched.usage, watched.done) == (USAGE, True)


def test_a_stream_without_its_last_blank_line_is_read_at_the_close():
    observer = UsageObserver(SSE, None)
    observer.feed(b'data: {"usage":{"prompt_tokens":3}}')
    assert observer.usage is None
    observer.close()
    observer.close()
    observer.feed(b"data: late\n\n")
    assert (observer.usage, observer.done) == (Usage(3), False)


def test_problem_documents_are_json_too():
    assert observe("application/problem+json", None, [body(CHAT)]).usage == USAGE


@examples
@given(
    st.sampled_from([JSON, SSE, "x", None]),
    st.sampled_from([*PACKERS, "x"]),
    st.lists(
        st.binary(max_size=60) | st.sampled_from([STREAM, b'{"usage":', b"data: "]), max_size=6
    ),
)
def test_no_bytes_make_the_observer_raise(content_type, encoding, chunks):
    assert isinstance(observe(content_type, encoding, chunks).usage, Usage | None)
