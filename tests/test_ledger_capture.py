"""What is kept of a request's segments, and of its text where a route has capture on."""

import json
import sqlite3
import stat
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import entries
import pytest
import structlog
from house import DropsX, InstantEngine, house, policies
from hypothesis import given
from hypothesis import strategies as st
from servers import CHAT, JSON, answer, call, chat, completion, upstream

from proxy.app import tell_of_capture
from proxy.compress.result import Sized
from proxy.compress.show import Fate, Shown, Stretch
from proxy.errors import PolicyError
from proxy.gateway.compression import Compression, Incoming
from proxy.ledger import Between, Bounds, Filter, Ledger, Prices, SqliteSink
from proxy.ledger.capture import LONGEST, captured, captures_of, sealed
from proxy.ledger.keeping import erase, vacuum
from proxy.ledger.segments import packed, told, unpacked
from proxy.policy.schema import Route
from proxy.types import Address, Component, Count, Kind, Outcome, Reason, Segment, Span
from proxy.wire import LaconicHeaders, endpoints

NOW = datetime.now(UTC)
SAID = Shown(
    Address(1, 0),
    "user",
    (
        Stretch("The mill stands. ", Fate.KEPT, Component.CONTEXT, Kind.PROSE, "long"),
        Stretch("It was built. ", Fate.DROPPED, Component.CONTEXT, Kind.PROSE, "long"),
        Stretch("…", Fate.INSERTED),
    ),
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite3"


def entry(number, at=NOW, leaves=(SAID,), **changed):
    return replace(entries.entry(number, at, **changed), captured=sealed(leaves))


def write(path, *written, captures=None):
    sink = SqliteSink(path, captures=captures)
    for each in written:
        sink.write(each)
    sink.close()


def texts(path):
    with closing(sqlite3.connect(captures_of(path))) as database:
        rows = database.execute("SELECT request_id FROM captures ORDER BY rowid").fetchall()
    return [name for (name,) in rows]


# -- segments -------------------------------------------------------------------------------------


def test_each_segment_is_told_with_its_rule_and_recall_by_itself():
    parts = [
        Segment(Address(0, 0), Span(0, 4), "Look", Component.INSTRUCTION, Kind.PROSE, "command"),
        Segment(Address(0, 1), Span(0, 4), "A, B", Component.CONTEXT, Kind.LIST, "long"),
    ]
    sized = Sized(tuple(parts), (Count(2, 2), Count(9, 4)), recalled=5, at=Address(0, 0))
    rows = told([sized])
    assert unpacked(packed(rows)) == [
        dict(
            zip(("message", "part", "component", "kind", "rule", "before", "after"), r, strict=True)
        )
        for r in (
            (0, 0, "context", None, "recalled", 0, 5),
            (0, 0, "instruction", "prose", "command", 2, 2),
            (0, 1, "context", "list", "long", 9, 4),
        )
    ]
    assert [row[-2:] for row in told([sized], sent=False)] == [(2, 2), (9, 9)]
    assert packed([]) is None


def test_a_ledgers_row_has_its_segments_wherever_it_is_read(path):
    rows = [(0, 0, "context", "prose", "long", 9, 4)]
    write(path, replace(entries.entry(1, NOW), segments=packed(rows)), entries.entry(2, NOW))
    ledger = Ledger(path)
    assert [columns["segments"] for _, columns in ledger.exchanges()] == [
        unpacked(packed(rows)),
        None,
    ]
    assert ledger.reckoning("r1", Prices()).columns["segments"] == unpacked(packed(rows))


# -- text -----------------------------------------------------------------------------------------


def test_captured_text_comes_back_as_it_was_shown(path):
    write(path, entry(1), entries.entry(2, NOW))
    found = captured(path, "r1")
    assert [Shown.of(leaf) for leaf in found["leaves"]] == [SAID]
    assert (found["left_out"], captured(path, "r2")) == (0, None)


@given(st.text(max_size=20))
def test_any_text_can_be_sealed(text):
    json.dumps(Shown.of(replace(SAID, stretches=(Stretch(text, Fate.KEPT),)).record()).record())
    assert sealed([replace(SAID, stretches=(Stretch(text, Fate.KEPT),))])


def test_without_text_there_is_no_file(path):
    write(path, entries.entry(1, NOW))
    assert not captures_of(path).exists()
    assert captured(path, "r1") is None


def test_only_the_owner_can_read_what_was_captured(path):
    write(path, entry(1))
    assert stat.S_IMODE(captures_of(path).stat().st_mode) == 0o600


def test_of_a_long_request_the_newest_texts_are_kept(path):
    long = replace(SAID, stretches=(Stretch("x" * (LONGEST // 2), Fate.KEPT),))
    write(path, entry(1, leaves=(SAID, long, SAID, SAID)), entry(2, leaves=(SAID, long, long)))
    kept = [captured(path, name) for name in ("r1", "r2")]
    assert [(len(found["leaves"]), found["left_out"]) for found in kept] == [(4, 0), (2, 1)]


def test_what_is_past_its_days_goes_at_the_next_start(path):
    old = entry(1, NOW - timedelta(days=3), (SAID, SAID))
    write(path, old, entry(2), captures=Bounds(days=9))
    assert texts(path) == ["r1", "r2"]
    assert old.captured in captures_of(path).read_bytes()
    write(path, captures=Bounds(days=2))
    assert texts(path) == ["r2"]
    assert old.captured not in captures_of(path).read_bytes()


def test_past_its_size_the_oldest_goes(path):
    noise = [
        replace(SAID, stretches=(Stretch(str(list(range(n, n + 9000))), Fate.KEPT),))
        for n in range(60)
    ]
    written = [entry(n, NOW + timedelta(seconds=n), (each,)) for n, each in enumerate(noise)]
    for each in written:
        write(path, each, captures=Bounds(size=500_000))
    left = texts(path)
    assert 3 < len(left) < 60
    assert left == [f"r{n}" for n in range(60 - len(left), 60)]


def test_text_goes_with_its_exchange(path):
    sink = SqliteSink(path, Bounds(days=2))
    sink.write(entry(1, NOW - timedelta(days=3)))
    assert sink.flush()
    sink.write(entry(2))
    sink.close()
    assert (texts(path), Ledger(path).count(Filter())) == (["r2"], 1)


@pytest.mark.parametrize(
    ("chosen", "left"),
    [
        (Filter(key="alice"), ["r1"]),
        (Filter(conversation="c0ffee"), ["r2"]),
        (Filter(Between(until="2030-01-01")), []),
    ],
)
def test_erasing_takes_the_text_too(path, chosen, left):
    written = (
        entry(1, conversation="c0ffee"),
        entry(2, leaves=(SAID, SAID), key_name="alice"),
    )
    write(path, *written)
    assert erase(path, chosen) == 2 - len(left)
    assert texts(path) == left
    file = captures_of(path).read_bytes()
    assert [each.request_id for each in written if each.captured in file] == left
    vacuum(path)
    assert texts(path) == left


def test_a_newer_file_is_refused(path):
    write(path, entry(1))
    with closing(sqlite3.connect(captures_of(path))) as database:
        database.execute("INSERT INTO schema_version VALUES (99)")
        database.commit()
    with pytest.raises(PolicyError, match="captured text: found schema version 99"):
        SqliteSink(path)


# -- on a route -----------------------------------------------------------------------------------

WATCHED = Route(name="watched", header={"x-watch": "yes"}, policy="on", capture=True)
WATCH = ("x-watch", "yes")


class Refuses:
    """Refuses what was edited, when it is told to."""

    async def __call__(self, seen, wire):
        edited = b"xdrop" not in seen.body
        status = 400 if edited and seen.get("x-refuse") else 200
        await wire.send(answer(status, completion("yes"), headers=[JSON]))


async def sent(path, *headers, body=None, target=CHAT, method=None, route=WATCHED, **given):
    """Send one request; return its row, and its text."""
    routed = replace(policies(**given), routes=(route,))
    sink = SqliteSink(path)
    async with (
        upstream(Refuses()) as far,
        house(far, policy_set=routed, method=method, ledger_path=path, sinks=[sink]) as home,
    ):
        body = chat("keep this xdrop and this") if body is None else body
        await call(home.port, "POST", target, body, [JSON, *headers])
        await home.ledger.entry()
    sink.close()
    ((_, row),) = Ledger(path).exchanges()
    return row, captured(path, row["request_id"])


def fates(text):
    return [(s["text"], s["fate"]) for leaf in text["leaves"] for s in leaf["stretches"]]


async def test_on_a_route_with_capture_the_text_is_kept_and_elsewhere_not(path, tmp_path):
    row, text = await sent(path, WATCH)
    assert row["route"] == "watched"
    assert fates(text) == [("keep this", "kept"), (" xdrop", "dropped"), (" and this", "kept")]
    row, text = await sent(tmp_path / "other.sqlite3")
    assert (row["route"], text) == ("fallback", None)
    assert not captures_of(tmp_path / "other.sqlite3").exists()


async def test_of_what_was_refused_and_sent_again_nothing_was_dropped(path):
    row, text = await sent(path, WATCH, ("x-refuse", "yes"))
    assert (row["resent"], fates(text)) == (1, [("keep this xdrop and this", "kept")])


async def test_what_is_held_out_is_kept_whole(path):
    row, text = await sent(path, WATCH, holdout=0.999999)
    assert (row["reason"], fates(text)) == (
        "held-out",
        [("keep this xdrop and this", "kept")],
    )


class FindsAllShort(DropsX):
    """A method for which there is never enough to compress."""

    def too_short(self, model, texts, policy):
        return Outcome(policy.name, policy.mode, Reason.TOO_SHORT)


PASSES = {
    "bypassed": {"headers": [("x-laconic-bypass", "true")]},
    "off": {"headers": [("x-laconic-policy", "off")]},
    "off for the route": {"route": WATCHED.model_copy(update={"policy": "off"})},
    "too-short": {"method": FindsAllShort()},
}
SAME = [("keep this xdrop and this", "kept")]


@pytest.mark.parametrize("passes", PASSES)
async def test_what_passes_unread_is_kept_whole_where_capture_is_on(passes, path, tmp_path):
    given = dict(PASSES[passes])
    headers = given.pop("headers", [])
    row, text = await sent(path, WATCH, *headers, **given)
    assert (row["reason"], fates(text), text["left_out"]) == (passes.split(" ")[0], SAME, 0)
    with closing(sqlite3.connect(captures_of(path))) as database:
        told = database.execute("SELECT reason, route, conversation FROM captures").fetchall()
    assert told == [(row["reason"], "watched", row["conversation"])]
    assert row["conversation"] is not None  # by which it can be erased, with what it belongs to
    other = tmp_path / "other.sqlite3"
    route = given.get("route", WATCHED).model_copy(update={"capture": False})
    row, text = await sent(other, WATCH, *headers, **given | {"route": route})
    assert (row["conversation"], text, captures_of(other).exists()) == (None, None, False)


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/v1/responses", b'{"instructions": "keep this xdrop and this", "input": []}'),
        ("/v1/completions", b'{"prompt": "keep this xdrop and this"}'),
    ],
)
async def test_what_passes_unread_is_kept_on_every_endpoint(path, target, body):
    row, text = await sent(path, WATCH, ("x-laconic-bypass", "true"), target=target, body=body)
    assert (row["reason"], fates(text)) == ("bypassed", SAME)


@pytest.mark.parametrize(
    "body", [b'{"model": "m", "messages": [', b'{"model": "m", "messages": 7}', b"keep this"]
)
async def test_of_what_cannot_be_read_no_text_is_known(path, body):
    row, text = await sent(path, WATCH, ("x-laconic-bypass", "true"), body=body)
    assert (row["status"], row["reason"], text) == (200, "bypassed", None)


async def test_a_text_that_passed_unread_goes_with_its_conversation(path):
    row, _ = await sent(path, WATCH, ("x-laconic-bypass", "true"))
    other, _ = await sent(path.with_name("read.sqlite3"), WATCH)
    assert row["conversation"] == other["conversation"]
    assert erase(path, Filter(conversation=row["conversation"])) == 1
    assert texts(path) == []


async def test_a_fault_in_reading_what_passed_unread_costs_the_text_alone():
    compression = Compression(DropsX(), InstantEngine(), limit_bytes=1000)
    faulty = replace(endpoints.CHAT, parse=lambda body, memory: 1 / 0)
    asked = Incoming(faulty, CHAT, dict([WATCH]), LaconicHeaders(bypass=True), chat())
    with structlog.testing.capture_logs() as lines:
        prepared = await compression.prepare(asked, replace(policies(), routes=(WATCHED,)))
        assert (prepared.outcome.reason, prepared.unread()) == (Reason.BYPASSED, None)
    assert [(line["event"], line["type"]) for line in lines] == [
        ("compression-fault", "ZeroDivisionError")
    ]
    compression.close()


async def test_the_page_has_the_text_of_an_exchange_and_its_segments(path):
    rows = [(0, 0, "context", "prose", "long", 9, 4)]
    write(path, replace(entry(1), segments=packed(rows)), entries.entry(2, NOW))
    async with upstream() as far, house(far, ledger_path=path, method=DropsX()) as home:
        one, two = [
            json.loads((await call(home.port, "GET", f"/laconic/api/exchanges/{name}")).body)
            for name in ("r1", "r2")
        ]
    assert one["segments"] == unpacked(packed(rows))
    assert one["captured"] == {"leaves": [SAID.record()], "left_out": 0}
    assert (two["segments"], two["captured"]) == (None, None)


@pytest.mark.parametrize(
    ("routes", "ledger", "told_of"),
    [
        ((WATCHED,), Path("ledger.sqlite3"), [("capture-on", ("watched",))]),
        ((WATCHED,), None, [("capture-without-ledger", ("watched",))]),
        ((WATCHED.model_copy(update={"capture": False}),), Path("ledger.sqlite3"), []),
    ],
)
def test_where_capture_is_on_is_told_at_the_start(routes, ledger, told_of):
    with structlog.testing.capture_logs() as lines:
        tell_of_capture(replace(policies(), routes=routes), ledger)
    assert [(line["event"], line["routes"]) for line in lines] == told_of
