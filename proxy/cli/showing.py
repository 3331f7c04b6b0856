"""``laconic compress --show``: a request laid open on the terminal, nothing sent."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Final

from rich.console import Console
from rich.text import Text

from proxy.app import configure_logging
from proxy.cli.compressing import Plan, compression
from proxy.compress.show import Fate, Shown, Stretch
from proxy.gateway.trial import Prepare, Trial, trial
from proxy.policy import RouteQuery
from proxy.settings import LogLevel, Settings
from proxy.types import Component, Outcome
from proxy.wire import Unparsed, endpoint_for

_COLOURS: Final = {
    Component.INSTRUCTION: "blue",
    Component.CONTEXT: "green",
    Component.QUESTION: "yellow",
}
_MARKS: Final = {Fate.KEPT: "{}", Fate.DROPPED: "[-{}-]", Fate.INSERTED: "{{+{}+}}"}
"""Where there are no colours: as word differences are commonly written."""


def run(plan: Plan, settings: Settings) -> None:
    """Show what would be sent of the body on stdin.  Raises PolicyError and CallerError."""
    configure_logging(settings.model_copy(update={"log_level": LogLevel.ERROR}))
    body = sys.stdin.buffer.read()

    async def tried() -> Trial:
        async with compression(settings) as preparer:
            return await attempt(preparer.prepare, plan, body)

    write(asyncio.run(tried()), Console(soft_wrap=True, highlight=False))


async def attempt(prepare: Prepare, plan: Plan, body: bytes) -> Trial:
    """Try a body under the policy that the plan's routes choose for it."""
    endpoint = endpoint_for(body)
    try:
        model = endpoint.parse(body).model
    except Unparsed:
        model = None
    chosen = plan.policies.match(RouteQuery(path=f"/v1{endpoint.path}", model=model))
    rate = plan.overrides.rate
    return await trial(prepare, plan.policies, chosen.policy.name, body, rate=rate)


def write(found: Trial, console: Console) -> None:
    """Write the leaves, each stretch coloured by component, and the figures below."""
    for leaf in found.leaves:
        console.print(laid_open(leaf, plain=is_plain(console)))
    console.print(_summary(found.prepared.outcome))


def is_plain(console: Console) -> bool:
    """Tell whether a console has no colours."""
    return console.no_color or not console.is_terminal


def laid_open(leaf: Shown, *, plain: bool) -> Text:
    """Return a leaf, each stretch coloured by component; ``plain``: dropped and inserted marked."""
    told = Text()
    told.append(f"── message {leaf.address.message}, {leaf.role}\n", style="" if plain else "bold")
    for stretch in leaf.stretches:
        told.append(_MARKS[stretch.fate].format(stretch.text) if plain else _coloured(stretch))
    return told


def _coloured(stretch: Stretch) -> Text:
    colour = "" if stretch.component is None else _COLOURS[stretch.component]
    if stretch.fate is Fate.DROPPED:
        return Text(stretch.text, style=f"strike dim {colour}")
    return Text(stretch.text, style=colour or "italic magenta")


def _summary(outcome: Outcome) -> str:
    told = {
        "policy": outcome.policy,
        "tokens_before": outcome.tokens_before,
        "tokens_after": outcome.tokens_after,
        "reason": outcome.reason,
        "detail": outcome.detail,
    }
    known = {name: value for name, value in told.items() if value is not None}
    return "\n" + "  ".join(f"{name} {json.dumps(value)}" for name, value in known.items())
