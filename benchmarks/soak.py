"""Load with faults for minutes on end, and what must be true afterwards.

    python benchmarks/soak.py [--minutes 10] [--concurrency 64] [--seed 1]

One proxy as ``laconic serve`` runs it, with ledger and memo, between callers and an upstream that
misbehave: resets before and within answers, broken framing, lengths that are wrong, stalls,
trickles, refusals; callers that hang up at any moment, that read slowly, that send half a request;
and policies that change under way.  Every request has a nonce that its answer must repeat, so that
an answer to another request, or half a one that looks whole, is seen.  Afterwards:

- no caller was given a wrong answer, or half a one as a whole;
- every answer that was given whole has its row in the ledger, and no row is there twice;
- file descriptors and sockets of the proxy are back to what they were;
- memory does not grow, once what is remembered has filled up.

Exits 1 where one of these does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import processes
from processes import Server, resident_bytes
from proxy.cli.demonstration import Passage, load_passages
from published import progress

SAMPLE_S, RELOAD_S = 2.0, 7.0
READ_TIMEOUT_S = 3.0  # so that a stall is over soon
GROWTH_MIB_PER_MINUTE = 1.0  # what counts as none
PROMPTS = 400  # so few that what is remembered fills up soon
SETTLE_S = 35.0  # idle connections to an upstream are kept for up to 30 s

FAR_FAULTS = (
    "reset", "reset-head", "reset-midway", "garble", "short", "long", "stall", "stall-midway",
    "trickle", "refuse", "fail",
)  # fmt: skip
NEAR_FAULTS = ("hang-up", "slow", "half")
SOUND = 0.6  # share of requests without a fault of the upstream
OURS = frozenset({"reset", "reset-head", "reset-midway", "garble", "stall", "short"})
"""Faults before an answer, or that may be met together with its head: our own 502 or 504 follow."""


# -- what is asked, and what must come back -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its bytes, and the nonce that it is known by."""

    nonce: str
    far: str
    near: str
    stream: bool
    raw: bytes


def pieces_of(nonce: str, *, stream: bool) -> list[bytes]:
    """Return the answer to a request in pieces: whoever knows the nonce knows all of it."""
    digest = hashlib.sha256(nonce.encode()).hexdigest()
    if not stream:
        said = {"id": nonce, "object": "x", "padding": digest * (1 + int(digest[0], 16) * 40)}
        return [json.dumps(said).encode()]
    count = 2 + int(digest[0], 16)
    events = [f'data: {{"id": "{nonce}", "n": {n}, "of": "{digest}"}}\n\n' for n in range(count)]
    return [*(event.encode() for event in events), b"data: [DONE]\n\n"]


def asked_of(rng: random.Random, passages: list[Passage], question: str, number: int) -> Asked:
    """Return a request of whatever sort."""
    nonce = f"{number:08d}-{rng.getrandbits(64):016x}"
    far = "none" if rng.random() < SOUND else rng.choice(FAR_FAULTS)
    near = "none" if rng.random() < 0.8 else rng.choice(NEAR_FAULTS)
    stream = rng.random() < 0.5
    path, body = _body(random.Random(rng.randrange(PROMPTS)), passages, question, stream=stream)
    lines = [
        f"{'POST' if body else 'GET'} {path} HTTP/1.1",
        "Host: soak",
        f"X-Nonce: {nonce}",
        f"X-Far: {far}",
        f"X-Stream: {int(stream)}",
        f"X-Length: {len(body)}",
        *([f"Content-Length: {len(body)}", "Content-Type: application/json"] if body else []),
        *([f"x-laconic-policy: {rng.choice(('rag', 'off', 'mine'))}"] if body else []),
    ]
    return Asked(nonce, far, near, stream, "\r\n".join([*lines, "", ""]).encode() + body)


def _body(
    rng: random.Random, passages: list[Passage], question: str, *, stream: bool
) -> tuple[str, bytes]:
    """Return a path and a body for it; none where the path has none."""
    few = rng.sample(passages, rng.randrange(len(passages)))
    text = "\n\n".join([*(f"[{n}] {p.text}" for n, p in enumerate(few, 1)), question])
    more = {"model": "gpt-4o", "stream": stream}
    match rng.randrange(5):
        case 0:
            return "/v1/models", b""
        case 1:
            return "/v1/responses", json.dumps({"input": text, **more}).encode()
        case 2:
            return "/v1/completions", json.dumps({"prompt": text, **more}).encode()
        case 3:
            return "/v1/files", text.encode() * 3
        case _:
            messages = [{"role": "user", "content": text}]
            return "/v1/chat/completions", json.dumps({"messages": messages, **more}).encode()


# -- the upstream ---------------------------------------------------------------------------------


async def read_head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    """Read a start line and header fields.  Raises EOFError and ConnectionError."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    start, *lines = head[:-4].split("\r\n")
    fields = (line.partition(":") for line in lines)
    return start, {name.lower(): value.strip() for name, _, value in fields}


async def serve_far(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer requests as their headers say, until one ends the connection."""
    with suppress(EOFError, ConnectionError, asyncio.IncompleteReadError):
        while True:
            _, headers = await read_head(reader)
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            stream, fault = headers["x-stream"] == "1", headers["x-far"]
            if fault == "refuse" and len(body) == int(headers["x-length"]):
                fault = "none"  # what is refused are edits: the original passes
            pieces = pieces_of(headers["x-nonce"], stream=stream)
            if not await _answer(reader, writer, pieces, fault, stream):
                break
    writer.transport.abort()


async def _answer(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    pieces: list[bytes],
    fault: str,
    stream: bool,  # noqa: FBT001 - of the answer
) -> bool:
    """Give an answer with a fault in it; whether the connection is good for another."""
    if fault in ("reset", "reset-head"):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-" if fault == "reset-head" else b"")
        return False
    if fault == "stall":
        return await _wait_for_end(reader)
    status = {"refuse": "400 Bad Request", "fail": "500 Internal Server Error"}.get(fault, "200 OK")
    whole = b"".join(pieces)
    length = len(whole) + {"short": -1, "long": 1}.get(fault, 0)
    framing = "Transfer-Encoding: chunked" if stream else f"Content-Length: {length}"
    if fault == "short" and not stream:
        framing += "\r\nConnection: close"  # what is too much is not the next answer's beginning
    kind = "text/event-stream" if stream else "application/json"
    writer.write(f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{framing}\r\n\r\n".encode())
    half = pieces if stream else [whole[: len(whole) // 2], whole[len(whole) // 2 :]]
    for number, piece in enumerate(half):
        if number and fault in ("reset-midway", "garble", "stall-midway"):
            await asyncio.sleep(0.01)
            if fault == "garble":
                writer.write(b"zz\r\n")
            return await _wait_for_end(reader) if fault == "stall-midway" else False
        for part in (piece,) if fault != "trickle" else (piece[:1], piece[1:2], piece[2:]):
            writer.write(b"%x\r\n%s\r\n" % (len(part), part) if stream and part else part)
            await writer.drain()
            await asyncio.sleep(0.05 if fault == "trickle" else 0.002 * stream)
    writer.write(b"0\r\n\r\n" if stream else b"")
    await writer.drain()
    return stream or fault not in ("short", "long")


async def _wait_for_end(reader: asyncio.StreamReader) -> bool:
    """Say nothing until the other side has gone."""
    await reader.read()
    return False


# -- the callers ----------------------------------------------------------------------------------


@dataclass
class Found:
    """What callers were given; ``whole`` are the ids of answers given whole."""

    asked: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    whole: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


async def ask(asked: Asked, port: int, rng: random.Random, found: Found) -> None:
    """Send a request on a connection of its own, misbehave, and judge what comes."""
    found.asked += 1
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    except OSError:
        found.wrong.append("no connection")
        return
    try:
        if asked.near == "half":
            writer.write(asked.raw[: rng.randrange(1, len(asked.raw))])
            await writer.drain()
            await asyncio.sleep(rng.random() * 0.05)
            found.ends["caller hung up"] += 1
            return
        writer.write(asked.raw)
        if asked.near == "hang-up":
            async with asyncio.timeout(rng.random() ** 3):
                await _judge(asked, reader, found)
        else:
            await _judge(asked, reader, found)
    except TimeoutError:
        found.ends["caller hung up"] += 1
    except (ConnectionError, asyncio.IncompleteReadError):
        found.ends["broken off"] += 1
    finally:
        writer.transport.abort()


async def _judge(asked: Asked, reader: asyncio.StreamReader, found: Found) -> None:
    """Read an answer to its end; what is not whole raises IncompleteReadError."""
    start, headers = await read_head(reader)
    status = int(start.split(" ")[1])
    body = await _read_body(reader, headers, slow=asked.near == "slow")
    if headers.get("x-laconic-origin") == "proxy":
        found.ends[f"our {status}"] += 1
        if asked.far not in OURS:
            found.wrong.append(f"{asked.far}: our own {status}")
    else:
        found.ends[f"answered {status}"] += 1
        wanted = b"".join(pieces_of(asked.nonce, stream=asked.stream))
        if body != (wanted[:-1] if asked.far == "short" and not asked.stream else wanted):
            found.wrong.append(f"{asked.far}: found {body[:80]!r}, wanted {wanted[:80]!r}")
    found.whole.append(headers["x-laconic-request-id"])


async def _read_body(
    reader: asyncio.StreamReader, headers: Mapping[str, str], *, slow: bool
) -> bytes:
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
        if slow:
            await asyncio.sleep(0.05)
    await reader.readexactly(2)
    return body


# -- the proxy, looked at -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sample:
    """What the proxy held at a time."""

    at_s: float
    memory_mib: float
    descriptors: int


def sample(server: Server, started_s: float) -> Sample:
    """Look at the process now."""
    descriptors = sum(1 for _ in Path(f"/proc/{server.pid}/fd").iterdir())
    return Sample(time.monotonic() - started_s, resident_bytes(server.pid) / 2**20, descriptors)


def slope(samples: list[Sample]) -> float:
    """Return the growth of memory in MiB a minute over the second half of the run."""
    late = samples[len(samples) // 2 :]
    at_min = np.array([one.at_s / 60 for one in late])
    return float(np.polyfit(at_min, np.array([one.memory_mib for one in late]), 1)[0])


async def watch(server: Server, soaked: Soaked) -> None:
    """Take samples until cancelled, and tell of one a minute."""
    started_s = time.monotonic()
    while True:
        now = sample(server, started_s)
        soaked.samples.append(now)
        if len(soaked.samples) % 30 == 0:
            progress(
                f"{now.at_s:.0f} s: {soaked.found.asked:,} asked, {len(soaked.found.wrong)} wrong,"
                f" {now.memory_mib:.0f} MiB, {now.descriptors} descriptors"
            )
        await asyncio.sleep(SAMPLE_S)


async def reload(folder: Path) -> None:
    """Change a policy until cancelled."""
    rate = 0
    while True:
        rate = rate % 9 + 1
        _write_policy(folder, rate)
        await asyncio.sleep(RELOAD_S)


def _write_policy(folder: Path, tenths: int) -> None:
    fresh = folder / "mine.new"
    fresh.write_text(f"components: {{context: {{rate: 0.{tenths}}}}}\nmin_tokens: 100\n", "utf-8")
    fresh.replace(folder / "mine.yaml")


# -- the run --------------------------------------------------------------------------------------


@dataclass
class Soaked:
    """Everything that was found."""

    found: Found = field(default_factory=Found)
    samples: list[Sample] = field(default_factory=list)
    base: Sample | None = None
    after: Sample | None = None
    missing: int = 0
    twice: int = 0
    rows: Counter[str] = field(default_factory=Counter)

    def faults(self) -> Iterator[str]:
        """Yield what does not hold."""
        yield from self.found.wrong[:5]
        if self.missing or self.twice:
            yield f"{self.missing} answers without a row, {self.twice} rows twice"
        if self.base and self.after and self.after.descriptors > self.base.descriptors + 3:
            yield f"descriptors {self.base.descriptors} -> {self.after.descriptors}"
        if slope(self.samples) > GROWTH_MIB_PER_MINUTE:
            yield f"memory grows by {slope(self.samples):.2f} MiB a minute"


@contextmanager
def proxy(far: str, folder: Path) -> Iterator[Server]:
    """Run the proxy with everything that it has."""
    (folder / "policies").mkdir()
    _write_policy(folder / "policies", 5)
    environment = {
        "LACONIC_LOG_LEVEL": "warning",
        "LACONIC_READ_TIMEOUT_S": str(READ_TIMEOUT_S),
        "LACONIC_MEMO_PATH": str(folder / "memo.sqlite3"),
    }
    options = ("--policies", str(folder / "policies"), "--ledger", str(folder / "ledger.sqlite3"))
    with processes.laconic(far, *options, environment=environment) as server:
        yield server


@asynccontextmanager
async def far_side() -> AsyncIterator[str]:
    """Run the upstream; gives its URL."""
    server = await asyncio.start_server(serve_far, "127.0.0.1", 0, backlog=1024)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def soak(
    folder: Path, seconds: float, callers: int, seed: int, settle_s: float = SETTLE_S
) -> Soaked:
    """Run it all, and read the ledger afterwards."""
    soaked, rng = Soaked(), random.Random(seed)
    question, passages = load_passages()
    async with far_side() as far:
        near = proxy(far, folder)
        server = await asyncio.to_thread(near.__enter__)
        try:
            await ask(asked_of(rng, passages, question, 0), server.port, rng, Found())
            await asyncio.sleep(settle_s)
            soaked.base = sample(server, time.monotonic())
            until_s = time.monotonic() + seconds
            numbers = iter(range(1, 1 << 40))

            async def caller() -> None:
                while time.monotonic() < until_s:
                    asked = asked_of(rng, passages, question, next(numbers))
                    await ask(asked, server.port, rng, soaked.found)

            helpers = [
                asyncio.create_task(watch(server, soaked)),
                asyncio.create_task(reload(folder / "policies")),
            ]
            await asyncio.gather(*(caller() for _ in range(callers)))
            for helper in helpers:
                helper.cancel()
            await asyncio.sleep(settle_s)

            soaked.after = sample(server, time.monotonic())
        finally:
            await asyncio.to_thread(near.__exit__, None, None, None)
    read_ledger(folder / "ledger.sqlite3", soaked)
    return soaked


def read_ledger(path: Path, soaked: Soaked) -> None:
    """Look for the row of each answer, and for rows that are there twice."""
    with closing(sqlite3.connect(path)) as database:
        ids = [row[0] for row in database.execute("SELECT request_id FROM exchanges")]
        soaked.rows.update(
            dict(database.execute("SELECT ended, count(*) FROM exchanges GROUP BY ended"))
        )
    soaked.missing = len(set(soaked.found.whole) - set(ids))
    soaked.twice = len(ids) - len(set(ids))


def report(soaked: Soaked, minutes: float, callers: int) -> str:
    """Return the figures as a person reads them."""
    found, base, after = soaked.found, soaked.base, soaked.after
    memory = [one.memory_mib for one in soaked.samples]
    ends = ", ".join(f"{end} {n:,}" for end, n in found.ends.most_common())
    rows = ", ".join(f"{ended} {n:,}" for ended, n in soaked.rows.most_common())
    descriptors = f"{base.descriptors} -> {after.descriptors}" if base and after else ""
    return (
        f"{found.asked:,} requests in {minutes:.0f} min, {callers} at once: {ends}\n"
        f"{len(found.whole):,} answers given whole: {len(found.wrong)} wrong,"
        f" {soaked.missing} without a row; rows: {rows}; {soaked.twice} twice\n"
        f"descriptors {descriptors} (at most {max(s.descriptors for s in soaked.samples)})\n"
        f"memory {memory[0]:.0f} MiB at the start, {memory[len(memory) // 2]:.0f} half-way,"
        f" {memory[-1]:.0f} at the end: {slope(soaked.samples):+.2f} MiB a minute in the 2nd half"
    )


def main() -> int:
    """Run; exit 1 where something does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        progress(f"{given.minutes:g} minutes")
        running = soak(Path(folder), 60 * given.minutes, given.concurrency, given.seed)
        soaked = asyncio.run(running)
    print(report(soaked, given.minutes, given.concurrency))
    faults = list(soaked.faults())
    for fault in faults:
        print(f"does not hold: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
