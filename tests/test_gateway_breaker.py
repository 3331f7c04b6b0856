"""Where an upstream keeps refusing edits, none are made for a while, route by route."""

import time

import pytest
import structlog
from house import DropsX, InstantEngine, house, policies
from hypothesis import given
from hypothesis import strategies as st
from servers import CHAT, JSON, answer, call, chat, completion, upstream

from proxy import wire
from proxy.gateway import Breaker, Compression
from proxy.gateway.breaker import PAUSE_S, REFUSALS, WINDOW, Admission
from proxy.gateway.compression import Incoming
from proxy.policy import Policy, PolicySet, Route
from proxy.types import Mode, Reason
from proxy.wire import LaconicHeaders

ASKED = "keep xdrop this"


def opened(route="r", now_s=0.0, changed=lambda *_: None):
    """A breaker on which a route has just opened."""
    breaker = Breaker(changed)
    for _ in range(REFUSALS):
        breaker.report(route, Admission.EDIT, now_s, refused=True)
    return breaker


def test_a_route_is_closed_until_too_many_of_the_latest_edits_are_refused():
    changes = []
    breaker = Breaker(lambda *change: changes.append(change))
    for refused in [True, False] * (REFUSALS - 1):
        breaker.report("r", Admission.EDIT, 0.0, refused=refused)
        assert breaker.admit("r", 0.0) is Admission.EDIT
    breaker.report("r", Admission.EDIT, 0.0, refused=True)
    assert (breaker.admit("r", 0.0), changes) == (Admission.PASS, [("r", True)])


def test_routes_are_judged_apart():
    assert opened("a").admit("b", 0.0) is Admission.EDIT


def test_after_a_pause_one_request_tries_and_closes_the_route():
    changes = []
    breaker = opened(changed=lambda *change: changes.append(change))
    asked = [breaker.admit("r", at_s) for at_s in (PAUSE_S - 1, PAUSE_S, PAUSE_S)]
    assert asked == [Admission.PASS, Admission.TRIAL, Admission.PASS]
    breaker.report("r", Admission.TRIAL, PAUSE_S, refused=False)
    assert breaker.admit("r", PAUSE_S) is Admission.EDIT
    assert changes == [("r", True), ("r", False)]


def test_a_refused_trial_opens_the_route_for_another_pause():
    breaker = opened()
    assert breaker.admit("r", PAUSE_S) is Admission.TRIAL
    breaker.report("r", Admission.TRIAL, PAUSE_S + 5, refused=True)
    asked = [breaker.admit("r", at_s) for at_s in (2 * PAUSE_S + 4, 2 * PAUSE_S + 5)]
    assert asked == [Admission.PASS, Admission.TRIAL]


def test_a_trial_that_never_tells_is_followed_by_another():
    breaker = opened()
    asked = [breaker.admit("r", n * PAUSE_S) for n in (1, 2)]
    assert asked == [Admission.TRIAL, Admission.TRIAL]


def test_a_trial_that_came_to_no_edit_leaves_its_turn_to_the_next():
    breaker = opened()
    assert breaker.admit("r", PAUSE_S) is Admission.TRIAL
    breaker.withdraw("r", PAUSE_S)
    assert breaker.admit("r", PAUSE_S) is Admission.TRIAL


def test_what_was_on_its_way_before_decides_nothing():
    breaker = opened()
    breaker.report("r", Admission.EDIT, 1.0, refused=False)
    assert breaker.admit("r", 1.0) is Admission.PASS
    breaker.withdraw("other", 1.0)
    assert breaker.admit("other", 1.0) is Admission.EDIT


def test_it_remembers_a_bounded_number_of_routes():
    breaker = opened("first")
    for number in range(1024):
        breaker.report(f"r{number}", Admission.EDIT, 0.0, refused=True)
    assert breaker.admit("first", 0.0) is Admission.EDIT


@given(st.lists(st.booleans(), max_size=60))
def test_it_opens_where_the_window_says_so_and_nowhere_else(refusals):
    changes, breaker = [], Breaker(lambda *change: changes.append(change))
    for number, refused in enumerate(refusals):
        breaker.report("r", Admission.EDIT, 0.0, refused=refused)
        window = refusals[max(0, number + 1 - WINDOW) : number + 1]
        if sum(window) >= REFUSALS:
            assert changes == [("r", True)]
            return
        assert changes == []


# -- through the proxy -----------------------------------------------------------------------------


def refuses_edits():
    async def script(seen, wire):
        if b"xdrop" in seen.body or b"only" in seen.body:
            await wire.send(answer(200, completion(), headers=[JSON]))
        else:
            await wire.send(answer(400, b'{"error": {"code": "invalid"}}', headers=[JSON]))

    return script


TWO_ROUTES = PolicySet(
    {"on": Policy(name="on"), "audit": Policy(name="audit", mode=Mode.AUDIT)},
    (Route(name="other", model="other", policy="on"), Route(model="a", policy="audit")),
    "on",
)


async def test_repeated_refusals_suspend_edits_on_that_route_alone():
    async with upstream(refuses_edits()) as far, house(far, policy_set=TWO_ROUTES) as home:
        with structlog.testing.capture_logs() as lines:
            for _ in range(REFUSALS):
                await call(home.port, "POST", CHAT, chat(ASKED), [JSON])
            sent = len(far.seen)
            got = await call(home.port, "POST", CHAT, chat(ASKED), [JSON])
            entry = await home.ledger.entry(REFUSALS + 1)
        assert (sent, len(far.seen)) == (2 * REFUSALS, 2 * REFUSALS + 1)
        assert (got.status, far.last.body) == (200, chat(ASKED))
        assert got.get("x-laconic-reason") == entry.reason == Reason.BREAKER_OPEN
        other = await call(home.port, "POST", CHAT, chat(ASKED, model="other"), [JSON])
        audit = await call(home.port, "POST", CHAT, chat(ASKED, model="a"), [JSON])
        metrics = (await call(home.port, "GET", "/metrics")).body.decode()
    assert lines == [
        {
            "event": "breaker-opened",
            "log_level": "warning",
            "route": "fallback",
            "trial_in_s": PAUSE_S,
        }
    ]
    assert other.get("x-laconic-reason") == "refused-edited"
    assert audit.get("x-laconic-reason") == "audit"
    assert 'laconic_breaker_open{route="fallback"} 1.0' in metrics
    assert (
        'laconic_exchanges_total{ended="complete",policy="on",reason="breaker-open"} 1.0' in metrics
    )


async def test_answers_that_say_nothing_of_the_edits_open_nothing():
    async def script(seen, wire):
        await wire.send(answer([429, 500, 400][len(far.seen) % 3], b"{}"))

    async with upstream(script) as far, house(far) as home:
        for _ in range(3 * REFUSALS):
            got = await call(home.port, "POST", CHAT, chat(ASKED), [JSON])
    assert got.get("x-laconic-reason") != "breaker-open"


@pytest.fixture
def compression():
    """Compression behind a breaker on which the fallback opened a pause ago."""
    changes = []
    breaker = opened("fallback", time.monotonic() - PAUSE_S, lambda *c: changes.append(c))
    made = Compression(DropsX(), InstantEngine(), limit_bytes=10_000, breaker=breaker)
    yield made, changes
    made.close()


def prepared(compression, text):
    incoming = Incoming(wire.CHAT, CHAT, {}, LaconicHeaders(), chat(text))
    return compression.prepare(incoming, policies())


async def test_a_trial_that_is_accepted_closes_the_route(compression):
    made, changes = compression
    nothing = await prepared(made, "keep")
    trial, early = await prepared(made, ASKED), await prepared(made, ASKED)
    assert (nothing.edited, trial.admission) == (None, Admission.TRIAL)
    assert (early.outcome.reason, early.edited) == (Reason.BREAKER_OPEN, None)
    made.accepted(trial)
    assert (await prepared(made, ASKED)).admission is Admission.EDIT
    assert changes == [("fallback", True), ("fallback", False)]


async def test_a_trial_that_is_refused_keeps_the_route_open(compression):
    made, changes = compression
    await made.refused(await prepared(made, ASKED))
    assert (await prepared(made, ASKED)).outcome.reason is Reason.BREAKER_OPEN
    assert changes == [("fallback", True)]
