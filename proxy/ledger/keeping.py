"""Taking exchanges out of a ledger that may be in use: for good, and a few at a time."""
# ruff: noqa: S608 - the texts of these statements are ours: values are bound

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from proxy.errors import PolicyError
from proxy.ledger.capture import captures_of, erase_captures, open_captures
from proxy.ledger.kept import Closing
from proxy.ledger.query import Filter
from proxy.ledger.sqlite import open_database

_LAST: Final = "~"  # after all times
_AT_ONCE: Final = 1_000  # rows: the proxy's own writes wait some tens of ms at most


def erase(path: Path, chosen: Filter) -> int:
    """Delete the exchanges that fit, their text, and what the files still held of them.

    Return how many there were.  Raises PolicyError where a file cannot be written.
    """
    where, bound = chosen.condition()
    some = f"SELECT rowid FROM exchanges WHERE {where} LIMIT {_AT_ONCE}"
    erased = 0
    _require(path)
    erase_captures(path, where, bound)
    with _writing(path) as database:
        database.execute("PRAGMA secure_delete=ON")  # deleted text is overwritten, not just let go
        while True:
            done = database.execute(f"DELETE FROM exchanges WHERE rowid IN ({some})", bound)
            if done.rowcount <= 0:
                break
            erased += done.rowcount
        database.execute("DELETE FROM sums WHERE exchanges = 0")
        Closing(database).after_rows(_LAST)  # what was dropped of days and hours with the rows
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return erased


def vacuum(path: Path) -> tuple[int, int]:
    """Give the disk back what ledger and captured text do not use; return bytes before and after.

    Needs room for a copy, and nobody writing meanwhile.  Raises PolicyError.
    """
    _require(path)
    files = [path, *(each for each in [captures_of(path)] if each.is_file())]
    before = sum(each.stat().st_size for each in files)
    for each in files:
        with _writing(each, open_database if each == path else open_captures) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            database.execute("VACUUM")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return before, sum(each.stat().st_size for each in files)


def _require(path: Path) -> None:
    if not path.is_file():
        raise PolicyError(f"{path}: found no file, wanted a ledger written by `laconic serve`")


@contextmanager
def _writing(
    path: Path, opening: Callable[[Path], sqlite3.Connection] = open_database
) -> Iterator[sqlite3.Connection]:
    with closing(opening(path)) as database:
        try:
            yield database
        except sqlite3.Error as error:
            raise PolicyError(f"{path}: ledger: {error}, wanted a file to write to") from error
