"""What is kept beside the rows says what the rows say, whatever comes, goes and is cut short."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ledger import ENTRY, wrote

from proxy.ledger import Between, Ended, Filter, Group, Ledger, Prices, SqliteSink
from proxy.ledger.arms import conversations
from proxy.ledger.economics import Money
from proxy.ledger.keeping import erase
from proxy.ledger.kept import Closing, is_kept
from proxy.ledger.sqlite import columns, forget, insert, open_database
from proxy.ledger.sums import FIGURES, GROUP, summed
from proxy.policy import PriceSpec
from proxy.types import Arm, Mode, Reason

BEGAN = datetime(2025, 3, 1, 22, tzinfo=UTC)  # when DeepSeek's prices hung on the time of day
PRICES = Prices(
    [
        PriceSpec(model="gpt-4o", since="2025-03-03", input=3, output=9),
        PriceSpec(model="gpt-4o", input=2.5, output=10, cache_read=1.25),
    ]
)
TOKENS = (None, 0, 1_023, 1_500, 31_999, 200_001)
SECONDS = (-60, -31, -1, 0, 1, 29, 30, 1799, 1800, 2000)


def moment(draw):
    """A time as entries spell it: many of them lie a minute or less from a full hour."""
    after = timedelta(
        hours=draw.randrange(60), seconds=draw.choice(SECONDS), milliseconds=draw.choice((0, 1))
    )
    return (BEGAN + after).isoformat(timespec="milliseconds")


def entries(number, seed):
    """Exchanges of every kind, drawn by a seed: more than would be drawn one figure at a time."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    some = draw.choice
    for _ in range(number):
        before, sent = some(TOKENS), some((1, 3))
        yield replace(
            ENTRY,
            started_at=moment(draw),
            tokens_before=before,
            tokens_after=before and before // sent,
            status=some((None, 200, 200, 200, 429)),
            route=some((None, "a")),
            mode=some((None, *Mode)),
            model=some((None, "gpt-4o", "gpt-5", "deepseek-chat")),
            upstream_host=some((None, "api.openai.com", "api.deepseek.com")),
            reason=some((None, Reason.TOO_SHORT)),
            resent=draw.random() < 0.2,
            ended=some((*Ended, Ended.COMPLETE)),
            key_name=some((None, "alice")),
            arm=some((None, Arm.COMPRESSED, Arm.COMPRESSED, Arm.HELD_OUT)),
            conversation=some((None, "c1", "c2")),
            bytes_in=some((7, 7, 9)),
            prompt_tokens=some(TOKENS),
            cached_tokens=some((None, 128)),
            cache_write_tokens=some((None, 0, 256)),
            unchanged_tokens=some((None, 5_000)),
            busted_tokens=some((0, 0, 50)),
            compress_ms=draw.random() * 1e3,
            upstream_ttfb_ms=some((None, draw.random() * 1e4)),
            duration_ms=draw.random() * 1e5,
        )


def drawn(most):
    return st.builds(
        lambda number, seed: [*entries(number, seed)], st.integers(1, most), st.integers(0, 10**6)
    )


STEPS = st.one_of(
    st.tuples(st.just("insert"), drawn(40)),
    st.tuples(st.just("insert of another"), drawn(3)),
    st.tuples(st.just("forget"), st.integers(1, 60)),
    st.tuples(
        st.just("erase"),
        st.sampled_from(
            [
                Filter(conversation="c1"),
                Filter(key="alice", model="gpt-5"),
                Filter(between=Between("2025-03-02T23:59:59", "2025-03-03T00:00:01")),
            ]
        ),
    ),
    st.tuples(st.just("close"), st.none()),
    st.tuples(st.just("open anew"), st.none()),
    st.tuples(st.just("fail half-way"), drawn(5)),
)


class Writers:
    """Two who write one ledger."""

    def __init__(self, path):
        self.path, self.number = path, 0
        self.databases = [open_database(path), open_database(path)]

    def end(self):
        for database in self.databases:
            database.close()

    def take(self, step, what):
        first, second = self.databases
        match step:
            case "insert":
                insert(first, self.rows(what))
            case "insert of another":
                insert(second, self.rows(what))
            case "fail half-way":
                *good, last = self.rows(what)
                with pytest.raises(sqlite3.IntegrityError):
                    insert(second, [*good, last | {"method": None}])
            case "forget":
                forget(first, what)
            case "erase":
                erase(self.path, what)
            case "close":
                Closing(second).after_rows("2026-09-01T00")
            case "open anew":
                self.end()
                self.databases = [open_database(self.path), open_database(self.path)]

    def rows(self, entries):
        self.number += len(entries)
        return [
            columns(replace(entry, request_id=f"r{self.number - n}"))
            for n, entry in enumerate(entries)
        ]


def check(path):
    """What is kept is what the rows come to, to the bit."""
    with closing(sqlite3.connect(path)) as database:
        assert is_kept(database)
        key, totals = ", ".join(list(GROUP)[1:]), ", ".join(f"total({name})" for name in FIGURES)
        sums, rows = (
            database.execute(
                f"SELECT part, {key}, {', '.join(FIGURES)} FROM ({source}) "  # noqa: S608
                f"WHERE exchanges <> 0 ORDER BY part, {key}"
            ).fetchall()
            for source in ("sums", summed("exchanges"))
        )
        assert sums == rows
        days, of_rows = (
            database.execute(
                f"SELECT substr(part, 1, 10), {key}, {totals} FROM ({source}) "  # noqa: S608
                "WHERE substr(part, 1, 10) IN (SELECT part FROM days) "
                f"GROUP BY 1, {key} ORDER BY 1, {key}"
            ).fetchall()
            for source in ("days", summed("exchanges"))
        )
        assert days == of_rows


def told(path, since="", until=""):
    """What conversations came to: from what is kept, and from the rows alone."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN")
        found = conversations(database, since, until or "~")
        database.execute("DELETE FROM hours")
        assert database.execute("SELECT count(*) FROM talks").fetchone() == (0,)
        plain = conversations(database, since, until or "~")
        database.execute("ROLLBACK")
    return found, plain


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    steps=st.lists(STEPS, max_size=6),
    span=st.tuples(st.none() | st.integers(), st.none() | st.integers()),
)
def test_what_is_kept_is_what_the_rows_come_to(seed, steps, span):
    since, until = ("" if one is None else moment(random.Random(one)) for one in span)  # noqa: S311
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite3"
        writers = Writers(path)
        for step, what in [("insert", [*entries(200, seed)]), ("close", None), *steps]:
            writers.take(step, what)
        writers.end()
        check(path)
        found, plain = told(path, since, until)
        assert found == plain
        rows = between(path, since, until)
        assert [(row[0], row[1], row[-1]) for row in found] == second_tries(rows)
        ledger = Ledger(path)
        spent = [ledger.reckoning(row["request_id"], PRICES).money for row in rows]
        for by, key_of in KEYS.items():
            reported(ledger.table(by, Between(since, until), PRICES), key_of, rows, spent)


def between(path, since, until):
    return [
        row
        for _, row in Ledger(path).exchanges()
        if row["started_at"] >= since and (not until or row["started_at"] < until)
    ]


def second_tries(rows):
    """Arm, exchanges and second tries of each conversation, the plain way."""
    compared = sorted((row for row in rows if row["arm"]), key=lambda row: row["started_at"])
    exchanges, tries, last = Counter(), Counter(), {}
    for row in compared:
        one = (row["arm"], row["conversation"] or "")
        body, began = (one[1], row["bytes_in"]), datetime.fromisoformat(row["started_at"])
        exchanges[one] += 1
        if body in last and began - last[body] <= timedelta(minutes=1):
            tries[one] += 1
        last[body] = began
    return [(one[0], exchanges[one], tries[one]) for one in sorted(exchanges)]


KEYS = {
    Group.ROUTE: lambda row: row["route"],
    Group.HOUR: lambda row: f"{row['started_at'][:13]}:00",
    Group.DAY: lambda row: row["started_at"][:10],
    Group.ARM: lambda row: row["arm"],
}


def reported(table, key_of, rows, spent):
    """A report is what its rows come to, each of them priced by itself."""
    found, total = table
    assert {row.key: row.exchanges for row in found} == Counter(map(key_of, rows))
    assert total.tokens_before == sum(row["tokens_before"] or 0 for row in rows)
    assert total.passes == Counter(row["reason"] for row in rows if row["reason"])
    alone = {row.key: Money() for row in found}
    for row, money in zip(rows, spent, strict=True):
        alone[key_of(row)] += money
    assert {row.key: row.money for row in found} == alone
    if rows:
        mean = sum(row["duration_ms"] for row in rows) / len(rows)
        assert total.duration_ms == pytest.approx(mean, abs=0.001)


def talk(hour, minute, second, **changed):
    """An exchange of one conversation, whose bodies are of one size."""
    began = datetime(2026, 8, 20, hour, minute, second, tzinfo=UTC)
    fields = {"arm": Arm.COMPRESSED, "conversation": "c1", "bytes_in": 7} | changed
    return replace(ENTRY, started_at=began.isoformat(timespec="milliseconds"), **fields)


@pytest.mark.parametrize(
    ("since", "until", "tries"),
    [
        ("", "", 2),
        ("2026-08-20T09:59:29", "", 2),
        ("2026-08-20T09:59:30", "", 1),  # the first try is left out
        ("2026-08-20T10:00:00", "", 1),
        ("2026-08-20T10:00:20", "", 1),
        ("2026-08-20T10:00:21", "", 0),
        ("2026-08-20T10:00:30", "", 0),
        ("", "2026-08-20T10:00:30", 1),
        ("", "2026-08-20T10:00:20", 0),
    ],
)
@pytest.mark.parametrize("over", [True, False])
def test_a_second_try_is_one_of_what_began_within_the_time_asked_for(
    tmp_path, since, until, tries, over
):
    path = tmp_path / "ledger.sqlite3"
    wrote(path, talk(9, 59, 29), talk(10, 0, 20), talk(10, 0, 30))
    wrote(path, *(talk(hour, 0, 0, conversation="c2") for hour in (11, 13, 15) if over))
    found, plain = told(path, since, until)
    assert found == plain
    assert sum(row[-1] for row in found) == tries
    assert (read(path, "SELECT count(*) FROM hours") > [(1,)]) is over


def test_hours_are_summed_up_when_they_are_over_and_days_too(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    sink = SqliteSink(path)
    sink.write(talk(10, 0, 0))
    for hour in (11, 12, 13):
        assert sink.flush()
        sink.write(talk(hour, 0, 0))
    assert sink.flush()
    assert read(path, "SELECT hour FROM hours") == [("2026-08-20T10",), ("2026-08-20T11",)]
    assert read(path, "SELECT count(*) FROM days") == [(0,)]
    sink.write(replace(talk(0, 0, 0), started_at="2026-08-21T00:00:00.000+00:00"))
    assert sink.flush()
    assert read(path, "SELECT part, exchanges FROM days") == [("2026-08-20", 4)]
    sink.write(talk(10, 59, 59))  # late
    sink.close()
    assert read(path, "SELECT hour FROM hours") == [("2026-08-20T12",)]
    assert read(path, "SELECT count(*) FROM days") == [(0,)]
    assert Ledger(path).total().exchanges == 6


def test_times_that_are_none_stop_no_writer(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    odd = [replace(talk(9, 0, 0), started_at=f"2026-08-20T09{end}") for end in ("", "?", ":x")]
    odd += [replace(talk(9, 0, 0), started_at=text) for text in ("", "2026", "2026-02-32T09:00")]
    sink = SqliteSink(path)
    for entry in (*odd, *(talk(hour, 0, 0) for hour in (10, 12, 14, 16))):
        sink.write(entry)
        assert sink.flush()
    sink.close()
    check(path)
    found, plain = told(path)
    assert found == plain
    assert sum(row[1] for row in found) == len(odd) + 4
    assert ("2026-08-20T09",) in read(path, "SELECT hour FROM hours")


def read(path, sql):
    with closing(sqlite3.connect(path)) as database:
        return database.execute(sql).fetchall()


OLDER = """
    DROP TRIGGER sum_up; DROP TRIGGER take_off; DROP TRIGGER come; DROP TRIGGER go;
    DROP TABLE sums; DROP TABLE days; DROP TABLE talks; DROP TABLE hours;
    CREATE TABLE sums (part TEXT NOT NULL, route TEXT NOT NULL, exchanges REAL NOT NULL,
        PRIMARY KEY (part, route)) WITHOUT ROWID;
    CREATE TRIGGER sum_up AFTER INSERT ON exchanges BEGIN
        INSERT INTO sums
        VALUES (substr(NEW.started_at, 1, 11) || '16:30', coalesce(NEW.route, ''), 1)
        ON CONFLICT (part, route) DO UPDATE SET exchanges = exchanges + 1; END;
    CREATE TRIGGER take_off AFTER DELETE ON exchanges BEGIN
        UPDATE sums SET exchanges = exchanges - 1 WHERE route = coalesce(OLD.route, ''); END
"""
"""Sums as another version kept them, and nothing else."""


def test_what_another_version_kept_is_made_anew_by_whoever_reads_first(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    wrote(path, *entries(100, seed=1))
    with closing(sqlite3.connect(path)) as database:
        database.executescript(OLDER)
        assert not is_kept(database)
    assert Ledger(path).total().exchanges == 100
    check(path)
    assert read(path, "SELECT count(DISTINCT part) FROM days") > [(0,)]
    assert read(path, "SELECT count(*) FROM talks") > [(0,)]


def test_what_an_older_version_writes_meanwhile_is_kept_too(tmp_path):
    """It opened the file before this one did, and knows nothing of what is kept now."""
    path = tmp_path / "ledger.sqlite3"
    wrote(path, *entries(50, seed=1))
    with closing(sqlite3.connect(path, isolation_level=None)) as older:
        older.executescript(OLDER)
        insert(older, [columns(entry) for entry in entries(50, seed=2)])
        Ledger(path)
        insert(older, [columns(entry) for entry in entries(50, seed=3)])
    check(path)
    assert Ledger(path).total().exchanges == 150


WRITES_HOURS = """
import sys
from dataclasses import replace
from pathlib import Path
from test_ledger_kept import ENTRY, entries, later
from proxy.ledger import SqliteSink
sink = SqliteSink(Path(sys.argv[1]), linger_s=0.001)
seed = int(sys.argv[2])
for n in range(int(sys.argv[3])):
    for entry in entries(30, seed=seed + n):
        sink.write(replace(entry, started_at=later(entry.started_at, 7 * n)))
    print(sink.lost, flush=True)
sink.close()
"""


def later(began, hours):
    return (datetime.fromisoformat(began) + timedelta(hours=hours)).isoformat(
        timespec="milliseconds"
    )


def writer(path, seed, batches):
    """A process that writes thirty rows at a time, a third of a day apart, some of them late."""
    return subprocess.Popen(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-c", WRITES_HOURS, str(path), str(seed), str(batches)],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("lines", [3, 8, 20, 60])
def test_a_writer_that_is_killed_leaves_what_is_kept_as_the_rows_are(tmp_path, lines):
    path = tmp_path / "ledger.sqlite3"
    with writer(path, seed=lines, batches=10**6) as process:
        for _ in range(lines):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    check(path)
    found, plain = told(path)
    assert found == plain
    assert read(path, "PRAGMA integrity_check") == [("ok",)]


def test_what_several_write_while_some_is_erased_is_kept_as_the_rows_are(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    writers = [writer(path, seed, batches=40) for seed in (1000, 2000, 3000)]
    for process in writers:
        process.stdout.readline()
    gone = sum(erase(path, Filter(conversation="c1")) for _ in range(5))
    lost = [process.communicate()[0].split()[-1] for process in writers]
    check(path)
    found, plain = told(path)
    assert found == plain
    assert (lost, gone + Ledger(path).count(Filter())) == (["0"] * 3, 3 * 40 * 30)
    assert read(path, "SELECT count(*) FROM hours") > [(100,)]
