"""How long a ledger of a million exchanges takes to open, to sum up and to be looked into.

    python benchmarks/ledger.py [--rows 1000000]

Fills a ledger of its own in a temporary folder, as the proxy's writer does, with exchanges over
ninety days; then times, each in a process of its own, what a person waits for.  Beside it stands
the plain way: the same sums by a scan of all rows.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from paired import table
from proxy.ledger import LedgerEntry
from proxy.ledger.sqlite import columns, insert, open_database
from proxy.ledger.sums import FIGURES, summed
from proxy.types import Arm, Mode, Reason

BATCH = 5_000
DAYS = 90
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
    began = datetime(2026, 6, 1, tzinfo=UTC)
    for number in range(rows):
        when = began + timedelta(days=DAYS) * (number / rows)
        talk = rng.randrange(max(1, number // 10 - 50), number // 10 + 1) if number > 10 else 0
        model = talk % len(MODELS)
        before = 500 + 400 * (number % 10) + rng.randrange(300)
        first, repeat = before // 4, before // 6
        passed = rng.random() < 0.3
        after = before if passed else before - first - repeat
        yield LedgerEntry(
            request_id=f"{rng.getrandbits(128):032x}",
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
        )


def fill(path: Path, rows: int) -> float:
    """Fill a ledger; return microseconds a row."""
    started_s = time.perf_counter()
    spent_s = 0.0
    batch: list[dict[str, Any]] = []
    with closing(open_database(path)) as database:
        for number, entry in enumerate(entries(rows), 1):
            batch.append(columns(entry))
            if len(batch) == BATCH or number == rows:
                begun_s = time.perf_counter()
                insert(database, batch)
                spent_s += time.perf_counter() - begun_s
                batch = []
    print(f"filled in {time.perf_counter() - started_s:.0f} s", file=sys.stderr)
    return 1e6 * spent_s / rows


def seconds(command: Sequence[str]) -> float:
    """Return the least time that a process took, from its start to its end."""
    taken = []
    for _ in range(TRIALS):
        begun_s = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own
        taken.append(time.perf_counter() - begun_s)
    return min(taken)


def scan_s(path: Path) -> float:
    """Return what the plain way takes: all rows read and summed up, without what keeps sums."""
    taken = []
    for _ in range(TRIALS):
        with closing(sqlite3.connect(path)) as database:
            begun_s = time.perf_counter()
            totals = ", ".join(f"total({name})" for name in FIGURES)
            database.execute(
                f"SELECT route, {totals} FROM ({summed('exchanges')}) GROUP BY 1"  # noqa: S608
            ).fetchall()
            taken.append(time.perf_counter() - begun_s)
    return min(taken)


def main() -> int:
    """Print the figures; exit 1 where a report takes two seconds or opening one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    laconic = [sys.executable, "-m", "proxy"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite3"
        row_us = fill(path, rows)
        with closing(sqlite3.connect(path)) as database:
            (groups,) = database.execute("SELECT count(*) FROM sums").fetchone()
            (one,) = database.execute("SELECT request_id FROM exchanges LIMIT 1").fetchone()
        ledger = ["--ledger", str(path)]
        start_s = seconds([*laconic, "version"])
        open_s = seconds([sys.executable, "-c", _OPENS, str(path)])
        report_s = {
            by: seconds([*laconic, "report", "--by", by, *ledger])
            for by in ("route", "model", "key", "day", "hour", "arm")
        }
        part_s = seconds([*laconic, "report", "--since", "2026-08-01T10:07", *ledger])
        inspect_s = seconds([*laconic, "inspect", one, *ledger])
        plain_s = scan_s(path)
        size = path.stat().st_size
    told: list[tuple[str, str]] = [
        ("rows, groups of parts of days", f"{rows:,}, {groups:,}"),
        ("file", f"{size / 2**20:,.0f} MiB, {size / rows:,.0f} bytes a row"),
        ("writing a row", f"{row_us:.0f} us"),
        ("the sums by a scan of all rows", f"{plain_s:.2f} s"),
        ("`laconic version`: what starting takes", f"{start_s:.2f} s"),
        ("open, in a process of its own", f"{open_s:.2f} s"),
        *((f"`laconic report --by {by}`", f"{taken:.2f} s") for by, taken in report_s.items()),
        ("`laconic report --since` within a half hour", f"{part_s:.2f} s"),
        ("`laconic inspect`", f"{inspect_s:.2f} s"),
        ("scan / `report --by route`", f"{plain_s / report_s['route']:.1f}"),
    ]
    print(table(["measured"], [(name, [value]) for name, value in told]))
    return int(report_s["route"] >= 2 or open_s >= 1)


if __name__ == "__main__":
    raise SystemExit(main())
