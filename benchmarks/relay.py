"""What relaying costs in requests per second and latency, beside a bare relay and other proxies.

    python benchmarks/relay.py [--requests 3000] [--concurrency 32]

In one run, round after round, each in a process of its own on this machine: the upstream itself, a
bare aiohttp relay (``processes.py``), Laconic with policy ``off``, Laconic with a small chat under
``default``, and LiteLLM's and Headroom's proxies where ``make bench-peers`` installed them.  The
figures that travel are ratios to the bare relay.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

import processes
from paired import table
from processes import NoPeer, Server
from published import Findings, add_outputs, median, progress, publish

QUESTION = "Which of the towers on the way from the harbour to the old town is the tallest? "


def chat(number: int) -> bytes:
    """Return a small chat that was never sent before: nothing about it is remembered."""
    messages = [
        {"role": "system", "content": "You are a helpful assistant. Answer briefly."},
        {"role": "user", "content": f"{number}. {QUESTION}"},
    ]
    return json.dumps({"model": "gpt-4o", "messages": messages}).encode()


HEADERS = {"Content-Type": "application/json", "Authorization": f"Bearer {processes.KEY}"}
DIRECT, BARE, OFF, DEFAULT = "direct", "bare aiohttp relay", "Laconic, `off`", "Laconic, `default`"
ROUNDS, ALONE = 15, 100
NUMBERS = itertools.count()
SLOW_SHARE = 30  # the peers are asked so much less often
FEWEST_ALONE = 20


@dataclass
class Found:
    """What one target did, a figure a round."""

    per_s: list[float] = field(default_factory=list)  # requests, at the concurrency asked for
    alone_ms: list[float] = field(default_factory=list)  # median latency, one at a time


async def load(base: str, requests: int, concurrency: int) -> tuple[float, list[float]]:
    """Return requests per second, and each one's latency in ms.

    Connections are new each time: some servers close those that wait for their next turn.
    """
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        return await _load(session, base, requests, concurrency)


async def _load(
    session: aiohttp.ClientSession, base: str, requests: int, concurrency: int
) -> tuple[float, list[float]]:
    todo, latencies_ms = iter([chat(next(NUMBERS)) for _ in range(requests)]), list[float]()

    async def caller() -> None:
        for body in todo:
            started_s = time.perf_counter()
            url = f"{base}/v1/chat/completions"
            async with session.post(url, data=body, headers=HEADERS) as answer:
                await answer.read()
                answer.raise_for_status()
            latencies_ms.append((time.perf_counter() - started_s) * 1000)

    started_s = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return requests / (time.perf_counter() - started_s), latencies_ms


async def measure(targets: dict[str, Server], requests: int, concurrency: int) -> dict[str, Found]:
    """Ask every target in turn, several rounds."""
    found = {name: Found() for name in targets}
    for server in targets.values():
        await load(server.url, 50, 4)
    for number in range(ROUNDS):
        progress(f"round {number + 1} of {ROUNDS}")
        for name, server in targets.items():
            share = SLOW_SHARE if name in PEERS else 1
            per_s, _ = await load(server.url, requests // share, concurrency)
            _, alone = await load(server.url, max(FEWEST_ALONE, ALONE // share), 1)
            found[name].per_s.append(per_s)
            found[name].alone_ms.append(median(alone))
    return found


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """Return the middle of the rounds' ratios."""
    return median([a / b for a, b in zip(over, under, strict=True)])


def report(found: dict[str, Found], concurrency: int) -> Findings:
    """Return the table."""
    bare, direct = found[BARE], found[DIRECT]
    rows, figures = [], {}
    for name, one in found.items():
        added = [a - b for a, b in zip(one.alone_ms, direct.alone_ms, strict=True)]
        base = [a - b for a, b in zip(bare.alone_ms, direct.alone_ms, strict=True)]
        figures[name] = {
            "per_s": median(one.per_s),
            "of_bare": ratio(one.per_s, bare.per_s),
            "added_ms": median(added),
            "added_of_bare": None if name == DIRECT else ratio(added, base),
            "laconic_off_over": ratio(found[OFF].per_s, one.per_s),
        }
        told = figures[name]
        rows.append(
            (
                name,
                [
                    f"{told['per_s']:,.0f}",
                    f"{told['of_bare']:.2f}",
                    "" if name == DIRECT else f"{told['added_ms']:.2f} ms",
                    "" if name == DIRECT else f"{told['added_of_bare']:.1f} x",
                    f"{told['laconic_off_over']:.1f} x",
                ],
            )
        )
    columns = [
        f"requests/s at {concurrency}",
        "of the bare relay's",
        "added p50 at 1",
        "of the bare relay's",
        "Laconic `off` is faster by",
    ]
    text = f"{table(columns, rows)}\n\nMedians of {ROUNDS} rounds, in each of which all had a turn."
    return Findings("relay", text, {"targets": figures})


def start(stack: ExitStack, folder: Path) -> dict[str, Server]:
    """Start every target that there is."""
    far = stack.enter_context(processes.upstream())
    none = ("--ledger", str(folder / "ledger.sqlite3"))
    targets = {
        DIRECT: far,
        BARE: stack.enter_context(processes.bare_relay(far.url)),
        OFF: stack.enter_context(processes.laconic(far.url, "--policy", "off", *none)),
        DEFAULT: stack.enter_context(processes.laconic(far.url, "--policy", "default", *none)),
    }
    for name, peer in PEERS.items():
        try:
            targets[name] = stack.enter_context(peer(far.url, folder))
        except NoPeer as error:
            progress(f"without {name}: {error}")
    return targets


PEERS = {"LiteLLM": processes.litellm, "Headroom": processes.headroom}


def main() -> None:
    """Start the servers, measure, stop them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--concurrency", type=int, default=32)
    given = add_outputs(parser).parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        targets = start(stack, folder)
        found = asyncio.run(measure(targets, given.requests, given.concurrency))
    publish(report(found, given.concurrency), given)


if __name__ == "__main__":
    main()
