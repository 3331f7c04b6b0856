import json

import pytest

from proxy.types import Address, Leaf, Message, Reason, Request, Span
from proxy.wire import Glimpse, Unparsed
from proxy.wire.completions import glimpse_completion, parse_completion


def prompt(raw, number, text):
    quoted = json.dumps(text, ensure_ascii=False).encode()
    start = raw.index(quoted)
    leaf = Leaf(Address(number, 0), text, Span(start, start + len(quoted)))
    return Message(number, "user", (leaf,))


@pytest.mark.parametrize("written", ['"Once, in Köln"', '["Once, in Köln"]'])
def test_a_prompt_is_a_users_message(written):
    extra = '"echo":false,"suffix":null,"logprobs":1e2,"stream":true'
    raw = f'{{"prompt":{written},"model":"davinci-002",{extra}}}'.encode()
    assert parse_completion(raw) == Request(
        raw, "davinci-002", stream=True, messages=(prompt(raw, 0, "Once, in Köln"),)
    )


def test_several_prompts_are_separate():
    raw = b'{"prompt":["a","b" , "c"]}'
    messages = tuple(prompt(raw, number, text) for number, text in enumerate("abc"))
    assert parse_completion(raw) == Request(
        raw, None, stream=False, messages=messages, separate=True
    )


def test_no_prompts_are_a_request_all_the_same():
    raw = b'{"prompt":[]}'
    assert parse_completion(raw) == Request(raw, None, stream=False, messages=())


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ("{}", "prompt: found nothing, wanted a string"),
        ('{"prompt":null}', "prompt: found null, wanted a string or a list"),
        ('{"prompt":[1,2]}', "prompt[0]: found a number, wanted a string"),
        ('{"prompt":["secret",[1]]}', "prompt[1]: found a list, wanted a string"),
        (
            '{"echo":true,"prompt":"secret"}',
            "echo: found true, wanted an answer that does not repeat the prompt",
        ),
        ('{"prompt":"secret","suffix":"secret"}', "suffix: found a string, wanted none"),
        ('{"prompt":"secret","echo":1}', "echo: found a number, wanted a boolean"),
        ('{"prompt":"a","model":1}', "model: found a number, wanted a string"),
    ],
)
def test_what_is_not_for_us_is_named_without_quoting_it(body, detail):
    with pytest.raises(Unparsed) as caught:
        parse_completion(body.encode())
    assert (caught.value.reason, caught.value.detail) == (Reason.UNPARSED, detail)


def test_a_prompt_twice_passes_through():
    with pytest.raises(Unparsed) as caught:
        parse_completion(b'{"prompt":"a","prompt":"b"}')
    assert caught.value.reason is Reason.DUPLICATE_KEY


def test_a_glimpse_sees_what_reading_finds():
    raw = b'{"prompt":"a","model":"m","stream":true,"echo":false,"suffix":null}'
    assert glimpse_completion(raw) == Glimpse("m", stream=True, texts=("a",))


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b'{"prompt":["a"]}',
        b'{"prompt":[1]}',
        b'{"prompt":"a","echo":true}',
        b'{"prompt":"a","suffix":"b"}',
    ],
)
def test_what_takes_a_proper_reading_is_not_glimpsed_at(raw):
    assert glimpse_completion(raw) is None
