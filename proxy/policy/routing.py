"""Which policy a request gets: routes in order, then what the caller's headers may change."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Protocol

from proxy.errors import CallerError, PolicyError
from proxy.policy.explain import found, nearest, one_of
from proxy.policy.prices import PriceSpec
from proxy.policy.schema import Policy, Route, Target
from proxy.policy.upstreams import UpstreamSpec

FALLBACK = "fallback"
"""What :attr:`Match.route` says where no route matched."""


@dataclass(frozen=True, slots=True)
class RouteQuery:
    """What routes look at.

    ``path`` is as sent, without the query; ``model`` is the request's, ``None`` where unread.
    ``headers`` may hold a name more than once (a multidict); one matching value is enough.
    ``api_key`` is the caller's credential, ``key`` the name of the proxy key that it showed.
    """

    path: str
    model: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    api_key: str | None = field(default=None, repr=False)
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """The policy that the routes chose; ``route`` is its name, ``route-1`` ... or ``fallback``.

    ``upstream`` names one of :attr:`PolicySet.upstreams`; ``None`` is the settings' own.
    ``capture`` says that what is said there may be written to the disk.
    """

    policy: Policy
    route: str
    upstream: str | None = None
    capture: bool = False


class Overrides(Protocol):
    """What the caller's ``x-laconic-*`` headers ask for; ``None`` where they ask for nothing."""

    @property
    def policy(self) -> str | None:
        """``x-laconic-policy``."""

    @property
    def rate(self) -> float | None:
        """``x-laconic-rate``."""

    @property
    def bypass(self) -> bool:
        """``x-laconic-bypass``."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The policy to apply; ``notes`` tells which headers were ignored and why (for the ledger)."""

    policy: Policy
    route: str
    bypassed: bool = False
    notes: tuple[str, ...] = ()
    upstream: str | None = None
    capture: bool = False


CREDENTIALS = frozenset({"authorization", "api-key", "x-api-key"})
"""The headers in which SDKs send a key."""

_LENGTHS = frozenset(map(len, CREDENTIALS))  # tell most other headers apart, sooner


def api_key_of(headers: Mapping[str, str]) -> str | None:
    """Return the caller's key: the Bearer token, else ``api-key``, else ``x-api-key``."""
    found = {
        lower: value
        for name, value in headers.items()
        if len(name) in _LENGTHS and (lower := name.lower()) in CREDENTIALS
    }
    scheme, _, token = found.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return found.get("api-key") or found.get("x-api-key") or None


def key_hash(api_key: str) -> str:
    """Return what a route's ``api_key`` holds: ``sha256:`` and 64 hex digits."""
    return f"sha256:{hashlib.sha256(api_key.encode('utf-8', 'surrogateescape')).hexdigest()}"


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Every policy by name, the routes in order, and the policy where none of them matches.

    ``upstream`` is the general one of ``upstreams``; ``None`` is the settings' own.
    """

    policies: Mapping[str, Policy]
    routes: tuple[Route, ...] = ()
    fallback: str = "default"
    upstreams: Mapping[str, UpstreamSpec] = field(default_factory=dict)
    upstream: str | None = None
    prices: tuple[PriceSpec, ...] = ()

    def with_fallback(self, name: str) -> PolicySet:
        """Return the same set with another fallback; PolicyError where no policy has that name."""
        if name not in self.policies:
            raise PolicyError(f"fallback policy: {self.unknown(name)}")
        return replace(self, fallback=name)

    def unknown(self, name: str) -> str:
        """Say that no policy is called ``name``, and which one is near."""
        known = sorted(self.policies)
        return f"found {found(name)}, wanted {one_of(known)}{nearest(name, known)}"

    @property
    def captured(self) -> tuple[str, ...]:
        """The names of the routes on which what callers say is kept."""
        return tuple(
            _name_of(route, number)
            for number, route in enumerate(self.routes, start=1)
            if route.capture
        )

    def match(self, query: RouteQuery) -> Match:
        """Return the policy of the first route whose conditions all hold, else the fallback."""
        for number, route in enumerate(self.routes, start=1):
            if _holds(route, query):
                name = _name_of(route, number)
                upstream = route.upstream or self.upstream
                return Match(self.policies[route.policy], name, upstream, route.capture)
        return Match(self.policies[self.fallback], FALLBACK, self.upstream)

    def select(self, match: Match, overrides: Overrides) -> Selection:
        """Apply the caller's headers as far as the *matched* policy allows them.

        What it does not allow is ignored, with a note.  A bypass leaves the other headers unread.
        The rate replaces the context's target; a policy whose mode is ``off`` stays off.
        Raises CallerError (400) where an allowed header names no policy, or no rate.
        """
        plain = Selection(match.policy, match.route, upstream=match.upstream, capture=match.capture)
        if overrides.policy is None and overrides.rate is None and not overrides.bypass:
            return plain
        headers = {
            "policy": overrides.policy,
            "rate": overrides.rate,
            "bypass": overrides.bypass or None,
        }
        asked: dict[str, Any] = {name: v for name, v in headers.items() if v is not None}
        taken = {name: v for name, v in asked.items() if getattr(match.policy.allow, name)}
        notes = tuple(
            f"x-laconic-{name} ignored: policy {match.policy.name} does not allow it"
            for name in asked
            if name not in taken
        )
        if "bypass" in taken:
            return replace(plain, bypassed=True, notes=notes)
        policy = self._named(taken["policy"]) if "policy" in taken else match.policy
        if "rate" in taken:
            policy = _at_rate(policy, taken["rate"])
        return replace(plain, policy=policy, notes=notes)

    def _named(self, name: str) -> Policy:
        if name not in self.policies:
            raise CallerError(f"x-laconic-policy: {self.unknown(name)}", code="unknown_policy")
        return self.policies[name]


def _name_of(route: Route, number: int) -> str:
    return route.name or f"route-{number}"


def _holds(route: Route, query: RouteQuery) -> bool:
    return (
        (route.path is None or fnmatchcase(query.path, route.path))
        and (route.model is None or _glob(query.model, route.model))
        and all(_header_holds(name, glob, query) for name, glob in route.header.items())
        and (route.api_key is None or _key_holds(route.api_key, query.api_key))
        and (route.key is None or _glob(query.key, route.key))
    )


def _glob(value: str | None, glob: str) -> bool:
    return value is not None and fnmatchcase(value, glob)


def _header_holds(name: str, glob: str, query: RouteQuery) -> bool:
    return any(
        sent.lower() == name and fnmatchcase(value, glob) for sent, value in query.headers.items()
    )


def _key_holds(prefix: str, api_key: str | None) -> bool:
    """Compare without telling by the time taken how many digits agreed."""
    return api_key is not None and hmac.compare_digest(key_hash(api_key)[: len(prefix)], prefix)


def _at_rate(policy: Policy, rate: float) -> Policy:
    if not 0 < rate <= 1:
        raise CallerError(f"x-laconic-rate: found {rate}, wanted a number > 0 and <= 1")
    return policy.with_context(Target(rate=rate))
