import json
import os
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.types import Reason, Span
from proxy.wire import Unparsed, scan
from proxy.wire.scan import Cursor, Json, decode_string

examples = settings(max_examples=int(os.environ.get("LACONIC_EXAMPLES", "150")), deadline=None)

SCALARS = [
    "0",
    "-0",
    "1e400",
    "-1E+2",
    "0.10",
    "1" * 30,
    "9" * 5000,
    "true",
    "false",
    "null",
    '""',
    r'"\u00e9\/\"\\"',
    r'"\ud83d"',
    r'"\ud83d\ude00"',
    '"😀 é"',
    r'"a\nb"',
]
NOT_JSON = [
    "",
    " ",
    "NaN",
    "-Infinity",
    "nul",
    "truex",
    "01",
    "1.",
    ".5",
    "1e",
    "+1",
    "--1",
    "1 2",
    "[1,]",
    "[,1]",
    "[1 2]",
    "[1",
    "]",
    '{"a":1,}',
    '{"a" 1}',
    '{"a":}',
    "{a:1}",
    "{,}",
    '{"a":1',
    '{"a":1]',
    "[1}",
    '"\\x"',
    '"\\u12g4"',
    '"\\u+123"',
    '"tab\t"',
    '"nul\0"',
    '"open',
    '"\\"',
    "\x0b1",
    "\ufeff1",
    "'a'",
    "// x\n1",
]
WRAPPERS = ["@", "[@]", '[[],{},[0,@],"x"]', '{"a":@,"a":[{"b":@}]}', '[[[[[[[{"a":[[[@]]]}]]]]]]]']


def space():
    return st.sampled_from(["", "", "", " ", "\n\t", "\r\n  "])


def containers(inner):
    def glue(brackets):
        def joined(drawn):
            before, items = drawn
            return (
                brackets[0] + before + ",".join(a + item + b for a, item, b in items) + brackets[1]
            )

        return joined

    items = st.lists(st.tuples(space(), inner, space()), max_size=4)
    members = st.lists(
        st.tuples(
            space(),
            st.tuples(st.sampled_from(['"a"', r'"\u0061"', '""']), inner).map(":".join),
            space(),
        ),
        max_size=4,
    )
    return st.tuples(space(), items).map(glue("[]")) | st.tuples(space(), members).map(glue("{}"))


documents = st.recursive(st.sampled_from(SCALARS), containers, max_leaves=25)


def read_whole(raw):
    cursor = Cursor(raw)
    cursor.skip()
    cursor.end()


def accepts(raw):
    """Whether a skip over the whole body finds nothing to object to."""
    try:
        read_whole(raw)
    except Unparsed:
        return False
    return True


def walks(raw):
    """The same, stepping into every container instead of skipping it."""

    def walk(cursor):
        if cursor.peek() is Json.OBJECT:
            for _ in cursor.members():
                walk(cursor)
        elif cursor.peek() is Json.LIST:
            for _ in cursor.elements():
                walk(cursor)
        else:
            cursor.skip()

    try:
        cursor = Cursor(raw)
        walk(cursor)
        cursor.end()
    except Unparsed:
        return False
    return True


def is_json(raw):
    """The slow twin: the standard library, its numbers left as text and NaN refused."""

    def refuse(name):
        raise ValueError(name)

    try:
        text = raw.decode("utf-8")
        json.loads(text, parse_int=str, parse_float=str, parse_constant=refuse)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("text", SCALARS)
def test_every_valid_json_is_accepted(text, wrapper):
    raw = wrapper.replace("@", text).encode()
    assert is_json(raw)
    assert accepts(raw)
    assert walks(raw)


@pytest.mark.parametrize("wrapper", ["@", "[@]", '{"a":@}', "[[[[[[@]]]]]]", "[1,@,2]", "@ 1"])
@pytest.mark.parametrize("text", NOT_JSON)
def test_what_is_not_json_is_refused(text, wrapper):
    raw = wrapper.replace("@", text).encode()
    assert accepts(raw) is walks(raw) is is_json(raw)
    assert not accepts(text.encode())


@examples
@given(documents, space(), space())
def test_generated_documents_are_accepted(document, before, after):
    raw = (before + document + after).encode()
    assert is_json(raw)
    assert accepts(raw)
    assert walks(raw)


@examples
@given(documents, st.data())
@example("[[[[[[1]]]]]]", None)
def test_damaged_documents_are_judged_as_the_standard_library_judges_them(document, data):
    raw = document.encode()
    if data is not None:
        at = data.draw(st.integers(0, len(raw) - 1))
        until = data.draw(st.integers(at, min(at + 2, len(raw))))
        put = data.draw(
            st.sampled_from([b"", b",", b"]", b"}", b'"', b"\\", b"[", b"1", b"\x80", b" "])
        )
        raw = raw[:at] + put + raw[until:]
    assert accepts(raw) is walks(raw) is is_json(raw)


@examples
@given(st.binary(max_size=40))
def test_arbitrary_bytes_are_judged_as_the_standard_library_judges_them(raw):
    assert accepts(raw) is walks(raw) is is_json(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'[1,{"a":' * 50_000 + b"[]" + b"},2]" * 50_000,
    ],
    ids=["lists", "objects", "both"],
)
def test_depth_is_no_obstacle(raw):
    assert accepts(raw)
    assert not accepts(raw[:-1])
    assert not accepts(raw + b"]")


def test_large_strings_are_stepped_over():
    raw = b'["' + b"QUJD" * (2 * 1024 * 1024) + b'",1]'
    cursor = Cursor(raw)
    spans = [cursor.string() if cursor.peek() is Json.STRING else None for _ in cursor.elements()]
    cursor.end()
    assert spans == [Span(1, len(raw) - 3), None]


def test_a_body_made_to_cost_is_given_up():
    with pytest.raises(Unparsed, match="gave up"):
        Cursor(b"[" * (scan.MAX_STEPS + 1)).skip()


def test_the_last_step_of_the_bound_is_still_taken():
    items = (scan.MAX_STEPS - 2) // 2  # each takes two: itself, and what follows it
    cursor = Cursor(b"[" + b"0," * (items - 1) + b"0]")
    assert sum(1 for _ in cursor.elements()) == items
    with pytest.raises(Unparsed, match=f"found over {scan.MAX_STEPS} steps of structure, gave up"):
        cursor.end()


@pytest.mark.parametrize(
    ("value", "depth"),
    [
        (b"1", 0),
        (b'"a"', 0),
        (b"true", 0),
        (b"false", 0),
        (b"null", 0),
        (b"[ ]", 1),
        (b"[ 1 , 2 ]", 1),
        (b"{ }", 1),
        (b'{ "a" : 1 , "b" : null }', 1),
        (b"[[1], {}]", 2),
        (b'{"a":[1],"b":{"c":2}}', 2),
        (b'[{"a":[[]]}]', 4),
    ],
)
def test_a_pattern_takes_in_values_as_deep_as_it_says_and_no_deeper(value, depth):
    taken = [re.fullmatch(scan._value(deep), value) is not None for deep in range(5)]
    assert taken == [deep >= depth for deep in range(5)]


@pytest.mark.parametrize(
    "broken", [b"TRUE", b"[1,]", b"[1 2]", b'{"a":1,}', b'{"a"}', b"[,]", b"{1}"]
)
def test_no_pattern_takes_in_what_is_no_value(broken):
    assert [re.fullmatch(scan._value(deep), broken) for deep in range(4)] == [None] * 4


@pytest.mark.parametrize(
    ("raw", "step", "detail"),
    [
        (b" []", lambda c: c.expect(Json.OBJECT, "x"), "x: found a list, wanted an object"),
        (
            b"x",
            lambda c: c.expect(Json.OBJECT, "x"),
            "byte 0: found something else, wanted a value",
        ),
        (
            b"",
            lambda c: c.expect(Json.LIST, "x"),
            "byte 0: found the end of the body, wanted a value",
        ),
        (b"1", lambda c: c.string(), "byte 0: found a digit, wanted a string"),
        (b'{"a":1}', lambda c: c.string(), "byte 0: found '{', wanted a string"),
        (b"X", lambda c: c.skip(), "byte 0: found something else, wanted a value"),
        (b"7", lambda c: [*c.members()], "byte 0: found a digit, wanted a key, ':', ',' or '}'"),
        (b"7", lambda c: [*c.elements()], "byte 0: found a digit, wanted ',' or ']'"),
    ],
)
def test_each_step_says_what_it_wanted(raw, step, detail):
    with pytest.raises(Unparsed) as caught:
        step(Cursor(raw))
    assert caught.value.detail == detail


def test_what_begins_no_value_is_nothing():
    assert [Cursor(raw).peek() for raw in (b"x", b"}", b"")] == [Json.NOTHING] * 3


def test_json_is_told_from_other_text_whatever_its_numbers():
    assert [scan.is_json(text) for text in ("1" * 5_000, "1e999", "NaN")] == [True] * 3
    assert [scan.is_json(text) for text in ("{1}", "", "[" * 100_000)] == [False] * 3


def test_keys_are_decoded_and_values_are_not():
    cursor = Cursor(rb' {"b\u0061r" : 1e400 , "" : [ 1 , 2 ], "x":{}} ')
    seen = [(key, cursor.peek(), cursor.position) for key in cursor.members()]
    cursor.end()
    assert seen == [("bar", Json.NUMBER, 15), ("", Json.LIST, 28), ("x", Json.OBJECT, 43)]


@pytest.mark.parametrize(
    ("quoted", "text"),
    [
        (b'""', ""),
        ('"é😀"'.encode(), "é😀"),
        (rb'"\u00e9\ud83d\ude00\/\n"', "é😀/\n"),
        (rb'"\ud83d"', "\ud83d"),
        (rb'"\ude00\ud83d"', "\ude00\ud83d"),
        (rb'"\\ud83d"', "\\ud83d"),
    ],
)
def test_strings_are_decoded_as_json_has_them(quoted, text):
    assert decode_string(quoted) == text


PARTS = [r"\"", r"\\", r"\\\"", r"\n", r"\u00e9", r"\ud83d", "é", "ab", " "]


@given(
    st.lists(st.sampled_from(PARTS), max_size=90), st.sampled_from(["", "]", ',"x"]', '"', "\\"])
)
def test_a_text_is_what_json_reads_and_ends_where_the_string_does(parts, after):
    quoted = f'"{"".join(parts)}"'
    cursor = Cursor(f"{quoted}{after}".encode())
    assert cursor.text() == json.loads(quoted)
    assert cursor.position == len(quoted.encode())


@pytest.mark.parametrize(
    ("before", "quoted", "after"),
    [
        ("[", '""', ',""]'),
        ("[", '"a"', ',"b"]'),
        ("[", r'"\""', ',"b"]'),
        ("[", r'"a\"b"', r',"\""]'),
        ("[", json.dumps('x"' * 40), ',"b"]'),
    ],
)
def test_most_texts_are_read_without_a_regular_expression(monkeypatch, before, quoted, after):
    cursor = Cursor(f"{before}{quoted}{after}".encode())
    monkeypatch.setattr(Cursor, "string", None)
    for _ in cursor.elements():
        assert cursor.text() == json.loads(quoted)
        assert cursor.position == len(f"{before}{quoted}")
        break


def test_where_more_quotes_are_escaped_a_regular_expression_is_as_quick(monkeypatch):
    raw = json.dumps('x"' * 41)
    assert Cursor(raw.encode()).text() == json.loads(raw)
    monkeypatch.setattr(Cursor, "string", None)
    with pytest.raises(TypeError):
        Cursor(raw.encode()).text()


def test_a_text_is_a_step(monkeypatch):
    cursor = Cursor(b'"a"')  # one step: the space before it
    monkeypatch.setattr(scan, "MAX_STEPS", 3)
    for _ in range(2):
        assert cursor.text() == "a"
        cursor.back(0)
    with pytest.raises(Unparsed, match="over 3 steps"):
        cursor.text()


@given(st.lists(st.sampled_from([*PARTS, '"', "\n", r"\x", "1"]), max_size=12).map("".join))
def test_a_text_is_refused_as_a_string_is(raw):
    found = []
    for read in (Cursor.text, Cursor.string):
        cursor = Cursor(raw.encode())
        try:
            read(cursor)
        except Unparsed as error:
            found.append((error.detail, error.__context__))
        else:
            found.append(cursor.position)
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("raw", "detail"),
    [
        (b'{"a" secret}', "byte 5: found something else, wanted a key, ':', ',' or '}'"),
        (b'{"a":[[[[1]]]] "b"}', "byte 15: found '\"', wanted a key, ':', ',' or '}'"),
        (b'{"a":1, ]', "byte 8: found ']', wanted a key, ':', ',' or '}'"),
        (b"[1 secret]", "byte 3: found something else, wanted ',' or ']'"),
        (b"[1, ", "byte 4: found the end of the body, wanted a value"),
        (b"1 2", "byte 2: found a digit, wanted the end of the body"),
        (b'["\xff"]', "byte 2: found invalid UTF-8, wanted UTF-8"),
    ],
)
def test_errors_say_what_and_where_but_never_quote(raw, detail):
    with pytest.raises(Unparsed) as caught:
        read_whole(raw)
    assert (caught.value.detail, caught.value.reason) == (detail, Reason.UNPARSED)
    assert caught.value.__context__ is None
