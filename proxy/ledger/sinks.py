"""Where entries go.  A sink never blocks the event loop and never raises into an exchange."""

from __future__ import annotations

from typing import Protocol

import structlog
from structlog.typing import FilteringBoundLogger

from proxy.ledger.entry import LedgerEntry


class Sink(Protocol):
    """A place that entries are written to."""

    def write(self, entry: LedgerEntry) -> None:
        """Take the entry: soon, without blocking, without raising."""

    def close(self) -> None:
        """Finish what was taken.  May block; call it off the event loop."""


class LogSink:
    """One structured log line per exchange, complete (structlog's canonical log line)."""

    def __init__(self, log: FilteringBoundLogger | None = None) -> None:
        """Log to ``log``, or to the process's configured structlog logger."""
        self._log: FilteringBoundLogger = log or structlog.get_logger("laconic")

    def write(self, entry: LedgerEntry) -> None:
        """Write the line, at level info."""
        self._log.info("exchange", **entry.record())

    def close(self) -> None:
        """Nothing is held back."""
