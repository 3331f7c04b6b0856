"""The proxy under test, as it runs in production, with small stand-ins for model and method."""

import asyncio
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from fakes import answered
from servers import PATIENCE_S

from proxy.app import CLERK, Books, build_app, build_runner, listen
from proxy.compress.ports import Document, ScoreRequest, Scores, ScoreTimings
from proxy.compress.result import Compressed
from proxy.errors import CompressionError
from proxy.policy import PolicySet, PolicyStore
from proxy.policy.schema import Policy
from proxy.settings import Settings
from proxy.types import Component, Count, LeafEdit, Mode, Outcome, Reason, Span


class Notebook:
    """A sink that keeps what it is given."""

    def __init__(self):
        self.entries = []
        self.came = asyncio.Event()
        self.clerk = None
        self._loop = asyncio.get_running_loop()

    def write(self, entry):
        self.entries.append(entry)
        self._loop.call_soon_threadsafe(self.came.set)

    def settle(self):
        pass

    def close(self):
        pass

    async def entry(self, number=1):
        """The entry with that number, once it is written."""
        while len(self.entries) < number:
            self.came.clear()
            await asyncio.to_thread(self.clerk.flush)  # what is there already need not linger
            if len(self.entries) < number:
                await asyncio.wait_for(self.came.wait(), PATIENCE_S)
        return self.entries[number - 1]


class DropsX:
    """A method that drops every word beginning with x, after asking for one score."""

    def __init__(self):
        self.kept_verbatim = []
        self.errors = []

    def too_short(self, model, texts, policy):
        return None

    def compress(self, request, policy):
        reason = None
        try:
            yield ScoreRequest(documents=(Document("d", ()),), questions=("q",))
        except CompressionError as error:
            self.errors.append(error)
            reason = Reason.DEADLINE
        leaves = [leaf for message in request.messages for leaf in message.leaves]
        edits = [] if reason else [edit for edit in map(_without_x, leaves) if edit]
        before = sum(len(leaf.text.split()) for leaf in leaves)
        after = before - sum(len(re.findall(r"\bx\w*", leaf.text)) for leaf in leaves if edits)
        count = Count(before, after)
        outcome = Outcome(
            policy=policy.name,
            mode=policy.mode,
            reason=reason,
            tokens_before=before,
            tokens_after=after,
            components={Component.CONTEXT: count},
            encoding="words",
            first_saved=count.saved,
        )
        return Compressed(tuple(edits), outcome)

    def keep_verbatim(self, request, policy, compressed):
        self.kept_verbatim.append(request.raw)


def _without_x(leaf):
    dropped = [match.span() for match in re.finditer(r" ?\bx\w*", leaf.text)]
    if not dropped:
        return None
    starts = [0, *(end for _, end in dropped)]
    ends = [*(start for start, _ in dropped), len(leaf.text)]
    pieces = (Span(*span) for span in zip(starts, ends, strict=True))
    return LeafEdit(leaf.address, tuple(pieces))


class InstantEngine:
    """An engine that has the answer already."""

    def __init__(self):
        self.prefetched = []

    def ready(self):
        return True

    def submit(self, request, *, within_s=None):
        return answered(Scores(timings=ScoreTimings(queue_ms=1.0, model_ms=2.0)))

    def prefetch(self, request):
        self.prefetched.append(request)


def policies(*more, **of_default):
    """Policies ``on`` (the fallback), ``off`` and ``audit``; fields are those of ``on``."""
    all_of_them = [
        Policy(name="on", **of_default),
        Policy(name="off", mode=Mode.OFF),
        Policy(name="audit", mode=Mode.AUDIT),
        *more,
    ]
    return PolicySet({policy.name: policy for policy in all_of_them}, fallback="on")


@dataclass
class House:
    port: int
    ledger: Notebook
    method: object
    engine: object
    store: PolicyStore
    app: web.Application

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def house(
    upstream,
    *,
    fallback="on",
    method=None,
    engine=None,
    policy_set=None,
    environ=None,
    ledger_path=None,
    sinks=(),
    books=None,
    **settings,
):
    """A proxy in front of ``upstream``, on a free port of loopback."""
    base = upstream if isinstance(upstream, str) else upstream.url
    values = Settings(upstream=base, ledger_path=ledger_path, **settings)
    store = PolicyStore(policy_set or policies(), fallback=fallback)
    ledger, method, engine = Notebook(), method or DropsX(), engine or InstantEngine()
    app = build_app(
        values,
        store,
        method=method,
        engine=engine,
        sinks=[ledger, *sinks],
        books=books or Books(),
        environ=environ or {},
    )
    runner = build_runner(app, values)
    _, port = await listen(runner, "127.0.0.1", settings.get("port", 0))
    ledger.clerk = app[CLERK]
    try:
        yield House(port, ledger, method, engine, store, app)
    finally:
        await runner.cleanup()
