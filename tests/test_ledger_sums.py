"""The sums that the database keeps are those of its rows, whatever comes and goes."""

import random
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import TieredPrices, TimeOfDateConstraint
from test_ledger import ENTRY, wrote

from proxy.ledger import Between, Filter, Group, Ledger, SqliteSink
from proxy.ledger.keeping import erase
from proxy.ledger.sqlite import columns, forget, insert, open_database
from proxy.ledger.sums import FIGURES, GROUP, PARTS, THRESHOLDS, summed
from proxy.types import Arm, Mode, Reason

TOKENS = (None, 0, 1_023, 1_024, 31_999, 32_001, 200_000, 600_000)


def entries(number, seed=0):
    """Exchanges of every kind, over three days."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    for n in range(number):
        before = draw.choice(TOKENS)
        after = before and before - draw.choice((0, before // 3))
        minutes = draw.randrange(3 * 24 * 60)
        when = datetime(2026, 3, 1 + minutes // 1440, minutes // 60 % 24, minutes % 60, tzinfo=UTC)
        yield replace(
            ENTRY,
            request_id=f"req_{seed}_{n}",
            started_at=when.isoformat(timespec="milliseconds"),
            status=draw.choice((None, 200, 200, 200, 429)),
            route=draw.choice((None, "a", "b")),
            mode=draw.choice((None, *Mode)),
            model=draw.choice((None, "gpt-4o", "gpt-5")),
            reason=draw.choice((None, Reason.TOO_SHORT, Reason.AUDIT)),
            resent=draw.random() < 0.1,
            key_name=draw.choice((None, "alice")),
            arm=draw.choice((None, *Arm)),
            conversation=draw.choice((None, "c1", "c2")),
            tokens_before=before,
            tokens_after=after,
            prompt_tokens=draw.choice((None, before and before + 7)),
            cached_tokens=draw.choice((None, 128)),
            cache_write_tokens=draw.choice((None, 0, 256)),
            unchanged_tokens=draw.choice((None, 100, 5_000)),
            busted_tokens=draw.choice((0, 0, 50)),
        )


def kept(database):
    """What is kept, and what the rows come to; both without groups of nothing."""
    key = ", ".join([*GROUP, *FIGURES])
    return [
        database.execute(
            f"SELECT {key} FROM ({source}) WHERE exchanges <> 0 ORDER BY {key}"  # noqa: S608
        ).fetchall()
        for source in ("sums", summed("exchanges"))
    ]


@pytest.fixture
def database(tmp_path):
    with closing(open_database(tmp_path / "ledger.sqlite3")) as opened:
        insert(opened, [columns(entry) for entry in entries(300)])
        yield opened


def test_sums_are_those_of_the_rows(database):
    sums, rows = kept(database)
    assert sums == rows
    assert len(sums) > 100


def test_what_is_deleted_is_taken_off(database):
    assert forget(database, 150) == 150
    database.execute("DELETE FROM exchanges WHERE model = 'gpt-5'")
    sums, rows = kept(database)
    assert sums == rows
    assert database.execute("SELECT count(*) FROM exchanges").fetchone()[0] < 150


def test_nothing_is_left_of_days_that_are_gone(database):
    forget(database, 1000)
    assert database.execute("SELECT count(*) FROM sums").fetchone() == (0,)


def test_sums_of_another_definition_are_made_anew(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    wrote(path, *entries(50))
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TRIGGER sum_up")
        database.execute("UPDATE sums SET exchanges = 7")
        database.commit()
    wrote(path, *entries(50, seed=1))
    with closing(open_database(path)) as database:
        sums, rows = kept(database)
    assert sums == rows
    assert sum(row[len(GROUP)] for row in sums) == 100


MOMENTS = (
    "",
    "2026-03-01",
    "2026-03-01T10:00",
    "2026-03-02T10:07:03",
    "2026-03-02T10:20",
    "2026-04-01",
)


@pytest.mark.parametrize("since", MOMENTS)
@pytest.mark.parametrize("until", MOMENTS)
def test_between_two_moments_are_the_rows_between_them(database, since, until, tmp_path):
    rows = [
        columns
        for _, columns in Ledger(tmp_path / "ledger.sqlite3").exchanges()
        if columns["started_at"] >= since and (not until or columns["started_at"] < until)
    ]
    total = Ledger(tmp_path / "ledger.sqlite3").total(Between(since, until))
    known = [row for row in rows if row["tokens_before"] is not None]
    assert (total.exchanges, total.counted, total.tokens_before) == (
        len(rows),
        len(known),
        sum(row["tokens_before"] for row in known),
    )


@pytest.mark.parametrize("by", list(Group))
def test_the_rows_of_any_group_come_to_the_total(database, by, tmp_path):
    rows, total = Ledger(tmp_path / "ledger.sqlite3").table(by)
    for name in ("exchanges", "tokens_before", "tokens_after", "first_saved", "prompt_tokens"):
        assert sum(getattr(row, name) for row in rows) == getattr(total, name)


def test_a_series_is_what_was_saved_by_the_hour(database, tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    series = ledger.series(Group.MODEL, Group.HOUR)
    assert {key: sum(line.values()) for key, line in series.items()} == {
        row.key: row.tokens_saved for row in ledger.rows(Group.MODEL)
    }
    assert {len(hour) for line in series.values() for hour in line} == {16}


def test_the_thresholds_are_those_of_the_list():
    """A prompt's size decides its price only where a group of sums ends."""
    priced = [price for model in listed() for price in _prices(model)]
    starts = {
        tier.start
        for prices in priced
        for price in prices.__dict__.values()
        if isinstance(price, TieredPrices)
        for tier in price.tiers
    }
    assert starts <= set(THRESHOLDS)


def test_prices_change_where_a_part_of_a_day_begins():
    moments = {
        moment
        for model in listed()
        for conditional in (model.prices if isinstance(model.prices, list) else ())
        if isinstance(conditional.constraint, TimeOfDateConstraint)
        for moment in (conditional.constraint.start_time, conditional.constraint.end_time)
    }
    assert {moment.strftime("%H:%M") for moment in moments} <= set(PARTS)


def listed():
    return [model for provider in get_snapshot().providers for model in provider.models]


def _prices(model):
    if isinstance(model.prices, list):
        return [conditional.prices for conditional in model.prices]
    return [model.prices]


def test_what_is_erased_leaves_nothing_in_the_file(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    secret = replace(
        ENTRY,
        key_name="mallory",
        model="CANARY-MODEL",
        conversation="CANARY-TALK",
        arm=Arm.COMPRESSED,
    )
    wrote(path, secret, *entries(2500))
    assert b"CANARY-TALK" in path.read_bytes()
    assert erase(path, Filter(key="mallory")) == 1
    assert erase(path, Filter(conversation="c1")) > 500
    with closing(open_database(path)) as database:
        sums, rows = kept(database)
    assert sums == rows
    assert {row[1]["conversation"] for row in Ledger(path).exchanges()} == {None, "c2"}
    assert not any(b"CANARY" in file.read_bytes() for file in tmp_path.iterdir())


def test_what_is_erased_may_be_so_while_others_write(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    wrote(path, *entries(1500))
    sink = SqliteSink(path)
    for entry in entries(500, seed=2):
        sink.write(entry)
    gone = erase(path, Filter(between=Between(until="2026-03-02")))
    sink.close()
    assert sink.lost == 0
    assert gone + Ledger(path).count(Filter()) == 2000
