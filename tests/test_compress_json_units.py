import json

import pytest
from driving import ENCODING, examples, policy, turn
from hypothesis import given
from hypothesis import strategies as st

from proxy.compress.json_units import json_items, json_rows, readable
from proxy.compress.layout import read_material, render
from proxy.types import Address, Kind, Leaf, Span
from proxy.wire import render as render_leaf

values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.text(max_size=12),
        st.sampled_from(['a"b\\', "},{", "漢字. Two.", "[1, 2"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=6,
)
dumps = st.sampled_from(
    [
        json.dumps,
        lambda v: json.dumps(v, indent=2),
        lambda v: json.dumps(v, ensure_ascii=False, separators=(",", ":")),
    ]
)


def kept(text, chosen):
    """What stands of a JSON text when only the units at ``chosen`` do."""
    given_turn = turn(text, Kind.JSON)
    material = read_material(given_turn, policy(), ENCODING)
    numbers = [i for i in chosen if i < len(material.units)]
    edits = render(material, numbers, ENCODING).edits
    leaves = {Address(0, 0): Leaf(Address(0, 0), text, Span(0, 0))}
    whole = len(numbers) == len(material.units)
    return render_leaf(edits[0], leaves) if edits else text if whole else None


@examples(200)
@given(st.lists(values, min_size=2, max_size=8), dumps, st.sets(st.integers(0, 7)))
def test_any_items_of_an_array_are_valid_json_and_just_those(items, dump, chosen):
    text = dump(items)
    if len(json_items(text)) != len(items):  # an inner array holds most of it
        return
    result = kept(text, chosen)
    if result is not None:  # None: too little to save a token
        assert json.loads(result) == [item for i, item in enumerate(items) if i in chosen]


@examples(150)
@given(st.lists(values, min_size=3, max_size=8), dumps, st.sets(st.integers(0, 7)))
def test_whatever_container_is_chosen_the_rest_is_valid_json(items, dump, chosen):
    text = dump({"rows": items, "n": len(items)})
    result = kept(text, chosen)
    if result is not None:
        assert json.loads(result).keys() == {"rows", "n"}


@examples(100)
@given(st.dictionaries(st.text(max_size=6), values, min_size=8, max_size=12), dumps)
def test_items_are_the_callers_own_characters(fields, dump):
    text = dump(fields)
    for span in json_items(text):
        item = span.of(text)
        assert item == item.strip()
        try:
            value = json.loads(item)
        except json.JSONDecodeError:
            value = json.loads(f"{{{item}}}")
        assert json.dumps(value)[1:-1] in json.dumps(fields)


def test_a_large_objects_fields_are_items_and_a_small_ones_are_not():
    large = json.dumps({f"k{i}": "some words" for i in range(9)})
    assert [s.of(large) for s in json_items(large)] == [f'"k{i}": "some words"' for i in range(9)]
    assert json_items('{"a": 1, "b": 2}') == ()


def test_nested_rows_are_found_behind_a_short_head():
    text = (
        '{"ok": true, "data": {"rows": [{"a": "x, y: some"}, {"a": "\\"z\\" or other"}]}, "n": 2}'
    )
    assert [s.of(text) for s in json_items(text)] == [
        '{"a": "x, y: some"}',
        '{"a": "\\"z\\" or other"}',
    ]


@pytest.mark.parametrize("text", ["", "]", "[1, 2", '["a, b', "{]}", "1, 2, 3", '"\\'])
def test_what_is_not_json_has_no_items(text):
    assert json_items(text) == ()


def test_values_one_after_the_other_are_items():
    text = '{"a": 1}\n{"b": [1]}\n'
    assert [s.of(text) for s in json_items(text)] == ['{"a": 1}', '{"b": [1]}']
    assert json_items('{"a": 1} and {"b": 2}') == ()


@examples(200)
@given(st.text('[]{},"\\ \n1a', max_size=40))
def test_items_of_any_text_are_in_order_and_disjoint(text):
    edges = [edge for span in json_items(text) for edge in span]
    assert edges == sorted(edges)


def page(number, rows):
    return {
        "page": number,
        "items": [{"id": i, "text": "x" * 80} for i in rows],
        "next": number + 1,
    }


def test_rows_of_many_pages_are_rows_and_the_pages_stay():
    text = json.dumps({"pages": [page(n, range(20 * n, 20 * n + 20)) for n in range(3)], "n": 60})
    assert [len(rows) for rows in json_rows(text)] == [20, 20, 20]
    left = json.loads(kept(text, {5, 25, 26}))
    assert [[item["id"] for item in p["items"]] for p in left["pages"]] == [[5], [25, 26], []]
    assert [(p["page"], p["next"]) for p in left["pages"]] == [(0, 1), (1, 2), (2, 3)]


pages = st.lists(st.integers(1, 12), min_size=1, max_size=4).map(
    lambda sizes: [page(n, range(100 * n, 100 * n + 15 + size)) for n, size in enumerate(sizes)]
)


@examples(60)
@given(pages, dumps, st.sets(st.integers(0, 100)), st.booleans())
def test_whatever_rows_of_pages_are_kept_it_stays_json_with_just_those(made, dump, chosen, within):
    text = dump({"data": {"pages": made}, "users": [{"id": -1, "text": "y" * 900}] * 2})
    text = dump([{"type": "text", "text": text}]) if within else text
    result = kept(text, chosen)
    if result is None:
        return
    value = json.loads(result)
    value = json.loads(value[0]["text"]) if within else value
    ids = [row["id"] for p in made for row in p["items"]] + [-1, -1]
    left = [row["id"] for p in value["data"]["pages"] for row in p["items"]]
    left += [row["id"] for row in value["users"]]
    assert left == [one for i, one in enumerate(ids) if i in chosen]


def test_short_items_are_rows_whatever_arrays_they_hold():
    rows = [
        {"id": i, "tags": ["some", "of", "these"], "of": [{"a": 1}, {"b": 2}]} for i in range(9)
    ]
    assert [span.of(json.dumps(rows)) for span in json_items(json.dumps(rows))] == [
        json.dumps(row) for row in rows
    ]


@pytest.mark.parametrize(
    "columns",
    [
        {"id": list(range(40)), "name": [f"n{i}" for i in range(40)]},
        {"documents": ["some text of it"] * 9, "metadatas": [{"page": i} for i in range(9)]},
    ],
)
def test_columns_have_no_rows(columns):
    assert json_items(json.dumps(columns)) == ()


def test_the_names_of_columns_stay():
    text = json.dumps({"columns": ["id", "name"], "rows": [[i, f"name {i}"] for i in range(40)]})
    assert [span.of(text) for span in json_items(text)][:2] == ['[0, "name 0"]', '[1, "name 1"]']
    text = json.dumps({"columns": ["id", "name of it"], "rows": [[i, "d" * 30] for i in range(3)]})
    assert [span.of(text) for span in json_items(text)] == [
        f'[{i}, "{"d" * 30}"]' for i in range(3)
    ]


def test_several_arrays_of_one_object_all_have_rows():
    text = json.dumps({"open": [{"a": i} for i in range(5)], "shut": [{"b": i} for i in range(4)]})
    assert [len(rows) for rows in json_rows(text)] == [5, 4]


def test_json_in_a_string_is_found_as_it_is_written():
    inner = json.dumps([{"city": "Cádiz", "note": "a\nb"}, {"city": 'the "other"', "note": ""}])
    text = json.dumps({"text": inner}).replace("C", r"\u0043")
    spans = json_items(text)
    assert [json.loads(json.loads(f'"{s.of(text)}"')) for s in spans] == json.loads(inner)


@pytest.mark.parametrize("text", ['{"text": "[1, 2"}', '{"text": "[just words, no json]"}', '"'])
def test_a_string_that_holds_no_json_has_no_rows(text):
    assert json_items(text) == ()


def test_escapes_are_read_for_what_they_mean():
    row = json.dumps({"text": json.dumps({"city": "Cádiz 🌧", "path": "a/b"})})
    assert readable(row) == '{"text": "{"city": "Cádiz 🌧", "path": "a/b"}"}'
    assert readable("plain") == "plain"


def test_a_deep_nest_is_read_in_one_pass():
    assert json_items("[" * 50_000 + "]" * 50_000) == ()
    deep = '{"a": ' * 20_000 + "[1, 2]" + "}" * 20_000
    assert json_items(deep) == ()
