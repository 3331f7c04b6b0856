"""The tool results that the benchmark makes up, and how it looks at what is left of them."""

import csv
import json
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import tool_results
import tools
from proxy.tagging.kinds import result_kind
from proxy.types import Kind
from tool_results import JSON_SHAPES, LINE_SHAPES, Lookup, ToolResult, Way

KINDS = {
    "csv": Kind.TABLE,
    "log": Kind.LOG,
    "diff": Kind.DIFF,
    "code": Kind.CODE,
    "grep": Kind.SEARCH,
}


def made(shape, rows=120, asks=8):
    return shape(random.Random(1), rows, asks)  # noqa: S311 - a seed, no secret


@pytest.mark.parametrize("shape", [*JSON_SHAPES, *LINE_SHAPES], ids=lambda shape: shape.__name__)
def test_a_result_holds_its_rows_once_and_is_what_it_says(shape):
    result = made(shape)
    assert result == made(shape)
    assert [result.text.count(row) for row in result.rows] == [1] * 120
    assert result_kind(result.text) is KINDS.get(result.shape, Kind.JSON)
    assert [lookup.way for lookup in result.lookups] == [*Way, *Way]
    assert not result.errors & result.outliers


def test_json_parses_and_a_table_reads_as_its_rows():
    for shape in JSON_SHAPES[:3]:
        json.loads(made(shape).text)
    cells = list(csv.reader(made(tool_results.csv).text.splitlines()))
    assert {len(row) for row in cells} == {8}


def test_a_key_and_its_value_are_a_row():
    record = {"ordered_kv_records": [["a", "1"], ["b", "2"]], "key": "b"}
    result = tool_results.key_values(record)
    assert (result.rows, result.lookups[0].row) == (('"a": "1"', '"b": "2"'), 1)
    assert json.loads(result.text) == {"a": "1", "b": "2"}


def test_the_call_is_part_of_the_conversation():
    result = made(tool_results.orders)
    call = result.lookups[3]
    assert call.way is Way.CALL
    _, asked, called, answered = tool_results.messages(result, call)
    assert asked["content"] == call.question
    function = called["tool_calls"][0]["function"]
    assert json.loads(function["arguments"]) == call.arguments
    assert answered["content"] == result.text


def test_look_ups_are_divided_without_a_rest():
    assert list(tools.shares(10, 4)) == [2, 3, 2, 3]


def test_what_fits_is_taken_in_order():
    assert tools._fitting([2, 0, 1], [3, 1, 4], 5) == {2}
    assert tools._fitting([2, 0, 1], [3, 1, 4], 7) == {2, 0}


@pytest.mark.parametrize(
    ("shape", "sent", "wanted"),
    [("orders", "[1, 2]", True), ("orders", "[1, 2", False), ("events", "{}\n{}", True)],
)
def test_what_is_sent_of_json_must_parse(shape, sent, wanted):
    lookup = Lookup(0, Way.ID, "", {})
    result = ToolResult(shape, "t", "[1]", ("1",), frozenset(), frozenset(), (lookup,))
    assert tools._reads(result, sent) is wanted


def test_the_table_names_the_baselines():
    tally = tools.Tally([0.2], [True], [False], [True], [], [], [True], [12.0], [])
    lines = tools.report({"JSON": tally}).text.split("\n")
    assert lines[0].count("head") == lines[0].count("random") == 1
    assert lines[2] == "| JSON | 1 | 0.200 | 100.0 | 0.0 | 100.0 | - | - | 100.0 | 12 | - |"
