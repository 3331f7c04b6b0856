"""What is kept beside the rows, so that a report need not read them all.

``sums`` and ``days`` are :mod:`proxy.ledger.sums`', ``hours`` and ``talks`` are
:mod:`proxy.ledger.arms`'.  All of it is derived from the rows, kept right by triggers, and made
anew where a Laconic with another definition of it opens the file.

What is over (a day's sums, an hour's conversations) is summed up once, by whoever writes rows, in
one transaction each; what has been is dropped by a trigger as soon as a row of that time comes or
goes, and reports read what lies below it until it is summed up again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final

from proxy.ledger import arms, sums

_DAY: Final = len("2026-03-01")
_HOUR: Final = len("2026-03-01T10")
_KINDS: Final = ("trigger", "table")  # triggers first: dropping what they speak of breaks them


def keep(database: sqlite3.Connection) -> None:
    """Make what is kept where there is none, or another than ours; in a transaction.

    Raises sqlite3.Error.
    """
    if is_kept(database):
        return
    found = _found(database, _wanted(database))
    for kind in _KINDS:
        for name in (name for name, (is_a, _) in found.items() if is_a == kind):
            database.execute(f"DROP {kind} {name}")
    for text in _wanted(database).values():
        database.execute(text)
    sums.fill_sums(database)
    for day in sums.open_days(database):
        sums.close_day(database, day)
    for hour in arms.open_hours(database):
        arms.close_hour(database, hour)


def is_kept(database: sqlite3.Connection) -> bool:
    """Tell whether all is kept as this Laconic does; raises sqlite3.Error."""
    wanted = _wanted(database)
    return wanted == {name: text for name, (_, text) in _found(database, wanted).items()}


def _wanted(database: sqlite3.Connection) -> dict[str, str]:
    """Return the statements that make what is kept, by the name of what each makes."""
    known = (row[1] for row in database.execute("PRAGMA table_info(exchanges)"))
    columns = [name for name in known if name != "segments"]
    return dict([*sums.statements(columns), *arms.STATEMENTS])


def _found(database: sqlite3.Connection, wanted: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Return kind and statement of what is there of the names that are wanted."""
    marks = ", ".join("?" * len(wanted))
    there = database.execute(
        f"SELECT name, type, sql FROM sqlite_master WHERE name IN ({marks})",  # noqa: S608
        tuple(wanted),
    )
    return {name: (kind, text) for name, kind, text in there}


class Closing:
    """Sums up what is over; one for each writer of a ledger."""

    def __init__(self, database: sqlite3.Connection) -> None:
        """Nothing is done before :meth:`after_rows`."""
        self._database = database
        self._newest = ""
        self._since = ""

    def after_rows(self, newest: str) -> None:
        """Sum up what is over, if a row began in another hour than those before; ``newest`` did.

        Once a day all times are looked at, else the last ones: what is dropped of earlier ones, as
        rows come late or go, can wait.  Others who write wait for one day or one hour at a time.
        Raises sqlite3.Error.
        """
        hour = newest[:_HOUR]
        if hour <= self._newest:
            return
        since = self._since if hour[:_DAY] == self._newest[:_DAY] else ""
        for day in sums.open_days(self._database, since[:_DAY]):
            self._once(sums.close_day, day)
        hours = arms.open_hours(self._database, since)
        for each in hours:
            self._once(arms.close_hour, each)
        self._newest, self._since = hour, max([since, *hours])

    def _once(self, close: Callable[[sqlite3.Connection, str], None], when: str) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            close(self._database, when)
            self._database.execute("COMMIT")
        except sqlite3.Error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise
