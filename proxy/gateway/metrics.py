"""The ledger's figures as Prometheus metrics: one more sink, in a registry of its own.

Labels come from configuration and enums alone; a model's or a caller's name is neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from proxy.ledger import LedgerEntry
from proxy.memo import Usage
from proxy.types import Reason

MemoUsage: TypeAlias = Callable[[], Mapping[str, Usage]]
"""Tells how the memo has served so far, by where it looked: memory, disk."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """Counters and histograms, fed by ledger entries."""

    def __init__(self, memo: MemoUsage = dict) -> None:
        """Start every figure at zero; ``memo`` is asked whenever figures are wanted."""
        self._registry = CollectorRegistry()
        self._registry.register(_Memo(memo))
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
        self._tokens = self._counter(
            "laconic_tokens", "Prompt tokens before and after compression.", ("policy", "when")
        )
        self._compress = self._histogram("laconic_compress_seconds", "Time spent compressing.")
        self._queue = self._histogram("laconic_queue_seconds", "Of it, waiting for the model.")
        self._first_byte = self._histogram(
            "laconic_upstream_first_byte_seconds", "From sending to the upstream's status line."
        )
        self._duration = self._histogram("laconic_exchange_seconds", "Arrival to last byte.")

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, registry=self._registry, buckets=_SECONDS)

    def write(self, entry: LedgerEntry) -> None:
        """Count one exchange."""
        policy = entry.policy or "none"
        self._exchanges.labels(policy, entry.reason or "none", entry.ended).inc()
        self._answers.labels(entry.status or "none").inc()
        self._resent.inc(entry.resent)
        if entry.reason is Reason.FAILED:
            self._faults.labels(entry.detail or "unknown").inc()
        if entry.tokens_before is not None and entry.tokens_after is not None:
            self._tokens.labels(policy, "before").inc(entry.tokens_before)
            self._tokens.labels(policy, "after").inc(entry.tokens_after)
            self._compress.observe(entry.compress_ms / 1000)
            self._queue.observe(entry.queue_ms / 1000)
        if entry.upstream_ttfb_ms is not None:
            self._first_byte.observe(entry.upstream_ttfb_ms / 1000)
        self._duration.observe(entry.duration_ms / 1000)

    def close(self) -> None:
        """Nothing is held back."""

    def exposition(self) -> bytes:
        """Return all figures in Prometheus' text format, CONTENT_TYPE."""
        return generate_latest(self._registry)


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
