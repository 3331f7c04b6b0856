"""YAML becomes plain values with their lines, or problems; it never raises."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.source import Problem, dotted, read_yaml


def told(text):
    return [str(problem) for problem in read_yaml("f.yaml", text).problems]


def test_values_are_those_of_yaml_1_2():
    text = "{a: on, b: off, c: yes, d: true, e: False, f: 1, g: -2.5, h: 1e3, i: null, j: ~, k: , \
l: 010, m: 1_000, n: 0x10, o: 2024-01-01, p: '1', q: 1:30, r: .5, s: .inf, t: [x, [y]], u: !!str 1}"
    assert read_yaml("f.yaml", text).value == {
        "a": "on", "b": "off", "c": "yes", "d": True, "e": False, "f": 1, "g": -2.5, "h": 1000.0,
        "i": None, "j": None, "k": None, "l": 10, "m": "1_000", "n": "0x10", "o": "2024-01-01",
        "p": "1", "q": "1:30", "r": 0.5, "s": ".inf", "t": ["x", ["y"]], "u": "1",
    }  # fmt: skip
    assert told(text) == []


def test_keys_are_words_whatever_they_look_like():
    assert read_yaml("f.yaml", "on: 1\n2: 3\nnull: 4").value == {"on": 1, "2": 3, "null": 4}


def test_lines_count_from_one_for_keys_and_items():
    source = read_yaml("f.yaml", "# note\na:\n  b: 1\n  c:\n    - x\n    -\n      d: 2\n")
    assert source.lines == {
        (): 1, ("a",): 2, ("a", "b"): 3, ("a", "c"): 4, ("a", "c", 0): 5, ("a", "c", 1): 7,
        ("a", "c", 1, "d"): 7,
    }  # fmt: skip


def test_a_problem_below_a_known_key_stands_on_that_keys_line():
    source = read_yaml("f.yaml", "\na:\n  b: 1\n")
    assert source.problem(("a", "x", 0), "no") == Problem("f.yaml", 2, ("a", "x", 0), "no")
    assert source.problem(("z",), "no").line == 1


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "{}"])
def test_an_empty_file_is_an_empty_mapping_or_nothing(text):
    source = read_yaml("f.yaml", text)
    assert source.value in ({}, None)
    assert source.problems == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3: a: found a second time (first on line 1), wanted once"),
        ("a: {b: 1, b: 1}", "f.yaml:1: a.b: found a second time (first on line 1), wanted once"),
        ("a: &x 1\nb: *x\n", "f.yaml:1: b: found an alias (*), wanted the value itself"),
        ("a: &x [*x]", "f.yaml:1: a[0]: found an alias (*), wanted the value itself"),
        ("? [a]\n: 1\n", "f.yaml:1: found a list or mapping as a key, wanted a word"),
        (
            "\na: !env X",
            "f.yaml:2: a: found a value that cannot be read as '!env', wanted plain YAML",
        ),
        (
            "a: !!int x",
            "f.yaml:1: a: found a value that cannot be read as 'int', wanted plain YAML",
        ),
        (
            "a: !!python/object/apply:os.abort []",
            (
                "f.yaml:1: a: found a value that cannot be read as 'python/object/apply:os.abort', "
                "wanted plain YAML"
            ),
        ),
        (
            'a: "\\ud800"',
            "f.yaml:1: a: found a value that cannot be read as 'str', wanted plain YAML",
        ),
        (
            "a: 1\nm: *mini\n",
            (
                "f.yaml:2: found text that is not YAML (found undefined alias 'mini'), "
                "wanted quotes around a value that starts with *"
            ),
        ),
        (
            "a: 1\n  b: 2\n",
            (
                "f.yaml:2: found text that is not YAML (mapping values are not allowed here), "
                "wanted `key: value`"
            ),
        ),
        (
            "a: 1\n---\nb: 2\n",
            (
                "f.yaml:2: found text that is not YAML (but found another document), "
                "wanted `key: value`"
            ),
        ),
        (
            "a: \x00",
            (
                "f.yaml:1: found text that is not YAML (special characters are not allowed), "
                "wanted `key: value`"
            ),
        ),
        ("[" * 5000, "f.yaml:1: found text that is not YAML (too deep), wanted `key: value`"),
    ],
)
def test_a_problem_says_where_and_what(text, problem):
    assert told(text) == [problem]


def test_all_problems_of_a_file_are_told():
    assert len(told("a: 1\na: 2\nb: !x y\nc: &n 1\nd: *n\n")) == 3


def test_paths_read_as_one_writes_them_and_stay_on_one_line():
    assert dotted(("routes", 0, "header", "x-team")) == "routes[0].header.x-team"
    assert dotted(("a\nb",)) == "'a\\nb'"


@given(st.text(st.characters(codec="utf-8")) | st.text("ab:- \n[]{}*&!#'\"|>?,%~01.", max_size=60))
def test_no_text_raises_and_what_is_read_is_json(text):
    source = read_yaml("f.yaml", text)
    assert json.loads(json.dumps(source.value)) == source.value
    assert all("\n" not in str(problem) for problem in source.problems)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**17), 10**17)
        | st.text("abc é#:'\"", max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner)
        ),
    )
)
def test_json_reads_as_the_value_it_is(value):
    source = read_yaml("f.yaml", json.dumps(value, indent=1))
    assert (source.value, source.problems) == (value, ())
