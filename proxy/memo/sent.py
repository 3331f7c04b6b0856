"""Which digests were met before, by any of the processes that share a file.

One transaction asks and remembers, so that of two processes that meet a digest at the same moment
one is the first.  What each of them met itself it knows without asking.

The file is meant for the life of a group of processes.  Digests are of texts: the chain that they
are made by begins with :attr:`Sent.secret`, which lives in the file, for its owner alone (law 11).
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from proxy.errors import PolicyError
from proxy.writing import to_wal

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS secret (one INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS sent (number INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE)
"""
_REMEMBERED: Final = 400_000  # digests: some five thousand conversations of forty turns, 30 MB
_SOME: Final = 1_000  # let go of at once


class Sent:
    """The file; for one thread at a time."""

    def __init__(
        self,
        path: Path,
        limit: int = _REMEMBERED,
        *,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Open or create the file at ``path``, which holds ``limit`` digests, about.

        ``warn`` is told, in one line, when it cannot be asked.  Raises PolicyError where the path
        cannot be used.
        """
        self._path, self._limit, self._warn = path, limit, warn
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            to_wal(self._database)
            self._database.execute("PRAGMA synchronous=OFF")  # gone with the processes anyway
            self.secret = self._opened()
        except (OSError, sqlite3.Error) as error:
            raise PolicyError(f"{path}: {error}, wanted a file that can be written") from error

    def meet(self, digests: Sequence[bytes]) -> list[bool]:
        """Tell of each digest whether anybody met it before; from now on it was met.

        All are new where the file cannot be asked.
        """
        if not digests:
            return []
        try:
            self._database.execute("BEGIN IMMEDIATE")
            met = [self._meet(digest) for digest in digests]
            self._bound()
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):  # where none was begun
                self._database.execute("ROLLBACK")
            self._warn(f"{self._path}: {error}")
            return [False] * len(digests)
        return met

    def close(self) -> None:
        """Close the file.  Safe to call twice."""
        self._database.close()

    def _opened(self) -> bytes:
        self._database.execute("BEGIN IMMEDIATE")  # several processes may start at once
        for statement in _SCHEMA.split(";"):
            self._database.execute(statement)
        self._database.execute(
            "INSERT OR IGNORE INTO secret VALUES (1, ?)", (secrets.token_bytes(32),)
        )
        self._database.execute("COMMIT")
        found: bytes = self._database.execute("SELECT bytes FROM secret").fetchone()[0]
        return found

    def _meet(self, digest: bytes) -> bool:
        """Tell whether a digest is there, and make it the newest."""
        known = self._database.execute("SELECT 1 FROM sent WHERE digest = ?", (digest,)).fetchone()
        self._database.execute("INSERT OR REPLACE INTO sent (digest) VALUES (?)", (digest,))
        return known is not None

    def _bound(self) -> None:
        first, last = self._database.execute(
            "SELECT (SELECT min(number) FROM sent), (SELECT max(number) FROM sent)"
        ).fetchone()
        if last - first >= self._limit + _SOME:
            oldest = last - self._limit
            self._database.execute("DELETE FROM sent WHERE number <= ?", (oldest,))
