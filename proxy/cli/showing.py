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
_SHADES: Final = ("", " on grey15", " on grey23", " on grey30", " on grey35")
"""Behind a stretch: the lighter, the higher it was rated."""
_MARKS: Final = {Fate.KEPT: "{}", Fate.DROPPED: "[-{}-]", Fate.INSERTED: "{{+{}+}}"}
"""Where there are no colours: as word differences are commonly written."""


def run(plan: Plan, settings: Settings) -> None:
    """Show what would be sent of the body on stdin.  Raises PolicyError and CallerError."""
    configure_logging(settings.model_copy(update={"log_level": LogLevel.ERROR}))
    body = sys.stdin.buffer.read()

    async def tried() -> Trial:
        async with compression(settings) as preparer:
            return await attempt(preparer.prepare, plan, body, settings.upstream)

    write(asyncio.run(tried()), Console(soft_wrap=True, highlight=False))


async def attempt(prepare: Prepare, plan: Plan, body: bytes, upstream: str | None = None) -> Trial:
    """Try a body under the policy that the plan's routes choose for it."""
    endpoint = endpoint_for(body)
    try:
        model = endpoint.parse(body).model
    except Unparsed:
        model = None
    chosen = plan.policies.match(RouteQuery(path=f"/v1{endpoint.path}", model=model))
    name, rate = chosen.policy.name, plan.overrides.rate
    return await trial(prepare, plan.policies, name, body, rate=rate, upstream=upstream)


def write(found: Trial, console: Console) -> None:
    """Write the leaves, each stretch coloured by component and score, and the figures below."""
    plain = is_plain(console)
    for leaf in found.leaves:
        console.print(laid_open(leaf, plain=plain))
    if not plain and any(s.score is not None for leaf in found.leaves for s in leaf.stretches):
        console.print(_legend())
    console.print(_summary(found.prepared.outcome))
    console.print(f"dollars {found.cost.told()}")


def is_plain(console: Console) -> bool:
    """Tell whether a console has no colours."""
    return console.no_color or not console.is_terminal


def laid_open(leaf: Shown, *, plain: bool) -> Text:
    """Return a leaf, each stretch coloured by component, and by score behind it.

    ``plain``: no colours; what is dropped and inserted is marked.
    """
    told = Text()
    told.append(f"── message {leaf.address.message}, {leaf.role}\n", style="" if plain else "bold")
    for stretch in leaf.stretches:
        told.append(_MARKS[stretch.fate].format(stretch.text) if plain else _coloured(stretch))
    return told


def _coloured(stretch: Stretch) -> Text:
    colour = "" if stretch.component is None else _COLOURS[stretch.component]
    behind = "" if stretch.score is None else _behind(stretch.score)
    if stretch.fate is Fate.DROPPED:
        return Text(stretch.text, style=f"strike dim {colour}{behind}")
    return Text(stretch.text, style=f"{colour or 'italic magenta'}{behind}")


def _behind(score: float) -> str:
    """Return the background of a score from 0 to 1: the lowest fifth has none.

    >>> [_behind(score) for score in (0.0, 0.5, 1.0)]
    ['', ' on grey23', ' on grey35']
    """
    return _SHADES[min(int(score * len(_SHADES)), len(_SHADES) - 1)]


def _legend() -> Text:
    """Return what the backgrounds mean."""
    shades = ((f" {number / 5:.1f} ", shade.strip()) for number, shade in enumerate(_SHADES))
    return Text("\nscore within its turn, from ") + Text.assemble(*shades)


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
