"""The soak: seconds of it, and that it sees what it is there to see."""

import random
import sys
from pathlib import Path

import pytest
from servers import answer, chunk, replies, streams, upstream

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import soak
from soak import Asked, Found, Sample, Soaked

NONCE = "00000001-abc"
OURS = ("x-laconic-request-id", "1")


async def test_seconds_of_load_with_faults(tmp_path):
    soaked = await soak.soak(tmp_path, 4, callers=16, seed=2, settle_s=0)
    assert (soaked.found.wrong, soaked.missing, soaked.twice) == ([], 0, 0)
    assert {"complete", "upstream-lost", "caller-gone"} <= soaked.rows.keys()
    assert len(soaked.found.whole) > 50


async def judged(script, *, far="none", stream=False):
    """What is found where an upstream, asked without a proxy, answers so."""
    asked = Asked(NONCE, far, "none", stream, b"GET / HTTP/1.1\r\n\r\n")
    found = Found()
    async with upstream(script) as server:
        await soak.ask(asked, server.port, random.Random(1), found)  # noqa: S311
    return found


async def test_the_answer_to_this_request_is_right():
    (whole,) = soak.pieces_of(NONCE, stream=False)
    found = await judged(replies(200, whole, headers=[OURS]))
    assert (found.wrong, found.whole, found.ends) == ([], ["1"], {"answered 200": 1})
    events = soak.pieces_of(NONCE, stream=True)
    assert (await judged(streams(*events, headers=[OURS]), stream=True)).wrong == []


async def test_an_answer_to_another_request_is_wrong():
    (other,) = soak.pieces_of("00000002-abc", stream=False)
    assert len((await judged(replies(200, other, headers=[OURS]))).wrong) == 1


async def test_half_an_answer_that_ends_well_is_wrong():
    found = await judged(
        streams(*soak.pieces_of(NONCE, stream=True)[:2], headers=[OURS]), stream=True
    )
    assert len(found.wrong) == 1


async def test_half_an_answer_that_breaks_off_is_none():
    async def breaks_off(seen, wire):
        head = [("Transfer-Encoding", "chunked"), OURS]
        await wire.send(answer(200, b"", headers=head, length=False) + chunk(b"half"))
        wire.hang_up()

    found = await judged(breaks_off, stream=True)
    assert (found.wrong, found.whole, found.ends) == ([], [], {"broken off": 1})


@pytest.mark.parametrize(("far", "wrong"), [("none", 1), ("reset", 0)])
async def test_an_error_of_ours_is_wrong_where_nothing_failed(far, wrong):
    error = replies(502, b"{}", headers=[OURS, ("x-laconic-origin", "proxy")])
    assert len((await judged(error, far=far)).wrong) == wrong


def test_what_does_not_hold_is_told():
    growing = [Sample(60 * n, 100 + 2 * n, 20) for n in range(10)]
    soaked = Soaked(samples=growing, base=Sample(0, 0, 20), after=Sample(0, 0, 30), missing=1)
    assert len(list(soaked.faults())) == 3
    assert soak.slope(growing) == pytest.approx(2)
    flat = [Sample(60 * n, 100, 20) for n in range(10)]
    assert list(Soaked(samples=flat, base=flat[0], after=flat[0]).faults()) == []
