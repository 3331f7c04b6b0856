"""The ledger's figures as Prometheus metrics: one more sink, in a registry of its own.

Labels come from configuration and enums alone; a model's or a caller's name is neither.

Where several processes serve one port, a scrape reaches any of them and has to be told the totals
of all (``SharedMetrics``).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from pathlib import Path
from threading import Lock
from typing import Any, Final, TypeAlias, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from proxy.ledger import LedgerEntry
from proxy.memo import Usage
from proxy.types import Reason

Labelled = TypeVar("Labelled", Counter, Gauge, Histogram)

MemoUsage: TypeAlias = Callable[[], Mapping[str, Usage]]
"""Tells how the memo has served so far, by where it looked: memory, disk."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_PUBLISH_S: Final = 1.0  # how old what others tell of this process's memo may be
_ONE_FILE: Final = "disk"  # where all processes look in the same place: its size is no sum
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """Counters and histograms, fed by ledger entries."""

    def __init__(self, memo: MemoUsage = dict) -> None:
        """Start every figure at zero; ``memo`` is asked whenever figures are wanted."""
        self._told = CollectorRegistry()
        self._told.register(_Memo(memo))
        self._begin(self._told)

    def _begin(self, registry: CollectorRegistry | None) -> None:
        self._registry = registry
        self._children: dict[tuple[object, tuple[object, ...]], Any] = {}
        self._exchanges = self._counter(
            "laconic_exchanges", "Exchanges.", ("policy", "reason", "ended")
        )
        self._answers = self._counter("laconic_answers", "Answers, by HTTP status.", ("status",))
        self._resent = self._counter(
            "laconic_resent", "Edited requests that the upstream refused and got verbatim."
        )
        self._faults = self._counter(
            "laconic_faults", "Faults of ours that made a request pass verbatim.", ("type",)
        )
        self._open = self._gauge(
            "laconic_breaker_open", "Whether edits on a route are suspended.", ("route",)
        )
        self._tokens = self._counter(
            "laconic_tokens", "Prompt tokens before and after compression.", ("policy", "when")
        )
        self._by_key = self._counter(
            "laconic_key_exchanges", "Exchanges, by the name of the proxy key.", ("key",)
        )
        self._tokens_by_key = self._counter(
            "laconic_key_tokens", "Prompt tokens, by the name of the proxy key.", ("key", "when")
        )
        self._compress = self._histogram(
            "laconic_compress_seconds", "Time spent compressing.", "policy"
        )
        self._queue = self._histogram(
            "laconic_queue_seconds", "Of it, waiting for the model.", "policy"
        )
        self._first_byte = self._histogram(
            "laconic_upstream_first_byte_seconds",
            "From sending to the upstream's status line.",
            "upstream",
        )
        self._duration = self._histogram(
            "laconic_exchange_seconds", "Arrival to last byte.", "policy"
        )

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...]) -> Gauge:
        return Gauge(name, text, labels, registry=self._registry, multiprocess_mode="livesum")

    def _histogram(self, name: str, text: str, label: str) -> Histogram:
        return Histogram(name, text, (label,), registry=self._registry, buckets=_SECONDS)

    def write(self, entry: LedgerEntry) -> None:
        """Count one exchange."""
        policy = entry.policy or "none"
        self._of(self._exchanges, policy, entry.reason or "none", entry.ended).inc()
        self._of(self._answers, entry.status or "none").inc()
        if entry.resent:
            self._resent.inc()
        if entry.key_name is not None:
            self._of(self._by_key, entry.key_name).inc()
        if entry.reason is Reason.FAILED:
            self._of(self._faults, entry.detail or "unknown").inc()
        if entry.tokens_before is not None and entry.tokens_after is not None:
            self._of(self._tokens, policy, "before").inc(entry.tokens_before)
            self._of(self._tokens, policy, "after").inc(entry.tokens_after)
            if entry.key_name is not None:
                self._of(self._tokens_by_key, entry.key_name, "before").inc(entry.tokens_before)
                self._of(self._tokens_by_key, entry.key_name, "after").inc(entry.tokens_after)
            self._of(self._compress, policy).observe(entry.compress_ms / 1000)
            self._of(self._queue, policy).observe(entry.queue_ms / 1000)
        if entry.upstream_ttfb_ms is not None:
            upstream = self._of(self._first_byte, entry.upstream or "none")
            upstream.observe(entry.upstream_ttfb_ms / 1000)
        self._of(self._duration, policy).observe(entry.duration_ms / 1000)

    def _of(self, metric: Labelled, *labels: object) -> Labelled:
        """Return a metric's child: looking one up costs the library as much as counting with it."""
        child = self._children.get((metric, labels))
        if child is None:
            child = self._children[metric, labels] = metric.labels(*labels)
        return child

    def breaker(self, route: str, is_open: bool) -> None:  # noqa: FBT001 - a state, not a switch
        """Tell whether edits on a route are suspended."""
        self._open.labels(route).set(is_open)

    def settle(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is held back."""

    def exposition(self) -> bytes:
        """Return all figures in Prometheus' text format, CONTENT_TYPE."""
        return generate_latest(self._told)

    def published(self) -> AbstractAsyncContextManager[None]:
        """Let other processes know what they have to, for as long as the context lasts."""
        return nullcontext()


class SharedMetrics(Metrics):
    """The figures of all processes that count in one directory, told by whichever is asked.

    This is prometheus_client's multiprocess mode: every value lives in a mapped file of its
    process, and a scrape sums the files.  They are named by the worker's number, not by a process
    id: whoever takes a dead worker's place counts on from where it stopped.  What the memo is
    asked for in a single process is published here instead, every second.
    """

    def __init__(self, memo: MemoUsage, directory: Path, number: int) -> None:
        """Count as ``number``.  The library's two switches are global: one instance a process."""
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
        values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]
        self._told = CollectorRegistry()
        self._told.register(_Together(memo, directory))
        self._memo = _PublishedMemo(memo)
        self._begin(None)

    def exposition(self) -> bytes:
        """Return the figures of all processes in Prometheus' text format, CONTENT_TYPE."""
        self._memo.publish()
        return super().exposition()

    @asynccontextmanager
    async def published(self) -> AsyncIterator[None]:
        """Publish the memo's figures time and again, and a last time at the end."""
        publishing = asyncio.create_task(self._publish_on())
        try:
            yield
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
            await asyncio.to_thread(self._memo.publish)

    async def _publish_on(self) -> None:
        while True:
            await asyncio.to_thread(self._memo.publish)  # it reads a file
            await asyncio.sleep(_PUBLISH_S)


class _PublishedMemo:
    """The memo's figures as values that others can read."""

    def __init__(self, usage: MemoUsage) -> None:
        self._usage = usage
        self._before: dict[tuple[str, str], int] = {}
        self._publishing = Lock()
        self._lookups = Counter(
            "laconic_memo_lookups", "Look-ups in the memo.", ("where", "outcome"), registry=None
        )
        self._entries = _sum_of_the_living("laconic_memo_entries", "Texts remembered.")
        self._size = _sum_of_the_living("laconic_memo_bytes", "Bytes remembered.")

    def publish(self) -> None:
        """Bring the values up to date; any thread may."""
        with self._publishing:
            for where, used in self._usage().items():
                for outcome, found in (("hit", used.hits), ("miss", used.misses)):
                    new = found - self._before.get((where, outcome), 0)
                    self._lookups.labels(where, outcome).inc(new)
                    self._before[where, outcome] = found
                if where != _ONE_FILE:
                    self._entries.labels(where).set(used.entries)
                    self._size.labels(where).set(used.size)


def _sum_of_the_living(name: str, text: str) -> Gauge:
    return Gauge(name, text, ("where",), registry=None, multiprocess_mode="livesum")


class _Together(Collector):
    """All processes' figures, and what is true of all of them at once."""

    def __init__(self, usage: MemoUsage, directory: Path) -> None:
        self._usage = usage
        self._directory = directory

    def collect(self) -> Iterator[Metric]:
        """Yield the sums; the size of the memo's file as this process sees it."""
        file = self._usage().get(_ONE_FILE)
        sizes = {} if file is None else _sizes(file)
        files = _begun(self._directory)
        for metric in MultiProcessCollector.merge(files):  # type: ignore[no-untyped-call]
            if metric.name in sizes:
                metric.add_sample(metric.name, {"where": _ONE_FILE}, sizes[metric.name])
            yield metric


def _begun(directory: Path) -> list[str]:
    """Return the files with figures in them.

    One that a process has only just made is empty, which the library cannot read; one of a process
    that died may be gone by now.
    """
    begun: list[str] = []
    for path in directory.glob("*.db"):
        with suppress(FileNotFoundError):
            if path.stat().st_size:
                begun.append(f"{path}")
    return begun


def _sizes(used: Usage) -> dict[str, int]:
    return {"laconic_memo_entries": used.entries, "laconic_memo_bytes": used.size}


class _Memo(Collector):
    """The memo's figures, read when they are asked for."""

    def __init__(self, usage: MemoUsage) -> None:
        self._usage = usage

    def collect(self) -> Iterator[Metric]:
        """Yield look-ups by outcome, entries and bytes, each by where."""
        lookups = CounterMetricFamily(
            "laconic_memo_lookups", "Look-ups in the memo.", labels=["where", "outcome"]
        )
        entries = GaugeMetricFamily("laconic_memo_entries", "Texts remembered.", labels=["where"])
        size = GaugeMetricFamily("laconic_memo_bytes", "Bytes remembered.", labels=["where"])
        for where, used in self._usage().items():
            lookups.add_metric([where, "hit"], used.hits)
            lookups.add_metric([where, "miss"], used.misses)
            entries.add_metric([where], used.entries)
            size.add_metric([where], used.size)
        yield from (lookups, entries, size)
