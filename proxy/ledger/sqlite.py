"""Entries in SQLite, written by a thread of their own.

``write`` hands the entry in and returns (:mod:`proxy.writing`).  The writer commits what has
gathered in one transaction: a busy proxy commits large batches, an idle one soon.
In WAL mode with ``synchronous=NORMAL`` a committed row survives the death of the process by any
signal, and the file is never left half-written; a power cut may take the last commits.

A full queue, a full disk or a database that stays locked loses entries, never an exchange: they
are counted in ``lost`` and one warning is logged per failure.

Past its bounds, in size and age, the ledger lets go of its oldest rows: with each batch that comes
in a few more than came, so that it gets back within them and nobody waits for it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import structlog

from proxy.errors import PolicyError
from proxy.ledger.capture import Captures, captures_of
from proxy.ledger.entry import LedgerEntry
from proxy.ledger.files import Bounds, open_file, used_bytes
from proxy.ledger.kept import Closing, keep
from proxy.ledger.sums import drop_empty
from proxy.types import Component
from proxy.writing import Batches

_TOGETHER: Final = 32  # rows that one statement inserts
_AT_LEAST: Final = 200  # rows to let go of at once, past a bound

MIGRATIONS: Final = (
    """
    CREATE TABLE exchanges (
        request_id TEXT NOT NULL,
        started_at TEXT NOT NULL,
        method TEXT NOT NULL,
        path TEXT NOT NULL,
        status INTEGER,
        route TEXT,
        policy TEXT,
        mode TEXT,
        model TEXT,
        stream INTEGER NOT NULL,
        reason TEXT,
        detail TEXT,
        tokens_before INTEGER,
        tokens_after INTEGER,
        tokens_saved INTEGER,
        rate REAL,
        encoding TEXT,
        estimated INTEGER NOT NULL,
        instruction_before INTEGER NOT NULL,
        instruction_after INTEGER NOT NULL,
        context_before INTEGER NOT NULL,
        context_after INTEGER NOT NULL,
        question_before INTEGER NOT NULL,
        question_after INTEGER NOT NULL,
        first_saved INTEGER NOT NULL,
        repeat_saved INTEGER NOT NULL,
        recalled_tokens INTEGER NOT NULL,
        cache_breaks INTEGER NOT NULL,
        prompt_tokens INTEGER,
        completion_tokens INTEGER,
        cached_tokens INTEGER,
        cache_write_tokens INTEGER,
        compress_ms REAL NOT NULL,
        queue_ms REAL NOT NULL,
        model_ms REAL NOT NULL,
        scored_tokens INTEGER NOT NULL,
        upstream_ttfb_ms REAL,
        duration_ms REAL NOT NULL,
        bytes_in INTEGER NOT NULL,
        bytes_out INTEGER NOT NULL,
        ended TEXT NOT NULL,
        resent INTEGER NOT NULL,
        api_key_hash TEXT
    );
    CREATE INDEX exchanges_by_time ON exchanges (started_at);
    """,
    "ALTER TABLE exchanges ADD COLUMN recovered INTEGER NOT NULL DEFAULT 0",
    """
    ALTER TABLE exchanges ADD COLUMN key_name TEXT;
    ALTER TABLE exchanges ADD COLUMN upstream TEXT
    """,
    "ALTER TABLE exchanges ADD COLUMN traceparent TEXT",
    """
    ALTER TABLE exchanges ADD COLUMN unchanged_tokens INTEGER;
    ALTER TABLE exchanges ADD COLUMN busted_tokens INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE exchanges ADD COLUMN upstream_host TEXT;
    ALTER TABLE exchanges ADD COLUMN conversation TEXT;
    ALTER TABLE exchanges ADD COLUMN arm TEXT
    """,
    """
    CREATE INDEX exchanges_by_id ON exchanges (request_id);
    CREATE INDEX exchanges_by_conversation ON exchanges (conversation)
        WHERE conversation IS NOT NULL;
    CREATE INDEX exchanges_by_arm ON exchanges (started_at) WHERE arm IS NOT NULL
    """,
    "ALTER TABLE exchanges ADD COLUMN segments BLOB",
    # What is kept beside the rows is made anew (proxy.ledger.kept): who keeps sums otherwise, and
    # knows nothing of the rest, shall refuse the file.
    "DROP TABLE IF EXISTS sums",
)
"""Each brings the database from one version to the next; written once, never edited."""


def columns(entry: LedgerEntry) -> dict[str, Any]:
    """Return the entry as one row: components become ``context_before``, ``context_after`` ..."""
    row = dict(entry.record())
    components = row.pop("components")
    for name, when, column in _PARTS:
        row[column] = components[name][when]
    row["segments"] = entry.segments
    return row


_PARTS: Final = tuple(
    (component.value, when, f"{component.value}_{when}")
    for component in Component
    for when in ("before", "after")
)


def open_database(path: Path) -> sqlite3.Connection:
    """Open, create or bring up to date the ledger at ``path``, with what is kept beside its rows.

    Raises PolicyError where the path cannot be written, or holds something else.
    """
    return open_file(path, "ledger", MIGRATIONS, keep)


class SqliteSink:
    """Writes entries to a SQLite file, off the event loop."""

    def __init__(
        self,
        path: Path,
        bounds: Bounds | None = None,
        captures: Bounds | None = None,
        *,
        capacity: int = 10_000,
        linger_s: float = 0.05,
    ) -> None:
        """Open the database and start the writer.

        ``captures`` bound what callers said, where that is captured.  ``capacity`` entries may
        wait; a batch gathers for at most ``linger_s``.  Raises PolicyError where a file cannot be
        opened.
        """
        self.path = path
        self.lost = 0
        self._bounds = bounds or Bounds()
        self._told = False
        self._log = structlog.get_logger("laconic")
        self._database = open_database(path)
        self._closing = Closing(self._database)
        self._captures = Captures(captures_of(path), captures or Bounds())
        self._batches: Batches[LedgerEntry] = Batches(
            self._commit, name="laconic-ledger", capacity=capacity, linger_s=linger_s
        )

    def write(self, entry: LedgerEntry) -> None:
        """Hand the entry in; where too many wait it is lost and counted."""
        if not self._batches.put(entry):
            self._lose(1, "queue-full")

    def settle(self) -> None:
        """Nothing: the writer commits soon, and a locked file shall not hold up other sinks."""

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until what was written so far is committed; say whether that happened in time."""
        return self._batches.flush(timeout_s)

    def close(self) -> None:
        """Commit what was written and close the database.  Safe to call twice."""
        self._batches.close()
        self._database.close()
        self._captures.close()

    def _commit(self, entries: list[LedgerEntry]) -> None:
        try:
            insert(self._database, [columns(entry) for entry in entries])
            self._captures.add(entries)
        except (sqlite3.Error, PolicyError) as error:
            self._lose(len(entries), type(error).__name__, str(error))
        with suppress(sqlite3.Error):  # whatever it is, the next batch tries again, and says so
            self._forget(_AT_LEAST + 2 * len(entries))
            self._closing.after_rows(max(entry.started_at for entry in entries))

    def _forget(self, rows: int) -> None:
        """Let go of up to so many rows that are past the bounds, the oldest first."""
        days, size = self._bounds.days, self._bounds.size
        gone = 0
        if days is not None:
            earliest = datetime.now(UTC) - timedelta(days=days)
            gone += forget(self._database, rows, earliest.isoformat())
        if size is not None and used_bytes(self._database) > size:
            gone += forget(self._database, rows)
        self._captures.bound(oldest(self._database) if gone else "")
        if gone and not self._told:
            self._told = True
            self._log.info("ledger-bounded", size=size, days=days)

    def _lose(self, entries: int, why: str, detail: str | None = None) -> None:
        self.lost += entries
        self._log.warning("ledger-lost", entries=entries, lost=self.lost, why=why, detail=detail)


def oldest(database: sqlite3.Connection) -> str:
    """Return when the oldest exchange began; a time after all where there is none."""
    found = database.execute("SELECT coalesce(min(started_at), '~') FROM exchanges").fetchone()
    return str(found[0])


def forget(database: sqlite3.Connection, rows: int, before: str = "~") -> int:
    """Delete up to so many of the oldest rows that began before a time; return how many.

    Raises sqlite3.Error.
    """
    some = "SELECT rowid FROM exchanges WHERE started_at < ? ORDER BY started_at LIMIT ?"
    if database.execute(some, (before, 1)).fetchone() is None:
        return 0
    database.execute("BEGIN IMMEDIATE")
    try:
        done = database.execute(
            f"DELETE FROM exchanges WHERE rowid IN ({some})",  # noqa: S608 - ours
            (before, rows),
        )
        drop_empty(database)
        database.execute("COMMIT")
    except sqlite3.Error:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
    return done.rowcount


def insert(database: sqlite3.Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows, all of the same columns, in one transaction: all of them or none.

    Raises sqlite3.Error.
    """
    names, whole = tuple(rows[0]), len(rows) - len(rows) % _TOGETHER
    parts = [rows[start : start + _TOGETHER] for start in range(0, whole, _TOGETHER)]
    database.execute("BEGIN IMMEDIATE")
    try:
        for part in [*parts, *([row] for row in rows[whole:])]:
            values = [value for row in part for value in row.values()]
            database.execute(_insertion(names, len(part)), values)
        database.execute("COMMIT")
    except sqlite3.Error:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


@lru_cache(maxsize=8)
def _insertion(names: tuple[str, ...], rows: int) -> str:
    """Return the statement that inserts so many rows: SQLite's thread runs it in one go.

    Each row by itself would take the interpreter's lock from the event loop once more.
    """
    marks = ", ".join([f"({', '.join('?' * len(names))})"] * rows)
    # Column names come from the dataclass, never from a caller.
    return f"INSERT INTO exchanges ({', '.join(names)}) VALUES {marks}"  # noqa: S608
