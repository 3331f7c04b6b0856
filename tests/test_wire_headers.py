import pytest

from proxy.errors import CallerError
from proxy.wire import (
    LaconicHeaders,
    changed_response,
    end_to_end,
    forwarded_request,
    forwarded_response,
    with_credential,
)


def test_headers_of_one_connection_stay_behind_and_the_rest_goes_on_as_it_came():
    headers = [
        ("Set-Cookie", "a=1"),
        ("connection", "Keep-Alive, X-Private ,close"),
        ("Keep-Alive", "timeout=5"),
        ("x-private", "1"),
        ("Proxy-Connection", "keep-alive"),
        ("TE", "trailers"),
        ("Trailer", "X-Sum"),
        ("Transfer-Encoding", "chunked"),
        ("Upgrade", "h2c"),
        ("Connection", "Other"),
        ("OTHER", "1"),
        ("Proxy-Authorization", "Basic x"),
        ("Proxy-Authenticate", "Basic"),
        ("Proxy-Authentication-Info", "x"),
        ("OpenAI-Project", "p"),
        ("SET-COOKIE", "b=2"),
        ("Empty", ""),
    ]
    assert end_to_end(headers) == [
        ("Set-Cookie", "a=1"),
        ("OpenAI-Project", "p"),
        ("SET-COOKIE", "b=2"),
        ("Empty", ""),
    ]


def test_pairs_may_come_from_an_iterator():
    assert end_to_end(iter([("Connection", "b"), ("A", "1"), ("B", "2")])) == [("A", "1")]


REQUEST = [
    ("Host", "localhost:8790"),
    ("Authorization", "Bearer k"),
    ("Expect", "100-continue"),
    ("X-Laconic-Policy", "rag"),
    ("x-laconic-anything", "1"),
    ("Content-Type", "application/json"),
    ("Content-Length", "10"),
    ("Content-Encoding", "gzip"),
    ("Content-Digest", "sha-256=:x:"),
    ("traceparent", "00-1-2-01"),
]


def test_an_unchanged_body_keeps_its_length_and_encoding():
    assert forwarded_request(REQUEST, body_changed=False) == [
        ("Authorization", "Bearer k"),
        ("Content-Type", "application/json"),
        ("Content-Length", "10"),
        ("Content-Encoding", "gzip"),
        ("Content-Digest", "sha-256=:x:"),
        ("traceparent", "00-1-2-01"),
    ]


def test_a_changed_body_loses_what_described_the_old_one():
    assert forwarded_request(REQUEST, body_changed=True) == [
        ("Authorization", "Bearer k"),
        ("Content-Type", "application/json"),
        ("traceparent", "00-1-2-01"),
    ]


def test_a_length_beside_a_transfer_coding_is_not_believed():
    headers = [("Content-Length", "3"), ("Transfer-Encoding", "chunked"), ("Accept", "*/*")]
    assert forwarded_request(headers, body_changed=False) == [("Accept", "*/*")]


def test_nothing_is_added():
    assert forwarded_request([], body_changed=False) == forwarded_response([]) == []


def test_an_answer_keeps_its_encoding_and_length_and_gets_ours():
    headers = [
        ("Content-Encoding", "br"),
        ("Content-Length", "12"),
        ("Connection", "close"),
        ("x-request-id", "r"),
        ("Retry-After", "3"),
        ("X-Laconic-Reason", "off"),
        ("x-laconic-origin", "proxy"),
    ]
    assert forwarded_response(headers, own=[("x-laconic-reason", "too-short")]) == [
        ("Content-Encoding", "br"),
        ("Content-Length", "12"),
        ("x-request-id", "r"),
        ("Retry-After", "3"),
        ("x-laconic-origin", "proxy"),
        ("x-laconic-reason", "too-short"),
    ]


def test_an_answer_that_we_changed_says_nothing_of_its_old_bytes():
    headers = [
        ("Content-Type", "application/json"),
        ("content-encoding", "br"),
        ("Transfer-Encoding", "chunked"),
        ("ETag", '"1"'),
        ("Content-Digest", "sha-256=:x:"),
        ("Accept-Ranges", "bytes"),
        ("x-request-id", "r"),
    ]
    kept = [headers[0], headers[-1]]
    assert changed_response(headers, length=None) == kept
    assert changed_response(headers, length=7) == [*kept, ("Content-Length", "7")]


@pytest.mark.parametrize(
    ("headers", "read"),
    [
        ([], LaconicHeaders()),
        ([("policy", "rag"), ("rate", "0.4"), ("x-other", "1")], LaconicHeaders()),
        (
            [
                ("X-Laconic-Policy", " rag "),
                ("x-laconic-rate", "0.4"),
                ("x-laconic-bypass", "True"),
            ],
            LaconicHeaders("rag", 0.4, bypass=True),
        ),
        ([("x-laconic-rate", "1")], LaconicHeaders(rate=1.0)),
        ([("x-laconic-rate", ".25")], LaconicHeaders(rate=0.25)),
        ([("x-laconic-rate", "0.4"), ("X-Laconic-Rate", "0.4 ")], LaconicHeaders(rate=0.4)),
        ([("x-laconic-bypass", "1")], LaconicHeaders(bypass=True)),
        ([("x-laconic-bypass", "FALSE")], LaconicHeaders()),
        ([("x-laconic-bypass", "0")], LaconicHeaders()),
    ],
)
def test_our_headers_are_read(headers, read):
    assert LaconicHeaders.read(headers) == read


@pytest.mark.parametrize(
    "rate",
    ["0", "0.0", "1.01", "-0.5", "nan", "inf", "1e-1", "40%", "0,4", "", "1_0", "٠.٥", "9" * 99],
)
def test_a_rate_outside_its_range_is_the_callers_error(rate):
    with pytest.raises(
        CallerError, match=r"x-laconic-rate: found .*, wanted a number above 0"
    ) as caught:
        LaconicHeaders.read([("x-laconic-rate", rate)])
    assert caught.value.status == 400
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize(
    ("sent", "put"),
    [
        ([], [("Authorization", "Bearer k")]),
        ([("A", "1")], [("A", "1"), ("Authorization", "Bearer k")]),
        (
            [("A", "1"), ("AUTHORIZATION", "Basic x"), ("B", "2")],
            [("A", "1"), ("AUTHORIZATION", "Bearer k"), ("B", "2")],
        ),
        ([("Api-Key", "x"), ("authorization", "Bearer y"), ("api-key", "z")], [("Api-Key", "k")]),
        ([("x-api-key", "x"), ("Cookie", "c")], [("x-api-key", "k"), ("Cookie", "c")]),
    ],
)
def test_a_credential_takes_the_place_of_the_callers(sent, put):
    assert with_credential(sent, "k") == put


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        (
            [("x-laconic-bypass", "yes")],
            "x-laconic-bypass: found 'yes', wanted true, false, 1 or 0",
        ),
        ([("x-laconic-policy", " ")], "x-laconic-policy: found '', wanted a policy's name"),
        (
            [("x-laconic-rate", "0.4"), ("X-Laconic-Rate", "0.5")],
            "x-laconic-rate: found two values, wanted one",
        ),
    ],
)
def test_what_we_cannot_follow_is_the_callers_error(headers, message):
    with pytest.raises(CallerError) as caught:
        LaconicHeaders.read(headers)
    assert (str(caught.value), caught.value.status) == (message, 400)
