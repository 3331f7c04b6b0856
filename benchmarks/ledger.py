"""How long a ledger of a million exchanges takes to open, to sum up and to be looked into.

    python benchmarks/ledger.py [--rows 1000000]

Fills a ledger of its own in a temporary folder, as the proxy's writer does, with exchanges over
ninety days; then times, each in a process of its own, what a person waits for.  Beside it stands
the plain way: the same sums by a scan of all rows.
"""

from __future__ import annotations

import argparse
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from paired import table
from proxy.ledger import Between, Group, Ledger, LedgerEntry, Prices, spelt
from proxy.ledger.segments import packed
from proxy.ledger.sqlite import columns, insert, open_database
from proxy.ledger.sums import FIGURES, summed
from proxy.ledger.views import Views
from proxy.types import Arm, Mode, Reason

BATCH = 32
DAYS = 90
BEGAN = datetime(2026, 6, 1, tzinfo=UTC)
MODELS = ("gpt-5", "gpt-5.6", "gpt-4o", "claude-sonnet-4-5", "llama-3")
HOSTS = ("api.openai.com", "api.openai.com", "api.openai.com", "api.anthropic.com", "10.0.0.5")
TRIALS = 3
_OPENS = """
import sys
from pathlib import Path
from proxy.ledger import Ledger
Ledger(Path(sys.argv[1])).last()
"""


def entries(rows: int) -> Iterator[LedgerEntry]:
    """Yield conversations of ten exchanges each, in the order they would be written in."""
    rng = random.Random(11)
    for number in range(rows):
        when = BEGAN + timedelta(days=DAYS) * (number / rows)
        talk = rng.randrange(max(1, number // 10 - 50), number // 10 + 1) if number > 10 else 0
        model = talk % len(MODELS)
        before = 500 + 400 * (number % 10) + rng.randrange(300)
        first, repeat = before // 4, before // 6
        passed = rng.random() < 0.3
        after = before if passed else before - first - repeat
        yield LedgerEntry(
            request_id=f"{int(when.timestamp() * 1000):012x}{rng.getrandbits(80):020x}",
            started_at=when.isoformat(timespec="milliseconds"),
            method="POST",
            path="/v1/chat/completions",
            status=200 if rng.random() < 0.99 else 429,
            route=("chat", "retrieval", "agents")[talk % 3],
            policy=("chat", "rag", "agent")[talk % 3],
            mode=Mode.ON,
            model=MODELS[model],
            reason=rng.choice((Reason.TOO_SHORT, Reason.NO_CONTEXT)) if passed else None,
            tokens_before=before,
            tokens_after=after,
            tokens_saved=before - after,
            encoding="o200k_base",
            first_saved=0 if passed else first,
            repeat_saved=0 if passed else repeat,
            unchanged_tokens=before // 2,
            prompt_tokens=after + 7,
            completion_tokens=rng.randrange(400),
            cached_tokens=after // 256 * 128,
            compress_ms=rng.random() * 30,
            upstream_ttfb_ms=200 + rng.random() * 300,
            duration_ms=900 + rng.random() * 2000,
            bytes_in=before * 5,
            bytes_out=2_000,
            api_key_hash=f"{talk % 7:012x}",
            key_name=f"team-{talk % 4}",
            upstream_host=HOSTS[model],
            conversation=f"{talk:016x}",
            arm=Arm.HELD_OUT if talk % 20 == 0 else Arm.COMPRESSED,
            segments=segments(number % 10),
        )


@cache
def segments(turn: int) -> bytes | None:
    """Return what a conversation's request comes apart into, at a turn: three more with each."""
    kinds = (("question", "ask"), ("context", "document"), ("context", "assistant-history"))
    return packed(
        [
            (n, 0, component, "prose", rule, 90 + n, 40 + n)
            for n in range(turn + 1)
            for component, rule in kinds
        ]
    )


class Written(NamedTuple):
    """Microseconds of the processor that a row took: to insert, and for what was over by then."""

    insert_us: float
    close_us: float


def fill(path: Path, exchanges: Iterable[LedgerEntry]) -> Written:
    """Fill a ledger, thirty-two rows in a transaction."""
    inserting_s = closing_s = 0.0
    rows, waiting = 0, iter(exchanges)
    with closing(open_database(path)) as database:
        close = closer(database)
        while batch := [columns(entry) for entry in islice(waiting, BATCH)]:
            begun_s = time.process_time()
            insert(database, batch)
            inserted_s = time.process_time()
            close(batch[-1]["started_at"])
            inserting_s += inserted_s - begun_s
            closing_s += time.process_time() - inserted_s
            rows += len(batch)
    return Written(1e6 * inserting_s / rows, 1e6 * closing_s / rows)


def closer(database: sqlite3.Connection) -> Callable[[str], None]:
    """Return what sums up what is over; in a checkout from before there was any, nothing."""
    if find_spec("proxy.ledger.kept") is None:
        return lambda _: None
    from proxy.ledger.kept import Closing  # noqa: PLC0415

    return Closing(database).after_rows


class Took(NamedTuple):
    """Seconds from start to end, and of the processor: what others do at the time tells apart."""

    wall_s: float
    processor_s: float


def took(job: Callable[[], object]) -> Took:
    """Return the least that a job took, its processes included."""
    return min(_once(job) for _ in range(TRIALS))


def _once(job: Callable[[], object]) -> Took:
    before, begun_s = os.times(), time.perf_counter()
    job()
    after = os.times()
    return Took(time.perf_counter() - begun_s, sum(after[:4]) - sum(before[:4]))


def process(command: Sequence[str]) -> Took:
    """Return what a process takes, from its start to its end."""
    return took(partial(subprocess.run, command, check=True, stdout=subprocess.DEVNULL))


def scan(path: Path) -> None:
    """Go the plain way: all rows read and summed up, without what keeps sums."""
    totals = ", ".join(f"total({name})" for name in FIGURES)
    with closing(sqlite3.connect(path)) as database:
        database.execute(
            f"SELECT route, {totals} FROM ({summed('exchanges')}) GROUP BY 1"  # noqa: S608
        ).fetchall()


def overview(path: Path, days: int, by: Group = Group.POLICY) -> None:
    """Ask what the dashboard's first page asks when it opens, of the last so many days."""
    until = BEGAN + timedelta(days=DAYS)
    since = until - timedelta(days=days)
    Views(path).series(since, until)
    Ledger(path).table(by, Between(spelt(since)), Prices())


def main() -> int:
    """Print the figures; exit 1 where a report takes long, or opening or a page a second."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    laconic = [sys.executable, "-m", "proxy"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite3"
        row = fill(path, entries(rows))
        with closing(sqlite3.connect(path)) as database:
            groups, days, talks = (
                database.execute(f"SELECT count(*) FROM {name}").fetchone()[0]  # noqa: S608
                for name in ("sums", "days", "talks")
            )
            (one,) = database.execute("SELECT request_id FROM exchanges LIMIT 1").fetchone()
        ledger = ["--ledger", str(path)]
        start = process([*laconic, "version"])
        opened = process([sys.executable, "-c", _OPENS, str(path)])
        reports = {
            by: process([*laconic, "report", "--by", by, *ledger])
            for by in ("route", "model", "key", "day", "hour", "arm")
        }
        part = process([*laconic, "report", "--since", "2026-08-01T10:07", *ledger])
        inspect = process([*laconic, "inspect", one, *ledger])
        pages = {days: took(partial(overview, path, days)) for days in (1, 7, 30, DAYS)}
        grouped = {by: took(partial(overview, path, DAYS, by)) for by in (Group.HOUR, Group.ARM)}
        latest = took(partial(Views(path).latest, 50))
        plain = took(partial(scan, path))
        size = path.stat().st_size
    print(f"{rows:,} rows, {groups:,} groups of parts of days, {days:,} of days,")
    print(f"{talks:,} conversations by the hour; {size / 2**20:,.0f} MiB,")
    print(f"{size / rows:,.0f} bytes a row; each took {row.insert_us:.1f} us of the processor to")
    print(f"insert, and {row.close_us:.1f} us for hours and days that were over by then")
    told: list[tuple[str, Took]] = [
        ("the sums by a scan of all rows", plain),
        ("`laconic version`: what starting takes", start),
        ("open, in a process of its own", opened),
        *((f"`laconic report --by {by}`", taken) for by, taken in reports.items()),
        ("`laconic report --since` within a half hour", part),
        ("`laconic inspect`", inspect),
        *((f"dashboard: overview of {days} days", taken) for days, taken in pages.items()),
        *((f"dashboard: all of it by {by}", taken) for by, taken in grouped.items()),
        ("dashboard: the latest exchanges", latest),
    ]
    cells = [(name, [f"{wall:.2f} s", f"{processor:.2f} s"]) for name, (wall, processor) in told]
    print(table(["from start to end", "of the processor"], cells))
    slow = reports["route"].wall_s >= 2 or max(each.wall_s for each in reports.values()) >= 4
    return int(slow or opened.wall_s >= 1 or pages[1].wall_s >= 1)


if __name__ == "__main__":
    raise SystemExit(main())
