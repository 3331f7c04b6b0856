"""Where entries go, and the thread that takes them there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog
from structlog.typing import Processor

from proxy.ledger.entry import LedgerEntry
from proxy.writing import Batches


class Sink(Protocol):
    """A place that entries are written to."""

    def write(self, entry: LedgerEntry) -> None:
        """Take the entry; it may be held back until the batch is over."""

    def settle(self) -> None:
        """Let go of what was held back for a batch that is over, without waiting for a disk."""

    def close(self) -> None:
        """Finish what was taken.  May block; call it off the event loop."""


class Clerk:
    """Makes entries and hands them to the sinks, in a thread of its own.

    The event loop only hands in what makes an entry: reading the answer's usage, writing the line,
    counting take longer than relaying a small answer does.
    """

    def __init__(self, sinks: Sequence[Sink], *, linger_s: float = 0.2) -> None:
        """Start the thread; the caller keeps the sinks, and closes them after this."""
        self._sinks = sinks
        self._log = structlog.get_logger("laconic")
        self._batches: Batches[Callable[[], LedgerEntry | None]] = Batches(
            self._take, name="laconic-clerk", capacity=10_000, linger_s=linger_s
        )

    def write(self, make: Callable[[], LedgerEntry]) -> None:
        """Write the entry that ``make`` returns, soon; at once where too many wait already."""
        if not self._batches.put(make):
            self._write(make)

    def note(self, do: Callable[[], None]) -> None:
        """Do what cannot wait for an exchange's end, at once; not at all where too many wait."""
        if self._batches.put(do):
            self._batches.hurry()

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until all entries so far were handed on; say whether that happened in time."""
        return self._batches.flush(timeout_s)

    def close(self) -> None:
        """Hand on what waits.  Safe to call twice."""
        self._batches.close()

    def _take(self, makers: Sequence[Callable[[], LedgerEntry | None]]) -> None:
        for make in makers:
            self._write(make)
        for sink in self._sinks:
            self._settle(sink)

    def _write(self, make: Callable[[], LedgerEntry | None]) -> None:
        """Write one entry, where one is made, and hold back what may be."""
        try:
            entry = make()
            if entry is not None:
                for sink in self._sinks:
                    sink.write(entry)
        except Exception as error:  # noqa: BLE001 - one entry's fault is not the next one's
            self._tell(error)

    def _settle(self, sink: Sink) -> None:
        try:
            sink.settle()
        except Exception as error:  # noqa: BLE001 - nor is one sink's
            self._tell(error)

    def _tell(self, fault: Exception) -> None:
        self._log.error("ledger-fault", type=type(fault).__name__)


class LogSink:
    """One structured log line per exchange, complete (structlog's canonical log line).

    Lines are made by the process's configured processors, without the loggers around them, which
    copy each line's fields twice, and are written together.
    """

    def __init__(self) -> None:
        """Log as the process is configured to."""
        self._lines: list[str] = []
        self._steps: Sequence[Processor] | None = None  # asked for anew for each batch

    def write(self, entry: LedgerEntry) -> None:
        """Make the line, at level info."""
        if self._steps is None:
            self._steps = _steps()
        line: Any = {**entry.record(), "event": "exchange"}
        try:
            for step in self._steps:
                line = step(None, "info", line)
        except structlog.DropEvent:
            return
        if isinstance(line, str):
            self._lines.append(line)

    def settle(self) -> None:
        """Write what was gathered."""
        self._steps = None
        lines, self._lines = self._lines, []
        if lines:
            structlog.get_config()["logger_factory"]().info("\n".join(lines))

    def close(self) -> None:
        """Write what was gathered."""
        self.settle()


def _steps() -> Sequence[Processor]:
    """Return what makes a line of level info; nothing is made of it where that is not wanted."""
    enabled: bool = structlog.get_logger().is_enabled_for(logging.INFO)
    steps: Sequence[Processor] = structlog.get_config()["processors"]
    return steps if enabled else ()
