"""``laconic compress --show``."""

import io
from dataclasses import replace

import pytest
from house import DropsX, InstantEngine, policies
from rich.console import Console
from servers import chat
from typer.testing import CliRunner

from proxy.cli.commands import app
from proxy.cli.compressing import Plan
from proxy.cli.showing import attempt, write
from proxy.compress.show import Fate, Shown, Stretch
from proxy.gateway import Compression
from proxy.policy import PolicySet, PriceSpec, Route
from proxy.types import Address, Component, Kind
from proxy.wire import LaconicHeaders

PLAN = Plan(policies(), LaconicHeaders())


async def tried(body, plan=PLAN):
    compression = Compression(DropsX(), InstantEngine(), limit_bytes=1 << 20)
    try:
        return await attempt(compression.prepare, plan, body)
    finally:
        compression.close()


def written(found, **given):
    out = io.StringIO()
    write(found, Console(file=out, soft_wrap=True, highlight=False, **given))
    return out.getvalue()


async def test_what_is_dropped_is_marked_where_there_are_no_colours():
    text = written(await tried(chat("keep xdrop this")))
    assert text.startswith("── message 0, user\nkeep[- xdrop-] this\n")
    assert 'policy "on"' in text
    assert "tokens_before" in text


async def test_on_a_terminal_it_is_struck_through():
    found = written(
        await tried(chat("keep xdrop this")), force_terminal=True, color_system="standard"
    )
    assert "[-" not in found
    assert "\x1b[2;9" in found


async def test_dollars_are_told_where_a_price_is_known():
    priced = replace(policies(), prices=(PriceSpec(model="gpt-*", input=10, output=0),))
    found = await tried(chat("keep xdrop this"), Plan(priced, LaconicHeaders()))
    assert "dollars $0.000030 -> $0.000020 ($10.0 a million tokens" in written(found)
    unknown = written(await tried(chat("keep xdrop this", model="mine")))
    assert "dollars no price is known for model mine at an unknown host: tokens only" in unknown


async def test_scores_are_seen_behind_the_text_on_a_terminal():
    stretches = (
        Stretch("best ", Fate.KEPT, Component.CONTEXT, Kind.PROSE, "long", 1.0),
        Stretch("least", Fate.DROPPED, Component.CONTEXT, Kind.PROSE, "long", 0.0),
    )
    found = replace(
        await tried(chat("best least")), leaves=(Shown(Address(0, 0), "user", stretches),)
    )
    text = written(found, force_terminal=True, color_system="256")
    assert "\x1b[32;48;5;240mbest " in text
    assert "\x1b[2;9;32mleast" in text
    assert "score within its turn" in text
    plain = written(found)
    assert plain.startswith("── message 0, user\nbest [-least-]\n")
    assert "score" not in plain


async def test_what_cannot_be_read_says_why():
    text = written(await tried(b'{"messages": 1}'))
    assert 'reason "unparsed"' in text
    assert "dollars" not in text
    assert "──" not in text


async def test_the_routes_choose_by_the_model():
    routed = PolicySet(policies().policies, (Route(model="o3*", policy="off"),), "on")
    plan = Plan(routed, LaconicHeaders())
    assert 'policy "off"' in written(await tried(chat("keep xdrop", model="o3-mini"), plan))
    assert 'policy "on"' in written(await tried(chat("keep xdrop"), plan))


@pytest.mark.parametrize("other", [["--jsonl"], ["--stats", "x"]])
def test_it_is_shown_alone(other):
    result = CliRunner().invoke(app, ["compress", "--show", *other], input="{}")
    assert result.exit_code == 2
