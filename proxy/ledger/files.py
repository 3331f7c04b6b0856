"""Files of records: SQLite, for their owner alone, brought up to date when they are opened."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.errors import PolicyError
from proxy.writing import to_wal

_OPENING_S: Final = 120  # another process may bring a large file up to date meanwhile
_WRITING_MS: Final = 5_000


def open_file(
    path: Path,
    what: str,
    migrations: Sequence[str],
    then: Callable[[sqlite3.Connection], None] = lambda _: None,
) -> sqlite3.Connection:
    """Open, create or bring up to date a file of ours, readable by its owner alone.

    ``then`` is called in the transaction of the migrations.  Raises PolicyError where the path
    cannot be written, or holds something else.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        database = sqlite3.connect(
            path, timeout=_OPENING_S, isolation_level=None, check_same_thread=False
        )
    except (OSError, sqlite3.Error) as error:
        raise PolicyError(f"{path}: {what}: {error}, wanted a file that can be written") from error
    try:
        to_wal(database)
        database.execute("PRAGMA synchronous=NORMAL")
        database.execute("BEGIN IMMEDIATE")  # several processes may start at once
        _migrate(database, f"{path}: {what}", migrations)
        then(database)
        database.execute("COMMIT")
        database.execute(f"PRAGMA busy_timeout={_WRITING_MS}")
    except sqlite3.Error as error:
        database.close()
        raise PolicyError(f"{path}: {what}: {error}, wanted a Laconic ledger") from error
    except PolicyError:
        database.close()
        raise
    return database


def _migrate(database: sqlite3.Connection, where: str, migrations: Sequence[str]) -> None:
    """Run the migrations that the database lacks; in a transaction."""
    database.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
    (version,) = database.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()
    if version > len(migrations):
        raise PolicyError(
            f"{where}: found schema version {version}, wanted at most {len(migrations)}"
        )
    for number in range(version, len(migrations)):
        for statement in migrations[number].split(";"):
            database.execute(statement)
        database.execute("INSERT INTO schema_version VALUES (?)", (number + 1,))


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a ledger may hold: so many bytes, and rows of so many days.  None: no bound."""

    size: int | None = None
    days: float | None = None


def used_bytes(database: sqlite3.Connection) -> int:
    """Return how much of the file is in use: what was deleted makes room for what comes."""
    pages, free, size = (
        int(database.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a ledger's file for one question.  Raises PolicyError where it is no ledger."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as database:
            database.row_factory = sqlite3.Row
            yield database
    except sqlite3.Error as error:
        raise PolicyError(f"{path}: {error}, wanted a Laconic ledger") from error
