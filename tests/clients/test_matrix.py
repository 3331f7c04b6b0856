"""What the matrix calls equal, and what it writes into the docs."""

import json
import re

import pytest
from far import Seen
from matrix import CLIENTS, CLOSING, HERE, OPENING, PAGE, Column, Run, compared, table

HEADERS = (("Host", "h:1"), ("content-type", "application/json"))


def seen(text, headers=HEADERS, **more):
    return Seen("POST", "/v1/x", headers, json.dumps({"input": text, **more}).encode())


def run(got, *requests, name="chat", url="http://h:1"):
    return Run({name: got}, {name.replace(" ", "-"): list(requests)}, url)


DIRECT = run(["http://h:1", 1, [["date", "today"]]], seen("a b c"))


def test_ports_clocks_and_our_headers_make_no_difference():
    headers = (("Host", "h:2"), *HEADERS[1:], ("x-laconic-policy", "off"))
    own = [["date", "tomorrow"], ["x-laconic-rate", "1"]]
    near = run(["http://h:2", 1, own], seen("a b c", headers), url="http://h:2")
    assert compared("chat", DIRECT, near, near) == ()


@pytest.mark.parametrize(
    "near",
    [
        run(["http://h:1", 2, []], seen("a b c")),
        run("other", seen("a b c")),
        run(DIRECT.got["chat"], seen("a b")),
        run(DIRECT.got["chat"], seen("a b c"), seen("a b c")),
        run(DIRECT.got["chat"]),
        run(DIRECT.got["chat"], seen("a b c", (("Content-Type", "application/json"),))),
        run(DIRECT.got["chat"], seen("a b c", (*HEADERS, ("accept", "*/*")))),
    ],
    ids=["number", "kind", "text", "twice", "never", "spelling", "header"],
)
def test_anything_else_does(near):
    (found,) = compared("chat", DIRECT, DIRECT, near)
    assert found.startswith("default: ")
    (found,) = compared("chat", DIRECT, near, DIRECT)
    assert found.startswith("off: ")


@pytest.mark.parametrize(
    ("request_", "same"),
    [
        (seen("a c"), True),
        (seen("a b c"), False),
        (seen("c a"), False),
        (seen("a", n=1), False),
        (seen("a", (*HEADERS, ("accept", "*/*"))), False),
    ],
    ids=["shorter", "not shorter", "other order", "another key", "another header"],
)
def test_what_is_long_has_to_come_shorter_and_otherwise_the_same(request_, same):
    direct = run("got", seen("a b c"), name="chat, long")
    near = run("got", request_, name="chat, long")
    assert (compared("chat, long", direct, direct, near) == ()) is same


def test_a_client_that_fails_alone_is_told():
    broken = run({"broke": "its error"}, seen("a"))
    (found,) = compared("chat", broken, broken, broken)
    assert found == "the client alone: its error"


def test_a_table():
    columns = {
        "one": Column("1.0", {"chat": (), "files": ("off: no", "default: no")}),
        "two": Column("2.0", {"chat": ()}),
    }
    assert table(columns).splitlines() == [
        "|  | one | two |",
        "| --- | --- | --- |",
        "| version | 1.0 | 2.0 |",
        "| chat | equal | equal |",
        "| files | differs |  |",
        "",
        "3 cells, 1 of them different.",
        "- one, files: off: no; default: no",
    ]


def test_the_docs_have_the_table_of_these_clients_and_of_what_they_do():
    text = PAGE.read_text("utf-8").partition(OPENING)[2].partition(CLOSING)[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    (_, *names), _, (_, *versions), *rows = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines
    )
    assert names == [client.name for client in CLIENTS]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions)
    assert {cell for _, *cells in rows for cell in cells} <= {"equal", "differs", ""}
    scripts = "".join(path.read_text("utf-8") for path in (HERE / "scripts").glob("*_client.py"))
    assert {name for name, *_ in rows} == {"snippet", *re.findall(r'@does\("(.*?)"\)', scripts)}
