"""Who comes in, what of it the upstream sees, and what is written of it: names, never keys."""

import hashlib

import pytest
from house import house
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from servers import CHAT, JSON, answer, call, chat, completion, upstream

from proxy.errors import CallerError
from proxy.gateway.access import Access, Guest, check_credential
from proxy.ledger import Ended
from proxy.policy import Policy, PolicySet, Route, key_hash
from proxy.types import Mode

ALICE, BOB, UPSTREAMS = "lk-alice", "lk-bob", "sk-of-the-upstream"
KEYS = {"alice": key_hash(ALICE), "bob": key_hash(BOB)}
ENVIRON = {"UPSTREAM_KEY": f"{UPSTREAMS}\n"}


def with_upstream_key():
    return {"upstream_key": "env:UPSTREAM_KEY", "environ": ENVIRON}


# -- who is let in ---------------------------------------------------------------------------------


def test_without_keys_everybody_may_come_in():
    assert Access({}).admit({"x-laconic-key": "anything"}) == Guest()


@pytest.mark.parametrize(
    ("headers", "guest"),
    [
        ({"x-laconic-key": ALICE}, Guest("alice")),
        ({"X-Laconic-Key": f" {BOB} "}, Guest("bob")),
        ({"x-laconic-key": BOB, "Authorization": f"Bearer {ALICE}"}, Guest("bob")),
        ({"Authorization": f"Bearer {ALICE}"}, Guest("alice", as_credential=True)),
        ({"api-key": BOB}, Guest("bob", as_credential=True)),
    ],
)
def test_a_key_opens_where_sdks_put_one(headers, guest):
    assert Access(KEYS).admit(CIMultiDict(headers)) == guest


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-laconic-key": ""},
        {"x-laconic-key": "lk-alic"},
        {"x-laconic-key": KEYS["alice"]},
        {"x-laconic-key": "lk-wrong", "Authorization": f"Bearer {ALICE}"},
        {"Authorization": ALICE},
    ],
)
def test_what_is_no_key_opens_nothing_and_is_not_repeated(headers):
    with pytest.raises(CallerError) as caught:
        Access(KEYS).admit(headers)
    assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")
    assert not [value for value in headers.values() if value and value in str(caught.value)]


@given(st.text())
def test_only_a_key_opens(text):
    access = Access({"only": f"sha256:{hashlib.sha256(b'lk-only').hexdigest()}"})
    if text == "lk-only":
        return
    with pytest.raises(CallerError):
        access.admit({"x-laconic-key": text})


def test_our_key_is_no_credential_for_an_upstream_of_which_we_hold_none():
    assert check_credential(Guest("a", as_credential=True), "k") is None
    assert check_credential(Guest("a"), None) is None
    with pytest.raises(CallerError, match="wanted it in this header"):
        check_credential(Guest("a", as_credential=True), None)


# -- through the proxy -----------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "target"), [("POST", CHAT), ("GET", "/v1/models")])
async def test_a_caller_without_a_key_is_told_in_openais_words(method, target):
    async with upstream() as far, house(far, keys=KEYS) as home:
        got = await call(home.port, method, target, chat() if method == "POST" else None)
        entry = await home.ledger.entry()
        own = [(await call(home.port, "GET", path)).status for path in ("/livez", "/readyz")]
    assert (got.status, got.get("x-laconic-origin"), got.get("www-authenticate")) == (
        401,
        "proxy",
        "Bearer",
    )
    assert got.json()["error"]["code"] == "invalid_api_key"
    assert (far.seen, entry.status, entry.ended, entry.key_name) == ([], 401, Ended.ERROR, None)
    assert own == [200, 200]


@pytest.mark.parametrize(("method", "target"), [("POST", CHAT), ("PUT", "/v1/files/x")])
async def test_the_proxys_key_ends_here_and_the_callers_credential_passes(method, target):
    headers = [JSON, ("x-laconic-key", ALICE), ("Authorization", "Bearer sk-mine"), ("x-a", "1")]
    async with upstream() as far, house(far, keys=KEYS) as home:
        got = await call(home.port, method, target, chat(), headers)
        entry = await home.ledger.entry()
    assert got.status == 200
    assert far.last.headers[1:] == [
        JSON,
        ("Authorization", "Bearer sk-mine"),
        ("x-a", "1"),
        ("Content-Length", str(len(chat()))),
    ]
    assert (entry.key_name, entry.upstream) == ("alice", None)


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        ([("Authorization", f"Bearer {BOB}")], [("Authorization", f"Bearer {UPSTREAMS}")]),
        ([("api-key", BOB)], [("api-key", UPSTREAMS)]),
        ([("x-laconic-key", BOB)], [("Authorization", f"Bearer {UPSTREAMS}")]),
        (
            [("x-laconic-key", BOB), ("authorization", "Bearer sk-mine"), ("api-key", "other")],
            [("authorization", f"Bearer {UPSTREAMS}")],
        ),
    ],
)
@pytest.mark.parametrize("target", [CHAT, "/v1/files"])
async def test_where_we_hold_the_upstreams_key_it_takes_the_callers_place(target, sent, arrives):
    async with upstream() as far, house(far, keys=KEYS, **with_upstream_key()) as home:
        got = await call(home.port, "POST", target, chat("keep xdrop"), sent)
        entry = await home.ledger.entry()
    length = [("Content-Length", str(len(far.last.body)))]
    assert sorted(far.last.headers[1:]) == sorted(arrives + length)
    assert (got.status, entry.key_name) == (200, "bob")


async def test_the_upstreams_key_goes_with_the_verbatim_resend_too():
    async def refuses_edits(seen, wire):
        edited = b"xdrop" not in seen.body
        await wire.send(answer(400 if edited else 200, b"{}" if edited else completion()))

    headers = [JSON, ("x-laconic-key", BOB)]
    async with (
        upstream(refuses_edits) as far,
        house(far, keys=KEYS, **with_upstream_key()) as home,
    ):
        got = await call(home.port, "POST", CHAT, chat("keep xdrop"), headers)
    assert got.status == 200
    assert [seen.get("authorization") for seen in far.seen] == [f"Bearer {UPSTREAMS}"] * 2


async def test_without_keys_of_our_own_the_upstreams_key_is_for_everybody():
    headers = [JSON, ("Authorization", "Bearer unused")]
    async with upstream() as far, house(far, **with_upstream_key()) as home:
        await call(home.port, "POST", CHAT, chat(), headers)
    assert far.last.all("authorization") == [f"Bearer {UPSTREAMS}"]


async def test_our_key_never_reaches_an_upstream_as_its_credential():
    headers = [JSON, ("Authorization", f"Bearer {ALICE}")]
    async with upstream() as far, house(far, keys=KEYS) as home:
        got = await call(home.port, "POST", CHAT, chat("keep xdrop"), headers)
        other = await call(home.port, "GET", "/v1/models", None, headers)
        entry = await home.ledger.entry()
    assert (got.status, other.status, far.seen) == (401, 401, [])
    assert (entry.key_name, entry.tokens_saved) == ("alice", None)  # what is not sent saves nothing


ROUTES = PolicySet(
    {"on": Policy(name="on"), "off": Policy(name="off", mode=Mode.OFF)},
    (Route(name="alices", key="al*", policy="off"),),
    "on",
)


async def test_a_route_chooses_by_the_name_of_the_key():
    async with upstream() as far, house(far, keys=KEYS, policy_set=ROUTES) as home:
        got = [
            await call(home.port, "POST", CHAT, chat("keep xdrop"), [JSON, ("x-laconic-key", key)])
            for key in (ALICE, BOB)
        ]
        entries = [await home.ledger.entry(number) for number in (1, 2)]
        metrics = (await call(home.port, "GET", "/metrics")).body.decode()
    assert [answer.get("x-laconic-policy") for answer in got] == ["off", "on"]
    assert [(e.key_name, e.route) for e in entries] == [("alice", "alices"), ("bob", "fallback")]
    for line in (
        'laconic_key_exchanges_total{key="alice"} 1.0',
        'laconic_key_tokens_total{key="bob",when="before"} 2.0',
        'laconic_key_tokens_total{key="bob",when="after"} 1.0',
    ):
        assert line in metrics
