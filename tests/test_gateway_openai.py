"""The official client, unchanged but for its base URL, cannot tell the proxy from the upstream."""

import asyncio
import gzip
import json
from contextlib import asynccontextmanager

import httpx
import openai
import pytest
from house import house, policies
from servers import JSON, answer, chunk, completion, replies, streams, upstream

from proxy.ledger import Ended

MESSAGES = [{"role": "user", "content": "keep xdrop this"}]


def client(base, **options):
    """A client that looks at no environment and does not retry."""
    return openai.AsyncOpenAI(
        base_url=base + "/v1",
        api_key="sk-test",
        max_retries=0,
        http_client=httpx.AsyncClient(trust_env=False, **options),
    )


@asynccontextmanager
async def between(*scripts):
    """An upstream, the proxy before it, and a client that calls the proxy."""
    async with upstream(*scripts) as far, house(far) as home, client(home.url) as caller:
        yield far, home, caller


def create(caller, **options):
    return caller.chat.completions.create(model="gpt-4o", messages=MESSAGES, **options)


async def said(stream, into=None):
    """The words of a stream, also into a list that survives an error."""
    words = [] if into is None else into
    async for part in stream:
        words += [choice.delta.content for choice in part.choices]
    return words


def event(delta=None, **extra):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": None}]
    data = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o",
        "choices": choices,
        **extra,
    }
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def packed(*events):
    """A stream that is compressed as a whole."""
    return streams(gzip.compress(b"".join(events)), headers=[("Content-Encoding", "gzip")])


WORDS = ("Hel", "lo ", "wörld")
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
STREAM = [*(event({"content": word}) for word in WORDS), event(usage=USAGE), b"data: [DONE]\n\n"]


async def test_a_completion():
    async with between() as (far, _, caller):
        got = await create(caller)
    assert got.choices[0].message.content == "hi"
    assert got.usage.total_tokens == 14
    assert far.last.json()["messages"][0]["content"] == "keep this"
    assert far.last.get("authorization") == "Bearer sk-test"


@pytest.mark.parametrize("sent", [streams, packed], ids=["plain", "gzip"])
async def test_the_stream_loop(sent):
    async with between(sent(*STREAM)) as (_, home, caller):
        words = await said(await create(caller, stream=True))
        entry = await home.ledger.entry()
    assert words == list(WORDS)
    assert (entry.stream, entry.prompt_tokens, entry.completion_tokens) == (True, 9, 3)


NAMED = [{"role": "user", "content": "Who? Wilhelm xConrad Röntgen in 1901"}]


def recovers(far):
    return house(far, policy_set=policies(recover=True))


async def test_a_recovered_completion():
    script = replies(200, completion("Wilhelm Röntgen."), headers=[JSON])
    async with upstream(script) as far, recovers(far) as home, client(home.url) as caller:
        got = await caller.chat.completions.create(model="gpt-4o", messages=NAMED)
    assert far.last.json()["messages"][0]["content"] == "Who? Wilhelm Röntgen in 1901"
    assert got.choices[0].message.content == "Wilhelm xConrad Röntgen."
    assert got.usage.total_tokens == 14


@pytest.mark.parametrize("sent", [streams, packed], ids=["plain", "gzip"])
async def test_a_recovered_stream(sent):
    end = event(usage=USAGE)
    events = [event({"role": "assistant", "content": ""}), event({"content": "Wilhelm "})]
    script = sent(*events, event({"content": "Röntgen"}), end, b"data: [DONE]\n\n")
    async with upstream(script) as far, recovers(far) as home, client(home.url) as caller:
        asked = {"model": "gpt-4o", "messages": NAMED, "stream": True}
        words = await said(await caller.chat.completions.create(**asked))
        entry = await home.ledger.entry()
    assert words == ["", "", "", "Wilhelm xConrad Röntgen"]
    assert (entry.recovered, entry.prompt_tokens, entry.completion_tokens) == (True, 9, 3)


async def test_the_clients_own_sum_of_a_recovered_stream_is_whole():
    """It adds up what deltas say of a choice: nothing but text may come twice."""
    call = {"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    delta = {"role": "assistant", "content": "Wilhelm Röntgen", "tool_calls": [call]}
    end = event({}).replace(b'"finish_reason": null', b'"finish_reason": "tool_calls"')
    script = streams(event(delta), end, b"data: [DONE]\n\n")
    async with (
        upstream(script) as far,
        recovers(far) as home,
        client(home.url) as caller,
        caller.chat.completions.stream(model="gpt-4o", messages=NAMED) as stream,
    ):
        (choice,) = (await stream.get_final_completion()).choices
    assert (choice.message.role, choice.message.content) == ("assistant", "Wilhelm xConrad Röntgen")
    assert [tool.function.arguments for tool in choice.message.tool_calls] == ["{}"]


async def test_a_stream_that_breaks_off_is_an_error_not_an_end():
    words = []
    async with between(streams(*STREAM[:2], finish=False)) as (_, home, caller):
        stream = await create(caller, stream=True)
        with pytest.raises((openai.APIError, httpx.RemoteProtocolError)):
            await said(stream, into=words)
        entry = await home.ledger.entry()
    assert words == list(WORDS[:2])
    assert entry.ended is Ended.UPSTREAM_LOST


async def test_a_stream_that_the_caller_closes_closes_the_upstreams():
    async def script(seen, wire):
        head = [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")]
        await wire.send(answer(200, b"", headers=head, length=False) + chunk(STREAM[0]))
        await wire.closed.wait()

    async with between(script) as (far, home, caller):
        stream = await create(caller, stream=True)
        await anext(aiter(stream))
        await stream.close()
        await asyncio.wait_for(far.hung_up.wait(), 0.5)
        entry = await home.ledger.entry()
    assert entry.ended is Ended.CALLER_GONE


async def test_with_raw_response_shows_the_upstreams_headers_and_ours():
    headers = [JSON, ("x-request-id", "req_7"), ("openai-processing-ms", "12")]
    async with between(replies(200, completion(), headers=headers)) as (_, _, caller):
        raw = await caller.chat.completions.with_raw_response.create(
            model="gpt-4o", messages=MESSAGES
        )
    assert raw.request_id == "req_7"
    assert raw.headers["openai-processing-ms"] == "12"
    assert raw.headers["x-laconic-tokens-saved"] == "1"
    assert raw.parse().choices[0].message.content == "hi"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
async def test_errors_are_what_they_would_be_directly(status, kind):
    headers = [JSON, ("x-request-id", "req_8"), ("retry-after", "17")]
    body = b'{"error": {"message": "no", "type": "t", "param": "p", "code": "c"}}'
    script = replies(status, body, headers=headers, reason="No")
    async with between(script) as (_, _, caller):
        with pytest.raises(kind) as raised:
            await create(caller)
    error = raised.value
    assert (error.status_code, error.request_id, error.code) == (status, "req_8", "c")
    assert error.response.headers["retry-after"] == "17"
    assert error.body == {"message": "no", "type": "t", "param": "p", "code": "c"}


async def test_our_own_errors_are_errors_of_the_client_too():
    async with house("http://127.0.0.1:1") as home, client(home.url) as caller:
        with pytest.raises(openai.InternalServerError) as raised:
            await create(caller)
    assert (raised.value.status_code, raised.value.code) == (502, "upstream_unavailable")
    assert raised.value.response.headers["x-laconic-origin"] == "proxy"


async def test_a_refused_edit_is_never_noticed():
    async def script(seen, wire):
        if b"xdrop" in seen.body:
            await streams(*STREAM)(seen, wire)
        else:
            await wire.send(answer(400, b'{"error": {}}', headers=[JSON], reason="No"))

    async with between(script) as (_, home, caller):
        words = await said(await create(caller, stream=True))
        entry = await home.ledger.entry()
    assert words == list(WORDS)
    assert (entry.resent, entry.prompt_tokens) == (True, 9)


async def test_other_endpoints_pass_through():
    model = {"id": "m", "object": "model", "created": 1, "owned_by": "o"}
    models = json.dumps({"object": "list", "data": [model]}).encode()
    async with between(replies(200, models, headers=[JSON])) as (far, _, caller):
        got = await caller.models.list()
    assert [model.id for model in got.data] == ["m"]
    assert far.last.target == "/v1/models"


async def test_a_file_is_uploaded_as_it_is():
    content = b"\x00\xff" * 100_000
    async with between(replies(200, b'{"id": "f"}', headers=[JSON])) as (far, _, caller):
        await caller.files.create(file=("a.bin", content), purpose="batch")
    assert content in far.last.body
    assert far.last.get("content-type").startswith("multipart/form-data; boundary=")
