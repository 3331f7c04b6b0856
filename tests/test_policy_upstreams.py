"""What ``routes.yaml`` says of upstreams and proxy keys, and how it is told what is wrong."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from proxy.errors import PolicyError
from proxy.policy import Tls, UpstreamSpec, load_policies

TEXT = """
upstream: azure
upstreams:
  azure:
    url: https://x.openai.azure.com/
    key: env:AZURE_KEY
  local:
    url: https://10.0.0.5:8000/v1
    tls: {ca_file: /etc/ca.pem, cert_file: /etc/we.pem, key_file: /etc/we.key}
    proxy: http://proxy:3128/
    connect_timeout_s: 1
    read_timeout_s: 60.5
  blind: {url: "http://h", tls: {verify: false}}
fallback: p
routes:
  - {key: "a*", policy: p, upstream: local}
  - {path: /v1/x, policy: p}
"""


def problems(text, keys=None):
    with pytest.raises(PolicyError) as caught:
        load_policies({"p.yaml": "", "routes.yaml": f"fallback: p\n{text}"}, keys=keys)
    return str(caught.value).splitlines()


def test_upstreams_are_read_and_routes_name_them():
    loaded = load_policies({"p.yaml": "", "routes.yaml": TEXT}, keys=["alice"])
    assert loaded.upstreams == {
        "azure": UpstreamSpec(url="https://x.openai.azure.com", key="env:AZURE_KEY"),
        "local": UpstreamSpec(
            url="https://10.0.0.5:8000/v1",
            tls=Tls(
                ca_file=Path("/etc/ca.pem"),
                cert_file=Path("/etc/we.pem"),
                key_file=Path("/etc/we.key"),
            ),
            proxy="http://proxy:3128",
            connect_timeout_s=1.0,
            read_timeout_s=60.5,
        ),
        "blind": UpstreamSpec(url="http://h", tls=Tls(verify=False)),
    }
    assert loaded.upstream == "azure"
    assert [(route.key, route.upstream) for route in loaded.routes] == [
        ("a*", "local"),
        (None, None),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("upstream: x", "2: upstream: found 'x', wanted an entry under upstreams"),
        (
            "upstreams: {one: {url: 'http://h'}}\nroutes:\n  - {path: x, policy: p, upstream: on}",
            "4: routes[0].upstream: found 'on', wanted one; did you mean one?",
        ),
        (
            "upstreams:\n  one: {}",
            (
                "3: upstreams.one.url: found nothing, wanted an http or https URL without user, "
                "query and fragment, such as https://host/v1"
            ),
        ),
        (
            "upstreams:\n  one:\n    url: http://u:canary@h",
            (
                "4: upstreams.one.url: found a value that is not shown, wanted an http or https "
                "URL without user, query and fragment, such as https://host/v1"
            ),
        ),
        (
            "upstreams:\n  one:\n    url: http://h\n    key: sk-canary",
            (
                "5: upstreams.one.key: found a value that is not shown, wanted env:NAME or "
                "file:PATH, the place where the key is found"
            ),
        ),
        (
            "upstreams:\n  one: {url: http://h, key: 'env: '}",
            (
                "3: upstreams.one.key: found a value that is not shown, wanted env:NAME or "
                "file:PATH, the place where the key is found"
            ),
        ),
        (
            "upstreams:\n  one: {url: http://h, proxy: 'http://h/canary'}",
            (
                "3: upstreams.one.proxy: found a value that is not shown, wanted an http or https "
                "URL without user and path, such as http://proxy:3128"
            ),
        ),
        (
            "upstreams:\n  one:\n    url: http://h\n    tls: {key_file: k}",
            "5: upstreams.one.tls: found key_file alone, wanted cert_file too",
        ),
        (
            "upstreams:\n  one: {url: http://h, read_timeout_s: 0}",
            "3: upstreams.one.read_timeout_s: found 0, wanted a number > 0",
        ),
        ("upstreams: [a]", "2: upstreams: found a list, wanted a mapping of name to a mapping"),
    ],
)
def test_a_wrong_upstream_is_told_with_place_found_and_wanted(text, told):
    assert problems(text) == [f"routes.yaml:{told}"]


def test_a_route_for_a_key_that_nobody_has_is_told():
    text = "routes:\n  - {key: alcie, policy: p}\n  - {key: 'b*', policy: p}"
    assert problems(text, keys=["bob", "alice"]) == [
        "routes.yaml:3: routes[0].key: found 'alcie', wanted alice or bob; did you mean alice?"
    ]
    assert problems("routes:\n  - {key: alice, policy: p}", keys=[]) == [
        "routes.yaml:3: routes[0].key: found 'alice', wanted a key in LACONIC_KEYS"
    ]


def test_where_keys_are_not_known_routes_for_them_are_right():
    text = "fallback: p\nroutes:\n  - {key: anybody, policy: p}"
    assert load_policies({"p.yaml": "", "routes.yaml": text}).routes[0].key == "anybody"


def test_a_spec_shows_no_address_of_a_key_in_an_error():
    with pytest.raises(ValidationError) as caught:
        UpstreamSpec(url="http://h", key="sk-canary")
    assert "wanted env:NAME or file:PATH" in str(caught.value)
