"""Looking at the ledger: series, latest, one exchange."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import entries
import pytest

from proxy.errors import PolicyError
from proxy.ledger import (
    Between,
    Ended,
    Filter,
    Ledger,
    Prices,
    outcome_fields,
    spelt,
)
from proxy.ledger.views import Point, Step, Views, folded, step_for
from proxy.types import Mode, Outcome, Reason

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def entry(number, minutes=0.0, **changed):
    return entries.entry(number, NOON + timedelta(minutes=minutes), **changed)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite3"


def views(path, *written):
    entries.write(path, *written)
    return Views(path)


HOUR = (NOON, NOON + timedelta(hours=1))


def test_a_series_sums_what_began_in_each_step(path):
    off = outcome_fields(Outcome("off", Mode.OFF, Reason.OFF))
    found = views(
        path,
        entry(1, 0.1),
        entry(2, 0.9, compress_ms=40.0),
        entry(3, 5, **off, ended=Ended.CALLER_GONE, prompt_tokens=None, cached_tokens=None),
        entry(4, 61),
    )
    step, points = found.series(*HOUR)
    assert step is Step.MINUTE
    assert points == [
        Point("2026-11-26T12:00", 2, 2000, 1000, 200, 820, 400, 2, 0, 30.0, 40.0),
        Point("2026-11-26T12:05", 1, 0, 0, 0, 0, 0, 0, 1, 0.0, 0.0),
    ]


def test_what_was_only_measured_or_sent_again_saved_nothing(path):
    found = views(path, entry(1, mode=Mode.AUDIT), entry(2, resent=True))
    (point,) = found.series(*HOUR)[1]
    assert (point.first_saved, point.repeat_saved, point.compressed) == (0, 0, 0)


def test_a_series_is_of_what_was_chosen(path):
    found = views(path, entry(1), entry(2, model="o3"), entry(3, key_name="team-a"))
    assert [p.exchanges for p in found.series(*HOUR, Filter(model="o3"))[1]] == [1]
    assert [p.exchanges for p in found.series(*HOUR, Filter(key="team-a", policy="rag"))[1]] == [1]
    assert found.series(*HOUR, Filter(reason="off"))[1] == []


def test_times_are_compared_in_utc(path):
    found = views(path, entry(1))
    east = NOON.astimezone(tz=UTC).astimezone()
    assert len(found.series(east, east + timedelta(hours=1))[1]) == 1
    with pytest.raises(ValueError, match="wanted a time with its zone"):
        found.series(NOON.replace(tzinfo=None), NOON.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("hours", "step"),
    [(4, Step.MINUTE), (25, Step.TEN_MINUTES), (240, Step.HOUR), (241, Step.DAY)],
)
def test_the_longer_the_time_the_longer_the_step(hours, step):
    assert step_for(NOON, NOON + timedelta(hours=hours)) is step


def test_the_newest_come_first_page_by_page(path):
    found = views(path, *(entry(n, n) for n in range(5)))
    first = found.latest(2)
    assert [row["request_id"] for row in first] == ["r4", "r3"]
    second = found.latest(2, before=first[-1]["number"])
    assert [row["request_id"] for row in second] == ["r2", "r1"]
    assert [r["request_id"] for r in found.latest(9, after=first[-1]["number"])] == ["r4"]
    assert found.latest(9, Filter(policy="other")) == []


@pytest.mark.parametrize("days", [1 / 24, 1, 5, 40])
def test_a_series_counts_what_reports_count(path, days):
    """Over any stretch: by rows, or by the sums that are kept."""
    off = outcome_fields(Outcome("off", Mode.OFF, Reason.OFF))
    found = views(
        path,
        entry(1),
        entry(2, 5, status=500),
        entry(3, 9, resent=True),
        entry(4, 11, mode=Mode.AUDIT),
        entry(5, 12, **off),
        entry(6, 24 * 60, key_name="team-a"),
    )
    since, until = NOON, NOON + timedelta(days=days)
    told = Ledger(path).total(Between(spelt(since), spelt(until)))
    _, points = found.series(since, until)
    for name in ("exchanges", "tokens_before", "first_saved", "repeat_saved", "compressed"):
        assert sum(getattr(p, name) for p in points) == getattr(told, name), name
    assert sum(p.prompt_tokens for p in points) == told.prompt_tokens
    chosen = Filter(key="team-a")
    assert sum(p.exchanges for p in found.series(since, until, chosen)[1]) == int(days > 1)


def test_the_columns_of_components_are_folded_together(path):
    views(path, entry(1), replace(entry(2), path="/v1/x?key=s", detail="d"))
    told = folded(Ledger(path).reckoning("r2", Prices()).columns)
    assert told["components"]["context"] == {"before": 900, "after": 300}
    assert (told["path"], told["detail"], told["prompt_tokens"]) == ("/v1/x", "d", 410)
    assert "context_before" not in told


def test_a_file_that_is_no_ledger_is_named(tmp_path):
    other = tmp_path / "notes.txt"
    other.write_text("not a database, but long enough to be taken for the head of one" * 9)
    with pytest.raises(PolicyError, match=r"notes\.txt.*wanted a Laconic ledger"):
        Views(other).latest(1)
    with pytest.raises(PolicyError, match=r"none\.sqlite3.*wanted a Laconic ledger"):
        Views(tmp_path / "none.sqlite3").latest(1)
