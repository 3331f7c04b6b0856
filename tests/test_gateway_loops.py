"""Loops over several hops are found out, and nobody's request is changed for it by the way."""

import asyncio
from contextlib import ExitStack

import pytest
from house import house
from servers import CHAT, JSON, answer, call, chat, free_port, upstream

from proxy.errors import LoopDetected
from proxy.gateway.loops import SUSPICIOUS, LoopGuard
from proxy.ledger import Ended
from proxy.policy import Policy, PolicySet, UpstreamSpec
from proxy.upstream import HOP_HEADER

LOOK = ("GET", "/v1/models", "")
OTHER = "0123456789abcdef"


def hops_of(guard, look=LOOK, came=""):
    with guard.passing(look, came) as hops:
        return hops


def test_a_request_by_itself_is_not_marked():
    guard = LoopGuard()
    assert [hops_of(guard) for _ in range(3 * SUSPICIOUS)] == [None] * 3 * SUSPICIOUS


def test_many_that_look_the_same_at_once_are_and_others_are_not():
    guard = LoopGuard()
    with ExitStack() as stack:
        marks = [stack.enter_context(guard.passing(LOOK, "")) for _ in range(SUSPICIOUS)]
        assert marks == [None] * SUSPICIOUS
        name = hops_of(guard)
        assert len(name) == 16
        assert hops_of(guard, ("GET", "/v1/models", "7")) is None
    assert hops_of(guard) is None


def test_hops_that_came_go_on_with_our_own_name():
    guard = LoopGuard()
    hops = hops_of(guard, came=OTHER)
    assert hops.startswith(f"{OTHER}, ")
    with pytest.raises(LoopDetected):
        hops_of(guard, came=hops)
    assert hops_of(LoopGuard(), came=hops).startswith(f"{hops}, ")


@pytest.mark.parametrize("came", ["x", OTHER.upper(), f"{OTHER},{OTHER}", ", ".join([OTHER] * 65)])
def test_what_are_no_hops_is_not_passed_on(came):
    assert hops_of(LoopGuard(), came=came) is None


# -- through proxies -------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [("GET", "/v1/models", None), ("POST", CHAT, chat("keep xdrop"))])
async def test_a_loop_over_two_proxies_ends_in_508(asked):
    ports = free_port(), free_port()
    async with (
        house(f"http://127.0.0.1:{ports[1]}", port=ports[0]) as one,
        house(f"http://127.0.0.1:{ports[0]}", port=ports[1]) as two,
    ):
        got = await call(ports[0], *asked, [JSON])
        entries = len(one.ledger.entries) + len(two.ledger.entries)
    assert (got.status, got.get("x-laconic-origin")) == (508, "proxy")
    assert got.json()["error"]["code"] == "loop_detected"
    assert entries <= 2 * (SUSPICIOUS + 3)
    assert {entry.ended for entry in one.ledger.entries} <= {Ended.COMPLETE, Ended.ERROR}


@pytest.mark.parametrize(("proxied", "marked"), [(False, True), (True, False)])
async def test_only_what_is_suspicious_is_marked_and_not_through_a_proxy(proxied, marked):
    held, release = 0, asyncio.Event()

    async def waits(seen, wire):
        nonlocal held
        held += 1
        if held == SUSPICIOUS + 1:
            release.set()
        await release.wait()
        await wire.send(answer())

    async with upstream(waits) as far:
        spec = {"url": "http://far.example", "proxy": far.url} if proxied else {"url": far.url}
        policies = PolicySet(
            {"on": Policy(name="on")}, (), "on", {"far": UpstreamSpec.model_validate(spec)}, "far"
        )
        async with house("http://127.0.0.1:9", policy_set=policies) as home:
            asked = [call(home.port, "GET", "/v1/models") for _ in range(SUSPICIOUS + 1)]
            await asyncio.gather(*asked)
    marks = [seen.get(HOP_HEADER) for seen in far.seen]
    assert [mark for mark in marks if mark] == ([marks[-1]] if marked else [])
