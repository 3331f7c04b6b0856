"""``laconic compress --show``."""

import io

import pytest
from house import DropsX, InstantEngine, policies
from rich.console import Console
from servers import chat
from typer.testing import CliRunner

from proxy.cli.commands import app
from proxy.cli.compressing import Plan
from proxy.cli.showing import attempt, write
from proxy.gateway import Compression
from proxy.policy import PolicySet, Route
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


async def test_what_cannot_be_read_says_why():
    text = written(await tried(b'{"messages": 1}'))
    assert 'reason "unparsed"' in text
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
