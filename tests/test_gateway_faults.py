"""Every way in which an upstream, a model or a disk may fail: what the caller gets all the same.

Each fault: the caller's answer, the upstream's connection given back, one row in the ledger.
"""

import asyncio
import socket
import struct
import threading

import numpy as np
import pytest
from driving import WideScorer
from fakes import models_of
from house import house, policies
from servers import (
    CHAT,
    JSON,
    PATIENCE_S,
    SSE,
    answer,
    call,
    chat,
    chunk,
    completion,
    connected,
    read_message,
    replies,
    request_bytes,
    streams,
    upstream,
)

from proxy.cli.demonstration import load_passages, prompt_of
from proxy.engine import Engine
from proxy.gateway import Cascade
from proxy.ledger import Ended
from proxy.memo import TurnMemo, VectorMemo
from proxy.policy import Components, Policy, Target
from proxy.scorers.pooling import States
from proxy.types import Reason

ASKED = "keep xdrop this"
CHUNKED = ("Transfer-Encoding", "chunked")
REQUESTS = {
    "edited": ("POST", CHAT, chat(ASKED, stream=True), [JSON]),
    "not edited": ("POST", "/v1/responses", b'{"input": "keep", "stream": true}', [JSON]),
    "passing": ("GET", "/v1/models", None, []),
}


def reset(wire):
    """End the connection with a reset, not a goodbye."""
    raw = wire.writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.hang_up()


def then_resets(data):
    async def script(seen, wire):
        await wire.send(data)
        reset(wire)

    return script


def then_silent(data):
    async def script(seen, wire):
        await wire.send(data)
        await wire.closed.wait()

    return script


def then_garbles(data):
    async def script(seen, wire):
        await wire.send(data)
        await asyncio.sleep(0.05)  # so that it is read by itself
        await wire.send(b"zz\r\n")
        await wire.closed.wait()

    return script


def head(*headers):
    return answer(200, b"", headers=headers, length=False)


async def ask_once(script, request, **settings):
    """Make one request against a fault; return what came back whole or in part, and the row."""
    method, target, body, headers = REQUESTS[request]
    async with upstream(script) as far, house(far, **settings) as home:
        async with connected(home.port) as wire:
            await wire.send(request_bytes(method, target, body, headers))
            got = await read_message(wire, answers=method)
        entry = await home.ledger.entry()
        await asyncio.wait_for(far.hung_up.wait(), PATIENCE_S)
        assert len(home.ledger.entries) == 1
    return got, entry


# -- before the answer -----------------------------------------------------------------------------

LONG_LINE = b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000 + b"\r\n\r\n"
MANY_LINES = b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1_100 + b"\r\n"

NO_ANSWERS = {
    "reset before headers": then_resets(b""),
    "reset in the status line": then_resets(b"HTTP/1.1 20"),
    "reset in the headers": then_resets(b"HTTP/1.1 200 OK\r\nContent-Ty"),
    "reset after an interim answer": then_resets(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "not HTTP": then_silent(b"220 smtp.example ESMTP\r\n\r\n"),
    "binary": then_silent(bytes(range(256)) + b"\r\n\r\n"),
    "a giant header": then_silent(LONG_LINE),
    "giant headers": then_silent(MANY_LINES),
    "a length that is no number": then_silent(head(("Content-Length", "two"))),
    "two lengths": then_silent(head(("Content-Length", "2"), ("Content-Length", "3"))),
}


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("fault", NO_ANSWERS)
async def test_an_upstream_that_gives_no_answer_is_our_502(fault, request_):
    got, entry = await ask_once(NO_ANSWERS[fault], request_)
    assert (got.status, got.get("x-laconic-origin")) == (502, "proxy")
    assert got.json()["error"]["code"] == "upstream_unavailable"
    assert (entry.status, entry.ended) == (502, Ended.UPSTREAM_LOST)


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Ty", b"HTTP/1.1 103 X\r\n\r\n"])
async def test_an_upstream_that_stalls_before_its_answer_is_our_504(sent, request_):
    got, entry = await ask_once(then_silent(sent), request_, read_timeout_s=0.1)
    assert (got.status, got.json()["error"]["code"]) == (504, "upstream_timeout")
    assert (entry.status, entry.ended) == (504, Ended.UPSTREAM_LOST)


async def test_a_flood_of_interim_answers_comes_before_an_answer_all_the_same():
    async def floods(seen, wire):
        for _ in range(2_000):
            await wire.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        await wire.send(answer(200, b"{}", headers=[("Connection", "close")]))
        wire.writer.close()

    got, entry = await ask_once(floods, "edited")
    assert (got.status, got.body, entry.ended) == (200, b"{}", Ended.COMPLETE)


async def test_an_endless_flood_of_interim_answers_ends_with_the_caller():
    async def floods(seen, wire):
        while not wire.closed.is_set():
            await wire.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
            await asyncio.sleep(0)

    async with upstream(floods) as far, house(far) as home, connected(home.port) as wire:
        await wire.send(request_bytes(*REQUESTS["edited"]))
        await asyncio.wait_for(far.arrived.wait(), PATIENCE_S)
        await asyncio.sleep(0.1)
        wire.hang_up()
        await asyncio.wait_for(far.hung_up.wait(), PATIENCE_S)
        entry = await home.ledger.entry()
    assert (entry.status, entry.ended) == (None, Ended.CALLER_GONE)


# -- within the answer -----------------------------------------------------------------------------

EVENT = b'data: {"choices": [{"delta": {"content": "said"}}]}\n\n'
BROKEN = {
    "reset in a chunk": (then_resets(head(SSE, CHUNKED) + b"40\r\n" + EVENT[:20]), EVENT[:20]),
    "reset in an event": (then_resets(head(SSE, CHUNKED) + chunk(EVENT[:20])), EVENT[:20]),
    "reset between events": (then_resets(head(SSE, CHUNKED) + chunk(EVENT)), EVENT),
    "no last chunk": (streams(EVENT, finish=False), EVENT),
    "a chunk's size that is none": (then_garbles(head(SSE, CHUNKED) + chunk(EVENT)), EVENT),
    "a length too long": (then_resets(head(JSON, ("Content-Length", "99")) + EVENT), EVENT),
    "reset after the headers": (then_resets(head(JSON, ("Content-Length", "99"))), b""),
}


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("fault", BROKEN)
async def test_an_answer_that_breaks_off_is_never_a_whole_one(fault, request_):
    script, said = BROKEN[fault]
    got, entry = await ask_once(script, request_)
    assert (got.status, got.complete) == (200, False)
    assert said.startswith(got.body)  # what a reset overtakes is lost, on any connection
    assert (entry.status, entry.ended, entry.bytes_out) == (200, Ended.UPSTREAM_LOST, len(got.body))


STALLS = {
    "after the headers": (head(JSON, ("Content-Length", "99")), b""),
    "after the head of a stream": (head(SSE, CHUNKED), b""),
    "in an event": (head(SSE, CHUNKED) + chunk(EVENT[:20]), EVENT[:20]),
    "within a chunk": (head(SSE, CHUNKED) + b"40\r\n" + EVENT[:20], EVENT[:20]),
    "before the last byte": (head(JSON, ("Content-Length", f"{len(EVENT) + 1}")) + EVENT, EVENT),
}


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("stall", STALLS)
async def test_an_answer_that_stalls_is_cut_off(stall, request_):
    sent, said = STALLS[stall]
    got, entry = await ask_once(then_silent(sent), request_, read_timeout_s=0.2)
    assert (got.status, got.complete, got.body) == (200, False, said)
    assert (entry.status, entry.ended, entry.bytes_out) == (200, Ended.UPSTREAM_LOST, len(said))


@pytest.mark.parametrize("request_", REQUESTS)
async def test_a_trickle_is_no_stall(request_):
    """A byte each fifth of the longest silence allowed, thirteen times as long in all."""

    async def trickles(seen, wire):
        for byte in head(("Content-Length", str(len(EVENT)))) + EVENT:
            await wire.send(bytes([byte]))
            await asyncio.sleep(0.02)
        wire.writer.close()

    got, entry = await ask_once(trickles, request_, read_timeout_s=0.3)
    assert (got.status, got.complete, got.body) == (200, True, EVENT)
    assert entry.ended is Ended.COMPLETE


@pytest.mark.parametrize("surplus", [b"X", b"\r\n", answer(200, b"smuggled", headers=[JSON])])
async def test_more_than_the_length_said_is_nobodys(surplus):
    """What stands behind an answer is neither its own nor the next one's."""
    first = answer(200, b"first", headers=[JSON]) + surplus

    async def script(seen, wire):
        await wire.send(first if seen.target == "/v1/first" else answer(200, b"second"))

    async with upstream(script) as far, house(far) as home:
        bodies = [(await call(home.port, "GET", f"/v1/{n}")).body for n in ("first", "second")]
        entries = [await home.ledger.entry(n) for n in (1, 2)]
    assert (bodies, far.connections) == ([b"first", b"second"], 2)
    assert [entry.ended for entry in entries] == [Ended.COMPLETE] * 2


async def test_after_a_fault_the_next_request_is_served():
    scripts = [
        *NO_ANSWERS.values(),
        *(script for script, _ in BROKEN.values()),
        replies(200, b"{}"),
    ]
    async with upstream(*scripts) as far, house(far) as home:
        got = None
        for number in range(len(scripts)):
            got = await call(home.port, "POST", CHAT, chat(ASKED), [JSON])
            await home.ledger.entry(number + 1)
    assert (got.status, got.body) == (200, b"{}")


# -- the model -------------------------------------------------------------------------------------

QUESTION, PASSAGES = load_passages()
PATIENT = Policy(
    name="patient", components=Components(context=Target(rate=0.5)), min_tokens=0, deadline_s=60
)
HASTY = PATIENT.model_copy(update={"name": "hasty", "deadline_s": 0.2})


class Sick(WideScorer):
    """Has a symptom, until it is well."""

    def __init__(self, symptom):
        super().__init__()
        self.symptom, self.well = symptom, True

    def read(self, ids):
        states = super().read(ids)
        return states if self.well else self.symptom(states)


def raises(states):
    raise RuntimeError("secret")


def spoils(states):
    return States(states.final * np.nan, states.middle * np.nan)


class Hangs:
    """A symptom: nothing more is heard until it is let go."""

    def __init__(self):
        self.go = threading.Event()

    def __call__(self, states):
        assert self.go.wait(PATIENCE_S)
        return states


async def rows_of(scorer, policy, recover=lambda: None):
    """Ask while the model is sick and, with other words, once it is well; return both rows."""
    engine = Engine(lambda: models_of(scorer), VectorMemo())
    engine.start()
    await engine.wait_ready()
    scorer.well = False
    method = Cascade(TurnMemo(), lambda: engine.revision)
    asked = [chat(prompt_of(some, QUESTION)) for some in (PASSAGES, PASSAGES[::-1])]
    home_of = {"engine": engine, "method": method, "policy_set": policies(PATIENT, HASTY)}
    async with upstream() as far, house(far, fallback=policy, **home_of) as home:
        got = await call(home.port, "POST", CHAT, asked[0], [JSON])
        assert (got.status, got.body, far.last.body) == (200, completion(), asked[0])
        scorer.well = True
        recover()
        await call(home.port, "POST", CHAT, asked[1], [JSON, ("x-laconic-policy", "patient")])
        rows = [await home.ledger.entry(number) for number in (1, 2)]
    await asyncio.to_thread(engine.close, PATIENCE_S)
    return rows


@pytest.mark.parametrize("symptom", [raises, spoils])
async def test_a_model_that_fails_lets_the_original_through_and_recovers(symptom):
    sick, well = await rows_of(Sick(symptom), "patient")
    assert (sick.reason, well.reason) == (Reason.SCORER_FAILED, None)
    assert well.tokens_saved > 0
    assert "secret" not in str(sick.record())


async def test_a_model_that_hangs_lets_the_original_through_and_recovers():
    symptom = Hangs()
    sick, well = await rows_of(Sick(symptom), "hasty", symptom.go.set)
    assert (sick.reason, well.reason) == (Reason.DEADLINE, None)
    assert well.tokens_saved > 0
