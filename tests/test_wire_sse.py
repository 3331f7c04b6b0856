import os
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.wire import SseObserver
from proxy.wire.sse import SseSplitter, payload_of

examples = settings(max_examples=int(os.environ.get("LACONIC_EXAMPLES", "200")), deadline=None)

STREAM = (
    "\ufeff: hello\n\n"
    'event: chunk\ndata: {"a":"é😀"}\n\n'
    "data: one\r\ndata:two\r\nid: 7\r\n\r\n"
    "data:  three\r\r"
    ": ping\n\n\n"
    "retry: 10\ndatax: no\n\n"
    "data\n\n"
    "data: [DONE]\n\n"
    "data: last"
).encode()
EVENTS = ['{"a":"é😀"}'.encode(), b"one\ntwo", b" three", b"", b"[DONE]", b"last"]


def observe(chunks, **limits):
    observer = SseObserver(**limits)
    return [payload for chunk in chunks for payload in observer.feed(chunk)] + observer.close()


def cut(data, cuts):
    edges = [0, *sorted(min(at, len(data)) for at in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def test_a_stream_in_one_chunk():
    assert observe([STREAM]) == EVENTS


def test_a_stream_byte_by_byte():
    assert observe([bytes([byte]) for byte in STREAM]) == EVENTS


@examples
@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_chunking_gives_the_same_events(cuts):
    assert observe(cut(STREAM, cuts)) == EVENTS


def slowly(data):
    """The slow twin, after the WHATWG algorithm: whole stream at once, every line ending an LF."""
    text = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events, held = [], []
    for line in [*text.split(b"\n"), b""]:
        if not line:
            events += [b"\n".join(held)] if held else []
            held = []
        elif line == b"data" or line.startswith(b"data:"):
            value = line[5:]
            held.append(value[1:] if value.startswith(b" ") else value)
    return events


pieces = st.sampled_from(
    [
        b"data",
        b"data:",
        b"data: ",
        b":",
        b"a",
        b" ",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"\xc3",
        b"\xff",
    ]
)


@examples
@given(st.lists(pieces, max_size=30).map(b"".join), st.lists(st.integers(0, 90), max_size=6))
def test_arbitrary_streams_are_read_as_the_plain_algorithm_reads_them(data, cuts):
    assert observe(cut(data, cuts)) == slowly(data)


def test_an_event_counts_only_once_its_blank_line_is_there():
    observer = SseObserver()
    assert observer.feed(b"data: a\n") == []
    assert observer.feed(b"\ndata: b\n\nda") == [b"a", b"b"]
    assert observer.feed(b"") == []
    assert observer.close() == []


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize(
    "large",
    [
        b"data: " + b"x" * 200,
        b"\n".join([b"data: xxxxxxxxxx"] * 20),
        b"x" * 200,
        b"data: xxx\n: " + b"x" * 200,
    ],
    ids=["line", "lines", "name", "comment"],
)
def test_an_event_above_the_limit_is_stepped_over(large, step):
    data = b"data: a\n\n" + large + b"\ndata: tail\n\ndata: b\n\n"
    chunks = [data[at : at + step] for at in range(0, len(data), step)]
    assert observe(chunks, max_event_bytes=100) == [b"a", b"b"]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_an_event_of_just_the_limit_is_read_however_it_is_cut(end):
    line = b"data: " + b"x" * 10
    stream = (line + end + end) * 2
    for step in (1, 2, len(stream)):
        observer = SseObserver(max_event_bytes=len(line))
        chunks = (stream[at : at + step] for at in range(0, len(stream), step))
        assert [event for chunk in chunks for event in observer.feed(chunk)] == [b"x" * 10] * 2


def test_memory_is_bounded_on_an_endless_line():
    observer = SseObserver(max_event_bytes=1000)
    for _ in range(100):
        assert observer.feed(b"data: " + b"x" * 999) == []
        assert len(observer._line) <= 1000
    assert observer.feed(b"\n\ndata: b\n\n") == [b"b"]


@examples
@given(st.lists(pieces, max_size=30).map(b"".join), st.lists(st.integers(0, 90), max_size=6))
def test_blocks_joined_are_the_stream_and_hold_its_events(data, cuts):
    splitter = SseSplitter()
    blocks = [block for chunk in cut(data, cuts) for block in splitter.feed(chunk)]
    held = splitter.held_bytes
    rest = splitter.take()
    assert b"".join(line for block in [*blocks, rest] for line in block) == data
    assert held == len(b"".join(rest))
    payloads = [payload_of(block) for block in [*blocks, rest]]
    assert [payload for payload in payloads if payload is not None] == slowly(data)


def test_what_lies_between_events_is_given_at_once():
    splitter = SseSplitter()
    assert splitter.feed(b"\xef\xbb\xbf: a\r") == [[b"\xef\xbb\xbf"], [b": a\r"]]
    assert splitter.feed(b"\n\n:b") == [[b"\n"], [b"\n"]]
    assert splitter.feed(b"\nid: 1\n: c\n") == [[b":b\n"]]
    assert splitter.feed(b"\r") == [[b"id: 1\n", b": c\n", b"\r"]]
    assert splitter.feed(b"\ndata: 1\r") == [[b"\n"]]
    assert splitter.feed(b"\n") == []
    assert splitter.take() == [b"data: 1\r\n"]
