"""What callers said, where a person turned capture on for a route: kept and dropped text, marked.

The only place where prompt text is written (law 11), and a file of its own beside the ledger's, so
that the ledger can be handed on without it: ``ledger.captured.sqlite3``, for its owner alone, made
when the first text comes.  It knows nothing of headers, and so of no credential.

It is bounded in size and in age, and what is deleted is overwritten.  Text never stays longer than
its exchange does in the ledger.
"""
# ruff: noqa: S608 - the texts of these statements are ours: values are bound

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from proxy.ledger.entry import LedgerEntry
from proxy.ledger.files import Bounds, open_file, reading, used_bytes

if TYPE_CHECKING:
    from proxy.compress.show import Shown

LONGEST: Final = 1_000_000
"""Characters of one request that are kept, of its newest messages."""

MIGRATIONS: Final = (
    """
    CREATE TABLE captures (
        request_id TEXT NOT NULL,
        started_at TEXT NOT NULL,
        route TEXT,
        policy TEXT,
        model TEXT,
        reason TEXT,
        upstream TEXT,
        key_name TEXT,
        api_key_hash TEXT,
        conversation TEXT,
        text BLOB NOT NULL
    );
    CREATE INDEX captures_by_time ON captures (started_at);
    CREATE INDEX captures_by_id ON captures (request_id)
    """,
)
"""Each brings the file from one version to the next; written once, never edited."""

_KNOWN_BY: Final = (
    "request_id", "started_at", "route", "policy", "model", "reason", "upstream", "key_name",
    "api_key_hash", "conversation",
)  # fmt: skip
_AT_ONCE: Final = 20  # captures to let go of at once, past the bound
_INSERT: Final = (
    f"INSERT INTO captures ({', '.join(_KNOWN_BY)}, text) "
    f"VALUES ({', '.join('?' * len(_KNOWN_BY))}, ?)"
)


def captures_of(ledger: Path) -> Path:
    """Return where text is kept beside a ledger.

    >>> captures_of(Path("state/ledger.sqlite3")).name
    'ledger.captured.sqlite3'
    """
    return ledger.with_name(f"{ledger.stem}.captured{ledger.suffix}")


def sealed(leaves: Sequence[Shown]) -> bytes:
    """Return a request's text as it is written: the newest leaves, up to :data:`LONGEST`."""
    room = LONGEST
    kept: list[dict[str, Any]] = []
    for leaf in reversed(leaves):
        room -= sum(len(stretch.text) for stretch in leaf.stretches)
        if room < 0:
            break
        kept.append(leaf.record())
    told = {"leaves": kept[::-1], "left_out": len(leaves) - len(kept)}
    return zlib.compress(orjson.dumps(told))


class Captures:
    """The file, written by one thread."""

    def __init__(self, path: Path, bounds: Bounds) -> None:
        """Let go of what is past the bounds; the file is made with the first text.

        Raises PolicyError where there is something else at ``path``.
        """
        self._path, self._bounds = path, bounds
        self._database = open_captures(path) if path.is_file() else None
        self.bound()

    def add(self, entries: Sequence[LedgerEntry]) -> None:
        """Write the text of entries that have some.  Raises PolicyError and sqlite3.Error."""
        rows = [(*_known_by(entry), entry.captured) for entry in entries if entry.captured]
        if not rows:
            return
        if self._database is None:
            self._database = open_captures(self._path)
        self._database.executemany(_INSERT, rows)

    def bound(self, oldest: str = "") -> None:
        """Let go of what is past the bounds, or older than ``oldest``.  Raises sqlite3.Error."""
        if self._database is None:
            return
        days, size = self._bounds.days, self._bounds.size
        if days is not None:
            earliest = (datetime.now(UTC) - timedelta(days=days)).isoformat()
            oldest = max(oldest, earliest)
        self._database.execute("DELETE FROM captures WHERE started_at < ?", (oldest,))
        some = f"SELECT rowid FROM captures ORDER BY started_at LIMIT {_AT_ONCE}"
        while size is not None and used_bytes(self._database) > size:
            if self._database.execute(f"DELETE FROM captures WHERE rowid IN ({some})").rowcount < 1:
                break

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()


def _known_by(entry: LedgerEntry) -> tuple[object, ...]:
    record = entry.record()
    return tuple(record[name] for name in _KNOWN_BY)


def open_captures(path: Path) -> sqlite3.Connection:
    """Open or create a file of captured text.  Raises PolicyError."""
    database = open_file(path, "captured text", MIGRATIONS)
    database.execute("PRAGMA secure_delete=ON")
    return database


def captured(ledger: Path, request_id: str) -> Mapping[str, Any] | None:
    """Return the text of an exchange: ``leaves`` as they are shown, ``left_out`` older ones.

    None where none was captured.  Raises PolicyError where the file cannot be read.
    """
    path = captures_of(ledger)
    if not path.is_file():
        return None
    with reading(path) as database:
        row = database.execute(
            "SELECT text FROM captures WHERE request_id = ? ORDER BY rowid DESC", (request_id,)
        ).fetchone()
    if row is None:
        return None
    found: Mapping[str, Any] = orjson.loads(zlib.decompress(row[0]))
    return found


def erase_captures(ledger: Path, where: str, bound: Sequence[str]) -> int:
    """Delete the text that fits a condition on an exchange's columns; return of how many.

    Raises PolicyError and sqlite3.Error.
    """
    path = captures_of(ledger)
    if not path.is_file():
        return 0
    with closing(open_captures(path)) as database:
        erased = database.execute(f"DELETE FROM captures WHERE {where}", bound).rowcount
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return erased
