"""What relaying costs: requests per second and added latency, beside calling the upstream directly.

    python benchmarks/relay.py [--requests 4000] [--concurrency 32]

Three processes on this machine: an upstream that answers at once, the proxy with policy ``off``,
and the load.  Prints one JSON line; the figure that travels is ``ratio``, proxied / direct.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import statistics
import sys
import time
from pathlib import Path

import aiohttp
from aiohttp import web

BODY = json.dumps(
    {"model": "gpt-4o", "messages": [{"role": "user", "content": "Where is the tower? " * 50}]}
).encode()
ANSWER = json.dumps({"choices": [{"message": {"content": "Paris. " * 40}}]}).encode()


def free_port() -> int:
    """Return a port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def upstream(port: int) -> None:
    """Answer every request at once."""

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=ANSWER, content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


def proxy(port: int, upstream_port: int) -> None:
    """Run the proxy as ``laconic serve --policy off`` does; its log goes nowhere."""
    from proxy.app import run  # noqa: PLC0415 - this process alone needs it
    from proxy.settings import load_settings  # noqa: PLC0415

    with Path(os.devnull).open("w", encoding="utf-8") as sys.stderr:
        run(
            load_settings(
                {
                    "upstream": f"http://127.0.0.1:{upstream_port}",
                    "port": port,
                    "policy": "off",
                    "ledger_path": "none",
                }
            )
        )


async def until_ready(session: aiohttp.ClientSession, url: str) -> None:
    """Wait until ``url`` answers 200."""
    while True:
        try:
            async with session.get(url) as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.05)


async def load(
    session: aiohttp.ClientSession, base: str, requests: int, concurrency: int
) -> tuple[float, list[float]]:
    """Return requests per second and each one's latency in ms."""
    todo, latencies_ms = iter(range(requests)), list[float]()

    async def caller() -> None:
        for _ in todo:
            started_s = time.perf_counter()
            async with session.post(base + "/v1/chat/completions", data=BODY) as answer:
                await answer.read()
            latencies_ms.append((time.perf_counter() - started_s) * 1000)

    started_s = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return requests / (time.perf_counter() - started_s), latencies_ms


async def measure(direct: str, proxied: str, requests: int, concurrency: int) -> dict[str, float]:
    """Measure both, interleaved in three rounds; medians of them."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        await until_ready(session, direct + "/")
        await until_ready(session, proxied + "/readyz")
        rounds = []
        for _ in range(3):
            direct_rps, _ = await load(session, direct, requests // 3, concurrency)
            proxied_rps, _ = await load(session, proxied, requests // 3, concurrency)
            _, alone = await load(session, direct, 200, 1)
            _, through = await load(session, proxied, 200, 1)
            added = statistics.median(through) - statistics.median(alone)
            rounds.append((direct_rps, proxied_rps, proxied_rps / direct_rps, added))
    middle = [statistics.median(column) for column in zip(*rounds, strict=True)]
    return dict(zip(("direct_rps", "proxied_rps", "ratio", "added_ms"), middle, strict=True))


def main() -> None:
    """Start the servers, measure, stop them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--concurrency", type=int, default=32)
    given = parser.parse_args()
    far, near = free_port(), free_port()
    spawn = multiprocessing.get_context("spawn")
    servers = [
        spawn.Process(target=upstream, args=(far,), daemon=True),
        spawn.Process(target=proxy, args=(near, far), daemon=True),
    ]
    for server in servers:
        server.start()
    try:
        figures = asyncio.run(
            measure(
                f"http://127.0.0.1:{far}",
                f"http://127.0.0.1:{near}",
                given.requests,
                given.concurrency,
            )
        )
    finally:
        for server in servers:
            server.terminate()
            server.join()
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
