"""Answers in the caller's own wording where a policy asks for it, byte for byte where none does."""

import asyncio
import gzip
import json
import zlib
from contextlib import AsyncExitStack
from dataclasses import replace

import brotli
import pytest
import structlog
import zstandard
from driving import examples
from house import DropsX, InstantEngine, house, policies
from hypothesis import given
from hypothesis import strategies as st
from servers import (
    CHAT,
    JSON,
    PATIENCE_S,
    SSE,
    answer,
    call,
    chat,
    chunk,
    completion,
    connected,
    read_message,
    replies,
    request_bytes,
    streams,
    upstream,
)

from proxy.compress.recovery import Alignment
from proxy.gateway import Compression
from proxy.gateway.recovery import LIMIT_BYTES, Recovery
from proxy.ledger import Ended
from proxy.policy import Policy
from proxy.types import Mode, Reason
from proxy.upstream import Answer

ASKED = "Who? Wilhelm xConrad Röntgen in 1901"  # without the word that begins with x
SAID, MEANT = "Wilhelm Röntgen, 1901.", "Wilhelm xConrad Röntgen, 1901."
BODY, RECOVERED = completion(SAID), completion(MEANT)
RECOVERS = policies(
    Policy(name="audits", recover=True, mode=Mode.AUDIT), Policy(name="keeps"), recover=True
)
ENCODINGS = {
    "identity": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
    "gzip, br": lambda body: brotli.compress(gzip.compress(body)),
}


def recovers(far, **options):
    return house(far, **{"policy_set": RECOVERS} | options)


async def ask(home, body=None, headers=(JSON,)):
    return await call(home.port, "POST", CHAT, chat(ASKED) if body is None else body, headers)


def not_ours(message):
    return [pair for pair in message.headers if not pair[0].startswith("x-laconic-")]


# -- a body ----------------------------------------------------------------------------------------


async def test_the_callers_wording_comes_back_and_everyone_is_told():
    of_the_old = [("ETag", '"1"'), ("Content-MD5", "x"), ("Digest", "x"), ("Accept-Ranges", "none")]
    headers = [("x-request-id", "req_7"), *of_the_old, JSON, ("openai-version", "1")]
    async with upstream(replies(200, BODY, headers=headers)) as far, recovers(far) as home:
        got = await ask(home)
        entry = await home.ledger.entry()
    assert (got.status, got.body) == (200, RECOVERED)
    assert not_ours(got) == [
        headers[0],
        JSON,
        headers[-1],
        ("Content-Length", str(len(RECOVERED))),
    ]
    assert got.get("x-laconic-recovered") == "true"
    assert (entry.recovered, entry.bytes_out, entry.reason) == (True, len(RECOVERED), None)
    assert (entry.prompt_tokens, entry.completion_tokens) == (11, 3)


async def test_only_the_texts_of_the_answer_change():
    body = (
        b'{"seed": 1E400, "x":1, "x":2, "choices" : [ {"message":{"refusal":"Wilhelm R\\u00f6ntgen"'
        b',"content" : "Wilhelm R\\u00f6ntgen"} } ] , "note":"Wilhelm R\\u00f6ntgen"}\n'
    )
    async with upstream(replies(200, body, headers=[JSON])) as far, recovers(far) as home:
        got = await ask(home)
    assert got.body == body.replace(b'"content" : "Wilhelm R', b'"content" : "Wilhelm xConrad R')


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_an_encoded_answer_is_looked_into_and_goes_out_plain(encoding):
    headers = [JSON, ("Content-Encoding", encoding)]
    script = replies(200, ENCODINGS[encoding](BODY), headers=headers)
    async with upstream(script) as far, recovers(far) as home:
        got = await ask(home)
        entry = await home.ledger.entry()
    assert (got.body, got.get("content-encoding")) == (RECOVERED, None)
    assert (entry.recovered, entry.prompt_tokens) == (True, 11)


async def test_a_chunked_answer_gets_a_length():
    async def script(seen, wire):
        head = [JSON, ("Transfer-Encoding", "chunked")]
        await wire.send(answer(200, b"", headers=head, length=False))
        await wire.send(chunk(BODY[:40]) + chunk(BODY[40:]) + b"0\r\n\r\n")

    async with upstream(script) as far, recovers(far) as home:
        got = await ask(home)
    assert (got.body, not_ours(got)) == (RECOVERED, [JSON, ("Content-Length", str(len(RECOVERED)))])


AS_IT_CAME = {
    "nothing to bring back": (200, completion("Röntgen"), [JSON]),
    "measured": (200, BODY.replace(b'"index": 0', b'"index": 0, "logprobs": {}'), [JSON]),
    "not 200": (201, BODY, [JSON]),
    "another type": (200, BODY, [("Content-Type", "text/plain")]),
    "no type": (200, BODY, []),
    "not JSON": (200, BODY[:-1], [JSON]),
    "empty": (200, b"", [JSON]),
    "an unknown encoding": (200, BODY, [JSON, ("Content-Encoding", "x-own")]),
    "an encoding that lies": (200, BODY, [JSON, ("Content-Encoding", "gzip")]),
    "too large": (200, completion(SAID + " " * LIMIT_BYTES), [JSON]),
    "too large unpacked": (
        200,
        gzip.compress(completion(SAID + " " * LIMIT_BYTES)),
        [JSON, ("Content-Encoding", "gzip")],
    ),
    "a stream with an unknown encoding": (200, BODY, [SSE, ("Content-Encoding", "x-own")]),
}


@pytest.mark.parametrize(("status", "body", "headers"), AS_IT_CAME.values(), ids=AS_IT_CAME)
async def test_an_answer_that_is_not_edited_is_as_it_came(status, body, headers):
    headers = [*headers, ("ETag", '"1"')]
    async with upstream(replies(status, body, headers=headers)) as far, recovers(far) as home:
        got = await ask(home)
        entry = await home.ledger.entry()
    assert (got.status, got.body) == (status, body)
    assert not_ours(got) == [*headers, ("Content-Length", str(len(body)))]
    assert (got.get("x-laconic-recovered"), entry.recovered) == (None, False)


@pytest.mark.parametrize(
    ("text", "headers", "fallback"),
    [
        ("Wilhelm Röntgen in 1901", [], "on"),
        (ASKED, [("x-laconic-bypass", "true")], "on"),
        (ASKED, [], "audits"),
        (ASKED, [], "keeps"),
        ("Wilhelm Röntgen\nxConrad\n1901", [], "on"),
    ],
    ids=["not edited", "bypassed", "audit", "not asked for", "nothing but lines dropped"],
)
async def test_without_an_edit_or_the_policys_word_the_answer_is_the_upstreams(
    text, headers, fallback
):
    script = replies(200, BODY, headers=[JSON, ("ETag", '"1"')])
    async with upstream(script) as far, recovers(far, fallback=fallback) as home:
        got = await ask(home, chat(text), [JSON, *headers])
        entry = await home.ledger.entry()
    assert (got.body, got.get("etag")) == (BODY, '"1"')
    assert (got.get("x-laconic-recovered"), entry.recovered) == (None, False)


async def test_a_caller_that_asked_for_json_gets_the_upstreams():
    asked = chat(ASKED, response_format={"type": "json_object"})
    async with upstream(replies(200, BODY, headers=[JSON])) as far, recovers(far) as home:
        got = await ask(home, asked)
        text = await ask(home, chat(ASKED, response_format={"type": "text"}))
    assert far.seen[0].json()["messages"][0]["content"] == "Who? Wilhelm Röntgen in 1901"
    assert (got.body, text.body) == (BODY, RECOVERED)


def completed(text):
    """A text completion."""
    return json.dumps({"choices": [{"index": 0, "text": text, "finish_reason": "stop"}]}).encode()


def responded(text):
    """A response."""
    part = {"type": "output_text", "text": text, "annotations": []}
    return json.dumps({"output": [{"type": "message", "content": [part]}]}).encode()


def asked(field, **extra):
    return json.dumps({"model": "gpt-4o", field: ASKED, **extra}).encode()


@pytest.mark.parametrize(
    ("path", "field", "answered"),
    [("/v1/responses", "input", responded), ("/v1/completions", "prompt", completed)],
)
async def test_the_callers_wording_comes_back_from_every_endpoint(path, field, answered):
    async with upstream(replies(200, answered(SAID), headers=[JSON])) as far, recovers(far) as home:
        got = await call(home.port, "POST", path, asked(field), [JSON])
        entry = await home.ledger.entry()
    assert far.last.json()[field] == "Who? Wilhelm Röntgen in 1901"
    assert (got.body, entry.recovered) == (answered(MEANT), True)
    assert got.get("x-laconic-recovered") == "true"


async def test_a_stream_of_a_text_completion_is_recovered():
    pieces = [b"data: " + completed(text) + b"\n\n" for text in ("Wilhelm Rö", "ntgen, 1901.")]
    events = [piece.replace(b'"stop"', b"null") for piece in pieces]
    async with upstream(streams(*events)) as far, recovers(far) as home:
        body = asked("prompt", stream=True)
        got = await call(home.port, "POST", "/v1/completions", body, [JSON])
        entry = await home.ledger.entry()
    lines = [json.loads(line[6:]) for line in got.body.decode().split("\n\n") if line]
    assert "".join(line["choices"][0]["text"] for line in lines) == MEANT
    assert entry.recovered is True


def response_events(*texts):
    """A streamed response: a text in pieces, and whole."""
    kind = "response.output_text"
    where = {"output_index": 0, "content_index": 0}
    pieces = [{"type": f"{kind}.delta", **where, "delta": text} for text in texts]
    said = {"type": f"{kind}.done", **where, "text": "".join(texts)}
    whole = {"type": "response.completed", "response": json.loads(responded("".join(texts)))}
    events = [*pieces, said, whole | {"usage": None}]
    return [b"data: %s\n\n" % json.dumps(event).encode() for event in events]


@pytest.mark.parametrize("stream", [{"stream": True}, {}], ids=["asked for", "unasked"])
async def test_a_stream_of_a_response_is_recovered_in_its_pieces_and_as_a_whole(stream):
    events = response_events("Wilhelm Rö", "ntgen, 1901.")
    async with upstream(streams(*events)) as far, recovers(far) as home:
        got = await call(home.port, "POST", "/v1/responses", asked("input", **stream), [JSON])
        entry = await home.ledger.entry()
    lines = [json.loads(part) for part in payloads(got.body)]
    assert "".join(line.get("delta", "") for line in lines) == MEANT
    assert [line["text"] for line in lines if "text" in line] == [MEANT]
    assert lines[-1]["response"] == json.loads(responded(MEANT))
    assert got.get("x-laconic-recovered") == "true"
    assert (entry.recovered, entry.detail) == (True, None)


async def test_after_a_verbatim_resend_the_answer_is_the_upstreams():
    async def script(seen, wire):
        fine = b"xConrad" in seen.body
        await wire.send(answer(200 if fine else 400, BODY, headers=[JSON]))

    async with upstream(script) as far, recovers(far) as home:
        got = await ask(home)
        entry = await home.ledger.entry()
    assert (got.status, got.body, entry.reason) == (200, BODY, Reason.REFUSED_EDITED)
    assert (got.get("x-laconic-recovered"), entry.recovered) == (None, False)


async def test_a_body_that_breaks_off_breaks_off_for_the_caller_too():
    async def script(seen, wire):
        half = [JSON, ("Content-Length", str(len(BODY)))]
        await wire.send(answer(200, BODY[:60], headers=half, length=False))
        wire.writer.close()

    async with upstream(script) as far, recovers(far) as home:
        got = await ask(home)
        entry = await home.ledger.entry()
    assert (got.status, got.body, got.complete) == (200, BODY[:60], False)
    assert (entry.ended, entry.recovered) == (Ended.UPSTREAM_LOST, False)


async def test_a_caller_that_hangs_up_while_the_body_is_gathered_hangs_up_the_upstream():
    async def script(seen, wire):
        half = [JSON, ("Content-Length", str(len(BODY)))]
        await wire.send(answer(200, BODY[:60], headers=half, length=False))
        await wire.closed.wait()

    async with upstream(script) as far, recovers(far) as home, connected(home.port) as wire:
        await wire.send(request_bytes("POST", CHAT, chat(ASKED), [JSON]))
        await asyncio.wait_for(far.arrived.wait(), PATIENCE_S)
        wire.hang_up()
        await asyncio.wait_for(far.hung_up.wait(), PATIENCE_S)
        entry = await home.ledger.entry()
    assert (entry.ended, entry.status) == (Ended.CALLER_GONE, None)


# -- a stream --------------------------------------------------------------------------------------


def event(content=None, finish=None, **extra):
    delta = {} if content is None else {"content": content}
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps({"choices": choices, **extra}).encode() + b"\n\n"


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = [b": hi\n\n", event("Wilhelm Rö"), event("ntgen."), event(finish="stop"), USAGE, DONE]
STREAMED = [b": hi\n\n", event(""), event("Wilhelm xConrad Röntgen."), *STREAM[3:]]


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_stream_is_recovered_whatever_its_encoding(encoding):
    encoded = ENCODINGS[encoding](b"".join(STREAM))
    script = streams(encoded[:50], encoded[50:], headers=[("Content-Encoding", encoding)])
    async with upstream(script) as far, recovers(far) as home:
        got = await ask(home, chat(ASKED, stream=True))
        entry = await home.ledger.entry()
    assert got.body == b"".join(STREAMED)
    assert not_ours(got) == [SSE, ("Transfer-Encoding", "chunked")]
    assert got.get("x-laconic-recovered") == "true"
    assert (entry.recovered, entry.bytes_out) == (True, len(got.body))
    assert (entry.prompt_tokens, entry.completion_tokens) == (9, 3)


async def test_events_are_passed_on_as_they_come():
    seen_by_caller = asyncio.Event()

    async def script(seen, wire):
        head = [SSE, ("Transfer-Encoding", "chunked")]
        await wire.send(answer(200, b"", headers=head, length=False) + chunk(event("Ask Wilhelm ")))
        await asyncio.wait_for(seen_by_caller.wait(), PATIENCE_S)
        await wire.send(chunk(b"".join(STREAM[2:])) + b"0\r\n\r\n")

    async with upstream(script) as far, recovers(far) as home, connected(home.port) as wire:
        await wire.send(request_bytes("POST", CHAT, chat(ASKED, stream=True), [JSON]))
        await wire.until(event("Ask"))
        seen_by_caller.set()
        await wire.until(event(" Wilhelm ntgen."))


async def test_a_stream_in_which_nothing_comes_back_says_the_same():
    said = [event("Röntgen "), event("it"), event(" was.", finish="stop"), DONE]
    async with upstream(streams(*said)) as far, recovers(far) as home:
        got = await ask(home, chat(ASKED, stream=True))
        entry = await home.ledger.entry()
    texts = [json.loads(part)["choices"][0]["delta"]["content"] for part in payloads(got.body)]
    assert "".join(texts) == "Röntgen it was."
    assert entry.recovered is False


def payloads(body):
    return [part[6:] for part in body.split(b"\n\n") if part and part + b"\n\n" != DONE]


@pytest.mark.parametrize("encode", [bytes, gzip.compress], ids=["plain", "gzip"])
async def test_a_stream_that_breaks_off_is_aborted(encode):
    headers = [("Content-Encoding", "gzip")] if encode is gzip.compress else []
    script = streams(encode(b"".join(STREAM[:3])), headers=headers, finish=False)
    async with upstream(script) as far, recovers(far) as home:
        got = await ask(home, chat(ASKED, stream=True))
        entry = await home.ledger.entry()
    assert (got.body, got.complete) == (b"".join(STREAMED[:3]), False)
    assert (entry.ended, entry.recovered) == (Ended.UPSTREAM_LOST, True)


async def test_a_stream_whose_encoding_breaks_is_aborted():
    script = streams(b"not gzip", headers=[("Content-Encoding", "gzip")])
    async with upstream(script) as far, recovers(far) as home:
        got = await ask(home, chat(ASKED, stream=True))
        entry = await home.ledger.entry()
    assert (got.body, got.complete, entry.ended) == (b"", False, Ended.UPSTREAM_LOST)


# -- law 8: a fault of ours ------------------------------------------------------------------------

BROKEN = Alignment(words=("Wilhelm",), bridges=(), places={"Wilhelm": (0,), "Röntgen": (5,)})


async def recovered(*chunks, kind):
    """What a recovery that breaks at the second word of the name makes of an answer."""

    async def coming():
        for piece in chunks:
            yield piece

    compression = Compression(DropsX(), InstantEngine(), limit_bytes=1000)
    recovery = Recovery(BROKEN, compression.work)
    with structlog.testing.capture_logs() as lines:
        got = await recovery.of(Answer(200, "OK", (kind,), coming()))
        body = b"".join([piece async for piece in got.chunks])
    compression.close()
    assert [(line["event"], line["type"]) for line in lines] == [("recovery-fault", "IndexError")]
    assert "Wilhelm" not in str(lines)
    assert not recovery.changed
    return body


@pytest.mark.parametrize("body", [BODY, completion(SAID + " " * 10_000)], ids=["short", "long"])
async def test_a_body_in_which_recovery_breaks_goes_as_it_came(body):
    assert await recovered(body[:50], body[50:], kind=JSON) == body


async def test_a_stream_in_which_recovery_breaks_goes_on_as_it_comes():
    said = [event("It was Wilhelm "), event("Röntgen "), event("again."), DONE]
    rest = event(" Wilhelm ").replace(b'"content": ', b'"content":')
    assert await recovered(*said, kind=SSE) == b"".join([event("It was"), rest, *said[1:]])


class OnceOnly:
    """Edits that can be gone through once: splicing finds them, recovery does not."""

    def __init__(self, edits):
        self.edits = [edits]

    def __iter__(self):
        return iter(self.edits.pop())


class EditsOnce(DropsX):
    def compress(self, request, policy):
        compressed = yield from super().compress(request, policy)
        return replace(compressed, edits=OnceOnly(compressed.edits))


async def test_where_the_wording_cannot_be_found_the_edit_stands_and_the_answer_is_relayed():
    script = replies(200, BODY, headers=[JSON])
    async with upstream(script) as far, recovers(far, method=EditsOnce()) as home:
        got = await ask(home)
        entry = await home.ledger.entry()
    assert far.last.json()["messages"][0]["content"] == "Who? Wilhelm Röntgen in 1901"
    assert (got.body, entry.recovered, entry.reason) == (BODY, False, None)


# -- law 1: where nothing was edited ---------------------------------------------------------------

TEXTS = st.sampled_from(["Wilhelm", " Röntgen", "xConrad", ", ", "1901", "\n", "\ud83d"])
SAYINGS = st.lists(TEXTS, max_size=6).map("".join)
BODIES = st.one_of(
    SAYINGS.map(completion),
    SAYINGS.map(lambda text: gzip.compress(completion(text))),
    st.lists(SAYINGS.map(event) | st.just(DONE) | st.just(b": x\n"), max_size=6).map(b"".join),
    st.binary(max_size=100),
)


@pytest.fixture(scope="module")
def unedited():
    """Sends one request with nothing to drop through a long-lived proxy that recovers answers."""
    replying = {}

    async def script(seen, wire):
        await wire.send(answer(200, replying["body"], headers=replying["headers"]))

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def start():
            far = await stack.enter_async_context(upstream(script))
            home = await stack.enter_async_context(recovers(far))
            return await stack.enter_async_context(connected(home.port))

        async def send(body, headers):
            replying.update(body=body, headers=headers)
            await wire.send(request_bytes("POST", CHAT, chat("Wilhelm Röntgen 1901"), [JSON]))
            return await read_message(wire, answers="POST")

        wire = runner.run(start())
        yield lambda body, headers: runner.run(send(body, headers))
        runner.run(stack.aclose())


@examples(100)
@given(BODIES, st.sampled_from([JSON, SSE]), st.sampled_from([[], [("Content-Encoding", "gzip")]]))
def test_the_answer_to_an_unedited_request_is_the_upstreams_to_the_bit(
    unedited, body, kind, encoding
):
    headers = [kind, *encoding, ("ETag", '"1"'), ("Digest", "x")]
    got = unedited(body, headers)
    assert got.body == body
    assert not_ours(got) == [*headers, ("Content-Length", str(len(body)))]
