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


# -- responses and completions --------------------------------------------------------------------


def response(text="hi", *more, **extra):
    """A response, as OpenAI would write it."""
    said = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "gpt-4o",
        "status": "completed",
        "output": [said, *more],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 9,
            "input_tokens_details": {"cached_tokens": 2},
            "output_tokens": 3,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 12,
        },
        **extra,
    }


def replies_json(value):
    return replies(200, json.dumps(value).encode(), headers=[JSON])


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("keep xdrop this", "keep this"),
        (
            [{"role": "user", "content": [{"type": "input_text", "text": "keep xdrop this"}]}],
            [{"role": "user", "content": [{"type": "input_text", "text": "keep this"}]}],
        ),
    ],
)
async def test_a_response(given, sent):
    async with between(replies_json(response())) as (far, home, caller):
        got = await caller.responses.create(
            model="gpt-4o", input=given, instructions="Be xtra brief"
        )
        entry = await home.ledger.entry()
    assert (got.output_text, got.usage.total_tokens) == ("hi", 12)
    assert far.last.json() == {"model": "gpt-4o", "input": sent, "instructions": "Be brief"}
    assert (entry.tokens_saved, entry.prompt_tokens, entry.cached_tokens) == (2, 9, 2)


async def test_a_tools_round_trip():
    call = {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": "find",
        "arguments": '{"q": "xray"}',
        "status": "completed",
    }
    scripts = replies_json(response("", call)), replies_json(response("found"))
    async with between(*scripts) as (far, _, caller):
        asked = [{"role": "user", "content": "xplease look"}]
        first = await caller.responses.create(model="gpt-4o", input=asked)
        result = {"type": "function_call_output", "call_id": "call_1", "output": "a xb c"}
        history = [*asked, *(item.to_dict() for item in first.output), result]
        second = await caller.responses.create(model="gpt-4o", input=history)
    assert second.output_text == "found"
    *_, made, answered = far.last.json()["input"]
    assert made["arguments"] == '{"q": "xray"}'
    assert answered == {**result, "output": "a c"}


async def test_a_response_that_follows_another():
    async with between(replies_json(response())) as (far, _, caller):
        await caller.responses.create(
            model="gpt-4o", input="keep xdrop", previous_response_id="resp_0"
        )
    assert far.last.json() == {
        "model": "gpt-4o",
        "input": "keep",
        "previous_response_id": "resp_0",
    }


def responses_event(kind, **fields):
    data = json.dumps({"type": kind, "sequence_number": 0, **fields})
    return f"event: {kind}\ndata: {data}\n\n".encode()


@pytest.mark.parametrize("sent", [streams, packed], ids=["plain", "gzip"])
async def test_the_loop_over_a_responses_stream(sent):
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    deltas = [
        responses_event("response.output_text.delta", delta=word, logprobs=[], **place)
        for word in WORDS
    ]
    whole = response("".join(WORDS))
    start = responses_event("response.created", response=response(status="in_progress"))
    events = [start, *deltas, responses_event("response.completed", response=whole)]
    async with between(sent(*events)) as (far, home, caller):
        stream = await caller.responses.create(model="gpt-4o", input="keep xdrop this", stream=True)
        got = [part async for part in stream]
        entry = await home.ledger.entry()
    said = [part.delta for part in got if part.type == "response.output_text.delta"]
    assert (said, got[-1].response.output_text) == (list(WORDS), "".join(WORDS))
    assert far.last.json()["input"] == "keep this"
    assert (entry.stream, entry.prompt_tokens, entry.completion_tokens) == (True, 9, 3)


def text_completion(text="hi", **extra):
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "gpt-3.5-turbo-instruct",
        "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
        **extra,
    }


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("keep xdrop this", "keep this"),
        (["keep xdrop", "xa and b"], ["keep", " and b"]),
        ([1, 2, 3], [1, 2, 3]),
        ([[1], [2, 3]], [[1], [2, 3]]),
    ],
)
async def test_a_text_completion(given, sent):
    async with between(replies_json(text_completion())) as (far, home, caller):
        got = await caller.completions.create(model="gpt-3.5-turbo-instruct", prompt=given)
        entry = await home.ledger.entry()
    assert got.choices[0].text == "hi"
    assert far.last.json() == {"model": "gpt-3.5-turbo-instruct", "prompt": sent}
    assert (entry.prompt_tokens, entry.completion_tokens) == (9, 3)


async def test_the_loop_over_a_completions_stream():
    parts = [text_completion(word, usage=None) for word in WORDS]
    events = [f"data: {json.dumps(part)}\n\n".encode() for part in parts]
    async with between(streams(*events, b"data: [DONE]\n\n")) as (_, _, caller):
        stream = await caller.completions.create(
            model="gpt-3.5-turbo-instruct", prompt="keep xdrop", stream=True
        )
        words = [part.choices[0].text async for part in stream]
    assert words == list(WORDS)


async def test_azures_client():
    scripts = replies_json(response()), replies(200, completion(), headers=[JSON])
    async with upstream(*scripts) as far, house(far) as home:
        azure = openai.AsyncAzureOpenAI(
            azure_endpoint=home.url,
            api_key="k",
            api_version="2025-04-01-preview",
            max_retries=0,
            http_client=httpx.AsyncClient(trust_env=False),
        )
        async with azure as caller:
            got = await caller.responses.create(model="gpt-4o", input="keep xdrop")
            answered = await create(caller)
    assert (got.output_text, answered.choices[0].message.content) == ("hi", "hi")
    assert [seen.target for seen in far.seen] == [
        "/openai/responses?api-version=2025-04-01-preview",
        "/openai/deployments/gpt-4o/chat/completions?api-version=2025-04-01-preview",
    ]
    assert [seen.get("api-key") for seen in far.seen] == ["k", "k"]
    first, second = (seen.json() for seen in far.seen)
    assert (first["input"], second["messages"][0]["content"]) == ("keep", "keep this")
