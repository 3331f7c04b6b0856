"""Servers that benchmarks talk to, each a process of its own: upstreams, a bare relay, proxies.

    with ExitStack() as stack:
        far = stack.enter_context(upstream())
        near = stack.enter_context(laconic(far.url, "--policy", "off"))

Run as a script it is one of the servers: ``processes.py upstream PORT`` or ``processes.py bare PORT
UPSTREAM``.  The bare relay does with aiohttp and uvloop what any relay must: read the request, send
it on, stream the answer.  It is the measure of what a relay in Python can cost.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import aiohttp
from aiohttp import web

ROOT = Path(__file__).parent.parent
PEERS = Path(os.environ.get("LACONIC_PEERS") or ROOT / ".peers")
START_S = 120.0
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "Paris. " * 40},
            }
        ],
        "usage": {"prompt_tokens": 260, "completion_tokens": 80, "total_tokens": 340},
    }
).encode()
CHUNKS, CHUNK_S = 100, 0.02
"""A streamed answer: so many events, so far apart."""
KEY = "sk-a-key-that-opens-nothing"
NEVER_PROXIED = {"HTTP_PROXY": "", "HTTPS_PROXY": "", "NO_PROXY": "*"}


class NoPeer(Exception):
    """A peer is not installed, or does not start."""


@dataclass(frozen=True)
class Server:
    """A running server; its process can be looked at."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        """Return its base, without a path."""
        return f"http://127.0.0.1:{self.port}"


def resident_bytes(pid: int) -> int:
    """Return the memory that a process holds now (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """Return a port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str], port: int, ready: str, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run a server until the block ends; waits until ``ready`` answers.  Raises NoPeer."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603 - our own choice of program
            command,
            stdout=log,
            stderr=log,
            env={**os.environ, **NEVER_PROXIED, **(environment or {})},
        )
        try:
            _await_ready(process, f"http://127.0.0.1:{port}{ready}", log)
            yield Server(port, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_ready(process: subprocess.Popen[bytes], url: str, log: IO[bytes]) -> None:
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s:
        if process.poll() is not None:
            log.seek(0)
            said = log.read()[-2000:].decode("utf-8", "replace")
            raise NoPeer(f"found exit code {process.returncode}, wanted a server: {said}")
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - loopback
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise NoPeer(f"{url}: found nothing ready after {START_S:.0f} s")


def _own(name: str, *given: str) -> Sequence[str]:
    return [sys.executable, __file__, name, *given]


@contextmanager
def upstream() -> Iterator[Server]:
    """Answer every chat request at once, streamed ones over two seconds."""
    port = free_port()
    with running(_own("upstream", str(port)), port, "/ready") as server:
        yield server


@contextmanager
def bare_relay(far: str) -> Iterator[Server]:
    """Relay with aiohttp and nothing else."""
    port = free_port()
    with running(_own("bare", str(port), far), port, "/ready") as server:
        yield server


@contextmanager
def laconic(
    far: str,
    *options: str,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Run ``laconic serve``, model loaded."""
    port = free_port()
    command = [python, "-m", "proxy", "serve", "--upstream", f"{far}/v1", "--port", str(port)]
    with running([*command, *options], port, "/readyz", environment) as server:
        yield server


@contextmanager
def litellm(far: str, folder: Path) -> Iterator[Server]:
    """Run LiteLLM's proxy in front of ``far``; its configuration goes to ``folder``."""
    port, binary = free_port(), _peer("litellm")
    config = folder / "litellm.yaml"
    model = {"model": "openai/gpt-4o", "api_base": f"{far}/v1", "api_key": KEY}
    told = {
        "model_list": [{"model_name": "gpt-4o", "litellm_params": model}],
        "general_settings": {"master_key": KEY},
    }
    config.write_text(json.dumps(told), "utf-8")
    command = [str(binary), "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]
    offline = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with running(command, port, "/health/liveliness", offline) as server:
        yield server


@contextmanager
def headroom(far: str, folder: Path) -> Iterator[Server]:
    """Run Headroom's proxy in front of ``far``, its files in ``folder``."""
    port, binary = free_port(), _peer("headroom")
    command = [str(binary), "proxy", "--port", str(port), "--openai-api-url", far]
    quiet = {"HOME": str(folder), "HEADROOM_TELEMETRY": "off", "HF_HUB_OFFLINE": "1"}
    options = ["--no-telemetry", "--stateless", "--no-rate-limit", "--no-cache"]
    with running([*command, *options], port, "/health", quiet) as server:
        yield server


def _peer(name: str) -> Path:
    binary = PEERS / name / "bin" / name
    if not binary.exists():
        raise NoPeer(f"{binary}: found nothing, wanted what `make bench-peers` makes")
    return binary


# -- the servers themselves -----------------------------------------------------------------------


def _upstream_app() -> web.Application:
    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if b'"stream": true' not in body and b'"stream":true' not in body:
            return web.Response(body=ANSWER, content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number in range(CHUNKS):
            sent = {"choices": [{"index": 0, "delta": {"content": f"{time.time():.6f} {number}"}}]}
            await response.write(b"data: " + json.dumps(sent).encode() + b"\n\n")
            await asyncio.sleep(CHUNK_S)
        await response.write(b"data: [DONE]\n\n")
        return response

    app = web.Application(client_max_size=1 << 30)
    app.router.add_get("/ready", _ready)
    app.router.add_route("*", "/{tail:.*}", answer)
    return app


def _bare_app(far: str) -> web.Application:
    async def session(app: web.Application) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as opened:
            app[_SESSION] = opened
            yield

    async def relay(request: web.Request) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        url = far + request.raw_path
        body = await request.read()
        async with request.app[_SESSION].request(
            request.method, url, data=body, headers=headers, allow_redirects=False
        ) as answer:
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    app = web.Application(client_max_size=1 << 30)
    app.cleanup_ctx.append(session)
    app.router.add_get("/ready", _ready)
    app.router.add_route("*", "/{tail:.*}", relay)
    return app


_SESSION = web.AppKey("session", aiohttp.ClientSession)
_HOP = frozenset({"host", "connection", "keep-alive", "transfer-encoding", "te", "upgrade"})


async def _ready(_request: web.Request) -> web.Response:
    return web.Response(text="ready")


def _serve(app: web.Application, port: int) -> None:
    import uvloop  # noqa: PLC0415 - the servers alone need it

    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None, loop=loop)


if __name__ == "__main__" and sys.argv[1:]:
    name, given_port, *rest = sys.argv[1:]
    _serve(_upstream_app() if name == "upstream" else _bare_app(rest[0]), int(given_port))
