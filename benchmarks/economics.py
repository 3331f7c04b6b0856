"""What long agent conversations cost with a provider's prompt cache, by how they are compressed.

    LACONIC_DATA=... python benchmarks/economics.py [--conversations 2] [--turns 40]

An upstream simulates prompt caching as OpenAI prices it from GPT-5.6 on: it holds beginnings of
1,024 tokens or more in steps of 128; a token written costs 1.25 of a fresh one, a token read 0.1.
The same conversations go through the proxy three times: policy ``off``; a policy that keeps a fifth
of what tools returned; the same with another rate in each request, smaller and smaller, as a
compressor would that squeezes the history harder the longer it gets.  The upstream's own tally says
what each cost, and the ledger must say the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Final

import httpx
from aiohttp import web

from common import Record, records
from paired import table
from processes import free_port, laconic
from proxy.ledger import Group, Ledger, Prices, Row
from proxy.policy import layered, load_policies
from proxy.tokens import encoding_for

LEAST, STEP = 1_024, 128
WRITE, READ = 1.25, 0.1
WAYS: Final = ("as it comes", "compressed once", "compressed anew")
_ROUTES: Final = f"""
fallback: off
routes:
  - {{name: as-it-comes, header: {{x-way: "as it comes"}}, policy: off}}
  - {{name: compressed-once, header: {{x-way: "compressed once"}}, policy: fifth}}
  - {{name: compressed-anew, header: {{x-way: "compressed anew"}}, policy: fifth}}
prices:
  - {{input: 1, cache_read: {READ}, cache_write: {WRITE}, output: 0}}
"""
_POLICY: Final = """
components: {context: {rate: 0.2}}
tool_results: {only: true}
deadline_s: 120
"""


def conversation(turns: int, seed: int) -> Iterator[list[Record]]:
    """Yield an agent's requests: a task, then one tool result more in each."""
    found = random.Random(seed).sample(records("nq_30docs_dev"), turns)
    asked = "; ".join(record["question"] for record in found[:3])
    messages: list[Record] = [
        {"role": "system", "content": f"Agent {seed}. Look up what you need, then answer."},
        {"role": "user", "content": f"Find out, one after the other: {asked}, and so on."},
    ]
    for number, record in enumerate(found):
        passages = [record["gold"], *record["distractors"][:7]]
        rows = [{"title": each["title"], "content": each["text"]} for each in passages]
        call = {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": "search", "arguments": json.dumps({"query": record["question"]})},
        }
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"call_{number}", "content": json.dumps(rows)},
        ]
        yield list(messages)


@cache
def _tokens(text: str) -> int:
    return encoding_for("gpt-4o").count(text)


@dataclass
class Provider:
    """Answers anything, keeps a prompt cache, and tallies what it charges, by way."""

    held: set[bytes] = field(default_factory=set)
    charged: dict[str, float] = field(default_factory=lambda: dict.fromkeys(WAYS, 0.0))
    prompts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WAYS, 0))

    async def answer(self, request: web.Request) -> web.Response:
        """Count a prompt, look for its beginning in the cache, and report the usage."""
        way = request.headers["x-way"]
        prompt, cached, written = self._served(way, json.loads(await request.read())["messages"])
        fresh = prompt - cached - written
        self.charged[way] += fresh + cached * READ + written * WRITE
        self.prompts[way] += prompt
        details = {"cached_tokens": cached, "cache_write_tokens": written}
        usage = {"prompt_tokens": prompt, "completion_tokens": 1, "prompt_tokens_details": details}
        message = {"role": "assistant", "content": "ok"}
        return web.json_response(
            {"object": "chat.completion", "choices": [{"message": message}], "usage": usage}
        )

    def _served(self, way: str, messages: Sequence[Record]) -> tuple[int, int, int]:
        """Return prompt, cached and written tokens; each way has a cache of its own.

        Steps end inside messages; one counts as held where all text up to its message's end is.
        """
        digest, prompt, steps = blake2b(way.encode()), 0, []
        for message in messages:
            text = json.dumps(message, sort_keys=True)
            digest.update(text.encode())
            prompt += _tokens(text)
            if prompt >= LEAST:
                steps.append((prompt // STEP * STEP, digest.digest()))
        cached = max((tokens for tokens, key in steps if key in self.held), default=0)
        self.held.update(key for _, key in steps)
        written = steps[-1][0] - cached if steps else 0
        return prompt, cached, written


@asynccontextmanager
async def provider() -> AsyncIterator[tuple[Provider, int]]:
    """Run the provider on a free port."""
    running, app, port = Provider(), web.Application(client_max_size=1 << 26), free_port()
    app.router.add_post("/v1/chat/completions", running.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield running, port
    finally:
        await runner.cleanup()


async def replay(conversations: int, turns: int, ledger: Path, policies: Path) -> Provider:
    """Send each conversation each way through one proxy; return the provider's tally."""
    options = ("--policies", str(policies), "--ledger", str(ledger))
    async with provider() as (running, port), httpx.AsyncClient(timeout=300) as caller:
        with laconic(f"http://127.0.0.1:{port}", *options) as near:
            for seed in range(conversations):
                for way in WAYS:
                    for turn, messages in enumerate(conversation(turns, seed)):
                        # One key a way: a provider keeps its callers' caches apart.
                        headers = {"x-way": way, "authorization": f"Bearer {way}"}
                        if way == WAYS[2]:
                            headers["x-laconic-rate"] = f"{max(0.1, 0.5 - 0.4 * turn / turns):.3f}"
                        body = {"model": "gpt-4o", "messages": messages}
                        url = f"{near.url}/v1/chat/completions"
                        (await caller.post(url, json=body, headers=headers)).raise_for_status()
                    print(f"conversation {seed + 1}, {way}", file=sys.stderr, flush=True)
    return running


def told(way: str, tally: Provider, row: Row, whole: float) -> tuple[str, list[str]]:
    """Return a row of figures: the provider's, and the ledger's beside them."""
    return way, [
        f"{tally.prompts[way]:,}",
        f"{tally.charged[way]:,.0f}",
        f"{tally.charged[way] / whole - 1:+.0%}",
        f"{float(row.money.spent) * 1e6:,.0f}",
        f"{row.first_saved:,}",
        f"{row.repeat_saved:,}",
        f"{row.busted_tokens:,}",
        f"{float(row.money.value) * 1e6:,.0f}",
    ]


def main() -> int:
    """Print the figures; exit 1 where compressing costs more, or the ledger does not say so."""
    parser = argparse.ArgumentParser(description="What agent conversations cost with a cache.")
    parser.add_argument("--conversations", type=int, default=2)
    parser.add_argument("--turns", type=int, default=40)
    given = parser.parse_args()
    files = {"routes.yaml": _ROUTES, "fifth.yaml": _POLICY}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in files.items():
            (folder / file).write_text(text, "utf-8")
        path = folder / "ledger.sqlite3"
        tally = asyncio.run(replay(given.conversations, given.turns, path, folder))
        prices = Prices(load_policies(layered(files)).prices)
        rows = {row.key: row for row in Ledger(path).rows(Group.ROUTE, prices=prices)}
    by_way = {way: rows[way.replace(" ", "-")] for way in WAYS}
    whole = tally.charged[WAYS[0]]
    heads = ["prompt tokens", "charged", "beside", "ledger: spent", "saved first", "saved again"]
    heads += ["busted", "value"]
    print("in tokens at the price of a fresh one:")
    print(table(heads, [told(way, tally, by_way[way], whole) for way in WAYS]))
    agree = all(abs(float(by_way[way].money.spent) * 1e6 - tally.charged[way]) < 1 for way in WAYS)
    once, anew = (tally.charged[way] for way in WAYS[1:])
    values = [by_way[way].money.value for way in WAYS]
    honest = values[1] > 0 and values[2] < values[1] and by_way[WAYS[2]].busted_tokens > 0
    return int(not (agree and once < whole and honest and anew > once))


if __name__ == "__main__":
    raise SystemExit(main())
