"""Many bodies through one compressor: order, endings, statistics, faults."""

import asyncio
import io
import json

import pytest
from rich.console import Console
from rich.progress import Progress

from proxy.cli.compressing import Plan, Streams, compress_all
from proxy.gateway.compression import Prepared
from proxy.policy import load_policies, shipped_policies
from proxy.types import Mode, Outcome, Reason
from proxy.wire import LaconicHeaders
from proxy.wire.endpoints import CHAT, COMPLETIONS, RESPONSES

PLAN = Plan(load_policies(shipped_policies()), LaconicHeaders())


class Shouts:
    """Edits every body to upper case; early ones take longest."""

    def __init__(self):
        self.came = []
        self.most = 0
        self.working = 0

    async def prepare(self, incoming, policies):
        self.came.append((incoming.endpoint, incoming.path))
        self.working += 1
        self.most = max(self.most, self.working)
        for _ in range(50 - int(incoming.body[:2] if incoming.body[:2].isdigit() else 0)):
            await asyncio.sleep(0)
        self.working -= 1
        reason = Reason.SCORER_FAILED if b"fails" in incoming.body else None
        outcome = Outcome("rag", Mode.ON, reason, tokens_before=4, tokens_after=1)
        return Prepared(outcome, "fallback", edited=None if reason else incoming.body.upper())


async def compress(text, progress=None):
    streams = Streams(io.BytesIO(), io.BytesIO(), io.StringIO())
    shouts = Shouts()
    lines = text.splitlines(keepends=True)
    failed = await compress_all(shouts, PLAN, lines, streams, progress)
    stats = [json.loads(line) for line in streams.notes.getvalue().splitlines()]
    return streams.sink.getvalue(), stats, failed, shouts


async def test_bodies_come_out_in_order_though_later_ones_are_done_first():
    text = b"".join(b"%02d body\n" % n for n in range(1, 30))
    out, stats, failed, shouts = await compress(text)
    assert (out, failed) == (text.upper(), False)
    assert [line["request_id"] for line in stats] == [f"line-{n}" for n in range(1, 30)]
    assert shouts.most > 1


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
async def test_each_body_keeps_its_line_ending(ending):
    assert (await compress(b"01 a" + ending))[0] == b"01 A" + ending


async def test_a_body_goes_to_the_endpoint_that_it_is_for():
    bodies = b'{"messages": []}', b'{"input": "a"}', b'{"prompt": "a"}'
    shouts = (await compress(b"\n".join(bodies)))[3]
    assert shouts.came == [
        (CHAT, "/v1/chat/completions"),
        (RESPONSES, "/v1/responses"),
        (COMPLETIONS, "/v1/completions"),
    ]


async def test_a_fault_of_ours_passes_the_body_and_is_told():
    out, stats, failed, _ = await compress(b"01 fails\n02 goes\n")
    assert (out, failed) == (b"01 fails\n02 GOES\n", True)
    assert [line["reason"] for line in stats] == ["scorer-failed", None]
    assert stats[1]["rate"] == 0.25


async def test_progress_counts_the_bodies():
    with Progress(console=Console(file=io.StringIO())) as progress:
        await compress(b"01 a\n02 b\n", progress)
        assert [task.completed for task in progress.tasks] == [2]
