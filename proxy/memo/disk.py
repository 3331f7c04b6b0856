"""The memo's second shelf: bytes by key in one SQLite file, shared by every process that opens it.

Theory of operation.  Reads are point look-ups by key.  Writes are queued and committed in batches
by a thread of their own; where the queue is full they are dropped, which costs model time later
and nothing else.  In WAL mode with ``synchronous=NORMAL`` a process may die at any moment and the
file stays whole.  Triggers keep the total size within the same transaction as the rows, so several
processes agree on it; past the limit the entries not read for longest go.

A file of ours that is damaged is begun anew: what it held can be computed again.  Whatever else
stands at its place is left alone, and refused.  The hashes are keyed by a secret that lives in the
file, readable by its owner alone as the vectors are (law 11): vectors leak text.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from proxy.errors import PolicyError
from proxy.memo.lru import Usage
from proxy.writing import Batches, to_wal

VERSION: Final = 1
APPLICATION: Final = 0x6C61636D  # in the header of every SQLite file that is a memo
_SCHEMA: Final = """
CREATE TABLE secret (bytes BLOB NOT NULL);
CREATE TABLE total (bytes INTEGER NOT NULL, entries INTEGER NOT NULL);
CREATE TABLE vectors (
    key BLOB PRIMARY KEY, value BLOB NOT NULL, used INTEGER NOT NULL
);
CREATE INDEX vectors_by_use ON vectors (used);
CREATE TRIGGER vectors_in AFTER INSERT ON vectors BEGIN
    UPDATE total SET bytes = bytes + length(new.value) + 100, entries = entries + 1;
END;
CREATE TRIGGER vectors_out AFTER DELETE ON vectors BEGIN
    UPDATE total SET bytes = bytes - length(old.value) - 100, entries = entries - 1;
END;
"""
"""The 100 bytes are a row's overhead, about."""

_BATCH: Final = 256
_LINGER_S: Final = 0.2
_KEPT_SHARE: Final = 0.9  # of the limit, once it was passed: so that not every write has to clear
_SIDECARS: Final = ("", "-wal", "-shm")
_HEADER: Final = slice(68, 72)  # the application's number in a SQLite file (its format, 1.3.17)


class DiskMemo:
    """Bytes by key, up to a number of bytes.  Any thread may ask."""

    def __init__(
        self,
        path: Path,
        limit_bytes: int,
        *,
        warn: Callable[[str], None] = lambda _: None,
        capacity: int = 4096,
    ) -> None:
        """Open or create the file at ``path``; ``capacity`` writes may wait.

        ``warn`` is told, in one line without a text's content, when a file is begun anew and when
        the disk takes no more.  Raises PolicyError where the path cannot be written, or holds
        something else.
        """
        self.path = path
        self.dropped = 0  # writes that found no place in the queue or on the disk
        self._limit = limit_bytes
        self._warn = warn
        self._reader = _opened(path, warn)
        self._writer = _connection(path)
        self._writer.execute("PRAGMA synchronous=NORMAL")
        self._reading = threading.Lock()  # guards the reader, and the two counters
        self._hits = self._misses = 0
        self.secret: bytes = self._reader.execute("SELECT bytes FROM secret").fetchone()[0]
        self._batches: Batches[tuple[bytes, bytes | None]] = Batches(
            self._commit,
            name="laconic-memo",
            capacity=capacity,
            linger_s=_LINGER_S,
            largest=_BATCH,
        )

    def get(self, key: bytes) -> bytes | None:
        """Return what was put under ``key``, or None; an unreadable file has nothing."""
        with self._reading:
            try:
                row = self._reader.execute(
                    "SELECT value FROM vectors WHERE key = ?", (key,)
                ).fetchone()
            except sqlite3.Error:
                row = None
            self._hits += row is not None
            self._misses += row is None
        if row is None:
            return None
        self._enqueue((key, None))
        value: bytes = row[0]
        return value

    def holds(self, keys: Sequence[bytes]) -> set[bytes]:
        """Return those of ``keys`` that are there, without reading them or counting."""
        found: set[bytes] = set()
        with self._reading, suppress(sqlite3.Error):
            for start in range(0, len(keys), _BATCH):
                some = keys[start : start + _BATCH]
                marks = ", ".join("?" * len(some))
                rows = self._reader.execute(
                    f"SELECT key FROM vectors WHERE key IN ({marks})",  # noqa: S608 - marks only
                    some,
                )
                found.update(key for (key,) in rows)
        return found

    def put(self, key: bytes, value: bytes) -> None:
        """Keep ``value``, soon; one larger than a tenth of the limit is not kept."""
        if len(value) <= self._limit // 10:
            self._enqueue((key, value))

    def forget(self, key: bytes) -> None:
        """Drop what was put under ``key``: it was damaged."""
        self._enqueue((key, b""))

    @property
    def usage(self) -> Usage:
        """How it has served this process, and what all of them hold together."""
        with self._reading:
            try:
                size, entries = self._reader.execute("SELECT bytes, entries FROM total").fetchone()
            except sqlite3.Error:
                size = entries = 0
            return Usage(self._hits, self._misses, entries, size)

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until what was put so far is committed; say whether that happened in time."""
        return self._batches.flush(timeout_s)

    def close(self) -> None:
        """Commit what was put and close the file.  Safe to call twice."""
        self._batches.close()
        self._writer.close()
        with self._reading:
            self._reader.close()

    def _enqueue(self, item: tuple[bytes, bytes | None]) -> None:
        if not self._batches.put(item):
            self.dropped += item[1] is not None

    def _commit(self, items: Sequence[tuple[bytes, bytes | None]]) -> None:
        try:
            _write(self._writer, items, int(time.time()), self._limit)
        except sqlite3.Error as error:
            self.dropped += sum(value is not None for _, value in items)
            self._warn(f"{self.path}: {len(items)} entries not written: {error}")


def _write(
    database: sqlite3.Connection,
    items: Iterable[tuple[bytes, bytes | None]],
    now_s: int,
    limit_bytes: int,
) -> None:
    """Write a batch in one transaction.  None marks a use, empty bytes a deletion."""
    database.execute("BEGIN IMMEDIATE")
    try:
        for key, value in items:
            if value is None:
                database.execute("UPDATE vectors SET used = ? WHERE key = ?", (now_s, key))
                continue
            database.execute("DELETE FROM vectors WHERE key = ?", (key,))
            if value:
                database.execute("INSERT INTO vectors VALUES (?, ?, ?)", (key, value, now_s))
        _clear(database, limit_bytes)
        database.execute("COMMIT")
    except sqlite3.Error:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _clear(database: sqlite3.Connection, limit_bytes: int) -> None:
    """Drop what was not used for longest, once the limit is passed."""
    (size,) = database.execute("SELECT bytes FROM total").fetchone()
    if size <= limit_bytes:
        return
    excess = size - _KEPT_SHARE * limit_bytes
    oldest = database.execute("SELECT key, length(value) + 100 FROM vectors ORDER BY used, rowid")
    gone: list[tuple[bytes]] = []
    for key, weight in oldest:
        if excess <= 0:
            break
        gone.append((key,))
        excess -= weight
    database.executemany("DELETE FROM vectors WHERE key = ?", gone)


# -- opening ------------------------------------------------------------------------------------


def _opened(path: Path, warn: Callable[[str], None]) -> sqlite3.Connection:
    """Open the file; one of ours that is damaged, or of another version, is begun anew.

    Raises PolicyError where the path cannot be written, or holds something else.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            return _prepared(path)
        except _Unfit as error:
            for sidecar in _SIDECARS:
                Path(f"{path}{sidecar}").unlink(missing_ok=True)
            warn(f"{path}: begun anew: {error}")
            return _prepared(path)
    except (OSError, sqlite3.Error) as error:
        raise PolicyError(f"{path}: memo: {error}, wanted a memo or a free place") from error


class _Unfit(Exception):
    """The file is a memo, but not one that can be used."""


def _connection(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    return sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)


def _prepared(path: Path) -> sqlite3.Connection:
    """Open a memo, made where there is no file.  Raises _Unfit, OSError and sqlite3.Error."""
    database = _connection(path)
    try:
        _make(database)
    except sqlite3.DatabaseError as error:
        database.close()
        damaged = getattr(error, "sqlite_errorname", None) in ("SQLITE_CORRUPT", "SQLITE_NOTADB")
        if damaged and _is_ours(path):
            raise _Unfit(str(error)) from error
        raise
    except BaseException:
        database.close()
        raise
    return database


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(_HEADER.stop)[_HEADER] == APPLICATION.to_bytes(4, "big")


def _make(database: sqlite3.Connection) -> None:
    """Lay out an empty database; several processes may start at once."""
    database.execute("BEGIN IMMEDIATE")
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION and tables:
        raise sqlite3.DataError("found another program's database")
    if application == APPLICATION and version != VERSION:
        raise _Unfit(f"found version {version}, wanted {VERSION}")
    if not tables:
        for statement in _statements(_SCHEMA):
            database.execute(statement)
        database.execute("INSERT INTO secret VALUES (?)", (secrets.token_bytes(32),))
        database.execute("INSERT INTO total VALUES (0, 0)")
        database.execute(f"PRAGMA application_id = {APPLICATION}")
        database.execute(f"PRAGMA user_version = {VERSION}")
    database.execute("COMMIT")
    to_wal(database)


def _statements(script: str) -> list[str]:
    """Split a script as SQLite would: a trigger holds semicolons of its own."""
    found: list[str] = []
    pending = ""
    for line in script.splitlines():
        pending += f"{line}\n"
        if sqlite3.complete_statement(pending):
            found.append(pending)
            pending = ""
    return found
