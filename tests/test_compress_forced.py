"""What is kept of data before all else."""

import json

import numpy as np
import pytest
from driving import ENCODING, policy, turn

from proxy.compress.forced import identifiers, named, odd_rows, repeats, striking
from proxy.compress.layout import read_material
from proxy.types import Kind, Turn


def material(text, kind):
    return read_material(turn(text, kind), policy(), ENCODING)


def chosen(text, kind, pick):
    """The texts of the units that ``pick`` returns of a material."""
    made = material(text, kind)
    return [made.text(number) for number in pick(made)]


def out_of(text, kind):
    return chosen(text, kind, lambda made: striking(made, np.zeros(len(made.units))))


def of(text, kind, *asked):
    made = material(text, kind)
    found = named(made, asked)
    return {made.text(number): round(told, 2) for number, told in found.items()}


# What the ask names


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("What is the status of ORD-77?", ("ord-77",)),
        ("Who is Ada Lovelace?", ("ada lovelace",)),
        ("Did Ada de la Cruz call?", ("did ada de la cruz", "ada de la cruz")),
        ("Find “rye bread” at 4.50.", ("rye bread", "4.50")),
        ("See /srv/app/main.py, please", ("/srv/app/main.py",)),
        ("is getUserName used", ("getusername",)),
        ("what happened to f00ba4c2", ("f00ba4c2",)),
        ("How are you?", ()),
    ],
)
def test_a_question_names_what_looks_like_a_name(question, wanted):
    assert identifiers(Turn(0, (), (), question, own_question=True)) == wanted


def test_a_call_names_every_plain_value_of_its_arguments():
    hint = 'find {"name": "rye bread", "ids": [12], "in": {"city": "Ulm"}, "all": true}'
    asked = identifiers(Turn(0, (), (), "Well?", hints=(hint,)))
    assert asked == ("rye bread", "12", "ulm")
    own = Turn(0, (), (), "Well?", own_question=True, hints=(hint,))
    assert identifiers(own) == ()


def test_arguments_that_are_no_json_are_read_as_text():
    assert identifiers(Turn(0, (), (), "Well?", hints=("find A-7",))) == ("a-7",)


def test_a_row_is_named_by_what_stands_by_itself_in_it():
    rows = [{"id": f"A-{i}", "n": i / 10} for i in range(40)]
    text = json.dumps(rows)
    assert list(of(text, Kind.JSON, "a-7")) == ['{"id": "A-7", "n": 0.7}']
    assert list(of(text, Kind.JSON, "7")) == ['{"id": "A-7", "n": 0.7}']
    assert list(of(text, Kind.JSON, "2.5")) == ['{"id": "A-25", "n": 2.5}']
    assert of(text, Kind.JSON, "a-99") == {}


def test_what_many_rows_hold_names_none():
    text = json.dumps([{"id": i, "city": "Ulm"} for i in range(40)])
    assert of(text, Kind.JSON, "ulm") == {}


def test_a_name_is_found_as_json_writes_it():
    text = json.dumps([{"city": "Cádiz"}, {"city": "Ulm"}])
    assert list(of(text, Kind.JSON, "cádiz")) == ['{"city": "C\\u00e1diz"}']


def test_prose_is_not_searched():
    assert of("The key is A-7. It fits.", Kind.PROSE, "a-7") == {}


# What stands out


@pytest.mark.parametrize(
    "field",
    [
        {"status": "failed"},
        {"level": "ERROR"},
        {"error": "no such table"},
        {"errors": ["no such table"]},
        {"status": 503},
        {"statusCode": "404"},
        {"message": "java.lang.NullPointerException at X"},
    ],
)
def test_a_row_with_an_error_stands_out(field):
    rows = [{"id": i, "error": None, "errors": [], "status": "ok"} for i in range(6)]
    bad = {"id": 9} | field
    assert out_of(json.dumps([*rows, bad]), Kind.JSON) == [json.dumps(bad)]


@pytest.mark.parametrize(
    "field",
    [{"error": False}, {"errors": 0}, {"error": ""}, {"error_rate": 0}, {"code": 200}, {"n": 404}],
)
def test_a_row_without_an_error_does_not(field):
    assert out_of(json.dumps([{"id": i} | field for i in range(6)]), Kind.JSON) == []


def test_a_cell_that_tells_of_an_error_stands_out():
    text = "id,state\n1,ok\n2,failed\n3,ok\n4,no failed attempts\n"
    assert out_of(text, Kind.TABLE) == ["2,failed"]


def test_both_ends_stand_out_where_there_are_many_rows():
    rows = [json.dumps({"id": i}) for i in range(40)]
    assert out_of(f"[{', '.join(rows)}]", Kind.JSON) == [rows[0], rows[-1]]
    assert out_of(f"[{', '.join(rows[:10])}]", Kind.JSON) == []


def test_an_error_in_a_log_brings_its_neighbours_and_is_told_once():
    lines = [f"10:00:{i:02d} INFO step {'abcdefgh'[i % 8]}" for i in range(30)]
    lines[9] = lines[19] = "10:00:09 ERROR no space left"
    lines[19] = "10:00:19 ERROR no space left"
    found = out_of("\n".join(lines), Kind.LOG)
    assert found == [
        lines[9],
        *(lines[i] for i in (8, 10, 18, 20) if lines[i] in found),
        *found[-2:],
    ]
    assert lines[19] not in found
    assert lines[8] in found


def test_imports_stand_out_in_code():
    text = "import os\n\n\ndef f():\n    return 1\n"
    assert out_of(text, Kind.CODE) == ["import os"]


def test_log_entries_that_differ_in_numbers_alone_repeat():
    text = "10:00:01 INFO took 3 ms\n10:00:02 INFO took 9 ms\n10:00:03 INFO done\nx"
    assert chosen(text, Kind.LOG, repeats) == ["10:00:02 INFO took 9 ms"]


# Outliers

PLAIN = [{"n": float(i % 7), "kind": "ab"[i % 2]} for i in range(100)]


@pytest.mark.parametrize(
    "row",
    [
        {"n": 9_000.0, "kind": "a"},
        {"n": -9_000.0, "kind": "a"},
        {"n": float("inf"), "kind": "a"},
        {"n": 1.0, "kind": "c"},
        {"n": 1.0, "kind": "a", "note": "x"},
        {"n": 1.0},
        {"n": "one", "kind": "a"},
    ],
)
def test_a_row_unlike_the_others_is_odd(row):
    assert odd_rows([*PLAIN, row]) == {100}


def test_where_many_rows_are_unlike_the_others_none_is_odd():
    assert odd_rows([*PLAIN, *({"n": 9_000.0 * i, "kind": "a"} for i in range(1, 9))]) == set()
    assert odd_rows([{"id": f"row {i}", "n": 1.0} for i in range(50)]) == set()
    assert odd_rows(PLAIN[:5]) == set()


def test_a_field_of_which_many_values_are_rare_makes_no_row_odd():
    rows = [{"kind": "a"} for _ in range(100)]
    assert odd_rows([*rows, *({"kind": kind} for kind in "bcdefghi")]) == set()


def test_rows_of_any_depth_and_cells_of_any_length_are_read():
    deep = '{"a": ' * 30_000 + "1" + "}" * 30_000
    plain = [f'{{"a": {n}, "of": [1, {{"b": "x"}}]}}' for n in range(40)]
    odd = '{"a": 90000, "of": [1, {"b": "y"}]}'
    assert odd in out_of(f"[{', '.join([*plain, deep, odd])}]", Kind.JSON)
    long = f"long,{'x' * 200_000},1"
    rows = [f"a{n},text,{n}" for n in range(40)]
    assert "a,b,90000" in out_of("\n".join(["k,t,n", *rows, long, "a,b,90000"]), Kind.TABLE)
    apart = [f"a{n}    {n}" for n in range(40)]
    assert "b    90000" in out_of("\n".join(["k    n", *apart, "b    90000"]), Kind.TABLE)


def test_outliers_are_found_in_rows_tables_and_logs():
    numbers = [*range(10, 40), 90_000]
    text = json.dumps([{"a": {"ms": n}} for n in numbers])
    assert '{"a": {"ms": 90000}}' in out_of(text, Kind.JSON)
    rows = [f'"x, {n % 3}",{n}' for n in numbers]
    rows.insert(7, '"x, 1",$91000')
    assert rows[7] in out_of("what,ms\n" + "\n".join(rows), Kind.TABLE)
    lines = [f"10:00:{n % 60:02d} INFO served, duration_ms={n}" for n in numbers]
    lines.insert(7, "10:00:00 INFO served, duration_ms=70000")
    assert lines[7] in out_of("\n".join(lines), Kind.LOG)


def test_rows_within_a_string_are_read_too():
    inner = json.dumps([{"ms": n} for n in [*range(10, 40), 90_000, *range(9)]])
    assert '{\\"ms\\": 90000}' in out_of(json.dumps({"text": inner}), Kind.JSON)
