"""Every endpoint with text, on the wire: caller sends -> upstream saw -> caller got -> ledger."""

import json

import pytest
from house import house
from servers import JSON, call, replies, streams, upstream

from proxy.types import Reason

# What is sent, and what is left of it once the words that begin with x are dropped.
EDITED = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "keep xdrop"}]}),
    ("/v1/responses", {"input": "keep xdrop"}),
    ("/v1/responses", {"input": [{"role": "user", "content": "keep xdrop"}]}),
    (
        "/v1/responses",
        {"input": [{"type": "function_call_output", "call_id": "c", "output": "keep xdrop"}]},
    ),
    ("/v1/responses", {"instructions": "keep xdrop", "previous_response_id": "r"}),
    ("/v1/completions", {"prompt": "keep xdrop"}),
    ("/v1/completions", {"prompt": ["keep xdrop", "keep"]}),
]


def written(body):
    return json.dumps({"model": "gpt-4o", **body, "big": 10**25}).encode()


@pytest.mark.parametrize(("path", "body"), EDITED)
async def test_only_the_edited_string_differs(path, body):
    async with upstream() as far, house(far) as home:
        got = await call(home.port, "POST", path, written(body), [JSON])
        entry = await home.ledger.entry()
    assert far.last.body == written(body).replace(b" xdrop", b"")
    assert (far.last.target, got.status) == (path, 200)
    assert got.get("x-laconic-tokens-saved") == "1"
    assert (entry.path, entry.tokens_saved, entry.model) == (path, 1, "gpt-4o")


@pytest.mark.parametrize(
    "target",
    [
        "/responses",
        "/openai/responses?api-version=2025-04-01-preview",
        "/openai/v1/responses?api-version=preview",
        "/v1/completions",
        "/openai/deployments/d/completions?api-version=2024-10-21",
    ],
)
async def test_an_endpoint_is_understood_wherever_it_is(target):
    body = written({"input": "keep xdrop", "prompt": "keep xdrop"})
    async with upstream() as far, house(far) as home:
        got = await call(home.port, "POST", target, body, [JSON])
    assert got.get("x-laconic-tokens-saved") == "1"
    assert far.last.target == target


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("/v1/responses", {"input": 7}, Reason.UNPARSED),
        ("/v1/completions", {"prompt": [[1, 2], [3]]}, Reason.UNPARSED),
        ("/v1/completions", {"prompt": [1, 2]}, Reason.UNPARSED),
        ("/v1/completions", {"prompt": "xdrop", "echo": True}, Reason.UNPARSED),
        ("/v1/completions", {"prompt": "xdrop", "suffix": "x"}, Reason.UNPARSED),
        ("/v1/chat/completions", {"input": "xdrop"}, Reason.UNPARSED),
    ],
)
async def test_what_is_not_for_us_goes_as_it_came(path, body, reason):
    async with upstream() as far, house(far) as home:
        await call(home.port, "POST", path, written(body), [JSON])
        entry = await home.ledger.entry()
    assert (far.last.body, entry.reason) == (written(body), reason)


@pytest.mark.parametrize(
    "target",
    [
        "/v1/responses/compact",
        "/v1/responses/input_tokens",
        "/v1/responses/resp_1/cancel",
        "/v1/embeddings",
        "/v1/batches",
        "/v1/audio/speech",
        "/v1/images/generations",
        "/v1/conversations/c/items",
        "/v2/whatever",
    ],
)
async def test_every_other_path_passes_unread(target):
    body = written({"input": "keep xdrop", "messages": [{"role": "user", "content": "xdrop"}]})
    async with upstream() as far, house(far) as home:
        got = await call(home.port, "POST", target, body, [JSON])
        entry = await home.ledger.entry()
    assert (far.last.body, far.last.target) == (body, target)
    assert (got.get("x-laconic-policy"), entry.policy, entry.path) == (None, None, target)


@pytest.mark.parametrize(("path", "body"), EDITED)
async def test_a_refused_edit_is_sent_once_more_as_it_came(path, body):
    refusal = replies(422, b'{"error": {}}', headers=[JSON], reason="No")
    async with upstream(refusal, replies(200, b"{}", headers=[JSON])) as far, house(far) as home:
        got = await call(home.port, "POST", path, written(body), [JSON])
        entry = await home.ledger.entry()
    assert [seen.body for seen in far.seen] == [
        written(body).replace(b" xdrop", b""),
        written(body),
    ]
    assert (got.status, entry.resent, entry.reason) == (200, True, Reason.REFUSED_EDITED)
    assert home.method.kept_verbatim == [written(body)]


USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 3,
    "output_tokens_details": {"reasoning_tokens": 1},
    "total_tokens": 12,
}


def event(kind, **fields):
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


@pytest.mark.parametrize("last", ["completed", "incomplete", "failed"])
async def test_the_usage_of_a_responses_stream_is_in_the_ledger(last):
    events = [
        event("response.created", response={"id": "r", "usage": None}),
        event("response.output_text.delta", delta="Half past two."),
        event(f"response.{last}", response={"id": "r", "status": last, "usage": USAGE}),
    ]
    body = written({"input": "keep xdrop", "stream": True})
    async with upstream(streams(*events)) as far, house(far) as home:
        got = await call(home.port, "POST", "/v1/responses", body, [JSON])
        entry = await home.ledger.entry()
    assert got.body == b"".join(events)
    assert (entry.stream, entry.prompt_tokens, entry.completion_tokens) == (True, 9, 3)
    assert entry.cached_tokens == 4


async def test_the_usage_of_a_response_is_in_the_ledger():
    body = json.dumps({"id": "r", "object": "response", "usage": USAGE}).encode()
    async with upstream(replies(200, body, headers=[JSON])) as far, house(far) as home:
        got = await call(home.port, "POST", "/v1/responses", written({"input": "a"}), [JSON])
        entry = await home.ledger.entry()
    assert got.body == body
    assert (entry.prompt_tokens, entry.completion_tokens, entry.cached_tokens) == (9, 3, 4)


async def test_a_refusal_for_length_is_the_callers_to_see():
    error = b'{"error": {"code": "context_length_exceeded"}}'
    body = written({"input": "keep xdrop"})
    async with upstream(replies(400, error, headers=[JSON])) as far, house(far) as home:
        got = await call(home.port, "POST", "/v1/responses", body, [JSON])
    assert (got.status, got.body, len(far.seen)) == (400, error, 1)
