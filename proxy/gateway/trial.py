"""A request tried under a policy: what would be sent, laid open.  Nothing is sent, or recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from proxy import tagging
from proxy.compress.show import Shown, show
from proxy.errors import CallerError
from proxy.gateway.compression import Incoming, Prepared
from proxy.ledger.entry import stats
from proxy.policy import Allow, Policy, PolicySet, policy_yaml
from proxy.types import Mode, Request
from proxy.wire import Endpoint, LaconicHeaders, Unparsed, endpoint_for

Prepare: TypeAlias = Callable[[Incoming, PolicySet], Awaitable[Prepared]]
"""How a request is compressed: `Compression.prepare`."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it; ``leaves`` is empty where the body cannot be read."""

    prepared: Prepared
    policy: Policy
    leaves: tuple[Shown, ...] = field(repr=False)

    def record(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "outcome": stats("trial", self.prepared.outcome),
            "model": self.prepared.model,
            "leaves": [leaf.record() for leaf in self.leaves],
            "policy": policy_yaml(self.policy),
        }


async def trial(
    prepare: Prepare, policies: PolicySet, name: str, body: bytes, *, rate: float | None = None
) -> Trial:
    """Try a body under the policy called ``name``, at ``rate`` where one is given.

    Whoever tries may do what a policy allows no caller, and sees what an audit, too, would come
    to.  Raises CallerError (400) for an unknown policy and an impossible rate.
    """
    if name not in policies.policies:
        raise CallerError(f"policy: {policies.unknown(name)}", code="unknown_policy")
    asked = policies.policies[name]
    mode = Mode.ON if asked.mode is Mode.AUDIT else asked.mode
    free = asked.model_copy(update={"allow": Allow(), "mode": mode})
    alone = PolicySet({name: free}, fallback=name)
    endpoint, overrides = endpoint_for(body), LaconicHeaders(rate=rate)
    prepared = await prepare(Incoming(endpoint, f"/v1{endpoint.path}", {}, overrides, body), alone)
    chosen = prepared.policy or free
    told = chosen.model_copy(update={"allow": asked.allow, "mode": asked.mode})
    request = prepared.request or _read(endpoint, body)
    return Trial(prepared, told, () if request is None else _shown(request, prepared, chosen))


def _read(endpoint: Endpoint, body: bytes) -> Request | None:
    """Read a body that compression had no need to."""
    try:
        return endpoint.parse(body)
    except Unparsed:
        return None


def _shown(request: Request, prepared: Prepared, policy: Policy) -> tuple[Shown, ...]:
    edits = () if prepared.compressed is None else prepared.compressed.edits
    turns = tagging.turns(request, policy.tagging)
    return show(request, (segment for turn in turns for segment in turn.segments), edits)
