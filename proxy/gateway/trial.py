"""A request tried under a policy: what would be sent, laid open.  Nothing is sent, or recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from proxy import tagging
from proxy.compress.show import Shown, scores_of, show
from proxy.errors import CallerError
from proxy.gateway.compression import Incoming, Prepared
from proxy.ledger.economics import MILLION, Price, Prices, Sold
from proxy.ledger.entry import stats
from proxy.policy import Allow, Policy, PolicySet, RouteQuery, policy_yaml
from proxy.types import Mode, Outcome, Request
from proxy.wire import Endpoint, LaconicHeaders, Unparsed, endpoint_for

Prepare: TypeAlias = Callable[[Incoming, PolicySet], Awaitable[Prepared]]
"""How a request is compressed: `Compression.prepare`."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a prompt costs in dollars as it came and as it would be sent, each token as a fresh one.

    Without a ``price`` nothing is known of that.
    """

    sold: Sold
    price: Price | None = None
    before: Decimal = Decimal(0)
    after: Decimal = Decimal(0)

    @classmethod
    def of(cls, sold: Sold, outcome: Outcome, prices: Prices) -> Cost:
        """Price an outcome, each size of prompt by itself: long ones may cost more a token."""
        before, after = outcome.tokens_before, outcome.tokens_after
        if before is None or after is None:
            return cls(sold)
        price, later = (prices.of(replace(sold, prompt_tokens=n)) for n in (before, after))
        if price is None or later is None:
            return cls(sold)
        return cls(sold, price, _dollars(before, price), _dollars(after, later))

    def told(self) -> str:
        """Return it as a sentence for people."""
        if self.price is None:
            at = f"model {self.sold.model or '-'} at {self.sold.host or 'an unknown host'}"
            return f"no price is known for {at}: tokens only"
        price = f"${self.price.input:f} a million tokens, {self.price.source}"
        return f"${self.before:.6f} -> ${self.after:.6f} ({price})"

    def record(self) -> dict[str, Any]:
        """Return it as JSON values; dollars are null where no price is known."""
        known = self.price is not None
        return {
            "before_usd": float(self.before) if known else None,
            "after_usd": float(self.after) if known else None,
            "told": self.told(),
        }


def _dollars(tokens: int, price: Price) -> Decimal:
    return tokens * price.input / MILLION


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it; ``leaves`` is empty where the body cannot be read."""

    prepared: Prepared
    policy: Policy
    leaves: tuple[Shown, ...] = field(repr=False)
    cost: Cost

    def record(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "outcome": stats("trial", self.prepared.outcome),
            "model": self.prepared.model,
            "cost": self.cost.record(),
            "leaves": [leaf.record() for leaf in self.leaves],
            "policy": policy_yaml(self.policy),
        }


async def trial(
    prepare: Prepare,
    policies: PolicySet,
    name: str,
    body: bytes,
    *,
    rate: float | None = None,
    upstream: str | None = None,
) -> Trial:
    """Try a body under the policy called ``name``, at ``rate`` where one is given.

    Whoever tries may do what a policy allows no caller, and sees what an audit, too, would come
    to.  ``upstream`` is the address where no route names another: whose prices hold.  Raises
    CallerError (400) for an unknown policy and an impossible rate.
    """
    if name not in policies.policies:
        raise CallerError(f"policy: {policies.unknown(name)}", code="unknown_policy")
    asked = policies.policies[name]
    mode = Mode.ON if asked.mode is Mode.AUDIT else asked.mode
    free = asked.model_copy(update={"allow": Allow(), "mode": mode})
    alone = PolicySet({name: free}, fallback=name)
    endpoint, overrides = endpoint_for(body), LaconicHeaders(rate=rate)
    path = f"/v1{endpoint.path}"
    prepared = await prepare(Incoming(endpoint, path, {}, overrides, body), alone)
    chosen = prepared.policy or free
    told = chosen.model_copy(update={"allow": asked.allow, "mode": asked.mode})
    request = prepared.request or _read(endpoint, body)
    model = prepared.model if request is None else request.model
    sold = _sold(policies, RouteQuery(path, model), upstream)
    cost = await asyncio.to_thread(_priced, sold, prepared.outcome, policies)
    leaves = () if request is None else _shown(request, prepared, chosen)
    return Trial(prepared, told, leaves, cost)


def _sold(policies: PolicySet, query: RouteQuery, upstream: str | None) -> Sold:
    """Return what a request's price hangs on, by the route that it would take."""
    match = policies.match(query)
    base = upstream if match.upstream is None else policies.upstreams[match.upstream].url
    host = None if base is None else urlsplit(base).hostname
    return Sold(match.route, match.upstream, host, query.model, datetime.now(UTC))


def _priced(sold: Sold, outcome: Outcome, policies: PolicySet) -> Cost:
    """Price an outcome; a third of a second the first time, which loads the list."""
    return Cost.of(sold, outcome, Prices(policies.prices))


def _read(endpoint: Endpoint, body: bytes) -> Request | None:
    """Read a body that compression had no need to."""
    try:
        return endpoint.parse(body)
    except Unparsed:
        return None


def _shown(request: Request, prepared: Prepared, policy: Policy) -> tuple[Shown, ...]:
    edits = () if prepared.compressed is None else prepared.compressed.edits
    turns = tagging.turns(request, policy.tagging)
    segments = (segment for turn in turns for segment in turn.segments)
    sized = () if prepared.compressed is None else prepared.compressed.sized
    return show(request, segments, edits, scores_of(sized))
