"""``laconic compress``: the proxy's own way from body to compressed body, over files.

The bytes that come out are those that the proxy would send; which endpoint a body is for is told by
its keys.  Two things differ: the owner of the command line may do what a policy does not allow
callers to, and no deadline makes a text pass.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final, Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from proxy.app import build_engine, configure_logging
from proxy.cli.checking import read_file
from proxy.gateway import Compression
from proxy.gateway.compression import Incoming, Prepared
from proxy.gateway.method import Cascade
from proxy.ledger.entry import stats as stats_of
from proxy.memo import TurnMemo, VectorMemo
from proxy.policy import (
    Allow,
    Policy,
    PolicySet,
    layered,
    load_policies,
    read_policy_dir,
    shipped_policies,
)
from proxy.policy.source import read_yaml
from proxy.settings import LogLevel, Settings
from proxy.types import Outcome, Reason
from proxy.wire import LaconicHeaders, endpoint_for

_UNHURRIED_S: Final = 86_400.0
_AT_ONCE: Final = 4  # bodies in work side by side; the engine shares the model out
_OURS: Final = frozenset({Reason.FAILED, Reason.SCORER_FAILED, Reason.OVERLOADED})


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done with each body."""

    policies: PolicySet
    overrides: LaconicHeaders


class Preparer(Protocol):
    """What compresses one body: :class:`~proxy.gateway.compression.Compression`, or a stand-in."""

    async def prepare(self, incoming: Incoming, policies: PolicySet) -> Prepared:
        """Decide, and compress."""


def plan(settings: Settings, *, policy: str | None, rate: float | None) -> Plan:
    """Read the policies.  ``policy`` is a name or a file; without it the routes decide.

    Raises PolicyError where a policy is unknown or wrong, CallerError where ``rate`` is.
    """
    given = [("x-laconic-rate", str(rate))] if rate is not None else []
    overrides = LaconicHeaders.read(given)
    files = layered(read_policy_dir(settings.policies)) if settings.policies else shipped_policies()
    if policy is None:
        return Plan(_freed(load_policies(files, fallback=settings.policy)), overrides)
    name = policy
    if policy.endswith(".yaml"):
        path = Path(policy)
        files = {**files, path.name: read_file(path)}
        name = _name_in(path, files[path.name])
    chosen = load_policies(files, fallback=name)
    return Plan(_freed(replace(chosen, routes=())), overrides)


def _name_in(path: Path, text: str) -> str:
    value = read_yaml(path.name, text).value
    name = value.get("name") if isinstance(value, dict) else None
    return name if isinstance(name, str) else path.stem


def _freed(policies: PolicySet) -> PolicySet:
    """Let the owner of the command line set any rate, and take the time it takes."""

    def free(policy: Policy) -> Policy:
        return policy.model_copy(update={"allow": Allow(), "deadline_s": _UNHURRIED_S})

    return replace(policies, policies={k: free(p) for k, p in policies.policies.items()})


def run(plan: Plan, settings: Settings, *, jsonl: bool, stats: Path | None) -> bool:
    """Compress stdin to stdout; return whether a fault of ours made a body pass.

    The log has no part in stdout, which is the body's, and says nothing that the statistics say.
    Raises PolicyError where the model cannot be loaded, OSError where a file cannot be written.
    """
    configure_logging(settings.model_copy(update={"log_level": LogLevel.ERROR}))
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    with _lines_to(stats) as notes:
        return asyncio.run(_run(plan, settings, Streams(source, sink, notes), jsonl=jsonl))


@dataclass(frozen=True, slots=True)
class Streams:
    """Where bodies come from, where they go, and where the statistics go."""

    source: BinaryIO
    sink: BinaryIO
    notes: TextIO


@contextmanager
def _lines_to(path: Path | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stderr
    else:
        with path.open("w", encoding="utf-8") as notes:
            yield notes


async def _run(plan: Plan, settings: Settings, streams: Streams, *, jsonl: bool) -> bool:
    async with compression(settings) as preparer:
        bodies = streams.source if jsonl else [streams.source.read()]
        with _progress(streams, shown=jsonl) as progress:
            return await compress_all(preparer, plan, bodies, streams, progress)


@asynccontextmanager
async def compression(settings: Settings) -> AsyncIterator[Compression]:
    """Load the model and make ready, as ``serve`` does."""
    engine = build_engine(settings, VectorMemo(settings.memo_bytes))
    engine.start()
    method = Cascade(TurnMemo(), lambda: engine.revision)
    preparer = Compression(method, engine, limit_bytes=settings.max_body_bytes)
    try:
        await engine.wait_ready()
        yield preparer
    finally:
        preparer.close()
        engine.close()


async def compress_all(
    preparer: Preparer,
    plan: Plan,
    bodies: Iterable[bytes],
    streams: Streams,
    progress: Progress | None = None,
) -> bool:
    """Compress bodies, a few at a time, and write them and their statistics in order.

    A body keeps its line ending, and one that cannot be read comes out as it went in.  Returns
    whether a fault of ours made one pass.
    """
    bar = progress.add_task("compressing", total=None) if progress else None
    working: deque[asyncio.Task[tuple[bytes, Outcome]]] = deque()
    number = 0
    failed = False

    async def finish_first() -> None:
        nonlocal number, failed
        body, outcome = await working.popleft()
        number += 1
        failed |= outcome.reason in _OURS
        streams.sink.write(body)
        streams.notes.write(f"{json.dumps(stats_of(f'line-{number}', outcome))}\n")
        if progress and bar is not None:
            progress.advance(bar)

    try:
        for line in bodies:
            working.append(asyncio.create_task(_compress(preparer, plan, line)))
            if len(working) == _AT_ONCE:
                await finish_first()
        while working:
            await finish_first()
    finally:
        for task in working:
            task.cancel()
    streams.sink.flush()
    streams.notes.flush()
    return failed


async def _compress(preparer: Preparer, plan: Plan, line: bytes) -> tuple[bytes, Outcome]:
    body = line.rstrip(b"\r\n")
    endpoint = endpoint_for(body)
    incoming = Incoming(endpoint, f"/v1{endpoint.path}", {}, plan.overrides, body)
    prepared = await preparer.prepare(incoming, plan.policies)
    new = body if prepared.edited is None else prepared.edited
    return new + line[len(body) :], prepared.outcome


def _progress(streams: Streams, *, shown: bool) -> AbstractContextManager[Progress | None]:
    """Return a progress bar for people: on stderr, where nothing else is written there."""
    console = Console(stderr=True)
    if not shown or not console.is_terminal or streams.notes is sys.stderr:
        return nullcontext()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
