"""Upstreams by their specs: keys from their places, TLS both ways, a proxy, connections kept."""

import asyncio
import ssl
from pathlib import Path

import pytest
from servers import free_port, replies, upstream

from proxy.errors import LoopDetected, PolicyError, UpstreamUnavailable
from proxy.policy import UpstreamSpec
from proxy.upstream import Limits, Outgoing, Upstreams

CERTS = Path(__file__).parent / "certs"
"""Made for these tests, valid for a hundred years: an authority, a server and a client."""

CA = {"ca_file": CERTS / "ca.pem"}
CLIENT = {"cert_file": CERTS / "client.pem", "key_file": CERTS / "client.key"}


def spec(url, **more):
    return UpstreamSpec.model_validate({"url": url, **more})


def upstreams(*, environ=None, **general):
    return Upstreams(spec("http://127.0.0.1:9", **general), environ or {})


async def ask(destination):
    """What came back, asked for under the destination's base."""
    message = Outgoing("GET", f"{destination.base}/x?y=%20", ())
    async with destination.pool.send(message) as answer:
        return answer.status, b"".join([piece async for piece in answer.chunks])


# -- keys ------------------------------------------------------------------------------------------


async def test_a_key_comes_from_the_environment_or_a_file(tmp_path):
    (tmp_path / "key").write_text("sk-file\n")
    places = {"env:KEY": "sk-env", f"file:{tmp_path / 'key'}": "sk-file"}
    for place, expected in places.items():
        async with upstreams(key=place, environ={"KEY": " sk-env\n"}) as opened:
            assert opened.of(None).key == expected


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("env:NONE", "upstream.key: found nothing in env:NONE, wanted a key"),
        ("file:/nowhere/key", "upstream.key: found No such file or directory at /nowhere/key"),
        ("env:LINES", "upstream.key: found more than one line of ASCII in env:LINES, wanted a key"),
    ],
)
def test_a_key_that_is_not_there_is_told_without_what_was(place, told):
    with pytest.raises(PolicyError) as caught:
        upstreams(key=place, environ={"LINES": "sk-canary\r\nx: y", "NONE": " "})
    assert str(caught.value).startswith(told)
    assert "canary" not in str(caught.value)


async def test_what_changed_behind_a_spec_is_taken_over_and_what_did_not_keeps_its_connections(
    tmp_path,
):
    file = tmp_path / "key"
    file.write_text("one")
    kept, changed = spec("http://127.0.0.1:9"), spec("http://127.0.0.1:8", key=f"file:{file}")
    async with upstreams() as opened:
        opened.prepare({"kept": kept, "changed": changed})
        before = opened.of(kept), opened.of(changed)
        opened.prepare({"kept": kept, "changed": changed})
        assert (opened.of(kept), opened.of(changed)) == before
        file.write_text("two")
        opened.prepare({"kept": kept, "changed": changed})
        assert opened.of(kept) is before[0]
        assert (before[1].key, opened.of(changed).key) == ("one", "two")
        assert opened.of(changed).pool is not before[1].pool


def test_all_problems_are_told_at_once_and_what_was_good_stays(tmp_path):
    opened, missing = upstreams(), tmp_path / "none.pem"
    with pytest.raises(PolicyError) as caught:
        opened.prepare(
            {
                "a": spec("http://h", key="env:NONE"),
                "b": spec("https://h", tls={"ca_file": missing}),
            }
        )
    assert str(caught.value).splitlines() == [
        "upstreams.a.key: found nothing in env:NONE, wanted a key",
        f"upstreams.b.tls.ca_file: found No such file or directory at {missing}, wanted a file",
    ]


# -- TLS -------------------------------------------------------------------------------------------


def server_tls(*, asks=False):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=CERTS / "ca.pem")
    context.load_cert_chain(CERTS / "server.pem", CERTS / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED if asks else ssl.CERT_NONE
    return context


@pytest.mark.parametrize(
    ("tls", "asks", "works"),
    [
        ({}, False, False),
        ({"verify": False}, False, True),
        (CA, False, True),
        (CA, True, False),
        (CA | CLIENT, True, True),
        (CLIENT | {"verify": False}, True, True),
    ],
)
async def test_tls_as_the_spec_has_it(tls, asks, works):
    async with upstream(replies(200, b"hi"), tls=server_tls(asks=asks)) as far, upstreams() as near:
        asked = spec(far.url, tls=tls)
        near.prepare({"tls": asked})
        if works:
            assert await ask(near.of(asked)) == (200, b"hi")
        else:
            with pytest.raises(UpstreamUnavailable):
                await ask(near.of(asked))
            assert far.seen == []


@pytest.mark.parametrize(
    ("tls", "told"),
    [
        (
            {"ca_file": CERTS / "client.key"},
            f"upstreams.x.tls.ca_file: found no certificate in {CERTS}/client.key, wanted one",
        ),
        (
            {"cert_file": CERTS / "client.pem"},
            "upstreams.x.tls.cert_file: found no certificate with its key in",
        ),
        (
            {"cert_file": CERTS / "client.pem", "key_file": CERTS / "server.key"},
            "upstreams.x.tls.cert_file: found no certificate with its key in",
        ),
    ],
)
def test_certificates_that_are_none_are_told(tls, told):
    with pytest.raises(PolicyError) as caught:
        upstreams().prepare({"x": spec("https://h", tls=tls)})
    assert str(caught.value).startswith(told)


# -- a proxy on the way, limits --------------------------------------------------------------------


async def tunnel(seen, wire):
    """A forward proxy's CONNECT: bytes go both ways until one side ends."""
    host, _, port = seen.target.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))

    async def back():
        while data := await reader.read(65536):
            await wire.send(data)

    backwards = asyncio.ensure_future(back())
    await wire.send(b"HTTP/1.1 200 OK\r\n\r\n")
    try:
        while True:
            writer.write(wire.take(len(wire.buffer)))
            await wire.more()
    finally:
        backwards.cancel()
        writer.close()


async def test_an_https_upstream_is_reached_through_its_proxy():
    async with upstream(replies(200, b"hi"), tls=server_tls()) as far, upstream(tunnel) as between:
        asked = spec(far.url, proxy=between.url, tls=CA)
        async with upstreams() as near:
            near.prepare({"far": asked})
            assert await ask(near.of(asked)) == (200, b"hi")
    assert [seen.start for seen in between.seen] == [f"CONNECT 127.0.0.1:{far.port} HTTP/1.1"]
    assert far.last.target == "/x?y=%20"


async def test_an_http_upstream_is_asked_of_its_proxy_by_its_whole_url():
    async with upstream(replies(200, b"hi")) as between, upstreams() as near:
        asked = spec("http://far.example/v1", proxy=between.url)
        near.prepare({"far": asked})
        assert await ask(near.of(asked)) == (200, b"hi")
    assert between.last.target == "http://far.example/v1/x?y=%20"


async def test_no_proxy_is_taken_from_the_environment(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    async with upstream(replies(200, b"hi")) as far, upstreams() as near:
        asked = spec(far.url)
        near.prepare({"far": asked})
        assert await ask(near.of(asked)) == (200, b"hi")


async def test_each_upstream_has_connections_of_its_own():
    async with upstream(replies(200)) as one, upstream(replies(200)) as two, upstreams() as near:
        specs = spec(one.url), spec(two.url)
        near.prepare(dict(zip("ab", specs, strict=True)))
        for asked in specs * 2:
            await ask(near.of(asked))
    assert (one.connections, two.connections) == (1, 1)


async def test_a_specs_own_patience_wins_over_the_general_one():
    async def slow(seen, wire):
        await wire.closed.wait()

    async with upstream(slow) as far:
        asked = spec(far.url, read_timeout_s=0.05)
        async with Upstreams(spec("http://127.0.0.1:9"), {}, Limits(read_s=60)) as near:
            near.prepare({"far": asked})
            with pytest.raises(Exception, match="Timeout"):
                await ask(near.of(asked))


async def test_none_of_them_is_connected_to_where_it_is_ourselves():
    async with upstream() as far, upstreams() as near:
        early, late = spec(far.url), spec(far.url + "/late")
        near.prepare({"early": early, "late": late})
        near.of(early)
        near.refuse([("127.0.0.1", far.port)])
        for asked in (early, late):
            with pytest.raises(LoopDetected):
                await ask(near.of(asked))
    assert far.connections == 0
