"""Where entries go, and the thread that takes them there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import structlog
from structlog.typing import FilteringBoundLogger

from proxy.batches import Batches
from proxy.ledger.entry import LedgerEntry


class Sink(Protocol):
    """A place that entries are written to."""

    def write(self, entry: LedgerEntry) -> None:
        """Take the entry, in the clerk's thread."""

    def close(self) -> None:
        """Finish what was taken.  May block; call it off the event loop."""


class Clerk:
    """Makes entries and hands them to the sinks, in a thread of its own.

    The event loop only hands in what makes an entry: reading the answer's usage, writing the line,
    counting take longer than relaying a small answer does.
    """

    def __init__(self, sinks: Sequence[Sink], *, linger_s: float = 0.05) -> None:
        """Start the thread; the caller keeps the sinks, and closes them after this."""
        self._sinks = sinks
        self._log = structlog.get_logger("laconic")
        self._batches: Batches[Callable[[], LedgerEntry]] = Batches(
            self._write_all, name="laconic-clerk", capacity=10_000, linger_s=linger_s
        )

    def write(self, make: Callable[[], LedgerEntry]) -> None:
        """Write the entry that ``make`` returns, soon; at once where too many wait already."""
        if not self._batches.put(make):
            self._write_all([make])

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until all entries so far were handed on; say whether that happened in time."""
        return self._batches.flush(timeout_s)

    def close(self) -> None:
        """Hand on what waits.  Safe to call twice."""
        self._batches.close()

    def _write_all(self, makers: Sequence[Callable[[], LedgerEntry]]) -> None:
        for make in makers:
            try:
                entry = make()
                for sink in self._sinks:
                    sink.write(entry)
            except Exception as error:  # noqa: BLE001 - one entry's fault is not the next one's
                self._log.error("ledger-fault", type=type(error).__name__)


class LogSink:
    """One structured log line per exchange, complete (structlog's canonical log line)."""

    def __init__(self, log: FilteringBoundLogger | None = None) -> None:
        """Log to ``log``, or to the process's configured structlog logger."""
        self._log: FilteringBoundLogger = log or structlog.get_logger("laconic")

    def write(self, entry: LedgerEntry) -> None:
        """Write the line, at level info."""
        with suppress(OSError, ValueError):  # nobody reads any more, or the stream was closed
            self._log.info("exchange", **entry.record())

    def close(self) -> None:
        """Nothing is held back."""
