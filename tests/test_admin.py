"""Our own endpoints: health for anybody on every port, figures for who may see them."""

import base64
from contextlib import asynccontextmanager

import pytest
import structlog
from house import DropsX, InstantEngine, house, policies
from servers import call, free_port, upstream

from proxy.app import ADMIN, build_app, build_runner, listen, refuse_itself, warn_if_open
from proxy.errors import PolicyError
from proxy.policy import PolicyStore, key_hash
from proxy.settings import Settings

TOKEN = "lk-admin"
HASHED = key_hash(TOKEN)
BEARER = ("Authorization", f"Bearer {TOKEN}")
BASIC = ("Authorization", "Basic " + base64.b64encode(f"anyone:{TOKEN}".encode()).decode())
WRONG = [
    [],
    [("Authorization", "Bearer lk-other")],
    [("Authorization", f"Bearer {HASHED}")],
    [("Authorization", f"Basic {TOKEN}")],
    [("Authorization", "Basic " + base64.b64encode(f"{TOKEN}:".encode()).decode())],
    [("Authorization", TOKEN)],
    [("x-laconic-key", TOKEN)],
]


@asynccontextmanager
async def two_ports(base, **given):
    """The ports of a proxy whose figures have one of their own."""
    values = Settings(upstream=base, ledger_path=None, admin_port=free_port(), **given)
    store = PolicyStore(policies())
    app = build_app(values, store, method=DropsX(), engine=InstantEngine(), environ={})
    runner, admin = build_runner(app, values), build_runner(app[ADMIN], values)
    _, port = await listen(runner, "127.0.0.1", 0)
    await listen(admin, values.admin_host, values.admin_port, admin=True)
    try:
        yield port, values.admin_port
    finally:
        await runner.cleanup()
        await admin.cleanup()


async def test_figures_have_a_port_of_their_own_and_health_is_told_on_both():
    async with upstream() as far, two_ports(far.url) as ports:
        await call(ports[0], "GET", "/v1/models")
        asked = ("/livez", "/readyz", "/metrics", "/laconic/", "/v1/models")
        told = [[(await call(port, "GET", path)).status for path in asked] for port in ports]
        figures = (await call(ports[1], "GET", "/metrics")).body
    assert told == [[200, 200, 404, 404, 200], [200, 200, 200, 200, 404]]
    assert [seen.target for seen in far.seen] == ["/v1/models"] * 2
    assert b'laconic_answers_total{status="200"} 2.0' in figures


@pytest.mark.parametrize("shown", [BEARER, BASIC])
async def test_the_token_opens_the_figures_wherever_they_are(shown):
    async with upstream() as far:
        async with house(far, admin_token=HASHED) as home:
            alone = await call(home.port, "GET", "/metrics", None, [shown])
        async with two_ports(far.url, admin_token=HASHED) as (_, port):
            apart = await call(port, "GET", "/metrics", None, [shown])
    assert (alone.status, apart.status) == (200, 200)


@pytest.mark.parametrize("shown", WRONG)
async def test_nothing_else_does(shown):
    async with upstream() as far, house(far, admin_token=HASHED) as home:
        got = await call(home.port, "GET", "/metrics", None, shown)
        health = (await call(home.port, "GET", "/readyz")).status
    assert (got.status, got.get("x-laconic-origin"), health) == (401, "proxy", 200)
    assert got.all("www-authenticate") == ['Basic realm="laconic"']
    assert got.json()["error"]["code"] == "invalid_admin_token"
    assert b"laconic_" not in got.body


async def test_the_admins_port_is_no_upstream():
    async with upstream() as far, two_ports(far.url) as (_, port):
        pass
    values = Settings(upstream=f"http://localhost:{port}", admin_port=port, ledger_path=None)
    with pytest.raises(PolicyError, match="this proxy itself"):
        refuse_itself(values)


async def test_a_port_in_use_is_named_by_its_own_setting():
    async with upstream() as far:
        values = Settings(upstream="http://h", admin_port=far.port, ledger_path=None)
        store = PolicyStore(policies())
        app = build_app(values, store, method=DropsX(), engine=InstantEngine(), environ={})
        with pytest.raises(PolicyError, match=f"LACONIC_ADMIN_PORT: found {far.port}, which is"):
            await listen(build_runner(app[ADMIN], values), "127.0.0.1", far.port, admin=True)


@pytest.mark.parametrize(
    ("given", "warned"),
    [
        ({}, []),
        ({"host": "localhost"}, []),
        ({"host": "::1"}, []),
        ({"host": "127.8.9.1"}, []),
        ({"host": "0.0.0.0"}, ["open-to-the-network"]),  # noqa: S104 - the wildcard is the case
        ({"host": "proxy.example"}, ["open-to-the-network"]),
        ({"host": "10.0.0.1", "keys": {"alice": HASHED}}, []),
        ({"admin_host": "10.0.0.1"}, []),
        ({"admin_host": "10.0.0.1", "admin_port": 1}, ["admin-open-to-the-network"]),
        ({"admin_host": "10.0.0.1", "admin_port": 1, "admin_token": HASHED}, []),
    ],
)
def test_what_others_reach_without_a_key_is_warned_of(given, warned):
    with structlog.testing.capture_logs() as lines:
        warn_if_open(Settings(ledger_path=None, **given))
    assert [(line["event"], line["log_level"]) for line in lines] == [
        (event, "warning") for event in warned
    ]
