import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_wire_splice import items, messages, strings

from proxy.types import Address, LeafEdit, Mark, Quote, Span
from proxy.wire import Beginning, Unparsed, leaves_of, parse_chat, scan, splice
from proxy.wire.beginnings import Place, key_of
from proxy.wire.completions import parse_completion
from proxy.wire.responses import parse_responses

examples = settings(max_examples=int(os.environ.get("LACONIC_EXAMPLES", "150")), deadline=None)

USER = '{"role":"user","content":"Where is the canal?"}'
ASSISTANT = '{"role":"assistant","content":"In Greece."}'
SYSTEM = '{"role":"system","content":"Answer."}'
PARSERS = {"messages": parse_chat, "input": parse_responses}


class Remembers(dict):
    """Keeps everything, and counts what it was asked for in vain and not."""

    def __init__(self):
        super().__init__()
        self.found = []

    def get(self, key):
        known = super().get(key)
        self.found.append(known is not None)
        return known

    def put(self, key, result):
        self[key] = result


def body(key, listed, before="", after=',"model":"m"'):
    return f'{{{before}"{key}":[{",".join(listed)}]{after}}}'.encode()


def read(parse, raw, memory=None):
    """What a body comes to, be it an error."""
    try:
        return parse(raw, memory)
    except Unparsed as error:
        return str(error), error.reason


@st.composite
def changed(draw, raw):
    """A body that begins as this one does, up to some byte."""
    at = draw(st.integers(0, len(raw)))
    end = draw(st.integers(at, min(len(raw), at + 3)))
    return (
        raw[:at] + draw(st.sampled_from([b"", b"\xff", b'"', b"}", b"{", b" ", b","])) + raw[end:]
    )


@examples
@given(st.data(), st.sampled_from(sorted(PARSERS)))
def test_what_is_read_does_not_depend_on_what_was_read_before(data, key):
    listed = data.draw(st.lists(messages() if key == "messages" else items(), max_size=6))
    listed.insert(data.draw(st.integers(0, len(listed))), USER)
    memory, parse = Remembers(), PARSERS[key]
    before = data.draw(st.sampled_from(["", '"model":"m",', '"stream":true,']))
    lengths = data.draw(st.lists(st.integers(0, len(listed)), min_size=1, max_size=4))
    for length in [*lengths, len(listed)]:
        raw = body(key, listed[:length], before)
        assert read(parse, raw, memory) == read(parse, raw)
        other = data.draw(changed(raw))
        assert read(parse, other, memory) == read(parse, other)


@examples
@given(st.data(), st.sampled_from(sorted(PARSERS)))
def test_what_is_written_does_not_depend_on_what_was_written_before(data, key):
    texts = data.draw(st.lists(strings, min_size=1, max_size=6))
    said = [f'{{"role":"user","content":"{text}"}}' for text in texts]
    memory, parse = Remembers(), PARSERS[key]
    lengths = data.draw(st.lists(st.integers(1, len(said)), min_size=2, max_size=4))
    for length in lengths:
        raw = body(key, said[:length])
        fresh, known = parse(raw), parse(raw, memory)
        leaves = leaves_of(fresh)
        edits = [
            LeafEdit(
                address,
                data.draw(
                    st.sampled_from(
                        [
                            (Span(0, len(leaf.text) // 2), Mark.ELISION),
                            (Quote(min(leaves), Span(0, 0)), Span(0, len(leaf.text))),
                            (Quote(max(leaves), Span(0, len(leaves[max(leaves)].text))),),
                        ]
                    )
                ),
            )
            for address, leaf in leaves.items()
        ]
        assert splice(known, edits) == splice(fresh, edits)


@pytest.mark.parametrize("key", sorted(PARSERS))
def test_a_conversation_that_goes_on_is_read_from_where_it_was(key):
    memory, parse = Remembers(), PARSERS[key]
    first = parse(body(key, [SYSTEM, USER]), memory)
    second = parse(body(key, [SYSTEM, USER, ASSISTANT, USER]), memory)
    assert memory.found == [False, True]
    assert len(memory) == 1
    assert all(a is b for a, b in zip(first.messages, second.messages, strict=False))
    assert second.spellings is first.spellings
    third = parse(body(key, [SYSTEM, USER, ASSISTANT, USER, ASSISTANT]), memory)
    assert [a is b for a, b in zip(second.messages, third.messages, strict=False)] == [True] * 4


def test_a_conversation_that_went_another_way_is_read_on_from_where_it_parted():
    memory = Remembers()
    one = parse_chat(body("messages", [USER, ASSISTANT, USER, ASSISTANT]), memory)
    other = parse_chat(body("messages", [USER, ASSISTANT, ASSISTANT, USER]), memory)
    same = [a is b for a, b in zip(one.messages, other.messages, strict=True)]
    assert same == [True, True, False, False]


def test_another_opening_is_another_conversation():
    memory = Remembers()
    for listed in ([SYSTEM, USER], [USER], [SYSTEM, SYSTEM, USER]):
        parse_chat(body("messages", listed), memory)
    assert memory.found == [False] * 3
    assert len(memory) == 3


@pytest.mark.parametrize("listed", [[], [SYSTEM], [SYSTEM, ASSISTANT]])
def test_without_a_user_there_is_nothing_to_go_by(listed):
    memory = Remembers()
    parse_chat(body("messages", listed), memory)
    assert memory.found == []
    assert memory == {}


def test_a_string_for_input_is_no_conversation():
    memory = Remembers()
    parse_responses(b'{"input":"Where?","instructions":"Answer."}', memory)
    parse_completion(b'{"prompt":["Where?","When?"]}', memory)
    assert memory == {}


@pytest.mark.parametrize(
    "after", [',"stream":1', ',"messages":[]', ',"model":"\\ud800"', ',"n":01', "}"]
)
def test_a_body_that_is_not_understood_is_not_remembered(after):
    memory = Remembers()
    with pytest.raises(Unparsed):
        parse_chat(body("messages", [USER], after=after), memory)
    assert memory == {}


def test_what_follows_the_messages_is_each_body_s_own():
    memory = Remembers()
    parse_chat(body("messages", [USER], after=',"stream":true,"model":"a"'), memory)
    after = ',"model":"b","response_format":{"type":"json_object"}'
    again = parse_chat(body("messages", [USER], after=after), memory)
    assert (again.model, again.stream, again.wants_json) == ("b", False, True)


@pytest.mark.parametrize("most", [47, 48, 49, 80, 126, 127, 128])
def test_steps_count_whether_they_were_taken_now_or_before(most, monkeypatch):
    monkeypatch.setattr(scan, "MAX_STEPS", most)
    memory = Remembers()
    for length in range(1, 40):
        raw = body("messages", [USER] * length)
        came_to = read(parse_chat, raw, memory)
        assert came_to == read(parse_chat, raw)
    assert memory.found == [False] + [True] * 38
    refused, _ = came_to
    assert refused.endswith(f"found over {most} steps of structure, gave up")


@pytest.mark.parametrize("count", range(8))
def test_bodies_are_compared_up_to_the_end_of_a_message(count):
    places = tuple(Place(3 * number + 3, number, number) for number in range(7))
    known = Beginning(b"[" + b"aa," * 7, (), places, {})
    raw = known.raw[: 3 * count + 2] + b"#"
    assert known.shared_with(raw) == places[:count]
    assert known.shared_with(known.raw) == places


def test_a_key_is_of_the_whole_opening():
    assert len({key_of(opening) for opening in (b"", b"a", b"ab", b"b")}) == 4
    assert len(key_of(b"a")) == 16


def test_weight_covers_the_body_and_its_messages():
    raw = body("messages", [USER, ASSISTANT] * 50)
    memory = Remembers()
    parse_chat(raw, memory)
    [known] = memory.values()
    assert known.weight_bytes == 3 * len(raw) + 100 * 500


# -- what edits were written as -------------------------------------------------------------------


def cut(number, *pieces):
    return LeafEdit(Address(number, 0), pieces)


def test_an_edit_that_was_written_is_written_once():
    memory, edit = Remembers(), cut(0, Span(0, 5))
    first = parse_chat(body("messages", [USER]), memory)
    splice(first, [edit])
    written = first.spellings[Address(0, 0)]
    assert written.written == b'"Where"'
    second = parse_chat(body("messages", [USER, ASSISTANT, USER]), memory)
    made = splice(second, [edit, cut(2, Span(0, 8))])
    assert second.spellings[Address(0, 0)] is written
    contents = [m["content"] for m in json.loads(made)["messages"]]
    assert contents == ["Where", "In Greece.", "Where is"]


def test_another_edit_is_written_anew():
    request = parse_chat(body("messages", [USER]))
    assert b'"Where"' in splice(request, [cut(0, Span(0, 5))])
    assert b'"canal"' in splice(request, [cut(0, Span(13, 18))])
    assert b'"Where"' in splice(request, [cut(0, Span(0, 5))])


def test_a_quote_of_another_text_is_written_anew():
    memory = Remembers()
    edit = cut(0, Quote(Address(1, 0), Span(0, 2)))
    one = parse_chat(body("messages", [USER, USER]), memory)
    other = parse_chat(body("messages", [USER, ASSISTANT]), memory)
    assert other.messages[0] is one.messages[0]
    assert b'"content":"Wh"' in splice(one, [edit])
    assert b'"content":"In"' in splice(other, [edit])


def test_what_is_wrong_is_found_though_the_address_was_written_before():
    request = parse_chat(body("messages", [USER]))
    splice(request, [cut(0, Span(0, 5))])
    with pytest.raises(ValueError, match="wanted a span of"):
        splice(request, [cut(0, Span(0, 500))])
    with pytest.raises(ValueError, match="found two edits, wanted one"):
        splice(request, [cut(0, Span(0, 5))] * 2)
