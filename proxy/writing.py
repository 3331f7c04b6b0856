"""What log, ledger and memo are written with: a thread that takes batches, and SQLite's WAL.

Theory of operation.  Handing in is an append to a deque and, where the thread sleeps, a wake-up: no
lock is waited for, so it may be done on the event loop.  The thread wakes at the first item, lets
more gather for ``linger_s`` and takes them all at once.  Under load it thus wakes a few times a
second, not once for each item: every wake-up contends with the loop for the interpreter's lock,
which was measured to cost more than the work itself.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")

_TRIES: Final = 100  # at the one switch to WAL in a file's life


class Batches(Generic[Item]):
    """Items on their way to a thread of their own.  Any thread may hand in."""

    def __init__(
        self,
        take: Callable[[list[Item]], None],
        *,
        name: str,
        capacity: int,
        linger_s: float,
        largest: int = 500,
    ) -> None:
        """Start the thread, which calls ``take`` with up to ``largest`` items, in their order.

        ``take`` must not raise.  ``capacity`` items may wait; a batch gathers for ``linger_s``.
        """
        self._take = take
        self._capacity, self._linger_s, self._largest = capacity, linger_s, largest
        self._items: deque[Item | threading.Event] = deque()
        self._wake, self._hurry = threading.Event(), threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> bool:
        """Hand in an item; False where too many wait already, or the thread has ended."""
        if len(self._items) >= self._capacity or self._closing:
            return False
        self._items.append(item)
        if not self._wake.is_set():
            self._wake.set()
        return True

    def hurry(self) -> None:
        """Let the thread take what was handed in, and gather no more before."""
        self._hurry.set()
        self._wake.set()

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until what was handed in so far was taken; say whether that happened in time.

        Where the thread has ended, all was.
        """
        if not self._thread.is_alive():
            return True
        done = threading.Event()
        self._items.append(done)
        self.hurry()
        return done.wait(timeout_s)

    def close(self) -> None:
        """Let the thread take what was handed in, and end it.  Safe to call twice."""
        self._closing = True
        self.hurry()
        self._thread.join()

    def _run(self) -> None:
        while not (self._closing and not self._items):
            self._wake.wait()
            self._hurry.wait(self._linger_s)
            self._hurry.clear()
            self._wake.clear()  # before looking: what comes from here on wakes again
            self._drain()

    def _drain(self) -> None:
        batch: list[Item] = []
        while self._items:
            item = self._items.popleft()
            if isinstance(item, threading.Event):
                self._hand_over(batch)
                batch = []
                item.set()
                continue
            batch.append(item)
            if len(batch) >= self._largest:
                self._hand_over(batch)
                batch = []
        self._hand_over(batch)

    def _hand_over(self, batch: list[Item]) -> None:
        if batch:
            self._take(batch)


def to_wal(database: sqlite3.Connection) -> None:
    """Switch to WAL, which SQLite refuses, without waiting, while another process does the same.

    Raises sqlite3.Error.  A transaction does wait; the mode stays with the file, so later starts
    find it as it should be.
    """
    for _ in range(_TRIES):
        try:
            database.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY":
                raise
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
        else:
            return
    database.execute("PRAGMA journal_mode=WAL")
