import json

import pytest

from proxy.types import Address, Leaf, Message, Reason, Request, Span, ToolCall
from proxy.wire import Glimpse, Unparsed
from proxy.wire.chat import glimpse_chat, parse_chat


def leaf(raw, message, part, text):
    """The leaf whose JSON string is the only one in ``raw`` to hold ``text`` as it stands."""
    quoted = json.dumps(text, ensure_ascii=False).encode()
    assert raw.count(quoted) == 1
    start = raw.index(quoted)
    return Leaf(Address(message, part), text, Span(start, start + len(quoted)))


def in_messages(message):
    return '{"messages":[{"role":"system","content":"s"},' + message + "]}"


def test_a_whole_request_is_understood():
    raw = """ {
      "temperature": 1e400, "model": "gpt-4o", "stream": true,
      "messages": [
        {"content": "Be brief.", "role": "system", "x": [[[[[{"content": 5}]]]]]},
        {"role": "user", "name": "ann", "content": [
          {"text": "café 😀", "type": "text"},
          {"type": "image_url", "image_url": {"url": "data:,", "text": "not this"}},
          {"type": "text", "text": "second", "annotations": []},
          {"type": "input_audio", "text": "nor this"}]},
        {"role": "assistant", "content": null, "refusal": null, "tool_calls": [
          {"id": "c1", "type": "function", "function": {"arguments": "{\\"q\\": 1}", "name": "f"}},
          {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "x"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "result"},
        {"role": "assistant", "refusal": "No."},
        {"role": "narrator", "content": ""}
      ],
      "seed": 123456789012345678901234567890
    } """.encode()
    assert parse_chat(raw) == Request(
        raw,
        "gpt-4o",
        stream=True,
        messages=(
            Message(0, "system", (leaf(raw, 0, 0, "Be brief."),)),
            Message(1, "user", (leaf(raw, 1, 0, "café 😀"), leaf(raw, 1, 2, "second")), name="ann"),
            Message(2, "assistant", tool_calls=(ToolCall("c1", "f", '{"q": 1}'),)),
            Message(3, "tool", (leaf(raw, 3, 0, "result"),), tool_call_id="c1"),
            Message(4, "assistant"),
            Message(5, "narrator", (leaf(raw, 5, 0, ""),)),
        ),
    )


def test_a_leaf_is_decoded_and_its_range_holds_the_string_as_written():
    raw = rb'{"messages":[{"role":"user","content":"\u00e9\/\ud83d\ude00\ud83d \ud83d\ude00"}]}'
    [found] = parse_chat(raw).messages[0].leaves
    assert found.text == "é/😀\ud83d 😀"
    assert raw[slice(*found.raw)] == rb'"\u00e9\/\ud83d\ude00\ud83d \ud83d\ude00"'


def test_keys_may_be_written_with_escapes():
    part = rb'{"type":"te\u0078t","text":"a"}'
    raw = rb'{"m\u0065ssages":[{"\u0072ole":"user","conten\u0074":[%s]}]}' % part
    assert parse_chat(raw).messages == (
        Message(
            0, "user", (Leaf(Address(0, 0), "a", Span(raw.index(b'"a"'), raw.index(b'"a"') + 3)),)
        ),
    )


def test_no_messages_are_a_request_all_the_same():
    assert parse_chat(b'{"messages":[]}') == Request(
        b'{"messages":[]}', None, stream=False, messages=()
    )


@pytest.mark.parametrize(
    ("fields", "understood"),
    [
        ('"model":null,"stream":null', (None, False)),
        ('"model":"a","stream":false', ("a", False)),
        ('"model":"a","model":"b","stream":true,"stream":false', ("b", False)),
        ('"model":"a","stream":false,"model":null,"stream":true', (None, True)),
    ],
)
def test_of_two_equal_keys_off_the_path_the_last_counts(fields, understood):
    request = parse_chat(b'{%s,"messages":[]}' % fields.encode())
    assert (request.model, request.stream) == understood


@pytest.mark.parametrize(
    ("written", "wants_json"),
    [
        ('{"type":"json_object"}', True),
        ('{"json_schema":{"type":"text"},"type":"json_schema"}', True),
        ('{"type":"text"}', False),
        ('{"type":null}', False),
        ("{}", False),
        ("null", False),
        ('"json_object"', False),
    ],
)
def test_an_ask_for_json_is_understood(written, wants_json):
    request = parse_chat(f'{{"response_format":{written},"messages":[]}}'.encode())
    assert request.wants_json is wants_json


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ('{"messages":[],"messages":[]}', "messages"),
        (r'{"messages":[],"m\u0065ssages":[]}', "messages"),
        (in_messages('{"role":"user","role":"user"}'), "messages[1].role"),
        (in_messages('{"role":"user","content":null,"content":"a"}'), "messages[1].content"),
        (
            in_messages('{"role":"tool","tool_call_id":"a","x":1,"tool_call_id":"a"}'),
            "messages[1].tool_call_id",
        ),
        (
            in_messages('{"content":[{"type":"text","text":"a","text":"a"}],"role":"user"}'),
            "messages[1].content[0].text",
        ),
        (
            in_messages('{"content":[{},{"type":"image","type":"text"}]}'),
            "messages[1].content[1].type",
        ),
    ],
)
def test_a_key_twice_on_the_path_of_an_edit_passes_through(body, detail):
    with pytest.raises(Unparsed) as caught:
        parse_chat(body.encode())
    assert (caught.value.reason, caught.value.detail) == (
        Reason.DUPLICATE_KEY,
        f"{detail}: found twice, wanted once",
    )


def test_a_key_twice_elsewhere_is_harmless():
    raw = (
        b'{"x":1,"x":2,"tools":[{"messages":[],"messages":[]}],"messages":['
        b'{"role":"user","name":"a","name":"b","meta":{"role":1,"role":2},'
        b'"content":[{"type":"text","text":"a","z":1,"z":2}]}]}'
    )
    [message] = parse_chat(raw).messages
    assert (message.name, [leaf.text for leaf in message.leaves]) == ("b", ["a"])


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ("[]", "body: found a list, wanted an object"),
        ('"secret"', "body: found a string, wanted an object"),
        ("", "byte 0: found the end of the body, wanted a value"),
        ("{}", "messages: found nothing, wanted a list"),
        ('{"messages":null}', "messages: found null, wanted a list"),
        ('{"messages":{"role":"user"}}', "messages: found an object, wanted a list"),
        ('{"messages":["secret"]}', "messages[0]: found a string, wanted an object"),
        ('{"messages":[{"role":7}]}', "messages[0].role: found a number, wanted a string"),
        ('{"messages":[{"content":"secret"}]}', "messages[0].role: found nothing, wanted a string"),
        (
            in_messages('{"role":"user","content":7}'),
            "messages[1].content: found a number, wanted a string, a list or null",
        ),
        (
            in_messages('{"role":"user","content":["secret"]}'),
            "messages[1].content[0]: found a string, wanted an object",
        ),
        (
            in_messages('{"role":"user","name":[]}'),
            "messages[1].name: found a list, wanted a string",
        ),
        (
            in_messages('{"role":"tool","tool_call_id":1}'),
            "messages[1].tool_call_id: found a number, wanted a string",
        ),
        (
            in_messages('{"role":"assistant","tool_calls":{}}'),
            "messages[1].tool_calls: found an object, wanted a list",
        ),
        (
            in_messages('{"role":"assistant","tool_calls":[1]}'),
            "messages[1].tool_calls[0]: found a number, wanted an object",
        ),
        ('{"model":5,"messages":[]}', "model: found a number, wanted a string"),
        (r'{"model":"\ud83d","messages":[]}', "model: found a lone surrogate, wanted a name"),
        ('{"stream":"yes","messages":[]}', "stream: found a string, wanted a boolean"),
        ('{"messages":[]} secret', "byte 16: found something else, wanted the end of the body"),
        ('{"messages":[],"x":NaN}', "byte 19: found something else, wanted a value"),
        ('\ufeff{"messages":[]}', "byte 0: found something else, wanted a value"),
        ('{"messages":[{"role":"user","content":"a\nb"}]}', "byte 38: found '\"', wanted a string"),
    ],
)
def test_what_is_not_understood_is_named_without_quoting_it(body, detail):
    with pytest.raises(Unparsed) as caught:
        parse_chat(body.encode())
    assert (caught.value.reason, caught.value.detail) == (Reason.UNPARSED, detail)


@pytest.mark.parametrize(
    "raw", [b'{"messages":[],"x":"\xff"}', b'{"messages":[],"x":"\xed\xa0\xbd"}']
)
def test_invalid_utf8_is_not_understood(raw):
    with pytest.raises(Unparsed, match=r"byte 20: found invalid UTF-8"):
        parse_chat(raw)


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ('[{"type":"text"}]', []),
        ('[{"type":"text","text":null}]', []),
        ('[{"type":"text","text":["a"]}]', []),
        ('[{"type":7,"text":"a"}]', []),
        ('[{"text":"a"}]', []),
        ('[{"type":"refusal","refusal":"a"}]', []),
        ("[]", []),
        ("null", []),
        ('[{"type":"text","text":"a"},{"type":"text","text":""}]', ["a", ""]),
    ],
)
def test_only_text_parts_hold_leaves(content, texts):
    [message] = parse_chat(
        b'{"messages":[{"role":"user","content":%s}]}' % content.encode()
    ).messages
    assert [leaf.text for leaf in message.leaves] == texts


@pytest.mark.parametrize(
    ("message", "marked"),
    [
        ('{"role":"user","content":"a","cache_control":{"type":"ephemeral"}}', True),
        ('{"role":"user","prompt_cache_breakpoint":{"mode":"explicit"}}', True),
        (
            '{"content":[{"type":"image_url"},{"cache_control":{},"type":"text","text":"a"}],"role":"user"}',
            True,
        ),
        ('{"role":"user","content":[{"type":"image_url","prompt_cache_breakpoint":{}}]}', True),
        ('{"role":"user","content":"a","cache_control":null}', False),
        ('{"role":"user","content":[{"type":"text","text":"a","cache_control":null}]}', False),
        ('{"role":"user","content":"cache_control","meta":{"cache_control":{}}}', False),
    ],
)
def test_a_cache_breakpoint_is_seen_on_the_message_or_a_part(message, marked):
    [found] = parse_chat(b'{"messages":[%s]}' % message.encode()).messages
    assert found.breakpoint is marked


@pytest.mark.parametrize(
    "call",
    [
        '{"id":"c"}',
        '{"id":null,"function":{"name":"f","arguments":"{}"}}',
        '{"id":"c","function":{"name":"f","arguments":{}}}',
        '{"id":"c","function":"f"}',
    ],
)
def test_tool_calls_of_another_shape_are_left_out(call):
    body = b'{"messages":[{"role":"assistant","tool_calls":[%s]}]}' % call.encode()
    assert parse_chat(body).messages == (Message(0, "assistant"),)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ('{"arguments":"{}","name":"f"}', (ToolCall("function f", "f", "{}"),)),
        ('{"name":"f"}', ()),
        ('{"name":7,"arguments":"{}"}', ()),
        ("null", ()),
        ('"auto"', ()),
    ],
)
def test_a_call_of_the_older_kind_is_known_by_its_name(call, expected):
    body = b'{"messages":[{"role":"assistant","content":null,"function_call":%s}]}' % call.encode()
    assert parse_chat(body).messages == (Message(0, "assistant", tool_calls=expected),)


@pytest.mark.parametrize(
    ("name", "answered"), [('"f"', "function f"), ("null", None), ('""', None)]
)
def test_the_result_of_a_function_answers_the_call_of_that_name(name, answered):
    body = b'{"messages":[{"role":"function","name":%s,"content":null}]}' % name.encode()
    assert parse_chat(body).messages[0].tool_call_id == answered


def test_tool_calls_may_be_null():
    body = b'{"messages":[{"tool_calls":null,"role":"assistant"}]}'
    assert parse_chat(body).messages == (Message(0, "assistant"),)


def test_ten_thousand_messages():
    messages = [{"role": "user", "content": f"message {number}"} for number in range(10_000)]
    found = parse_chat(json.dumps({"messages": messages}).encode()).messages
    assert [(m.index, m.leaves[0].text) for m in found] == [
        (number, f"message {number}") for number in range(10_000)
    ]


def test_a_large_image_and_a_large_text():
    text = "word é " * (1024 * 1024)
    parts = [
        {
            "type": "image_url",
            "image_url": {"url": "data:image/png;base64," + "QUJD" * (1024 * 1024)},
        },
        {"type": "text", "text": text},
    ]
    raw = json.dumps({"messages": [{"role": "user", "content": parts}]}).encode()
    [message] = parse_chat(raw).messages
    assert [(leaf.address, leaf.text == text) for leaf in message.leaves] == [(Address(0, 1), True)]


# -- at a glimpse ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b'{"messages":[]}',
        b' {"stream":true,"messages":[{"role":"user","content":"hi"}],"model":"gpt-4o"} ',
        b'{"model":"a","messages":[],"model":"b","stream":null,"n":1e300}',
        '{"model":"größer","messages":[{"role":"user","content":"é\\\\u00e9"}]}'.encode(),
        b'{"messages":[{"role":"a","content":null},{"role":"b","content":[]},{"role":"c"}]}',
        b'{"messages":[{"role":"u","content":[{"type":"text","text":"a"},{"type":"x","text":"b"}]}]}',
        b'{"model":null,"stream":false,"messages":[]}',
    ],
)
def test_a_glimpse_sees_what_reading_finds(raw):
    read = parse_chat(raw)
    texts = tuple(leaf.text for message in read.messages for leaf in message.leaves)
    assert glimpse_chat(raw) == Glimpse(read.model, read.stream, texts)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"messages":{}}',
        b'{"messages":[NaN]}',
        b'{"messages":[1e400]}',
        b'{"messages":["hi"]}',
        b'{"messages":[{"content":7}]}',
        b'{"messages":[{"content":["a"]}]}',
        b'{"messages":{"content":"a"}}',
        b'{"messages":[],"model":7}',
        b'{"messages":[],"stream":1}',
        b'{"messages":[],"model":"\\ud800"}',
        b'{"messages":[],"model":"\xff"}',
        '{"messages":[]}'.encode("utf-16"),
        b'{"messages":[' + b"[" * 30_000 + b"]" * 30_000 + b"]}",
        b'{"messages":[' + b"1" * 5_000 + b"]}",
        b'{"messages":["' + b"a" * 65_536 + b'"]}',
    ],
)
def test_what_takes_a_proper_reading_is_not_glimpsed_at(raw):
    assert glimpse_chat(raw) is None
