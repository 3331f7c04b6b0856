import json

import pytest
from driving import ENCODING, examples, policy, turn
from hypothesis import given
from hypothesis import strategies as st

from proxy.compress.json_units import json_items
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
