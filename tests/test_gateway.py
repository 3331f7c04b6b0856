"""Chat requests: what is edited, what goes as it came, and what happens when something breaks."""

import asyncio
import gzip
import json
import threading
from concurrent.futures import Future

import pytest
import zstandard
from house import DropsX, InstantEngine, house, policies
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
    read_message,
    replies,
    request_bytes,
    upstream,
)

from proxy.app import COMPRESSION
from proxy.compress.ports import ScoreRequest, Scores
from proxy.errors import DeadlineExceeded, Overloaded, PolicyError, ScorerFailed
from proxy.gateway.conversation import arm_of
from proxy.ledger import Ended
from proxy.policy import Allow, Policy
from proxy.tokens import encoding_for
from proxy.types import Arm, Mode, Reason
from proxy.wire import endpoint_for

ASKED = "keep xdrop this"


def content(seen):
    return seen.json()["messages"][0]["content"]


async def ask(home, body=None, headers=(JSON,)):
    return await call(home.port, "POST", CHAT, chat(ASKED) if body is None else body, headers)


def told(got):
    return {name: value for name, value in got.headers if name.startswith("x-laconic-")}


async def test_a_conversation_is_read_on_from_where_it_was():
    """And what is sent is what it would be, had nothing come before it."""
    asked = [{"role": "user", "content": ASKED}]
    answered = [*asked, {"role": "assistant", "content": "In Greece."}, *asked]
    bodies = [json.dumps({"messages": m}).encode() for m in (asked, answered, asked)]
    async with upstream() as far, house(far) as home:
        for body in bodies:
            await ask(home, body)
        known = home.app[COMPRESSION]._beginnings.usage
    assert (known.hits, known.misses, known.entries) == (2, 1, 1)
    contents = [[m["content"] for m in seen.json()["messages"]] for seen in far.seen]
    assert contents == [["keep this"], ["keep this", "In Greece.", "keep this"], ["keep this"]]


# -- what is edited, and who is told ---------------------------------------------------------------


async def test_only_the_edited_string_changes_and_everyone_is_told():
    body = (
        b'{"seed": 1E400, "model":"gpt-4o", "x":1, "x":2,\n "messages":'
        b'[{"content" : "keep \\u00e9 xdrop \\/this", "role":"user"} ] }'
    )
    async with upstream() as far, house(far) as home:
        got = await ask(home, body)
        entry = await home.ledger.entry()
    assert far.last.body == body.replace(b" xdrop", b"")
    assert far.last.get("content-length") == str(len(far.last.body))
    compress_ms = told(got).pop("x-laconic-compress-ms")
    assert told(got) == {
        "x-laconic-request-id": entry.request_id,
        "x-laconic-policy": "on",
        "x-laconic-tokens-before": "4",
        "x-laconic-tokens-after": "3",
        "x-laconic-tokens-saved": "1",
        "x-laconic-rate": "0.75",
        "x-laconic-compress-ms": compress_ms,
    }
    assert (entry.tokens_before, entry.tokens_after, entry.first_saved) == (4, 3, 1)
    assert (entry.route, entry.policy, entry.mode, entry.model) == (
        "fallback",
        "on",
        Mode.ON,
        "gpt-4o",
    )
    assert (entry.status, entry.ended, entry.reason) == (200, Ended.COMPLETE, None)
    assert (entry.prompt_tokens, entry.completion_tokens) == (11, 3)
    assert (entry.bytes_in, entry.bytes_out) == (len(body), len(completion()))
    assert (entry.queue_ms, entry.model_ms) == (1.0, 2.0)
    assert len(home.ledger.entries) == 1


async def test_a_request_with_nothing_to_drop_goes_as_it_came():
    body = chat("keep this")
    async with upstream() as far, house(far) as home:
        got = await ask(home, body)
    assert far.last.body == body
    assert got.get("x-laconic-tokens-saved") == "0"


async def test_audit_measures_and_forwards_the_original():
    async with upstream() as far, house(far, fallback="audit") as home:
        got = await ask(home)
        entry = await home.ledger.entry()
    assert far.last.body == chat(ASKED)
    assert (entry.reason, entry.tokens_before, entry.tokens_after) == (Reason.AUDIT, 3, 2)
    assert got.get("x-laconic-reason") == "audit"


async def test_off_says_so_and_counts_nothing():
    async with upstream() as far, house(far, fallback="off") as home:
        got = await ask(home)
        entry = await home.ledger.entry()
    assert far.last.body == chat(ASKED)
    assert (told(got)["x-laconic-policy"], told(got)["x-laconic-reason"]) == ("off", "off")
    assert entry.tokens_before is None
    assert "x-laconic-tokens-before" not in told(got)


async def test_a_held_out_conversation_goes_as_it_came_at_every_turn():
    compared = policies(holdout=0.5)
    later = [{"role": "assistant", "content": "ok"}, {"role": "user", "content": "more xdrop"}]
    async with upstream() as far, house(far, policy_set=compared) as home:
        for number in range(8):
            first = json.loads(chat(f"keep xdrop {number}"))
            for more in ([], later):
                messages = [*first["messages"], *more]
                await ask(home, json.dumps({**first, "messages": messages}).encode())
        entries = [await home.ledger.entry(n) for n in range(1, 17)]
    arms = [entry.arm for entry in entries]
    assert arms[::2] == arms[1::2]
    assert set(arms) == {Arm.COMPRESSED, Arm.HELD_OUT}
    for seen, entry in zip(far.seen, entries, strict=True):
        assert (entry.reason is Reason.HELD_OUT) == (entry.arm is Arm.HELD_OUT)
        assert (b"xdrop" in seen.body) == (entry.arm is Arm.HELD_OUT)
        assert entry.tokens_before is not None
        assert (entry.tokens_saved == 0) == (entry.arm is Arm.HELD_OUT)
    assert len({entry.conversation for entry in entries}) == 8


async def test_what_is_held_out_is_counted_as_a_whole():
    text = next(text for n in range(99) if _is_held_out(text := f"keep xdrop {n}"))
    async with upstream() as far, house(far, policy_set=policies(holdout=0.5)) as home:
        got = await ask(home, chat(text))
        entry = await home.ledger.entry()
    tokens = encoding_for("gpt-4o").count(text)
    assert (entry.tokens_before, entry.tokens_after, entry.encoding) == (
        tokens,
        tokens,
        "o200k_base",
    )
    assert (got.get("x-laconic-reason"), got.get("x-laconic-tokens-before")) == ("held-out", None)


def _is_held_out(text):
    return arm_of(endpoint_for(chat(text)).parse(chat(text)), 0.5) is Arm.HELD_OUT


async def test_the_host_that_a_request_went_to_is_in_the_ledger():
    async with upstream() as far, house(far) as home:
        await ask(home)
        entry = await home.ledger.entry()
    assert entry.upstream_host == "127.0.0.1"


async def test_the_caller_may_bypass():
    async with upstream() as far, house(far) as home:
        got = await ask(home, None, [JSON, ("x-laconic-bypass", "true")])
    assert far.last.body == chat(ASKED)
    assert got.get("x-laconic-reason") == "bypassed"


async def test_the_caller_may_choose_a_policy():
    async with upstream() as far, house(far, fallback="off") as home:
        got = await ask(home, None, [JSON, ("X-Laconic-Policy", "on")])
    assert content(far.last) == "keep this"
    assert got.get("x-laconic-policy") == "on"


async def test_a_bypass_that_is_not_allowed_is_ignored_and_noted():
    strict = policies(Policy(name="strict", allow=Allow(bypass=False)))
    async with upstream() as far, house(far, fallback="strict", policy_set=strict) as home:
        await ask(home, None, [JSON, ("x-laconic-bypass", "true")])
        entry = await home.ledger.entry()
    assert content(far.last) == "keep this"
    assert entry.detail == "x-laconic-bypass ignored: policy strict does not allow it"


@pytest.mark.parametrize(
    "header",
    [
        ("x-laconic-policy", "nope"),
        ("x-laconic-rate", "2"),
        ("x-laconic-rate", "much"),
        ("x-laconic-bypass", "perhaps"),
    ],
)
async def test_a_wrong_header_of_ours_is_a_400(header):
    async with upstream() as far, house(far) as home:
        got = await ask(home, None, [JSON, header])
        entry = await home.ledger.entry()
    assert (got.status, got.get("x-laconic-origin"), far.seen) == (400, "proxy", [])
    assert header[0] in got.json()["error"]["message"]
    assert (entry.status, entry.ended) == (400, Ended.ERROR)


async def test_a_reload_never_changes_a_request_half_way():
    asked, answer = asyncio.Event(), Future()

    class Waits(InstantEngine):
        def submit(self, request, *, within_s=None):
            asked.set()
            return answer

    async with upstream() as far, house(far, engine=Waits()) as home:
        first = asyncio.create_task(ask(home))
        await asyncio.wait_for(asked.wait(), PATIENCE_S)
        home.store.replace({"off.yaml": "mode: off", "routes.yaml": "fallback: off"})
        answer.set_result(Scores())
        assert (await first).get("x-laconic-policy") == "on"


# -- bad input -------------------------------------------------------------------------------------


BAD = {
    "empty": b"",
    "malformed": b'{"messages": [',
    "not json": b"\x00\xff",
    "utf-16": '{"messages": []}'.encode("utf-16"),
    "a list": b"[]",
    "messages of a wrong type": b'{"messages": "hi"}',
    "message of a wrong type": b'{"messages": [1]}',
    "content of a wrong type": b'{"messages": [{"role": "user", "content": 7}]}',
    "no messages": b'{"model": "gpt-4o"}',
    "messages twice": b'{"messages": [], "messages": []}',
    "content twice": b'{"messages": [{"role": "user", "content": "x", "content": "x"}]}',
    "deep": b'{"messages": ' + b"[" * 100_000,
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
async def test_what_we_cannot_read_gets_the_upstreams_own_answer(body):
    refusal = b'{"error": {"message": "We could not parse the JSON body"}}'
    async with upstream(replies(400, refusal, reason="Bad Request")) as far, house(far) as home:
        got = await ask(home, body)
        entry = await home.ledger.entry()
    assert (got.status, got.body, far.last.body) == (400, refusal, body)
    assert len(far.seen) == 1
    assert entry.reason in (Reason.UNPARSED, Reason.DUPLICATE_KEY)
    assert entry.status == 400


FINE = {
    "empty messages": {"messages": []},
    "unknown fields and roles": {"messages": [{"role": "critic", "content": "hi", "n": 1}], "z": 1},
    "lone surrogate": {"messages": [{"role": "user", "content": "a \ud83d b"}]},
    "special token": {"messages": [{"role": "user", "content": "a <|endoftext|> b"}]},
    "null content": {"messages": [{"role": "assistant", "content": None}]},
}


@pytest.mark.parametrize("body", FINE.values(), ids=FINE)
async def test_strange_but_fair_requests_pass(body):
    raw = json.dumps(body).encode()
    async with upstream() as far, house(far) as home:
        got = await ask(home, raw)
    assert (got.status, far.last.body) == (200, raw)


async def test_ten_thousand_messages_pass():
    messages = [{"role": "user", "content": f"keep {n} xdrop"} for n in range(10_000)]
    async with upstream() as far, house(far) as home:
        got = await ask(home, json.dumps({"messages": messages}).encode())
    assert got.status == 200
    assert [m["content"] for m in far.last.json()["messages"]] == [
        f"keep {n}" for n in range(10_000)
    ]


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_beyond_the_limit_is_a_413(announced):
    body = chat("y" * 200_000)
    async with (
        upstream() as far,
        house(far, max_body_bytes=100_000) as home,
        connected(home.port) as wire,
    ):
        if announced:
            await wire.send(request_bytes("POST", CHAT, body, [JSON]))
        else:
            head = request_bytes("POST", CHAT, None, [JSON, ("Transfer-Encoding", "chunked")])
            await wire.send(head + chunk(body) + b"0\r\n\r\n")
        got = await read_message(wire, answers="POST")
        entry = await home.ledger.entry()
    assert (got.status, got.get("x-laconic-origin"), far.seen) == (413, "proxy", [])
    assert got.json()["error"]["code"] == "request_too_large"
    assert (entry.status, entry.ended) == (413, Ended.ERROR)


async def test_a_body_just_within_the_limit_passes():
    body = chat("y" * 50_000)
    async with upstream() as far, house(far, max_body_bytes=len(body)) as home:
        got = await ask(home, body)
    assert (got.status, far.last.body) == (200, body)


async def test_the_limit_is_for_chat_alone():
    async with upstream() as far, house(far, max_body_bytes=10) as home:
        got = await call(home.port, "POST", "/v1/files", b"y" * 10_000)
    assert (got.status, len(far.last.body)) == (200, 10_000)


# -- law 8: fail open ------------------------------------------------------------------------------


class Panic(BaseException):
    """As a native library's panic arrives: not an Exception."""


class Breaks(DropsX):
    """A method that fails where it is told to."""

    def __init__(self, error, *, after_score=False):
        super().__init__()
        self.error, self.after_score = error, after_score

    def compress(self, request, policy):
        if self.after_score:
            yield ScoreRequest()
        raise self.error


@pytest.mark.parametrize("after_score", [False, True])
@pytest.mark.parametrize("text", ["short", "long " * 10_000], ids=["in place", "in a thread"])
@pytest.mark.parametrize("error", [RuntimeError("sk-secret"), RecursionError(), Panic("sk-secret")])
async def test_a_bug_of_ours_never_reaches_the_caller(error, after_score, text):
    method = Breaks(error, after_score=after_score)
    async with upstream() as far, house(far, method=method) as home:
        got = await ask(home, chat(text))
        entry = await home.ledger.entry()
        metrics = (await call(home.port, "GET", "/metrics")).body.decode()
    assert (got.status, far.last.body) == (200, chat(text))
    assert (entry.reason, entry.detail) == (Reason.FAILED, type(error).__name__)
    assert f'laconic_faults_total{{type="{type(error).__name__}"}} 1.0' in metrics
    assert "secret" not in metrics


class Raises(InstantEngine):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def submit(self, request, *, within_s=None):
        raise self.error


@pytest.mark.parametrize(
    "error", [Overloaded("full"), ScorerFailed("nan"), DeadlineExceeded("late")]
)
async def test_the_engines_refusal_is_handed_to_the_method(error):
    async with upstream() as far, house(far, engine=Raises(error)) as home:
        got = await ask(home)
    assert (got.status, far.last.body) == (200, chat(ASKED))
    assert home.method.errors == [error]


async def test_a_fault_in_the_engine_is_a_fault_like_any_other():
    async with upstream() as far, house(far, engine=Raises(ValueError("text"))) as home:
        got = await ask(home)
        entry = await home.ledger.entry()
    assert (got.status, far.last.body) == (200, chat(ASKED))
    assert (entry.reason, entry.detail) == (Reason.FAILED, "ValueError")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Overloaded("full"), Reason.OVERLOADED),
        (DeadlineExceeded("late"), Reason.DEADLINE),
        (ScorerFailed("nan"), Reason.SCORER_FAILED),
    ],
)
async def test_a_method_that_gives_up_lets_the_original_through(error, reason):
    async with upstream() as far, house(far, method=Breaks(error)) as home:
        await ask(home)
        entry = await home.ledger.entry()
    assert (far.last.body, entry.reason) == (chat(ASKED), reason)


def caused(cause):
    failed = ScorerFailed("the model raised")
    failed.__cause__ = cause
    return failed


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (ScorerFailed("found NaN"), "found NaN"),
        (caused(PolicyError("classifier: wanted one")), "classifier: wanted one"),
        (caused(ValueError("SECRET prompt text")), "ValueError"),
    ],
)
async def test_a_failing_model_is_named_and_never_quoted(error, detail):
    async with upstream() as far, house(far, engine=Raises(error)) as home:
        await ask(home)
        entry = await home.ledger.entry()
    assert entry.detail == detail


async def test_scoring_that_would_take_too_long_is_done_in_the_background():
    class Slow(InstantEngine):
        def submit(self, request, *, within_s=None):
            raise DeadlineExceeded("would take 3 s")

    async with upstream() as far, house(far, engine=Slow()) as home:
        await ask(home)
    assert far.last.body == chat(ASKED)
    assert [type(error) for error in home.method.errors] == [DeadlineExceeded]
    assert len(home.engine.prefetched) == 1


async def test_the_engine_is_told_what_is_left_of_the_deadline():
    class Notes(InstantEngine):
        left_s = None

        def submit(self, request, *, within_s=None):
            self.left_s = within_s
            raise DeadlineExceeded("late")

    loose = policies(Policy(name="loose", deadline_s=30))
    async with (
        upstream() as far,
        house(far, engine=Notes(), fallback="loose", policy_set=loose) as home,
    ):
        await ask(home)
    assert 0 < home.engine.left_s <= 30
    assert len(home.engine.prefetched) == 1


async def test_long_texts_do_not_hold_up_the_loop():
    on_thread = []

    class Watches(DropsX):
        def compress(self, request, policy):
            on_thread.append(threading.current_thread() is not threading.main_thread())
            return (yield from super().compress(request, policy))

    async with upstream() as far, house(far, method=Watches()) as home:
        await ask(home, chat("short"))
        await ask(home, chat("long " * 10_000))
    assert on_thread == [False, True]


def refuses_edits(status=400, error=b'{"error": {"code": "invalid_request"}}', headers=(JSON,)):
    async def script(seen, wire):
        if b"xdrop" in seen.body:
            await wire.send(answer(200, completion(), headers=[JSON, ("X-Second", "1")]))
        else:
            await wire.send(answer(status, error, headers=headers, reason="No"))

    return script


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_refused_edit_is_sent_again_verbatim(status, stream):
    headers = [JSON, ("Authorization", "Bearer k"), ("x-b", "1"), ("x-b", "2")]
    body = chat(ASKED, stream=stream)
    async with upstream(refuses_edits(status)) as far, house(far) as home:
        got = await ask(home, body, headers)
        entry = await home.ledger.entry()
    assert (got.status, got.get("x-second"), got.body) == (200, "1", completion())
    assert far.seen[1].body == body
    assert far.seen[1].headers[1:] == [*headers, ("Content-Length", str(len(body)))]
    assert len(far.seen) == 2
    assert got.get("x-laconic-reason") == "refused-edited"
    assert got.get("x-laconic-tokens-saved") == "0"
    assert (entry.resent, entry.reason, entry.status) == (True, Reason.REFUSED_EDITED, 200)
    assert (entry.tokens_saved, entry.first_saved, entry.prompt_tokens) == (0, 0, 11)
    assert entry.detail == f"upstream answered {status}"
    assert home.method.kept_verbatim == [body]


TOO_LONG = {
    "OpenAI, Azure, llama-cpp-python": {
        "error": {
            "message": "This model's maximum context length is 8192 tokens. However, ...",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        }
    },
    "OpenAI's responses": {
        "error": {
            "message": "Your input exceeds the context window of this model.",
            "type": "invalid_request_error",
            "param": "input",
            "code": "context_length_exceeded",
        }
    },
    "llama.cpp": {
        "error": {
            "code": 400,
            "message": "request (9412 tokens) exceeds the available context size (8192 tokens), "
            "try increasing it",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 9412,
            "n_ctx": 8192,
        }
    },
    "vLLM": {
        "error": {
            "message": "You passed 2049 input tokens and requested 9 output tokens. However, the "
            "model's context length is only 2048 tokens, ...",
            "type": "BadRequestError",
            "param": "input_tokens",
            "code": 400,
        }
    },
    "older vLLM": {
        "object": "error",
        "message": "This model's maximum context length is 2048 tokens. However, ...",
        "type": "BadRequestError",
        "param": None,
        "code": 400,
    },
    "SGLang": {
        "error": {"message": "The input (9412 tokens) is longer than the model's context length"}
    },
}


ENCODINGS = {"gzip": gzip.compress, "zstd": zstandard.compress}


@pytest.mark.parametrize("encode", [None, *ENCODINGS])
@pytest.mark.parametrize("error", TOO_LONG.values(), ids=TOO_LONG)
async def test_a_prompt_too_long_even_edited_is_not_sent_again(error, encode):
    encoded, headers = json.dumps(error).encode(), [JSON]
    if encode:
        encoded, headers = ENCODINGS[encode](encoded), [JSON, ("Content-Encoding", encode)]
    script = refuses_edits(400, encoded, headers)
    async with upstream(script) as far, house(far) as home:
        got = await ask(home)
        entry = await home.ledger.entry()
    assert (got.status, got.reason, got.body, len(far.seen)) == (400, "No", encoded, 1)
    assert (entry.resent, entry.tokens_saved) == (False, 1)
    assert home.method.kept_verbatim == []


@pytest.mark.parametrize(
    "error", [b"[]", b"7", b'{"error": "too long"}', b'{"error": {"message": 7}}', b"{", b""]
)
async def test_a_refusal_of_any_other_shape_is_a_refusal(error):
    async with upstream(refuses_edits(400, error)) as far, house(far) as home:
        got = await ask(home)
    assert (got.status, len(far.seen)) == (200, 2)


async def test_a_refusal_of_both_is_relayed_and_not_held_against_the_edits():
    error = b'{"error": {"code": "unknown_parameter"}}'
    async with upstream(replies(400, error)) as far, house(far) as home:
        got = await ask(home)
        entry = await home.ledger.entry()
    assert (got.status, got.body, len(far.seen)) == (400, error, 2)
    assert (entry.resent, home.method.kept_verbatim) == (True, [])


@pytest.mark.parametrize("status", [401, 404, 409, 429, 500, 503])
async def test_other_errors_are_relayed_as_they_are(status):
    async with upstream(refuses_edits(status)) as far, house(far) as home:
        got = await ask(home)
    assert (got.status, len(far.seen)) == (status, 1)


async def test_an_unedited_request_that_is_refused_is_not_sent_again():
    async with upstream(replies(400)) as far, house(far) as home:
        got = await ask(home, chat("keep"))
    assert (got.status, len(far.seen)) == (400, 1)


async def test_a_refusal_that_breaks_off_is_a_refusal():
    async def script(seen, wire):
        if b"xdrop" in seen.body:
            await wire.send(answer(200, completion(), headers=[JSON]))
        else:
            await wire.send(answer(400, b"{", headers=[("Content-Length", "9")], length=False))
            wire.writer.close()

    async with upstream(script) as far, house(far) as home:
        got = await ask(home)
    assert (got.status, len(far.seen)) == (200, 2)


async def test_a_huge_refusal_is_a_refusal():
    async with upstream(refuses_edits(400, b"x" * 300_000)) as far, house(far) as home:
        got = await ask(home)
    assert (got.status, len(far.seen)) == (200, 2)


# -- discretion ------------------------------------------------------------------------------------


async def silent(seen, wire):
    await wire.closed.wait()


SECRETS = ("canary-prompt", "sk-canary-key", "canary-answer", "canary-query")


@pytest.mark.parametrize(
    "script",
    [
        replies(200, completion("canary-answer"), headers=[JSON]),
        refuses_edits(error=b'{"error": {"message": "canary-answer"}}'),
        replies(500, b"canary-answer"),
        silent,
    ],
)
async def test_no_secret_reaches_ledger_metrics_or_errors(script, caplog):
    headers = [JSON, ("Authorization", "Bearer sk-canary-key"), ("api-key", "sk-canary-key")]
    async with upstream(script) as far, house(far, read_timeout_s=0.1) as home:
        target = CHAT + "?key=canary-query"
        await call(home.port, "POST", target, chat("canary-prompt xdrop"), headers)
        await call(home.port, "POST", target, b'{"messages": [canary-prompt', headers)
        await call(home.port, "POST", target, chat(ASKED), [*headers, ("x-laconic-rate", "9")])
        metrics = (await call(home.port, "GET", "/metrics")).body.decode()
        records = [json.dumps(entry.record()) for entry in home.ledger.entries]
    assert len(records) == 3
    written = "\n".join([metrics, caplog.text, *records])
    assert [secret for secret in SECRETS if secret in written] == []
    assert home.ledger.entries[0].api_key_hash is not None


async def test_metrics_count_what_happened():
    async with upstream(refuses_edits()) as far, house(far) as home:
        await ask(home)
        await ask(home, chat("keep"))
        got = await call(home.port, "GET", "/metrics")
    lines = got.body.decode().splitlines()
    assert got.get("content-type").startswith("text/plain; version=0.0.4")
    for line in (
        'laconic_exchanges_total{ended="complete",policy="on",reason="refused-edited"} 1.0',
        'laconic_tokens_total{policy="on",when="before"} 4.0',
        'laconic_tokens_total{policy="on",when="after"} 4.0',
        "laconic_resent_total 1.0",
        'laconic_compress_seconds_count{policy="on"} 2.0',
        'laconic_queue_seconds_count{policy="on"} 2.0',
        'laconic_upstream_first_byte_seconds_count{upstream="none"} 2.0',
        'laconic_exchange_seconds_count{policy="on"} 2.0',
    ):
        assert line in lines
