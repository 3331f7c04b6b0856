"""Which upstream a request goes to: as the routes say, and as nothing of the caller's does."""

import pytest
from house import house
from servers import CHAT, JSON, call, chat, replies, upstream

from proxy.errors import PolicyError
from proxy.policy import Policy, PolicySet, Route, UpstreamSpec, key_hash

KEYS = {"alice": key_hash("lk-alice")}


def routed(**upstreams):
    """Policy ``on`` everywhere, and routes by model, path, header and key."""
    return PolicySet(
        {"on": Policy(name="on")},
        (
            Route(name="by-model", model="local-*", policy="on", upstream="one"),
            Route(name="by-path", path="/v1/audio/*", policy="on", upstream="one"),
            Route(name="by-header", header={"x-team": "b*"}, policy="on", upstream="two"),
            Route(name="by-key", key="alice", policy="on", upstream="two"),
            Route(name="same", path="/v1/same", policy="on"),
        ),
        "on",
        {name: UpstreamSpec.model_validate(given) for name, given in upstreams.items()},
    )


@pytest.mark.parametrize(
    ("method", "target", "body", "headers", "goes_to"),
    [
        ("POST", CHAT, chat("keep xdrop", model="local-1"), [], "one"),
        ("POST", CHAT, chat("keep", model="gpt-4o"), [], None),
        ("POST", "/v1/files", chat("keep", model="local-1"), [], None),
        ("POST", "/v1/audio/speech", b"{}", [], "one"),
        ("GET", "/v1/models", None, [("X-Team", "blue")], "two"),
        ("POST", CHAT, chat("keep xdrop"), [("X-Team", "blue")], "two"),
        ("GET", "/v1/models", None, [("x-upstream", "one"), ("Forwarded", "host=x")], None),
        ("GET", "/v1/same", None, [], None),
    ],
)
async def test_the_routes_choose_the_upstream(method, target, body, headers, goes_to):
    async with upstream() as general, upstream() as one, upstream() as two:
        policies = routed(one={"url": one.url}, two={"url": f"{two.url}/base/v1"})
        async with house(general, policy_set=policies) as home:
            got = await call(home.port, method, target, body, [JSON, *headers])
            entry = await home.ledger.entry()
    seen = {None: general, "one": one, "two": two}
    assert (got.status, entry.upstream) == (200, goes_to)
    assert {name: len(far.seen) for name, far in seen.items()} == {
        name: int(name == goes_to) for name in seen
    }
    assert seen[goes_to].last.target == ("/base" if goes_to == "two" else "") + target


async def test_a_key_chooses_the_upstream_and_that_ones_key_goes_along():
    async with upstream() as general, upstream() as two:
        policies = routed(one={"url": two.url}, two={"url": two.url, "key": "env:TWO"})
        async with house(general, policy_set=policies, keys=KEYS, environ={"TWO": "sk-2"}) as home:
            for method, target in (("POST", CHAT), ("GET", "/v1/models")):
                body = chat() if method == "POST" else None
                await call(home.port, method, target, body, [("api-key", "lk-alice")])
    assert [seen.get("api-key") for seen in two.seen] == ["sk-2", "sk-2"]
    assert general.seen == []


async def test_an_upstream_without_a_key_gets_no_others():
    async with upstream() as general, upstream() as one, upstream() as two:
        policies = routed(one={"url": one.url, "key": "env:ONE"}, two={"url": two.url})
        async with house(general, policy_set=policies, keys=KEYS, environ={"ONE": "sk-1"}) as home:
            for headers in ([("x-team", "a")], [("x-team", "b")]):
                shown = [JSON, ("x-laconic-key", "lk-alice"), *headers]
                await call(home.port, "POST", CHAT, chat(model="local-1"), shown)
                await call(home.port, "POST", CHAT, chat(), shown)
    assert [seen.get("authorization") for seen in one.seen] == ["Bearer sk-1"] * 2
    arrived = [str(seen.headers) + str(seen.body) for seen in (*two.seen, *general.seen)]
    assert len(arrived) == 2
    assert [text for text in arrived if "sk-1" in text or "lk-alice" in text] == []


async def test_a_websocket_takes_the_same_way():
    upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    async with upstream() as general, upstream(replies(426, b"no")) as two:
        policies = routed(one={"url": general.url}, two={"url": two.url, "key": "env:TWO"})
        async with house(general, policy_set=policies, keys=KEYS, environ={"TWO": "sk-2"}) as home:
            refused = await call(home.port, "GET", "/v1/realtime", None, upgrade)
            headers = [*upgrade, ("Authorization", "Bearer lk-alice")]
            got = await call(home.port, "GET", "/v1/realtime", None, headers)
    assert (refused.status, got.status, general.seen) == (401, 426, [])
    assert (two.last.get("authorization"), two.last.get("upgrade")) == ("Bearer sk-2", "websocket")


async def test_the_general_upstream_may_be_one_of_the_map():
    async with upstream() as settings, upstream() as one:
        policies = PolicySet(
            {"on": Policy(name="on")}, (), "on", {"one": UpstreamSpec(url=one.url)}, "one"
        )
        async with house(settings, policy_set=policies) as home:
            await call(home.port, "POST", CHAT, chat())
            await call(home.port, "GET", "/v1/models")
            entry = await home.ledger.entry(2)
    assert (len(settings.seen), len(one.seen), entry.upstream) == (0, 2, "one")


async def test_a_reload_changes_the_upstream_and_a_bad_one_does_not():
    async with upstream() as general, upstream(replies(200, b"1")) as one, house(general) as home:
        routes = f"upstream: one\nupstreams:\n  one: {{url: '{one.url}'%s}}\n"
        home.store.replace({"on.yaml": "", "routes.yaml": "fallback: on\n" + routes % ""})
        first = await call(home.port, "GET", "/v1/models")
        routes = "fallback: on\n" + routes % ", key: env:NOWHERE"
        home.store.replace({"on.yaml": "", "routes.yaml": routes})
        second = await call(home.port, "GET", "/v1/models")
        ready = (await call(home.port, "GET", "/readyz")).json()
    assert (first.body, second.body, general.seen) == (b"1", b"1", [])
    assert ready["policies"].endswith(
        "refused: upstreams.one.key: found nothing in env:NOWHERE, wanted a key"
    )


async def test_an_upstream_of_the_map_that_cannot_be_used_stops_the_start():
    policies = routed(one={"url": "http://h"}, two={"url": "http://h", "key": "env:NOWHERE"})
    with pytest.raises(PolicyError, match=r"upstreams\.two\.key: found nothing in env:NOWHERE"):
        async with house("http://127.0.0.1:9", policy_set=policies):
            pass


async def test_an_upstream_of_the_map_that_is_the_proxy_itself_is_refused():
    policies = routed(one={"url": "http://localhost:8790"}, two={"url": "http://h"})
    with pytest.raises(PolicyError, match=r"upstreams\.one\.url: found .*, this proxy itself"):
        async with house("http://127.0.0.1:9", policy_set=policies, port=8790):
            pass
