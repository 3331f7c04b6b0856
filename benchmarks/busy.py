"""What others feel while the proxy is busy: delays of streams, of ``/livez``, and many at once.

    LACONIC_DATA=... python benchmarks/busy.py [--callers 500]

One proxy, as ``laconic serve --policy rag`` runs it.  First it relays streams while prompts of
32,000 tokens are compressed one after another, and beside it the same streams while it is idle;
then hundreds of callers compress at once, among them one whose prompts are large.  What the
upstream streams carries the time that it was sent at, so that a delay is that of the way.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

import processes
from paired import table
from processes import Server
from published import Findings, add_outputs, median, progress, publish, quantile
from workshop import Passages

WHALE_TOKENS, SMALL_TOKENS = 32_000, 600
STREAMS = 8
BUSY_S = 20.0
LIVEZ_S = 0.02
DEADLINE = "deadline_s: 600\n"


@dataclass
class Felt:
    """Delays in ms."""

    chunks: list[float] = field(default_factory=list)
    livez: list[float] = field(default_factory=list)


@dataclass
class Crowd:
    """What became of many callers."""

    reasons: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    small_ms: list[float] = field(default_factory=list)
    whale_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0
    memory_mib: tuple[float, float] = (0.0, 0.0)  # before, and the most


async def stream(session: aiohttp.ClientSession, base: str, felt: Felt) -> None:
    """Follow streamed answers until cancelled."""
    asked = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "Hi."}]}
    while True:
        async with session.post(f"{base}/v1/chat/completions", json=asked) as answer:
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    said = json.loads(line[6:])["choices"][0]["delta"]["content"]
                    felt.chunks.append((time.time() - float(said.split()[0])) * 1000)


async def knock(session: aiohttp.ClientSession, base: str, felt: Felt) -> None:
    """Ask for ``/livez`` time and again, until cancelled."""
    while True:
        started_s = time.perf_counter()
        async with session.get(f"{base}/livez") as answer:
            await answer.read()
        felt.livez.append((time.perf_counter() - started_s) * 1000)
        await asyncio.sleep(LIVEZ_S)


@asynccontextmanager
async def at_work(*jobs: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run coroutines until the block ends."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


async def ask(session: aiohttp.ClientSession, base: str, body: bytes) -> tuple[float, str]:
    """Send one prompt; return the ms until its answer, and what the proxy says it did."""
    started_s = time.perf_counter()
    headers = {"Content-Type": "application/json"}
    async with session.post(f"{base}/v1/chat/completions", data=body, headers=headers) as answer:
        await answer.read()
        answer.raise_for_status()
        told = answer.headers.get("x-laconic-reason", "compressed")
    return (time.perf_counter() - started_s) * 1000, told


async def felt_while(base: str, passages: Passages, *, busy: bool) -> Felt:
    """Measure streams and ``/livez`` for a while."""
    felt = Felt()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        listeners = [stream(session, base, felt) for _ in range(STREAMS)]
        async with at_work(*listeners, knock(session, base, felt)):
            until_s, seed = time.monotonic() + BUSY_S, 0
            while time.monotonic() < until_s:
                if busy:
                    seed += 1
                    await ask(session, base, passages.prompt(WHALE_TOKENS, seed))
                else:
                    await asyncio.sleep(0.1)
    return felt


async def crowd(server: Server, passages: Passages, callers: int) -> Crowd:
    """Let many callers compress a prompt each at once, and one send large ones meanwhile."""
    found = Crowd()
    before = processes.resident_bytes(server.pid)
    most = before
    connector = aiohttp.TCPConnector(limit=0)
    small = [passages.prompt(SMALL_TOKENS, 1_000_000 + n, n) for n in range(callers)]
    whales = [passages.prompt(WHALE_TOKENS, 2_000_000 + n) for n in range(2)]

    async def one(body: bytes, took: list[float]) -> None:
        try:
            ms, told = await ask(session, server.url, body)
        except aiohttp.ClientError as error:
            found.errors.append(type(error).__name__)
        else:
            found.reasons[told] += 1
            took.append(ms)

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, processes.resident_bytes(server.pid))
            await asyncio.sleep(0.05)

    timeout = aiohttp.ClientTimeout(total=600)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
        at_work(watch()),
    ):
        started_s = time.perf_counter()
        await asyncio.gather(
            *(one(body, found.whale_ms) for body in whales),
            *(one(body, found.small_ms) for body in small),
        )
        found.seconds = time.perf_counter() - started_s
    found.memory_mib = (before / 2**20, most / 2**20)
    return found


def report(idle: Felt, busy: Felt, many: Crowd, queue: int) -> Findings:
    """Return the tables."""
    rows = [
        (
            name,
            [
                f"{quantile(felt.chunks, 0.5):.1f} ms",
                f"{quantile(felt.chunks, 0.95):.1f} ms",
                f"{quantile(felt.chunks, 0.99):.1f} ms",
                f"{quantile(felt.livez, 0.5):.1f} ms",
                f"{quantile(felt.livez, 0.99):.1f} ms",
            ],
        )
        for name, felt in (("idle", idle), ("busy", busy))
    ]
    columns = ["chunk p50", "p95", "p99", "`/livez` p50", "p99"]
    callers = len(many.small_ms) + len(many.whale_ms) + len(many.errors)
    reasons = ", ".join(f"{n} {reason}" for reason, n in many.reasons.most_common())
    text = (
        f"{table(columns, rows)}\n\n"
        f"{STREAMS} streams of an event every {processes.CHUNK_S * 1000:.0f} ms; busy: a prompt of"
        f" {WHALE_TOKENS:,} tokens is being compressed all the time.\n\n"
        f"{callers} callers at once, {len(many.whale_ms)} with {WHALE_TOKENS:,} tokens and the rest"
        f" with {SMALL_TOKENS}, the queue {queue} long: {len(many.errors)} errors; {reasons}; all"
        f" answered in {many.seconds:.1f} s.\n"
        f"Small callers' p50 {median(many.small_ms) / 1000:.1f} s,"
        f" p95 {quantile(many.small_ms, 0.95) / 1000:.1f} s; the large ones'"
        f" {median(many.whale_ms) / 1000:.1f} s.\n"
        f"Memory {many.memory_mib[0]:,.0f} MiB before, {many.memory_mib[1]:,.0f} MiB at most."
    )
    figures = {
        "idle": {"chunk_p95_ms": quantile(idle.chunks, 0.95)},
        "busy": {
            "chunk_p95_ms": quantile(busy.chunks, 0.95),
            "livez_p99_ms": quantile(busy.livez, 0.99),
        },
        "crowd": {
            "callers": callers,
            "errors": many.errors,
            "reasons": dict(many.reasons),
            "small_ms": many.small_ms,
            "whale_ms": many.whale_ms,
            "memory_mib": many.memory_mib,
        },
    }
    return Findings("busy", text, figures)


def policies(folder: Path) -> Path:
    """Write a policy like ``rag`` that waits as long as it takes; return the folder."""
    shipped = (processes.ROOT / "policies" / "rag.yaml").read_text("utf-8")
    (folder / "patient.yaml").write_text(f"name: patient\n{DEADLINE}{shipped}", "utf-8")
    return folder


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callers", type=int, default=500)
    given = add_outputs(parser).parse_args()
    passages, queue = Passages(), 64
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        far = stack.enter_context(processes.upstream())
        near = stack.enter_context(
            processes.laconic(
                far.url,
                *("--policies", str(policies(folder)), "--policy", "patient"),
                *("--ledger", str(folder / "ledger.sqlite3")),
            )
        )
        progress("idle")
        idle = asyncio.run(felt_while(near.url, passages, busy=False))
        progress("busy")
        busy = asyncio.run(felt_while(near.url, passages, busy=True))
        progress(f"{given.callers} callers")
        many = asyncio.run(crowd(near, passages, given.callers))
    publish(report(idle, busy, many, queue), given)


if __name__ == "__main__":
    main()
