"""Policies: named, frozen compression choices, and the routes that pick one per request."""

from proxy.policy.load import (
    ROUTES_FILE,
    layered,
    load_policies,
    policy_json_schema,
    policy_yaml,
    read_policy_dir,
    shipped_policies,
)
from proxy.policy.prices import PriceSpec
from proxy.policy.routing import (
    CREDENTIALS,
    FALLBACK,
    Match,
    Overrides,
    PolicySet,
    RouteQuery,
    Selection,
    api_key_of,
    key_hash,
)
from proxy.policy.schema import (
    Allow,
    Components,
    FlatRelevance,
    Policy,
    Recall,
    Route,
    Routes,
    Tagging,
    Target,
    WholeText,
)
from proxy.policy.store import PolicyStore
from proxy.policy.upstreams import BaseUrl, SecretPlace, Tls, UpstreamSpec

__all__ = [
    "CREDENTIALS",
    "FALLBACK",
    "ROUTES_FILE",
    "Allow",
    "BaseUrl",
    "Components",
    "FlatRelevance",
    "Match",
    "Overrides",
    "Policy",
    "PolicySet",
    "PolicyStore",
    "PriceSpec",
    "Recall",
    "Route",
    "RouteQuery",
    "Routes",
    "SecretPlace",
    "Selection",
    "Tagging",
    "Target",
    "Tls",
    "UpstreamSpec",
    "WholeText",
    "api_key_of",
    "key_hash",
    "layered",
    "load_policies",
    "policy_json_schema",
    "policy_yaml",
    "read_policy_dir",
    "shipped_policies",
]
