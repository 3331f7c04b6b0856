import json

import pytest

from proxy.types import Address, Leaf, Message, Reason, Request, Span, ToolCall
from proxy.wire import Glimpse, Unparsed
from proxy.wire.responses import glimpse_responses, parse_responses


def leaf(raw, message, part, text):
    """The leaf whose JSON string is the only one in ``raw`` to hold ``text`` as it stands."""
    quoted = json.dumps(text, ensure_ascii=False).encode()
    assert raw.count(quoted) == 1
    start = raw.index(quoted)
    return Leaf(Address(message, part), text, Span(start, start + len(quoted)))


def messages_of(*items):
    return parse_responses(json.dumps({"input": items}).encode()).messages


def outline(*items):
    """What each message comes to: its index, role, texts."""
    return [(m.index, m.role, [leaf.text for leaf in m.leaves]) for m in messages_of(*items)]


def test_a_whole_request_is_understood():
    raw = b""" {
      "input": [
        {"role": "user", "content": "Is it late?"},
        {"type": "reasoning", "id": "rs", "summary": [], "content": [
          {"type": "reasoning_text", "text": "not this"}]},
        {"type": "message", "role": "assistant", "id": "msg", "status": "completed", "content": [
          {"type": "output_text", "text": "Let me look.", "annotations": []},
          {"type": "refusal", "refusal": "nor this"}]},
        {"type": "function_call", "call_id": "c1", "name": "clock", "arguments": "{\\"tz\\": 1}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "sh", "input": "date"},
        {"output": "half past two", "type": "function_call_output", "call_id": "c1"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [
          {"type": "input_text", "text": "2:30"},
          {"type": "input_image", "image_url": "data:,"},
          {"type": "input_text", "text": "CET"}]},
        {"type": "web_search_call", "status": "completed"},
        {"role": "developer", "content": [{"type": "input_text", "text": "Be kind."}]}
      ],
      "max_output_tokens": 123456789012345678901234567890, "top_p": 1e400,
      "text": {"verbosity": "low", "format": {"name": "n", "type": "json_schema"}},
      "previous_response_id": "resp_1", "stream": true, "model": "gpt-5",
      "instructions": "Be brief."
    } """
    assert parse_responses(raw) == Request(
        raw,
        "gpt-5",
        stream=True,
        messages=(
            Message(0, "system", (leaf(raw, 0, 0, "Be brief."),)),
            Message(1, "user", (leaf(raw, 1, 0, "Is it late?"),)),
            Message(2, "assistant"),
            Message(3, "assistant", (leaf(raw, 3, 0, "Let me look."),)),
            Message(4, "assistant", tool_calls=(ToolCall("c1", "clock", '{"tz": 1}'),)),
            Message(5, "assistant", tool_calls=(ToolCall("c2", "sh", "date"),)),
            Message(6, "tool", (leaf(raw, 6, 0, "half past two"),), tool_call_id="c1"),
            Message(
                7, "tool", (leaf(raw, 7, 0, "2:30"), leaf(raw, 7, 2, "CET")), tool_call_id="c2"
            ),
            Message(8, "assistant"),
            Message(9, "developer", (leaf(raw, 9, 0, "Be kind."),)),
        ),
        wants_json=True,
        continues=True,
    )


def test_an_input_that_is_a_string_is_the_users():
    raw = '{"model":"m","input":"Wie spät ist es?"}'.encode()
    said = leaf(raw, 1, 0, "Wie spät ist es?")
    assert parse_responses(raw) == Request(
        raw, "m", stream=False, messages=(Message(1, "user", (said,)),)
    )


@pytest.mark.parametrize(
    "raw", [b"{}", b'{"input":null,"instructions":null}', b'{"input":[]}', b'{"prompt":{"id":"p"}}']
)
def test_without_input_there_is_nothing_to_read(raw):
    assert parse_responses(raw) == Request(raw, None, stream=False, messages=())


@pytest.mark.parametrize(
    "item",
    [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "t"}]},
        {"type": "item_reference", "id": "msg_1"},
        {"type": "web_search_call"},
        {"type": "mcp_call", "output": "found"},
        {"type": "compaction", "encrypted_content": "e"},
        {"type": "something_new", "content": 7, "output": {"text": "t"}},
        {"type": "function_call", "name": "f"},
        {"type": "function_call", "name": "f", "call_id": "c", "arguments": {}},
        {"type": "message", "content": "t"},
        {"type": 7, "content": "t"},
        {"type": "message", "role": 7, "content": "t"},
        {"id": "msg_1"},
    ],
)
def test_what_the_model_made_closes_the_turn_once(item):
    asked, more = {"role": "user", "content": "a"}, {"role": "user", "content": "b"}
    closed = [(1, "user", ["a"]), (2, "assistant", [])]
    assert outline(asked, item, more) == [*closed, (3, "user", ["b"])]
    if "function_call" not in str(item):
        assert outline(asked, item, item, more) == [*closed, (4, "user", ["b"])]


@pytest.mark.parametrize(
    "kind", ["computer_call_output", "shell_call_output", "mcp_approval_response"]
)
def test_what_the_caller_answers_is_stepped_over(kind):
    asked = [{"role": "user", "content": text} for text in "ab"]
    item = {"type": kind, "call_id": "c", "output": [{"stdout": "x"}]}
    assert outline(asked[0], item, asked[1]) == [(1, "user", ["a"]), (3, "user", ["b"])]


@pytest.mark.parametrize("output", [None, 7, {"text": "t"}, [], [{"type": "input_image"}]])
def test_an_output_without_text_has_no_leaf(output):
    [message] = messages_of({"type": "function_call_output", "call_id": "c", "output": output})
    assert message == Message(1, "tool", tool_call_id="c")


def test_an_output_may_name_no_call():
    item = {"type": "function_call_output", "call_id": None, "output": "o"}
    assert [(m.tool_call_id, m.role) for m in messages_of(item)] == [(None, "tool")]


@pytest.mark.parametrize(
    ("written", "wants_json"),
    [
        ('{"format":{"type":"json_object"}}', True),
        ('{"format":{"type":"text"}}', False),
        ('{"format":null}', False),
        ('{"verbosity":"low"}', False),
        ("null", False),
        ('"json_object"', False),
    ],
)
def test_an_ask_for_json_is_understood(written, wants_json):
    request = parse_responses(f'{{"text":{written},"input":"a"}}'.encode())
    assert request.wants_json is wants_json


@pytest.mark.parametrize(
    "item",
    [
        {"role": "user", "content": [{"type": "input_text", "text": "a", "cache_control": {}}]},
        {"role": "user", "content": "a", "prompt_cache_breakpoint": {"mode": "explicit"}},
        {
            "type": "function_call_output",
            "output": [{"type": "input_text", "text": "a", "prompt_cache_breakpoint": {}}],
        },
    ],
)
def test_a_cache_breakpoint_is_seen(item):
    assert [message.breakpoint for message in messages_of(item)] == [True]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ('{"input":"a","input":"b"}', "input"),
        ('{"instructions":"a","instructions":"b"}', "instructions"),
        ('{"input":[{"role":"user","role":"user"}]}', "input[0].role"),
        ('{"input":[{"type":"message","type":"message"}]}', "input[0].type"),
        ('{"input":[{},{"content":"a","content":"b"}]}', "input[1].content"),
        ('{"input":[{"output":"a","output":"b"}]}', "input[0].output"),
        ('{"input":[{"call_id":"a","call_id":"b"}]}', "input[0].call_id"),
        (
            '{"input":[{"content":[{"type":"input_text","text":"a","text":"b"}]}]}',
            "input[0].content[0].text",
        ),
    ],
)
def test_a_key_twice_on_the_path_of_an_edit_passes_through(body, detail):
    with pytest.raises(Unparsed) as caught:
        parse_responses(body.encode())
    assert (caught.value.reason, caught.value.detail) == (
        Reason.DUPLICATE_KEY,
        f"{detail}: found twice, wanted once",
    )


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ("[]", "body: found a list, wanted an object"),
        ('{"input":7}', "input: found a number, wanted a string, a list or null"),
        ('{"input":["secret"]}', "input[0]: found a string, wanted an object"),
        (
            '{"input":[{"role":"user","content":["secret"]}]}',
            "input[0].content[0]: found a string, wanted an object",
        ),
        ('{"instructions":["secret"]}', "instructions: found a list, wanted a string"),
        ('{"model":5}', "model: found a number, wanted a string"),
        ('{"stream":"yes"}', "stream: found a string, wanted a boolean"),
        ('{"input":"a"} secret', "byte 14: found something else, wanted the end of the body"),
    ],
)
def test_what_is_not_understood_is_named_without_quoting_it(body, detail):
    with pytest.raises(Unparsed) as caught:
        parse_responses(body.encode())
    assert (caught.value.reason, caught.value.detail) == (Reason.UNPARSED, detail)


# -- at a glimpse ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": "hi", "model": "m", "stream": True, "instructions": "Be brief."},
        {"input": None, "instructions": None},
        {"input": [{"role": "user", "content": "a"}, {"type": "message", "role": "b"}]},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}]},
        {"input": [{"type": "function_call_output", "output": "o"}, {"type": "reasoning"}]},
        {"input": [{"type": "custom_tool_call_output", "output": [{"type": "input_image"}]}]},
        {"input": [{"type": "something_new", "content": "c", "output": "o"}]},
    ],
)
def test_a_glimpse_sees_what_reading_finds(body):
    raw = json.dumps(body).encode()
    read = parse_responses(raw)
    texts = tuple(leaf.text for message in read.messages for leaf in message.leaves)
    assert glimpse_responses(raw) == Glimpse(read.model, read.stream, texts)


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"input": 7},
        {"instructions": []},
        {"input": ["a"]},
        {"input": [{"content": "a"}]},
        {"input": [{"type": None, "role": "user", "content": "a"}]},
        {"input": [{"role": "user", "content": 7}]},
        {"input": "a", "model": 7},
        {"input": "a", "stream": 7},
    ],
)
def test_what_takes_a_proper_reading_is_not_glimpsed_at(body):
    assert glimpse_responses(json.dumps(body).encode()) is None
