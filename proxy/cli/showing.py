"""``laconic compress --show``: a request laid open on the terminal, nothing sent."""

from __future__ import annotations

import asyncio
import json
import sys

from rich.console import Console

from proxy.app import configure_logging
from proxy.cli.compressing import Plan, compression
from proxy.cli.laying import is_plain, laid_open, legend
from proxy.gateway.trial import Prepare, Trial, trial
from proxy.policy import RouteQuery
from proxy.settings import LogLevel, Settings
from proxy.types import Outcome
from proxy.wire import Unparsed, endpoint_for


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
        console.print(legend())
    console.print(_summary(found.prepared.outcome))
    if found.prepared.outcome.tokens_before is not None:
        console.print(f"dollars {found.cost.told()}")


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
