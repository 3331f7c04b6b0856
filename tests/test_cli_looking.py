"""``laconic inspect``, ``laconic tail`` and ``laconic ledger``, over a few exchanges."""

import csv
import io
import json
from dataclasses import replace

import pytest
from test_cli import ENTRY

from proxy.cli.looking import followed
from proxy.compress.show import Fate, Shown, Stretch
from proxy.ledger import Filter, Ledger, SqliteSink
from proxy.ledger.capture import captured, sealed
from proxy.ledger.segments import packed
from proxy.types import Address, Component, Kind, Reason

ENTRIES = [
    replace(ENTRY, request_id="one", upstream_host="api.openai.com", completion_tokens=30),
    replace(ENTRY, request_id="two", key_name="alice", conversation="c0ffee", model="private"),
    replace(ENTRY, request_id="three", reason=Reason.TOO_SHORT, tokens_before=None, status=502),
]


@pytest.fixture
def ledger(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    written(path, *ENTRIES)
    return path


def written(path, *entries):
    sink = SqliteSink(path)
    for entry in entries:
        sink.write(entry)
    sink.close()


def ids(lines):
    return [json.loads(line)["request_id"] for line in lines.splitlines()]


# -- inspect --------------------------------------------------------------------------------------


def test_inspect_shows_every_figure_and_the_price_line_by_line(laconic, ledger):
    done = laconic("inspect", "one", "--ledger", ledger)
    assert done.exit_code == 0
    shown = " ".join(done.stdout.split())
    for text in ("gpt-5", "Prompt tokens as the caller", "context", "600", "genai-prices, gpt-5"):
        assert text in shown
    assert "first: left out for the first time" in shown
    assert "$0.000625" in shown  # 500 tokens at $1.25


def test_inspect_as_json_has_the_columns_and_the_reckoning(laconic, ledger):
    found = json.loads(laconic("inspect", "one", "--ledger", ledger, "--json").stdout)
    assert (found["tokens_before"], found["context_after"]) == (1000, 400)
    lines = {line["text"]: line["usd"] for line in found["reckoning"]["lines"]}
    assert lines == {
        "prompt, fresh": 0.0005125,
        "completion": 0.0003,
        "left out for the first time": 0.000625,
        "left out again": 0.0000125,
    }
    assert found["reckoning"]["value_usd"] == 0.000638


def test_inspect_says_that_no_price_is_known(laconic, ledger):
    shown = laconic("inspect", "two", "--ledger", ledger).stdout
    assert "No price is known for model private at an unknown host" in " ".join(shown.split())


def test_inspect_refuses_an_id_that_there_is_not(laconic, ledger):
    done = laconic("inspect", "four", "--ledger", ledger)
    assert done.exit_code == 2
    assert "found no 'four', wanted the x-laconic-request-id" in done.stderr


# -- tail -----------------------------------------------------------------------------------------


def test_tail_shows_the_newest_a_line_each(laconic, ledger):
    done = laconic("tail", "--ledger", ledger, "-n", 2, "--no-follow")
    lines = done.stdout.splitlines()
    assert [line.split()[2:4] for line in lines] == [["200", "two"], ["502", "three"]]
    assert "1,000 -> 400" in lines[0]
    assert "too-short" in lines[1]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ([], ["one", "two", "three"]),
        (["--model", "private"], ["two"]),
        (["--key", "alice"], ["two"]),
        (["--conversation", "c0ffee"], ["two"]),
        (["--reason", "too-short"], ["three"]),
        (["--route", "retrieval", "--policy", "rag", "-n", "1"], ["three"]),
        (["--upstream", "azure"], []),
    ],
)
def test_tail_shows_those_that_fit(laconic, ledger, asked, found):
    done = laconic("tail", "--ledger", ledger, "--no-follow", "--json", *asked)
    assert ids(done.stdout) == found


def test_tail_goes_on_with_what_comes(ledger):
    later = iter([[replace(ENTRY, request_id="four"), replace(ENTRY, request_id="five")], []])

    def wait(_):
        written(ledger, *next(later))

    seen = followed(Ledger(ledger), Filter(), 1, follow=True, wait=wait)
    assert [next(seen)["request_id"] for _ in range(3)] == ["three", "four", "five"]


# -- ledger ---------------------------------------------------------------------------------------


def test_export_prints_whole_exchanges(laconic, ledger):
    done = laconic("ledger", "export", "--ledger", ledger, "--conversation", "c0ffee")
    (found,) = map(json.loads, done.stdout.splitlines())
    columns = next(Ledger(ledger).exchanges(Filter(conversation="c0ffee")))[1]
    assert found == columns | {"captured": None}


def test_export_as_csv_has_a_heading(laconic, ledger):
    text = laconic("ledger", "export", "--ledger", ledger, "--csv", "--since", "2026-01-01").stdout
    assert [row["request_id"] for row in csv.DictReader(io.StringIO(text))] == [
        "one",
        "two",
        "three",
    ]
    empty = laconic("ledger", "export", "--ledger", ledger, "--csv", "--until", "2026-01-01")
    assert empty.stdout == ""


def test_delete_says_how_many_and_deletes_when_told(laconic, ledger):
    asked = ("ledger", "delete", "--ledger", ledger, "--key", "alice")
    assert laconic(*asked).stdout == "1 exchanges; with --yes they are deleted\n"
    assert Ledger(ledger).count(Filter()) == 3
    assert laconic(*asked, "--yes").stdout == "1 exchanges deleted\n"
    assert Ledger(ledger).count(Filter()) == 2


def test_delete_refuses_to_mean_everything(laconic, ledger):
    done = laconic("ledger", "delete", "--ledger", ledger, "--yes")
    assert done.exit_code == 2
    assert Ledger(ledger).count(Filter()) == 3


def test_vacuum_gives_back_what_is_not_used(laconic, ledger):
    written(ledger, *(replace(ENTRY, request_id=str(n), key_name="x") for n in range(2000)))
    laconic("ledger", "delete", "--ledger", ledger, "--key", "x", "--yes")
    before = ledger.stat().st_size
    done = laconic("ledger", "vacuum", "--ledger", ledger)
    assert done.exit_code == 0
    assert ledger.stat().st_size < before / 2
    assert done.stdout == f"{before:,} bytes before, {ledger.stat().st_size:,} after\n"


@pytest.mark.parametrize("command", [["delete", "--key", "x", "--yes"], ["vacuum"], ["export"]])
def test_a_ledger_that_is_none_is_refused(laconic, tmp_path, command):
    done = laconic("ledger", *command, "--ledger", tmp_path / "none")
    assert done.exit_code == 2
    assert "found no file" in done.stderr


# -- segments and text ----------------------------------------------------------------------------


@pytest.fixture
def captured_ledger(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    rows = [(1, 2, Component.CONTEXT, Kind.PROSE, "first-passage", 900, 300)]
    stretches = (
        Stretch("The mill stands. ", Fate.KEPT, Component.CONTEXT, Kind.PROSE, "first-passage"),
        Stretch("It was built.", Fate.DROPPED, Component.CONTEXT, Kind.PROSE, "first-passage"),
    )
    said = sealed([Shown(Address(1, 2), "user", stretches)])
    written(path, replace(ENTRIES[1], segments=packed(rows), captured=said))
    return path


def test_inspect_shows_segments_with_their_rules_and_text_that_was_captured(
    laconic, captured_ledger
):
    shown = laconic("inspect", "two", "--ledger", captured_ledger).stdout
    assert ["1.2", "context", "prose", "first-passage", "900", "300"] in [
        [word for word in line.split() if word != "│"] for line in shown.splitlines()
    ]
    assert "The mill stands. [-It was built.-]" in shown
    found = json.loads(laconic("inspect", "two", "--ledger", captured_ledger, "--json").stdout)
    assert found["segments"][0]["rule"] == "first-passage"
    assert found["captured"]["leaves"][0]["stretches"][1]["fate"] == "dropped"


def test_export_and_delete_take_text_along(laconic, captured_ledger):
    asked = ("--ledger", captured_ledger, "--key", "alice")
    (line,) = laconic("ledger", "export", *asked).stdout.splitlines()
    assert json.loads(line)["captured"]["leaves"][0]["role"] == "user"
    (row,) = csv.DictReader(io.StringIO(laconic("ledger", "export", *asked, "--csv").stdout))
    assert json.loads(row["captured"]) == json.loads(line)["captured"]
    laconic("ledger", "delete", *asked, "--yes")
    assert captured(captured_ledger, "two") is None
