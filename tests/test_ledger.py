"""The ledger: what is recorded, that it survives, and what is read back."""

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import structlog
from entries import SAVED

from proxy.errors import PolicyError
from proxy.ledger import (
    Between,
    Bounds,
    Clerk,
    Ended,
    Group,
    Ledger,
    LedgerEntry,
    LogSink,
    Row,
    SqliteSink,
    hash_api_key,
    outcome_fields,
)
from proxy.ledger.entry import field_docs, stats
from proxy.ledger.files import used_bytes
from proxy.ledger.sqlite import MIGRATIONS, columns
from proxy.types import Mode, Outcome, Reason

OUTCOME = replace(SAVED, recalled_tokens=20, cache_breaks=1, scored_tokens=950, compress_ms=12.5)
ENTRY = LedgerEntry(
    request_id="req_1",
    started_at="2026-03-01T10:00:00.000000+00:00",
    method="POST",
    path="/v1/chat/completions",
    status=200,
    route="retrieval",
    model="gpt-5",
    prompt_tokens=410,
    completion_tokens=30,
    **outcome_fields(OUTCOME),
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "records" / "ledger.sqlite3"


def wrote(path, *entries):
    sink = SqliteSink(path)
    for entry in entries:
        sink.write(entry)
    sink.close()
    return Ledger(path)


def read(path, sql):
    with closing(sqlite3.connect(path)) as database:
        return database.execute(sql).fetchall()


def test_an_entry_made_of_fields_is_the_constructors():
    given = {f.name: getattr(ENTRY, f.name) for f in fields(LedgerEntry)}
    assert LedgerEntry.made_of(given) == ENTRY
    few = {name: given[name] for name in ("request_id", "started_at", "method", "path")}
    assert LedgerEntry.made_of(few) == LedgerEntry(**few)


@pytest.mark.parametrize(
    "given",
    [
        {"request_id": "r", "started_at": "t", "method": "GET"},
        {"request_id": "r", "started_at": "t", "method": "GET", "paht": "/"},
        {"request_id": "r", "started_at": "t", "method": "GET", "path": "/", "colour": "red"},
    ],
)
def test_an_entry_is_not_made_of_other_fields_than_its_own(given):
    with pytest.raises(TypeError, match="wanted its fields"):
        LedgerEntry.made_of(given)


def test_record_spells_out_every_field_as_json():
    record = json.loads(json.dumps(ENTRY.record()))
    apart = {"segments", "captured"}
    assert list(record) == [f.name for f in fields(LedgerEntry) if f.name not in apart]
    assert (
        record
        | {
            "tokens_saved": 600,
            "rate": 0.4,
            "reason": None,
            "mode": "on",
            "ended": "complete",
            "components": {
                "instruction": {"before": 0, "after": 0},
                "context": {"before": 900, "after": 300},
                "question": {"before": 100, "after": 100},
            },
        }
        == record
    )


def test_figures_that_were_not_taken_are_null():
    off = outcome_fields(Outcome(policy="off", mode=Mode.OFF, reason=Reason.OFF))
    taken = {name: off[name] for name in ("tokens_before", "tokens_after", "tokens_saved", "rate")}
    assert taken == dict.fromkeys(taken)


def test_query_string_is_left_out():
    assert replace(ENTRY, path="/v1/files?api-key=secret").record()["path"] == "/v1/files"


def test_odd_model_names_and_absurd_usage_are_recorded_all_the_same(path):
    odd = replace(ENTRY, model="m\ud800" + "x" * 500, prompt_tokens=10**30)
    wrote(path, odd)
    assert read(path, "SELECT model, prompt_tokens FROM exchanges") == [("m?" + "x" * 198, None)]


def test_stats_of_an_outcome_are_fields_of_the_record():
    line = stats("req_1", OUTCOME)
    record = ENTRY.record()
    assert line == {name: record[name] for name in line}
    required = "request_id policy reason tokens_before tokens_after tokens_saved rate encoding"
    assert {*required.split(), "estimated", "components", "compress_ms"} <= set(line)


def test_key_is_hashed_and_its_scheme_is_not_part_of_it():
    assert [hash_api_key("Bearer sk-canary"), hash_api_key(""), hash_api_key(None)] == [
        hash_api_key("sk-canary"),
        None,
        None,
    ]
    assert len(hash_api_key("sk-canary")) == 12


def test_every_field_says_what_it_means():
    assert [f.name for f in fields(LedgerEntry)] == [
        name for name, text in field_docs().items() if text
    ]


def test_log_sink_writes_one_line_with_every_field():
    with structlog.testing.capture_logs() as lines:
        LogSink().write(ENTRY)
    assert lines == [{"event": "exchange", "log_level": "info", **ENTRY.record()}]


class Kept:
    """A sink that keeps entries, or fails on those whose id says so."""

    def __init__(self):
        self.entries = []

    def write(self, entry):
        if entry.request_id == "bad":
            raise ValueError("SECRET")
        self.entries.append(entry)

    def settle(self):
        pass


def test_a_clerk_makes_entries_elsewhere_and_hands_them_to_every_sink_in_order():
    first, second = Kept(), Kept()
    made_in = []

    def make(number):
        made_in.append(threading.current_thread())
        return replace(ENTRY, request_id=str(number))

    clerk = Clerk([first, second])
    for number in range(20):
        clerk.write(partial(make, number))
    assert clerk.flush()
    assert [entry.request_id for entry in first.entries] == [str(n) for n in range(20)]
    assert second.entries == first.entries
    assert threading.current_thread() not in made_in
    clerk.close()


def test_a_fault_in_one_entry_is_told_by_its_type_and_is_not_the_next_ones():
    sink = Kept()
    clerk = Clerk([sink])
    with structlog.testing.capture_logs() as lines:
        clerk.write(lambda: replace(ENTRY, request_id="bad"))
        clerk.write(lambda: 1 / 0)
        clerk.write(lambda: ENTRY)
        clerk.close()
    assert sink.entries == [ENTRY]
    assert [(line["event"], line["type"]) for line in lines] == [
        ("ledger-fault", "ValueError"),
        ("ledger-fault", "ZeroDivisionError"),
    ]


def test_an_entry_that_comes_after_the_close_is_written_at_once():
    sink = Kept()
    clerk = Clerk([sink])
    clerk.close()
    clerk.write(lambda: ENTRY)
    assert sink.entries == [ENTRY]


def test_what_cannot_wait_is_done_at_once_and_before_what_follows():
    sink, done = Kept(), threading.Event()
    clerk = Clerk([sink], linger_s=1000.0)
    clerk.write(lambda: ENTRY)
    clerk.note(done.set)
    assert done.wait(60)
    assert sink.entries == [ENTRY]
    with structlog.testing.capture_logs() as lines:
        clerk.note(lambda: 1 / 0)
        clerk.write(lambda: replace(ENTRY, request_id="next"))
        clerk.close()
    assert [(line["event"], line["type"]) for line in lines] == [
        ("ledger-fault", "ZeroDivisionError")
    ]
    assert [entry.request_id for entry in sink.entries] == [ENTRY.request_id, "next"]
    clerk.note(sink.entries.clear)
    assert len(sink.entries) == 2


def test_row_holds_what_the_entry_says(path):
    wrote(path, ENTRY)
    with closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        rows = [dict(row) for row in database.execute("SELECT * FROM exchanges")]
    assert rows == [columns(ENTRY)]


def test_only_the_owner_can_read_the_ledger(path):
    sink = SqliteSink(path)
    sink.write(ENTRY)
    assert sink.flush()
    modes = {
        name.name: stat.S_IMODE(name.stat().st_mode)
        for name in [path.parent, *path.parent.iterdir()]
    }
    sink.close()
    assert modes == {
        "records": 0o700,
        "ledger.sqlite3": 0o600,
        "ledger.sqlite3-wal": 0o600,
        "ledger.sqlite3-shm": 0o600,
    }


def test_a_second_start_appends(path):
    wrote(path, ENTRY)
    wrote(path, ENTRY)
    assert read(path, "SELECT count(*) FROM exchanges") == [(2,)]
    assert read(path, "SELECT version FROM schema_version") == [
        (n + 1,) for n in range(len(MIGRATIONS))
    ]


def test_two_processes_worth_of_sinks_share_a_file(path):
    sinks = [SqliteSink(path), SqliteSink(path)]
    for n in range(50):
        sinks[n % 2].write(ENTRY)
    for sink in sinks:
        sink.close()
    assert read(path, "SELECT count(*) FROM exchanges") == [(50,)]
    assert [sink.lost for sink in sinks] == [0, 0]


WRITES_FROM_THE_START = """
import sys
from pathlib import Path
from proxy.ledger import LedgerEntry, SqliteSink
name, path = sys.argv[1:]
print("here", flush=True)
sys.stdin.readline()
sinks = [SqliteSink(Path(f"{path}-{n}")) for n in range(20)]
for n in range(3000):
    sinks[0].write(LedgerEntry(request_id=f"{name}{n}", started_at="2026", method="POST", path="/"))
for sink in sinks:
    sink.close()
print(sum(sink.lost for sink in sinks), flush=True)
"""


def test_two_processes_that_make_and_fill_one_file_at_once_lose_no_row(path):
    writers = [
        subprocess.Popen(  # noqa: S603 - our own interpreter and text
            [sys.executable, "-c", WRITES_FROM_THE_START, name, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "ab"
    ]
    assert [writer.stdout.readline() for writer in writers] == ["here\n"] * 2
    for writer in writers:
        writer.stdin.write("now\n")
        writer.stdin.flush()
    lost = [writer.communicate()[0] for writer in writers]
    rows = {row[0] for row in read(f"{path}-0", "SELECT request_id FROM exchanges")}
    assert lost == ["0\n"] * 2
    assert rows == {f"{name}{n}" for name in "ab" for n in range(3000)}


def test_a_newer_ledger_is_refused(path):
    wrote(path, ENTRY)
    with closing(sqlite3.connect(path)) as database:
        database.execute("INSERT INTO schema_version VALUES (99)")
        database.commit()
    with pytest.raises(PolicyError, match=r"found schema version 99, wanted at most \d+"):
        SqliteSink(path)


def test_an_older_ledger_is_brought_up_to_date_with_what_it_holds(path):
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as database:
        database.executescript(MIGRATIONS[0])
        known = {row[1] for row in database.execute("PRAGMA table_info(exchanges)")}
        old = {name: value for name, value in columns(ENTRY).items() if name in known}
        database.execute("CREATE TABLE schema_version (version INTEGER NOT NULL)")
        database.execute("INSERT INTO schema_version VALUES (1)")
        database.execute(
            f"INSERT INTO exchanges ({', '.join(old)}) VALUES ({', '.join('?' * len(old))})",  # noqa: S608
            tuple(old.values()),
        )
        database.commit()
    wrote(path, replace(ENTRY, recovered=True))
    assert read(path, "SELECT request_id, recovered FROM exchanges") == [("req_1", 0), ("req_1", 1)]


def test_a_file_that_is_no_ledger_is_refused_and_left_alone(path):
    path.parent.mkdir()
    path.write_bytes(b"my holiday diary\n" * 100)
    with pytest.raises(PolicyError, match="wanted a Laconic ledger"):
        SqliteSink(path)
    assert path.read_bytes() == b"my holiday diary\n" * 100


def test_a_path_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PolicyError, match="wanted a file that can be written"):
        SqliteSink(tmp_path / "file" / "ledger.sqlite3")


def test_a_failing_database_loses_entries_but_never_raises(path):
    sink = SqliteSink(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE exchanges")
        database.commit()
    with structlog.testing.capture_logs() as lines:
        sink.write(ENTRY)
        sink.write(ENTRY)
        sink.flush()
    sink.close()
    assert sink.lost == 2
    assert {(line["event"], line["log_level"], line["why"]) for line in lines} == {
        ("ledger-lost", "warning", "OperationalError")
    }


def test_a_full_disk_loses_entries_and_the_next_batch_is_written_when_there_is_room(path):
    sink = SqliteSink(path)
    pages = sink._database.execute("PRAGMA page_count").fetchone()[0]
    sink._database.execute(f"PRAGMA max_page_count = {pages}")
    for _ in range(400):
        sink.write(ENTRY)
    sink.flush()
    lost = sink.lost
    sink._database.execute("PRAGMA max_page_count = 1000000")
    sink.write(ENTRY)
    sink.close()
    assert lost > 0
    assert read(path, "SELECT count(*) FROM exchanges") == [(401 - lost,)]


def test_a_full_queue_loses_the_entry_and_does_not_block(path):
    sink = SqliteSink(path, capacity=1)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")  # the writer waits; the queue fills
        for _ in range(600):
            sink.write(ENTRY)
        database.execute("ROLLBACK")
    sink.close()
    assert sink.lost > 0
    assert read(path, "SELECT count(*) FROM exchanges") == [(600 - sink.lost,)]


def _aged(number, days):
    began = datetime.now(UTC) - timedelta(days=days)
    return replace(ENTRY, request_id=str(number), started_at=began.isoformat())


def test_rows_past_their_days_go_with_the_next_ones(path):
    wrote(path, *(_aged(n, days=n) for n in range(10)))
    sink = SqliteSink(path, Bounds(days=4))
    with structlog.testing.capture_logs() as lines:
        sink.write(_aged("new", days=0))
        sink.close()
    ids = {row[0] for row in read(path, "SELECT request_id FROM exchanges")}
    assert ids == {"0", "1", "2", "3", "new"}
    assert lines == [{"event": "ledger-bounded", "log_level": "info", "size": None, "days": 4}]
    assert Ledger(path).total().exchanges == 5


def test_a_ledger_stays_within_its_size_and_keeps_the_newest(path):
    sink = SqliteSink(path, Bounds(size=600_000), linger_s=0.01)
    for n in range(6_000):
        if n % 500 == 0:
            sink.flush()
        sink.write(_aged(n, days=1 - n / 10_000))
    sink.flush()
    used = used_bytes(sink._database)
    sink.close()
    ids = [int(row[0]) for row in read(path, "SELECT request_id FROM exchanges ORDER BY rowid")]
    assert used < 1_000_000
    assert 100 < len(ids) < 3_000
    assert ids == list(range(6_000 - len(ids), 6_000))
    assert (sink.lost, Ledger(path).total().exchanges) == (0, len(ids))


def test_without_bounds_nothing_goes(path):
    assert wrote(path, *(_aged(n, days=5_000) for n in range(10))).total().exchanges == 10


def test_entries_of_many_threads_are_all_written(path):
    sink = SqliteSink(path)
    threads = [
        threading.Thread(target=lambda: [sink.write(ENTRY) for _ in range(50)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sink.close()
    assert read(path, "SELECT count(*) FROM exchanges") == [(400,)]


WRITES_FOR_EVER = """
import sys
from pathlib import Path
from proxy.ledger import LedgerEntry, SqliteSink
sink = SqliteSink(Path(sys.argv[1]))
n = 0
while True:
    for _ in range(25):
        n += 1
        sink.write(LedgerEntry(request_id=str(n), started_at="2026", method="POST", path="/"))
    assert sink.flush()
    print(n, flush=True)
"""


def test_killed_while_writing_it_keeps_every_acknowledged_row(path):
    with subprocess.Popen(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-c", WRITES_FOR_EVER, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        for _ in range(5):
            acknowledged = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged = max([acknowledged, *map(int, writer.stdout.read().split("\n")[:-1])])
    ids = [int(row[0]) for row in read(path, "SELECT request_id FROM exchanges ORDER BY rowid")]
    assert read(path, "PRAGMA integrity_check") == [("ok",)]
    assert len(ids) >= acknowledged
    assert ids == list(range(1, len(ids) + 1))
    assert wrote(path, ENTRY).total().exchanges == len(ids) + 1


def test_report_separates_first_repeated_audited_and_passed(path):
    audited = replace(ENTRY, mode=Mode.AUDIT, reason=Reason.AUDIT, prompt_tokens=1010)
    resent = replace(ENTRY, resent=True, reason=Reason.REFUSED_EDITED, prompt_tokens=None)
    passed = LedgerEntry(
        request_id="req_2",
        started_at=ENTRY.started_at,
        method="POST",
        path="/v1/chat/completions",
        route="retrieval",
        ended=Ended.CALLER_GONE,
        estimated=True,
        **{
            name: value
            for name, value in outcome_fields(
                Outcome("rag", Mode.ON, Reason.TOO_SHORT, tokens_before=50, tokens_after=50)
            ).items()
            if name != "estimated"
        },
    )
    assert wrote(path, ENTRY, audited, resent, passed).rows(Group.ROUTE) == [
        Row(
            "retrieval",
            exchanges=4,
            counted=4,
            compressed=1,
            estimated=1,
            tokens_before=3050,
            tokens_after=2450,
            tokens_saved=600,
            first_saved=500,
            repeat_saved=100,
            audit_saved=600,
            recalled_tokens=20,
            cache_breaks=1,
            reported=2,
            reported_after=1400,
            prompt_tokens=1420,
            completion_tokens=90,
            resent=1,
            incomplete=1,
            failed=1,
            compress_ms=9.375,
            passes={"audit": 1, "refused-edited": 1, "too-short": 1},
        )
    ]


@pytest.mark.parametrize(
    ("by", "keys"),
    [
        (Group.ROUTE, ["retrieval", None]),
        (Group.POLICY, ["rag"]),
        (Group.MODEL, ["gpt-5", "other"]),
        (Group.DAY, ["2026-03-01", "2026-03-02"]),
        (Group.REASON, [None]),
        (Group.KEY, [None]),
        (Group.UPSTREAM, [None]),
    ],
)
def test_report_groups_by(path, by, keys):
    late = replace(
        ENTRY, started_at="2026-03-02T00:00:00+00:00", model="other", route=None, tokens_after=900
    )
    assert [row.key for row in wrote(path, late, ENTRY).rows(by)] == keys


def test_report_since_a_day(path):
    late = replace(ENTRY, started_at="2026-03-02T00:00:00+00:00")
    assert wrote(path, late, ENTRY).total(Between("2026-03-02")).exchanges == 1


def test_an_empty_ledger_sums_to_nothing(path):
    assert wrote(path).total() == Row("total")
    assert Row("total").record()["rate"] is None


def test_reading_needs_a_ledger(tmp_path):
    with pytest.raises(PolicyError, match="found no file"):
        Ledger(tmp_path / "none")
    other = Path(tmp_path / "other")
    other.write_bytes(b"x" * 4096)
    with pytest.raises(PolicyError, match="wanted a Laconic ledger"):
        Ledger(other).total()


def test_an_entry_has_no_place_for_text_or_keys(path):
    """The canary: what a caller writes has no field to end up in."""
    names = set(field_docs())
    assert not names & {
        "messages",
        "prompt",
        "content",
        "body",
        "headers",
        "authorization",
        "api_key",
    }
    wrote(path, replace(ENTRY, api_key_hash=hash_api_key("Bearer sk-canary-1234")))
    stored = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"canary" not in stored
