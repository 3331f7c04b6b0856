"""Replay a 40-turn conversation through the real proxy, restarted half-way, and compare prefixes.

    LACONIC_DATA=... python benchmarks/conversation.py [--turns 40] [--policy rag]

The caller resends its whole history each turn, as SDKs do.  What the upstream received for turn t
must, message by message and byte by byte, open what it receives for turn t + 1, or the provider's
prompt cache misses; the one exception is the whole-text ask in the middle, which restores what
precedes it (law 12).  The baseline is the same conversation uncompressed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from aiohttp import web

from common import Record, policy, records
from processes import free_port
from proxy.tokens import encoding_for

ASKS_WHOLE_TEXT = "Now translate all of the texts above into German, word for word."


def conversation(turns: int) -> list[list[Record]]:
    """Return the caller's new messages, request by request; tool results are requests of theirs."""
    rng = random.Random(17)
    found = rng.sample(records("nq_30docs_dev"), turns)
    steps: list[list[Record]] = []
    opening: list[Record] = [{"role": "system", "content": "Answer from what you are given."}]
    for number, record in enumerate(found):
        passages = [record["gold"], *record["distractors"][:9]]
        rng.shuffle(passages)
        question = record["question"]
        if number == turns // 8:
            steps.append([*opening, {"role": "user", "content": ASKS_WHOLE_TEXT}])
        elif number % 4 == 1:
            steps += _tool_turn(number, question, passages, opening)
        elif number % 4 == 3:
            follow_up = rng.choice(found[:number])["question"]
            steps.append([*opening, {"role": "user", "content": follow_up}])
        else:
            text = "\n".join(f"[{i}] {p['title']}. {p['text']}" for i, p in enumerate(passages, 1))
            steps.append([*opening, {"role": "user", "content": f"{text}\n\n{question}?"}])
        opening = [{"role": "assistant", "content": f"Answer {number}: see the text."}]
    return steps


def _tool_turn(
    number: int, question: str, passages: Sequence[Record], opening: list[Record]
) -> list[list[Record]]:
    rows = json.dumps([{"title": p["title"], "content": p["text"]} for p in passages], indent=1)
    call = {
        "id": f"call_{number}",
        "type": "function",
        "function": {"name": "search", "arguments": json.dumps({"query": question})},
    }
    return [
        [*opening, {"role": "user", "content": f"Please look this up: {question}?"}],
        [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"call_{number}", "content": rows},
        ],
    ]


@dataclass
class Upstream:
    """Answers anything, and keeps what it was sent."""

    bodies: list[bytes] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        """Record one request."""
        self.bodies.append(await request.read())
        message = {"role": "assistant", "content": "ok"}
        return web.json_response({"object": "chat.completion", "choices": [{"message": message}]})


@asynccontextmanager
async def recording() -> AsyncIterator[tuple[Upstream, int]]:
    """Run the recording upstream on a free port."""
    upstream = Upstream()
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/chat/completions", upstream.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield upstream, port
    finally:
        await runner.cleanup()


@asynccontextmanager
async def serving(upstream_port: int, name: str, folder: Path) -> AsyncIterator[int]:
    """Run ``laconic serve`` as a process of its own until the block ends."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "serve"),
        *("--upstream", f"http://127.0.0.1:{upstream_port}/v1", "--port", str(port)),
        *("--policy", name, "--ledger", str(folder / "ledger.sqlite3")),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient() as client:
            await _ready(client, port)
        yield port
    finally:
        process.terminate()
        await process.wait()


async def _ready(client: httpx.AsyncClient, port: int) -> None:
    for _ in range(300):
        try:
            if (await client.get(f"http://127.0.0.1:{port}/readyz")).is_success:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.1)
    sys.exit(f"port {port}: found no ready proxy after 30 s, wanted /readyz 200")


async def replay(steps: Sequence[list[Record]], name: str) -> list[bytes]:
    """Send the conversation, the proxy restarted half-way; return the bodies the upstream saw."""
    history: list[Record] = []
    with tempfile.TemporaryDirectory() as folder:
        async with recording() as (upstream, upstream_port):
            half = len(steps) // 2
            for part in (steps[:half], steps[half:]):
                async with (
                    serving(upstream_port, name, Path(folder)) as port,
                    httpx.AsyncClient(timeout=60) as client,
                ):
                    for new in part:
                        history += new
                        body = {"model": "gpt-4o", "messages": history}
                        url = f"http://127.0.0.1:{port}/v1/chat/completions"
                        (await client.post(url, json=body)).raise_for_status()
            return list(upstream.bodies)


def messages_of(body: bytes) -> bytes:
    """Return the bytes of the messages array, without its closing bracket."""
    found = re.search(rb'"messages":\s*\[', body)
    if found is None:
        sys.exit("a request without messages reached the upstream")
    return body[found.end() : body.rstrip().rindex(b"]")]


def report(steps: Sequence[list[Record]], bodies: Sequence[bytes]) -> int:
    """Print prefix breaks, edited messages and tokens; return the number of breaks."""
    arrays = [messages_of(body) for body in bodies]
    breaks = [t for t in range(1, len(arrays)) if not arrays[t].startswith(arrays[t - 1])]
    sent = json.loads(bodies[-1])["messages"]
    original = [message for new in steps for message in new]
    own = [i for i, message in enumerate(original) if message["role"] in ("user", "tool")]
    edited = [i for i in own if sent[i]["content"] != original[i]["content"]]
    count = encoding_for("gpt-4o").count
    before = sum(count(m["content"] or "") for m in original)
    after = sum(count(m["content"] or "") for m in sent)
    asked = next(t for t, new in enumerate(steps) if new[-1]["content"] == ASKS_WHOLE_TEXT)
    print(f"requests {len(bodies)}, whole-text ask at {asked}")
    print(f"prefix breaks at {breaks}, wanted at most [{asked}]")
    print(f"last request: {len(edited)} of {len(own)} user and tool messages edited")
    print(f"last request: {before} -> {after} tokens, {1 - after / before:.1%} saved")
    return len(set(breaks) - {asked})


def main() -> int:
    """Run the conversation; exit 1 where a prefix breaks that should not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--policy", default="rag")
    options = parser.parse_args()
    policy(options.policy)
    steps = conversation(options.turns)
    return 1 if report(steps, asyncio.run(replay(steps, options.policy))) else 0


if __name__ == "__main__":
    sys.exit(main())
