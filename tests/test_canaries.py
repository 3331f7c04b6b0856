"""Law 11: what callers say and what opens doors is written nowhere, whatever becomes of a request.

A proxy as it runs in production, with its model, its ledger, its memo and its log at the most
talkative level; canaries in everything that comes in; afterwards no byte of what it wrote, and no
error or figure of its own, holds one.
"""

import asyncio
import gzip
import json
import os
import re
import sqlite3
import sys
import zlib
from collections import Counter
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
from servers import (
    CHAT,
    JSON,
    answer,
    call,
    chunk,
    completion,
    connected,
    free_port,
    read_message,
    until_ready,
    upstream,
)

from proxy.cli.demonstration import load_passages, prompt_of
from proxy.policy import key_hash

ROOT = Path(__file__).parent.parent
LONG_S = 60
QUESTION, PASSAGES = load_passages()
CANARY = re.compile(rb"canary-?[a-z]*", re.IGNORECASE)
CAPTURED = re.compile(rb"kestrel-?[a-z]*", re.IGNORECASE)

ALICE, ADMIN = "lk-canary-alice", "lk-canary-admin"
KEY = ("x-laconic-key", ALICE)
SECRETS = [
    ("Authorization", "Bearer sk-canary-bearer"),
    ("api-key", "sk-canary-azure"),
    ("Cookie", "session=canary-cookie"),
    ("X-Canary-Header", "canary-header"),
    ("OpenAI-Organization", "canary-organization"),
]
QUERY = "?api-key=canary-query&x=canary-more"


def body(text, **more):
    """A chat request with canaries in every place that holds text."""
    call_ = {
        "id": "canary-call",
        "type": "function",
        "function": {"name": "canary-tool", "arguments": '{"q": "canary-argument"}'},
    }
    messages = [
        {"role": "system", "content": "Answer from the passages. canary-system", "name": "canary"},
        {"role": "user", "content": "What does the tool say? canary-user"},
        {"role": "assistant", "content": None, "tool_calls": [call_]},
        {"role": "tool", "tool_call_id": "canary-call", "content": "canary-result " * 80},
        {"role": "assistant", "content": "It says so. canary-assistant"},
        {"role": "user", "content": [{"type": "text", "text": text}]},
    ]
    return json.dumps(
        {"model": "gpt-4o", "messages": messages, "user": "canary-enduser", **more}
    ).encode()


LONG = prompt_of(
    [replace(p, text=f"{p.text} The canary-passage {n} sings.") for n, p in enumerate(PASSAGES)],
    f"{QUESTION} canary-question",
)


async def far_side(seen, wire):
    """Answers as the header X-Do says, with canaries of its own."""
    echoed = b'{"error": {"message": "canary-refusal %s", "code": "%s"}}'
    match seen.get("x-do"):
        case "refuse-edits" if b"-passage 7" not in seen.body:
            await wire.send(answer(400, echoed % (b"canary-echo", b"invalid"), headers=[JSON]))
        case "too-long":
            error = echoed % (b"maximum context length", b"context_length_exceeded")
            await wire.send(answer(400, error, headers=[JSON]))
        case "fail":
            await wire.send(answer(500, b"canary-trace", reason="canary-reason"))
        case "hang-up":
            wire.hang_up()
        case "garble":
            await wire.send(b"canary-nonsense\r\n\r\n")
        case "break-off":
            head = [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")]
            await wire.send(answer(200, b"", headers=head, length=False))
            await wire.send(chunk(b'data: {"choices":[{"delta":{"content":"canary-delta"}}]}\n\n'))
            wire.hang_up()
        case _:
            headers = [JSON, ("Set-Cookie", "canary-set=1"), ("x-request-id", "canary-id")]
            await wire.send(answer(200, completion("canary-answer"), headers=headers))


CAPTURE, REFUSING = ("x-capture", "yes"), ("X-Do", "refuse-edits")


def kestrels(sent):
    """A body with other birds in it."""
    return sent.replace(b"canary", b"kestrel")


REQUESTS = {
    "compressed": (CHAT + QUERY, body(LONG), [JSON]),
    "recalled": (CHAT, body(LONG + " canary-again"), [JSON]),
    "streamed": (CHAT, body(LONG, stream=True), [JSON]),
    "audited": (CHAT, body(LONG), [JSON, ("x-laconic-policy", "audit")]),
    "off": (CHAT + QUERY, body(LONG), [JSON, ("x-laconic-policy", "off")]),
    "bypassed": (CHAT, body(LONG), [JSON, ("x-laconic-bypass", "true")]),
    "too short": (CHAT, body("canary-short"), [JSON]),
    "of a model that is not there": (CHAT, body(LONG), [JSON, ("x-laconic-policy", "llmlingua2")]),
    "too late": (CHAT, body(LONG.replace("sings", "hums")), [JSON, ("x-laconic-policy", "hasty")]),
    "refused": (CHAT, body(LONG), [JSON, REFUSING]),
    "too long": (CHAT, body(LONG), [JSON, ("X-Do", "too-long")]),
    "failing there": (CHAT, body(LONG), [JSON, ("X-Do", "fail")]),
    "lost": (CHAT + QUERY, body(LONG), [JSON, ("X-Do", "hang-up")]),
    "garbled": (CHAT + QUERY, body(LONG), [JSON, ("X-Do", "garble")]),
    "broken off": (CHAT, body(LONG, stream=True), [JSON, ("X-Do", "break-off")]),
    "no JSON": (CHAT + QUERY, b'{"messages": [canary-broken', [JSON]),
    "of wrong types": (CHAT, b'{"messages": [{"role": "canary-role", "content": 7}]}', [JSON]),
    "a key twice": (CHAT, b'{"messages": [], "messages": ["canary-twice"]}', [JSON]),
    "falsely gzipped": (CHAT, b"canary-zip", [JSON, ("Content-Encoding", "gzip")]),
    "gzipped": (CHAT, gzip.compress(body(LONG)), [JSON, ("Content-Encoding", "gzip")]),
    "of a strange encoding": (CHAT, b"canary", [JSON, ("Content-Encoding", "canary-coding")]),
    "too large": (CHAT + QUERY, b"canary-large" * 40_000, [JSON]),
    "responses": ("/v1/responses", json.dumps({"input": f"{LONG} canary-input"}).encode(), [JSON]),
    "completions": ("/v1/completions", json.dumps({"prompt": "canary-prompt"}).encode(), [JSON]),
    "on a route with capture": (CHAT + QUERY, kestrels(body(LONG)), [JSON, CAPTURE]),
    "refused on that route": (CHAT, kestrels(body(LONG)), [JSON, CAPTURE, REFUSING]),
    "off on that route": (CHAT, kestrels(body(LONG)), [JSON, CAPTURE, ("x-laconic-policy", "off")]),
    "bypassed on that route": (
        "/v1/responses",
        json.dumps({"input": "kestrel-input", "user": "kestrel-enduser"}).encode(),
        [JSON, CAPTURE, ("x-laconic-bypass", "true")],
    ),
    "too short on that route": (
        "/v1/completions",
        json.dumps({"prompt": "kestrel-prompt", "user": "kestrel-enduser"}).encode(),
        [JSON, CAPTURE],
    ),
    "no JSON on that route": (CHAT, kestrels(b'{"messages": [canary'), [JSON, CAPTURE]),
    "a file": ("/v1/files" + QUERY, b"canary-file" * 1000, []),
    "routed to where nobody is": ("/v1/nowhere" + QUERY, b"canary-nowhere", []),
}

ROUTES = """
fallback: default
upstreams:
  nowhere: {url: "http://127.0.0.1:%d"}
routes:
  - {path: /v1/nowhere, policy: off, upstream: nowhere}
  - {name: watched, header: {x-capture: "yes"}, policy: default, capture: true}
"""


class Running:
    """A proxy in a process of its own, and what it says."""

    def __init__(self, process, port):
        self.process, self.port = process, port

    async def ready(self):
        """Wait until whichever worker a connection comes to is ready."""
        await until_ready(self.port, LONG_S)
        in_a_row = 0
        async with asyncio.timeout(LONG_S):
            while in_a_row < 30:
                is_ready = (await call(self.port, "GET", "/readyz")).status == 200
                in_a_row = in_a_row + 1 if is_ready else 0

    async def said(self):
        """Everything it wrote to its standard streams, once it has ended."""
        self.process.terminate()
        async with asyncio.timeout(LONG_S):
            out, err = await self.process.communicate()
        assert self.process.returncode == 0
        return out + err


@asynccontextmanager
async def running(folder, base, **settings):
    port = free_port()
    values = {
        "upstream": base,
        "upstream_key": "env:CANARY_PLACE",
        "keys": f"alice={key_hash(ALICE)}",
        "admin_token": key_hash(ADMIN),
        "port": port,
        "policies": folder / "policies",
        "ledger_path": folder / "ledger.sqlite3",
        "memo_path": folder / "memo.sqlite3",
        "log_level": "debug",
        "max_body_bytes": 200_000,
    } | settings
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LACONIC_")}
    environment |= {f"LACONIC_{name.upper()}": str(value) for name, value in values.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "serve"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment | {"CANARY_PLACE": "sk-canary-upstream", "TMPDIR": str(folder)},
        cwd=ROOT,
    )
    try:
        yield Running(process, port)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def send_all(port):
    """Send every request; return the bodies of the proxy's own errors, and how many there were."""
    own, statuses = [], Counter()

    async def one(target, sent, headers):
        async with connected(port) as wire:
            lines = [f"{name}: {value}" for name, value in [*SECRETS, *headers]]
            lines += ["Host: h", f"Content-Length: {len(sent)}"]
            await wire.send(
                "\r\n".join([f"POST {target} HTTP/1.1", *lines, "", ""]).encode() + sent
            )
            try:
                got = await read_message(wire, answers="POST")
            except EOFError:
                return
        statuses[got.status] += 1
        if got.get("x-laconic-origin") == "proxy":
            own.append(str(got.headers).encode() + got.body)

    for target, sent, headers in REQUESTS.values():
        await one(target, sent, [*headers, KEY])
    for wrong in ("", "lk-canary-wrong"):  # and by a stranger
        await one(CHAT + QUERY, body(LONG), [JSON, ("x-laconic-key", wrong)])
    async with connected(port) as wire:  # and by somebody who speaks no HTTP
        await wire.send(b"GET /canary-line HTTP/1.1\r\nCanary\x00: canary-broken\r\n\r\n")
        await wire.rest()  # aiohttp's words, which tell whoever sent the line what was in it
    return own, statuses


def files(folder):
    """The bytes of all that was written below a folder, by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def inflated(path, asked):
    """What is packed in one column, of all rows."""
    with closing(sqlite3.connect(path)) as database:
        return b"\n".join(zlib.decompress(packed) for (packed,) in database.execute(asked))


@pytest.mark.parametrize("workers", [1, 2])
async def test_no_canary_is_written_anywhere(tmp_path, workers):
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "hasty.yaml").write_text(
        "deadline_s: 0.000001\ncomponents: {context: {rate: 0.5}}\n"
    )
    (tmp_path / "policies" / "routes.yaml").write_text(ROUTES % free_port())
    async with (
        upstream(far_side) as far,
        running(tmp_path, far.url, workers=workers) as near,
    ):
        await near.ready()
        own, statuses = await send_all(near.port)
        bad = (ROUTES % 1).replace("nowhere: {", "nowhere: {key: sk-canary-in-the-file, ")
        (tmp_path / "policies" / "routes.yaml").write_text(bad)
        shown = [("Authorization", f"Bearer {ADMIN}")]
        figures = (await call(near.port, "GET", "/metrics", None, shown)).body
        own.append((await call(near.port, "GET", "/metrics", None, [KEY])).body)
        async with asyncio.timeout(LONG_S):
            ready = b""
            while b"refused" not in ready:
                ready = (await call(near.port, "GET", "/readyz")).body
                await asyncio.sleep(0.05)
        own.append(ready)
        said = await near.said()
    (tmp_path / "policies" / "routes.yaml").unlink()
    ledger, texts = tmp_path / "ledger.sqlite3", tmp_path / "ledger.captured.sqlite3"
    unpacked = {
        "segments": inflated(ledger, "SELECT segments FROM exchanges WHERE segments IS NOT NULL"),
        "texts": inflated(texts, "SELECT text FROM captures WHERE route = 'watched'"),
    }
    written = {"log": said, "metrics": figures, "errors": b"\n".join(own), **files(tmp_path)}
    written |= unpacked
    assert {name: found for name, text in written.items() if (found := CANARY.findall(text))} == {}

    # What came on the route with capture is written in one place, its text alone.
    found = {name: set(CAPTURED.findall(text)) for name, text in written.items()}
    kept = {b"kestrel-system", b"kestrel-user", b"kestrel-result", b"kestrel-assistant"}
    kept |= {b"kestrel-passage", b"kestrel-question", b"kestrel-input", b"kestrel-prompt"}
    assert found.pop("texts") == kept
    assert {name: birds for name, birds in found.items() if birds} == {}
    assert texts.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(texts)) as database:
        counts = "SELECT count(*), count(key_name) FROM captures"
        assert database.execute(counts).fetchone() == (5, 5)
    assert b'"capture-on"' in said

    # All of it came in, and went where it should; and it was written of.
    arrived = b"\n".join(str(seen.headers).encode() + seen.body for seen in far.seen)
    for canary in (b"canary-passage", b"canary-argument", b"canary-cookie", b"canary-upstream"):
        assert canary in arrived
    assert b"canary-alice" not in arrived
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite3")) as database:
        rows = database.execute("SELECT key_name, reason, ended, status FROM exchanges").fetchall()
    reasons = {reason for _, reason, _, _ in rows}
    assert {
        "audit", "off", "bypassed", "too-short", "scorer-failed", "deadline", "refused-edited",
        "unparsed", "duplicate-key", None,
    } <= reasons  # fmt: skip
    assert {name for name, *_ in rows} == {"alice", None}
    assert {ended for *_, ended, _ in rows} == {"complete", "error", "upstream-lost"}
    assert {200, 400, 401, 413, 500, 502} <= set(statuses)
    assert b'key="alice"' in figures
    assert b"alice" in said
    assert len(written["memo.sqlite3"]) > 10_000
