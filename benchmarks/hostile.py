"""Send generated bodies through the proxy, over real sockets, and look at what comes out.

    python benchmarks/hostile.py [--bodies 100000] [--seed 1]

Every body goes through twice: under policy ``off``, where the upstream must receive the same bytes,
and under one that compresses, where bytes may differ inside edited texts alone and what was JSON
must still be.  The upstream sends back what it received, so the way of an answer is walked too.
The judge knows nothing of splicing: it cuts the texts that differ out of both bodies and compares
what is left, and it has ``json`` read both.

A third each are chat, responses and completions.  A third of the bodies have enough text to be
compressed; others are short, damaged (cut off, bytes changed, added, doubled), JSON of any shape
or no JSON at all.  The texts repeat, so that the model reads each of them once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import aiohttp
from aiohttp import web

from common import POLICIES
from proxy.app import build_app, build_runner, listen
from proxy.cli.demonstration import Passage, load_passages
from proxy.engine import Engine
from proxy.gateway import Cascade
from proxy.memo import TurnMemo, VectorMemo
from proxy.policy import PolicyStore, load_policies, read_policy_dir
from proxy.scorers import EMBEDDED, load_models
from proxy.settings import Settings
from proxy.types import Address, Leaf, Span
from proxy.wire import Endpoint, Unparsed, leaves_of
from proxy.wire.endpoints import ENDPOINTS
from splice import ODD_MEMBERS, input_of, messages_of, outside, prompt_of, spelt

HEADERS = {"Content-Type": "application/json"}
COMPRESSING = ("default", "rag", "chat", "agent")
PATIENT_S = 600.0  # nothing here is to pass because the machine is busy
LONG, DAMAGED, ODD = 0.35, 0.2, 0.1  # shares of the bodies; the others are short

WRITE = (messages_of, input_of, prompt_of)  # in the order of ENDPOINTS

SNIPPETS = (
    "2024-01-05 10:00:01 INFO up\n2024-01-05 10:00:02 ERROR no route to host\n  at f()\n",
    '[{"id": 1, "note": "a\\"b"}, {"id": 2, "note": null}, {"id": 3, "note": "\\u00e9"}]',
    "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n",
    "```python\ndef f(x):\n    return x + 1\n```\n",
    '<document index="1">\nOne. Two.\n</document>\n',
    "今天下雨。我们在家。 नदी बढ़ी। ارتفع النهر؟ 👩‍👩‍👧 \x7f",
    "<|endoftext|> \u2028 \ufeff \ud800 half a pair",
    "Q: One?\nA: 1.\n\nQ: Two?\nA: 2.\n",
    '\\ / " \b\f\t\x01 `0```\nx\n```',
)
SCALARS = (
    "null", "true", "-0", "1E400", "0.10", "123456789012345678901234567890", '""', '"\\ud83d"',
    '"\\u0000"', "1e2", '"user"', '"text"',
)  # fmt: skip
KEYS = (
    "model", "messages", "content", "role", "input", "instructions", "prompt", "type", "text",
    "stream", "output", "tools", "\\u0070rompt", "",
)  # fmt: skip


# -- bodies ---------------------------------------------------------------------------------------


def text_of(rng: random.Random, passages: Sequence[Passage], question: str, most: int) -> str:
    """Return passages and other matter, strung together, with a question after them."""
    chosen = [f"[{n}] {p.text}" for n, p in enumerate(rng.sample(passages, rng.randrange(most)))]
    for _ in range(rng.randrange(3)):
        chosen.insert(rng.randrange(len(chosen) + 1), rng.choice(SNIPPETS))
    return "\n\n".join([*chosen, question] if rng.random() < 0.9 else chosen)


def body_of(rng: random.Random, passages: Sequence[Passage], question: str, way: int) -> bytes:
    """Return a body for the endpoint number ``way``, of whatever sort."""
    if rng.random() < ODD:
        return value_of(rng, 4).encode() if rng.random() < 0.8 else rng.randbytes(rng.randrange(99))
    text = spelt(rng, text_of(rng, passages, question, 10 if rng.random() < LONG else 2))
    blank = rng.choice(["", " ", "\n  ", "\t"])
    members = rng.sample(ODD_MEMBERS, rng.randrange(len(ODD_MEMBERS)))
    members += ['"model": "gpt-4o"', *WRITE[way](rng, text, blank)]
    rng.shuffle(members)
    written = "{" + f",{blank}".join(members) + "}" + blank
    raw = written.encode("utf-8", "surrogatepass")
    return damaged(rng, raw) if rng.random() < DAMAGED else raw


def damaged(rng: random.Random, raw: bytes) -> bytes:
    """Return a body cut off, or with bytes changed, added, left out, doubled."""
    at = rng.randrange(len(raw))
    end = min(len(raw), at + rng.randrange(1, 30))
    return rng.choice(
        [
            raw[:at],
            raw[:at] + rng.randbytes(1) + raw[at + 1 :],
            raw[:at] + rng.choice([b"\\", b'"', b",", b"\x00", b"}", b"\xff"]) + raw[at:],
            raw[:at] + raw[end:],
            raw[:end] + raw[at:],
            b"\xef\xbb\xbf" + raw,
            raw + raw,
        ]
    )


def value_of(rng: random.Random, depth: int) -> str:
    """Return JSON of any shape, with keys that bodies have."""
    choice = rng.randrange(4) if depth else 0
    if choice <= 1:
        return rng.choice(SCALARS)
    parts = [value_of(rng, depth - 1) for _ in range(rng.randrange(4))]
    if choice == 2:
        return "[" + ", ".join(parts) + "]"
    return "{" + ",".join(f'"{rng.choice(KEYS)}":{part}' for part in parts) + "}"


# -- the judge ------------------------------------------------------------------------------------


def fault_of(endpoint: Endpoint, body: bytes, sent: bytes) -> str | None:
    """Say what is wrong with what came of a body, if anything is."""
    if sent == body:
        return None
    before, after = texts_of(endpoint, body), texts_of(endpoint, sent)
    if before is None or after is None:
        return "what could not be read was changed, or what was sent cannot be"
    if before.keys() != after.keys():
        return "texts were added, or went"
    edited = [address for address in before if before[address].text != after[address].text]
    if not edited:
        return "changed, and no text was"
    if is_json(body) and not is_json(sent):
        return "was JSON, and is none"
    same = outside(body, _places(before, edited)) == outside(sent, _places(after, edited))
    return None if same else "a byte outside of the edited texts was changed"


def _places(leaves: Mapping[Address, Leaf], addresses: Sequence[Address]) -> list[Span]:
    return [leaves[address].raw for address in addresses]


def texts_of(endpoint: Endpoint, raw: bytes) -> dict[Address, Leaf] | None:
    """Return the texts of a body; None where it cannot be read."""
    try:
        return leaves_of(endpoint.parse(raw))
    except Unparsed:
        return None


def is_json(raw: bytes) -> bool:
    """Whether ``json`` accepts a body; numbers are left as they are written."""
    try:
        json.loads(raw.decode("utf-8", "surrogatepass"), parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True


# -- the run --------------------------------------------------------------------------------------


@dataclass
class Found:
    """What became of the bodies; ``wrong`` are faults with the body that had them."""

    bodies: int = 0
    edited: int = 0
    json: int = 0
    by_endpoint: Counter[str] = field(default_factory=Counter)
    bytes_in: int = 0
    bytes_out: int = 0
    wrong: list[tuple[str, bytes]] = field(default_factory=list)


async def echo(request: web.Request) -> web.Response:
    """Answer with what came."""
    return web.Response(body=await request.read(), content_type="application/json")


@asynccontextmanager
async def proxied() -> AsyncIterator[str]:
    """Run an upstream that echoes and, as in production, a proxy before it; gives its URL."""
    far = web.AppRunner(web.Application(client_max_size=1 << 27), access_log=None)
    far.app.router.add_route("*", "/{tail:.*}", echo)
    await far.setup()
    site = web.TCPSite(far, "127.0.0.1", 0)
    await site.start()
    base = f"http://127.0.0.1:{far.addresses[0][1]}"
    engine = Engine(lambda: load_models(EMBEDDED, EMBEDDED, None), VectorMemo(1 << 28))
    engine.start()
    await engine.wait_ready()
    settings = Settings(upstream=base, ledger_path=None)
    method = Cascade(TurnMemo(), lambda: engine.revision, tagged=TurnMemo(), cuts=TurnMemo())
    app = build_app(settings, patient_policies(), method=method, engine=engine)
    near = build_runner(app, settings)
    _, port = await listen(near, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await near.cleanup()
        await far.cleanup()
        engine.close()


def patient_policies() -> PolicyStore:
    """Return the shipped policies, with a deadline out of reach."""
    shipped = load_policies(read_policy_dir(POLICIES))
    policies = {
        name: policy.model_copy(update={"deadline_s": PATIENT_S})
        for name, policy in shipped.policies.items()
    }
    return PolicyStore(replace(shipped, policies=policies), fallback="off")


async def through(session: aiohttp.ClientSession, url: str, body: bytes, policy: str) -> bytes:
    """Send a body under a policy; return what the upstream received."""
    headers = {**HEADERS, "x-laconic-policy": policy}
    async with session.post(url, data=body, headers=headers) as answer:
        received = await answer.read()
        if answer.status != 200 or "x-laconic-origin" in answer.headers:
            raise RuntimeError(f"{answer.status} {received[:200]!r}")
        return received


async def run(bodies: int, seed: int, callers: int = 8) -> Found:
    """Send ``bodies`` of them."""
    found, rng = Found(), random.Random(seed)
    question, passages = load_passages()
    numbers = iter(range(bodies))

    async def caller(session: aiohttp.ClientSession, base: str) -> None:
        for number in numbers:
            way = number % len(ENDPOINTS)
            endpoint, body = ENDPOINTS[way], body_of(rng, passages, question, way)
            url = f"{base}/v1{endpoint.path}"
            if await through(session, url, body, "off") != body:
                found.wrong.append(("off, and not the same bytes", body))
            sent = await through(session, url, body, rng.choice(COMPRESSING))
            if fault := fault_of(endpoint, body, sent):
                found.wrong.append((fault, body))
            note(found, endpoint, body, sent)

    async with proxied() as base, aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller(session, base))
    return found


def note(found: Found, endpoint: Endpoint, body: bytes, sent: bytes) -> None:
    """Count a body."""
    found.bodies += 1
    found.json += is_json(body)
    found.bytes_in += len(body)
    found.bytes_out += len(sent)
    if sent != body:
        found.edited += 1
        found.by_endpoint[endpoint.name] += 1


def report(found: Found, seconds: float) -> str:
    """Return the figures as a person reads them."""
    by_endpoint = ", ".join(f"{name} {n:,}" for name, n in sorted(found.by_endpoint.items()))
    lines = [
        f"{found.bodies:,} bodies ({found.json:,} of them JSON) in {seconds:,.0f} s, each twice",
        f"{found.edited:,} edited ({by_endpoint}); bytes {found.bytes_in:,} -> {found.bytes_out:,}",
        f"wrong: {len(found.wrong)}",
        *(f"  {fault}: {body!r}" for fault, body in found.wrong[:5]),
    ]
    return "\n".join(lines)


def main() -> int:
    """Run; exit 1 where a body came out wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bodies", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    started_s = time.perf_counter()
    found = asyncio.run(run(given.bodies, given.seed))
    print(report(found, time.perf_counter() - started_s))
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
