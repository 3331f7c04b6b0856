"""Routes pick a policy; the caller's headers change it as far as it allows."""

import hashlib
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.errors import CallerError, PolicyError
from proxy.policy import (
    Allow,
    Match,
    Policy,
    PolicySet,
    Route,
    RouteQuery,
    Selection,
    Target,
    api_key_of,
    key_hash,
)
from proxy.types import Mode

KEY = "sk-canary"
HASH = "sha256:" + hashlib.sha256(KEY.encode()).hexdigest()

DEFAULT = Policy(name="default", components={"context": {"min_relevance": 0.3}})
RAG = Policy(name="rag", components={"context": {"rate": 0.5}, "question": {"rate": 0.9}})
OFF = Policy(name="off", mode=Mode.OFF)
STRICT = Policy(name="strict", allow=Allow(policy=False, rate=False, bypass=False))
POLICIES = {policy.name: policy for policy in (DEFAULT, RAG, OFF, STRICT)}


@dataclass(frozen=True)
class Headers:
    policy: str | None = None
    rate: float | None = None
    bypass: bool = False


def route_of(query, *routes):
    return PolicySet(POLICIES, routes).match(query).route


@pytest.mark.parametrize(
    ("condition", "query", "holds"),
    [
        ({"path": "/v1/chat/*"}, {"path": "/v1/chat/completions"}, True),
        ({"path": "/v1/*"}, {"path": "/v1/chat/completions"}, True),
        ({"path": "/v1/*"}, {"path": "/v1"}, False),
        ({"path": "/v1/a%2Fb"}, {"path": "/v1/a%2Fb"}, True),
        ({"model": "gpt-4o*"}, {"model": "gpt-4o-mini"}, True),
        ({"model": "gpt-4o*"}, {"model": "GPT-4o"}, False),
        ({"model": "*"}, {"model": None}, False),
        ({"model": "*"}, {"model": ""}, True),
        ({"header": {"X-Team": "res*"}}, {"headers": {"x-TEAM": "research"}}, True),
        ({"header": {"x-team": "res*"}}, {"headers": {"x-team": "sales"}}, False),
        ({"header": {"x-team": "*"}}, {"headers": {}}, False),
        (
            {"header": {"x-team": "b"}},
            {"headers": CIMultiDict([("X-Team", "a"), ("X-Team", "b")])},
            True,
        ),
        (
            {"header": {"x-team": "a", "x-env": "b"}},
            {"headers": {"x-team": "a"}},
            False,
        ),
        ({"api_key": HASH}, {"api_key": KEY}, True),
        ({"api_key": HASH[:23]}, {"api_key": KEY}, True),
        ({"api_key": HASH[:23].upper()}, {"api_key": KEY}, True),
        ({"api_key": HASH}, {"api_key": KEY + "x"}, False),
        ({"api_key": HASH}, {"api_key": None}, False),
        ({"path": "/v1/*", "model": "a"}, {"path": "/v1/x", "model": "a"}, True),
        ({"path": "/v1/*", "model": "a"}, {"path": "/v1/x", "model": "b"}, False),
    ],
)
def test_a_route_matches_where_every_condition_holds(condition, query, holds):
    query = RouteQuery(**{"path": "/", **query})
    route = Route(policy="rag", **condition)
    assert route_of(query, route) == ("route-1" if holds else "fallback")


def test_the_first_matching_route_wins():
    routes = (
        Route(model="b", policy="off"),
        Route(name="first", model="a*", policy="rag"),
        Route(name="second", model="a", policy="strict"),
    )
    found = PolicySet(POLICIES, routes).match(RouteQuery("/", "a"))
    assert found == Match(RAG, "first")


def test_a_route_without_a_name_is_called_by_its_position():
    routes = (Route(model="b", policy="off"), Route(model="a", policy="rag"))
    assert route_of(RouteQuery("/", "a"), *routes) == "route-2"


def test_where_no_route_matches_the_fallback_applies():
    assert PolicySet(POLICIES).match(RouteQuery("/")) == Match(DEFAULT, "fallback")
    changed = PolicySet(POLICIES).with_fallback("rag")
    assert changed.match(RouteQuery("/")) == Match(RAG, "fallback")


def test_an_unknown_fallback_is_refused_with_the_nearest():
    with pytest.raises(PolicyError, match=r"found .stict., .*; did you mean strict\?"):
        PolicySet(POLICIES).with_fallback("stict")


def test_what_routes_look_at_shows_no_credential():
    query = RouteQuery("/", "m", {"authorization": f"Bearer {KEY}"}, KEY)
    assert KEY not in repr(query)


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"Authorization": f"Bearer {KEY}"}, KEY),
        ({"authorization": f"bearer  {KEY} "}, KEY),
        ({"Api-Key": KEY}, KEY),
        ({"x-api-key": KEY}, KEY),
        ({"Authorization": "Basic abc", "api-key": KEY}, KEY),
        ({"Authorization": f"Bearer {KEY}", "api-key": "other"}, KEY),
        (CIMultiDict({"AUTHORIZATION": f"Bearer {KEY}"}), KEY),
        ({"Authorization": "Bearer "}, None),
        ({"api-key": ""}, None),
        ({}, None),
    ],
)
def test_the_callers_key_is_found_where_sdks_put_it(headers, key):
    assert api_key_of(headers) == key


def test_a_key_of_any_bytes_has_a_hash():
    assert key_hash(KEY) == HASH
    assert key_hash("\udcff") == "sha256:" + hashlib.sha256(b"\xff").hexdigest()


def select(matched, **headers):
    return PolicySet(POLICIES).select(Match(matched, "fallback"), Headers(**headers))


def test_without_headers_the_matched_policy_applies():
    assert select(RAG) == Selection(RAG, "fallback", bypassed=False, notes=())


def test_the_caller_may_name_another_policy():
    assert select(DEFAULT, policy="rag") == Selection(RAG, "fallback")


def test_an_unknown_policy_is_the_callers_error():
    with pytest.raises(CallerError) as caught:
        select(DEFAULT, policy="rga")
    assert (caught.value.status, caught.value.code) == (400, "unknown_policy")
    assert str(caught.value) == (
        "x-laconic-policy: found 'rga', wanted default, off, rag or strict; did you mean rag?"
    )


def test_a_rate_replaces_the_contexts_target_and_nothing_else():
    selected = select(DEFAULT, rate=0.25).policy
    assert selected.components.context == Target(rate=0.25)
    assert selected.model_copy(update={"components": DEFAULT.components}) == DEFAULT
    kept = select(RAG, rate=0.25).policy
    assert kept.components.question == RAG.components.question


def test_a_rate_applies_to_the_policy_that_the_caller_named():
    selected = select(DEFAULT, policy="rag", rate=0.1).policy
    assert (selected.name, selected.components.context.rate) == ("rag", 0.1)


def test_a_rate_gives_another_fingerprint():
    assert select(RAG, rate=0.25).policy.fingerprint != RAG.fingerprint
    assert select(RAG, rate=0.5).policy.fingerprint == RAG.fingerprint


def test_a_policy_that_is_off_stays_off_at_any_rate():
    assert select(OFF, rate=0.5).policy.mode is Mode.OFF


@pytest.mark.parametrize("rate", [0.0, -1.0, 1.01, float("nan"), float("inf")])
def test_a_rate_out_of_range_is_the_callers_error(rate):
    with pytest.raises(
        CallerError, match=r"x-laconic-rate: found .*, wanted a number > 0 and <= 1"
    ):
        select(DEFAULT, rate=rate)


def test_a_bypass_leaves_the_other_headers_unread():
    assert select(RAG, policy="no such", rate=7.0, bypass=True) == Selection(
        RAG, "fallback", bypassed=True
    )


def test_what_the_policy_does_not_allow_is_ignored_and_noted():
    assert select(STRICT, policy="no such", rate=7.0, bypass=True) == Selection(
        STRICT,
        "fallback",
        bypassed=False,
        notes=(
            "x-laconic-policy ignored: policy strict does not allow it",
            "x-laconic-rate ignored: policy strict does not allow it",
            "x-laconic-bypass ignored: policy strict does not allow it",
        ),
    )


def test_the_matched_policy_decides_what_is_allowed():
    assert select(DEFAULT, policy="strict", rate=0.5).policy.components.context.rate == 0.5
    picky = DEFAULT.model_copy(update={"allow": Allow(rate=False)})
    selected = select(picky, policy="rag", rate=0.1)
    assert selected == Selection(
        RAG, "fallback", notes=("x-laconic-rate ignored: policy default does not allow it",)
    )


@given(
    allow=st.builds(Allow, policy=st.booleans(), rate=st.booleans(), bypass=st.booleans()),
    policy=st.none() | st.sampled_from(sorted(POLICIES)),
    rate=st.none() | st.floats(0.01, 1),
    bypass=st.booleans(),
)
def test_a_header_that_is_not_allowed_never_changes_anything(allow, policy, rate, bypass):
    matched = DEFAULT.model_copy(update={"allow": allow})
    selected = select(matched, policy=policy, rate=rate, bypass=bypass)
    asked = select(
        matched,
        policy=policy if allow.policy else None,
        rate=rate if allow.rate else None,
        bypass=bypass and allow.bypass,
    )
    assert (selected.policy, selected.bypassed) == (asked.policy, asked.bypassed)
    refused = [
        name
        for name, sent in (("policy", policy), ("rate", rate), ("bypass", bypass or None))
        if sent is not None and not getattr(allow, name)
    ]
    assert [note.split()[0].removeprefix("x-laconic-") for note in selected.notes] == refused


def test_capture_is_the_routes_whatever_the_caller_asks_for():
    routes = (
        Route(name="watched", path="/a", policy="rag", capture=True),
        Route(path="/b", policy="rag"),
        Route(path="/c", policy="rag", capture=True),
    )
    chosen = PolicySet(POLICIES, routes)
    assert chosen.captured == ("watched", "route-3")
    for headers in ({}, {"policy": "default"}, {"bypass": True}, {"rate": 0.5}):
        found = [
            chosen.select(chosen.match(RouteQuery(path)), Headers(**headers)).capture
            for path in ("/a", "/b", "/c", "/d")
        ]
        assert found == [True, False, True, False]
