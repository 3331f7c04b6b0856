"""An answer's texts reworded: in a body, and in a stream that comes in pieces of any size."""

import json
import re
from itertools import pairwise

import pytest
from driving import examples
from hypothesis import given
from hypothesis import strategies as st

from proxy.compress.recovery import RecoveryStream, align, recover
from proxy.types import Span
from proxy.wire import RewordedChoices, RewordedResponse, Unparsed, reword_body
from proxy.wire.choices import texts_of_completion, texts_of_response

SOURCE = align([("The Wilhelm Conrad Röntgen prize", (Span(0, 11), Span(18, 32)))])
SAID, MEANT = "It was Wilhelm Röntgen.", "It was Wilhelm Conrad Röntgen."


def reword(text):
    return recover(text, SOURCE)


def begin():
    return RecoveryStream(SOURCE)


def shouted(text):
    return text.replace("hush", "HUSH")


# -- a whole body ----------------------------------------------------------------------------------


def test_only_the_reworded_strings_bytes_change():
    body = (
        b'{"id": "hush", "n":1E400,\n "x":1, "x":2, "choices" :[ {"index":0, "message": '
        b'{"refusal":"hush", "content" : "a \\"hush\\"", "tool_calls":[{"a":"hush"}]}},'
        b'{"message":{"content":"as \\u0061ll"}, "index":1},'
        b'{"message":{"content":[{"type":"text", "x":1e2, "text":"hush"},'
        b' {"type":"image", "text":"hush"}]}}'
        b'], "usage": {"hush": -0}}'
    )
    expected = body.replace(b'"a \\"hush\\""', b'"a \\"HUSH\\""')
    expected = expected.replace(b'"x":1e2, "text":"hush"', b'"x":1e2, "text":"HUSH"')
    assert reword_body(body, shouted) == expected


def test_the_texts_of_a_text_completion_are_reworded():
    body = (
        b'{"choices":[{"index":0,"text":"a hush","logprobs":null},{"text":"hush","logprobs":{}},'
        b'{"text":["hush"]},{"message":{"content":"hush"}}],"text":"hush"}'
    )
    expected = body.replace(b"a hush", b"a HUSH")
    assert reword_body(body, shouted, texts_of_completion) == expected


def test_the_texts_of_a_response_are_reworded():
    part = '{"type":"output_text","text":"hush%d","annotations":%s,"logprobs":%s}'
    texts = (
        part % (1, "[]", "[]"),
        part % (2, '[{"start_index":0}]', "[]"),
        part % (3, "[]", "[{}]"),
    )
    refused = '{"type":"refusal","refusal":"hush","text":"hush"}'
    said = f'{{"content":[{",".join(texts)},{refused},7,"hush"],"type":"message","id":"hush"}}'
    thought = '{"type":"reasoning","content":[{"type":"reasoning_text","text":"hush"}],"x":1e2}'
    call = '{"type":"function_call","arguments":"hush","content":"hush"}'
    output = f'[{thought},{call},{said},"hush",{{}}]'
    body = f'{{"instructions":"hush","output":{output},"text":{{"format":1E400}}}}'.encode()
    expected = body.replace(b"hush1", b"HUSH1")
    assert reword_body(body, shouted, texts_of_response) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"output":"hush"}',
        b'{"output":[{"content":[{"text":"hush"},{"type":7,"text":"hush"}]}]}',
        b'{"output":[{"content":[{"type":"output_text","text":["hush"]}]}]}',
        b'{"choices":[{"message":{"content":"hush"}}]}',
    ],
)
def test_what_is_no_text_of_a_response_stays(body):
    assert reword_body(body, shouted, texts_of_response) == body


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'{"output":[],"output":[]}',
        b'{"output":[{"content":[],"content":[]}]}',
        b'{"output":[{"content":[{"text":"hush","text":"hush"}]}]}',
    ],
)
def test_a_response_that_can_be_read_two_ways_is_not_understood(body):
    with pytest.raises(Unparsed):
        reword_body(body, shouted, texts_of_response)


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices": [{"message": {"content": "hush"}, "logprobs": {"content": []}}]}',
        b'{"choices": [{"delta": {"content": "hush"}}]}',
        b'{"choices": [{"message": {"content": null}}, {"message": "hush"}, "hush", {}]}',
        b'{"choices": {"message": {"content": "hush"}}}',
        b'{"message": {"content": "hush"}}',
        b'{"choices": []}',
    ],
)
def test_what_is_no_text_of_a_choice_stays(body):
    assert reword_body(body, shouted) == body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"hush",
        b'{"choices": [{"message": {"content": "hush"}}]',
        b'{"choices": [], "choices": []}',
        b'{"choices": [{"message": {"content": "hush", "content": "hush"}}]}',
        b'{"choices": [{"message": {}, "message": {}}]}',
        b'{"choices": [{"index": 1.5}]}',
        b'{"choices": [{"message": {"content": "\xff"}}]}',
    ],
)
def test_what_could_be_read_two_ways_is_not_read(body):
    with pytest.raises(Unparsed):
        reword_body(body, shouted)


@pytest.mark.parametrize(
    ("written", "reworded"),
    [
        (b'"hush \\u00e9"', b'"HUSH \\u00e9"'),
        ('"hush é"'.encode(), '"HUSH é"'.encode()),
        ('"hush é \\ud83d"'.encode(), '"HUSH é \\ud83d"'.encode()),
        (b'"hush \\ud83d\\n"', b'"HUSH \\ud83d\\n"'),
    ],
)
def test_a_reworded_string_is_spelt_as_the_sender_spells(written, reworded):
    body = b'{"choices":[{"message":{"content":%s}}]}'
    assert reword_body(body % written, shouted) == body % reworded


# -- a stream --------------------------------------------------------------------------------------


def event(content=None, *, index=0, finish=None, eol="\n", **more):
    """A chunk as OpenAI would write it, with one choice."""
    delta = {} if content is None else {"content": content}
    choice = {"index": index, "delta": delta | more, "logprobs": None, "finish_reason": finish}
    data = {"id": "c", "object": "chat.completion.chunk", "choices": [choice], "usage": None}
    return f"data: {json.dumps(data, ensure_ascii=False)}{eol}{eol}".encode()


def rest(text, **of_choice):
    """An event of the proxy's own, with what was held."""
    return event(text, **of_choice).replace(b'"content": ', b'"content":')


DONE = b"data: [DONE]\n\n"
END = event(finish="stop")
NULL_END = END.replace(b'"delta": {}', b'"delta": {"content": null}')


def through(*pieces, stream=None):
    stream = stream or RewordedChoices(begin)
    return [*(stream.feed(piece) for piece in pieces), stream.close()]


def test_an_event_gets_what_is_settled_and_the_rest_comes_with_a_later_one():
    said = [event("It was Wil"), event("helm Rö"), event("ntgen."), END, DONE]
    assert through(*said) == [
        event("It was"),
        event(""),
        event(" Wilhelm Conrad Röntgen."),
        END,
        DONE,
        b"",
    ]


def text_event(text, *, index=0, finish=None):
    """A chunk of a text completion."""
    choice = {"text": text, "index": index, "logprobs": None, "finish_reason": finish}
    data = {"id": "c", "object": "text_completion", "choices": [choice], "usage": None}
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def test_a_stream_of_a_text_completion_is_reworded():
    said = [text_event("It was Wil"), text_event("helm Rö"), text_event("ntgen", finish="stop")]
    stream = RewordedChoices(begin, "text")
    assert through(*said, DONE, stream=stream) == [
        text_event("It was"),
        text_event(""),
        text_event(" Wilhelm Conrad Röntgen", finish="stop"),
        DONE,
        b"",
    ]
    assert stream.changed


def test_what_a_text_completion_holds_at_its_end_comes_in_an_event_of_its_own():
    said = [text_event("Wilhelm Röntgen"), text_event("other", index=1), DONE]
    assert through(*said, stream=RewordedChoices(begin, "text")) == [
        text_event(""),
        text_event("", index=1),
        text_event("Wilhelm Conrad Röntgen") + text_event("other", index=1) + DONE,
        b"",
    ]


def test_what_is_held_goes_into_the_event_that_ends_the_choice():
    said = [event("Wilhelm"), event(" Röntgen", finish="stop"), DONE]
    assert through(*said)[1] == event("Wilhelm Conrad Röntgen", finish="stop")


@pytest.mark.parametrize("end", [END, DONE, NULL_END])
def test_without_content_in_that_event_it_gets_one_of_its_own_before(end):
    said = [event("Wilhelm Röntgen", role="assistant", tool_calls=[1]), end]
    assert through(*said) == [
        event("", role="assistant", tool_calls=[1]),
        rest("Wilhelm Conrad Röntgen") + end,
        b"",
    ]


def test_at_the_end_of_a_stream_that_does_not_say_so_nothing_is_held():
    assert through(event("Röntgen"))[-1] == rest("Röntgen")


def test_a_last_event_without_its_blank_line_is_one():
    last = event(" Röntgen")[:-2]
    assert b"".join(through(event("Wilhelm"), last)) == event("") + event(
        "Wilhelm Conrad Röntgen"
    ).rstrip(b"\n")


def test_each_choice_has_a_text_of_its_own():
    said = [event("Wilhelm", index=1), event("Wilhelm Rö"), event(" Röntgen ", index=1), END, DONE]
    assert through(*said) == [
        event("", index=1),
        event(""),
        event("Wilhelm Conrad Röntgen", index=1),
        rest("Wilhelm Rö") + END,
        rest(" ", index=1) + DONE,
        b"",
    ]


def test_of_an_event_with_several_choices_the_rest_names_one():
    both = (
        b'event: x\r\ndata: {"choices": [{"index": 4, "delta": {"content": "ab"}},\r\n'
        b'data: {"delta": {"content": "Wilhelm", "role": "a"}, "index": 2, "y": 1}], "z": 1}\r\n'
        b"\r\n"
    )
    assert b"".join(through(both, DONE)) == (
        both.replace(b"ab", b"").replace(b"Wilhelm", b"")
        + b'event: x\r\ndata: {"choices": [{"index": 4, "delta": {"content":"ab"}}], "z": 1}\r\n'
        + b"\r\n"
        + b'event: x\r\ndata: {"choices": [{"delta": {"content":"Wilhelm"}, "index": 2, "y": 1}],'
        + b' "z": 1}\r\n\r\n'
        + DONE
    )


def test_what_carries_no_text_passes_at_once():
    others = [
        b"\xef\xbb\xbf",
        b": keep-alive\n",
        b"\n",
        b"event: ping\ndata: {}\n\n",
        b"data\n\n",
        b'data: {"choices":[],"usage":{"prompt_tokens":1}}\r\r',
        event(reasoning_content="Wilhelm Röntgen"),
        event(refusal="Wilhelm Röntgen"),
        event(tool_calls=[{"index": 0, "function": {"arguments": "Wilhelm Röntgen"}}]),
    ]
    assert through(others[0] + b":\n", event("Wilhelm"), *others[1:]) == [
        others[0] + b":\n",
        event(""),
        *others[1:],
        rest("Wilhelm"),
    ]


@pytest.mark.parametrize(
    "alone",
    [
        event(" Röntgen", finish="stop").replace(b'"logprobs": null', b'"logprobs": {}'),
        event([{"type": "text", "text": " Röntgen"}]),
    ],
    ids=["measured", "in parts"],
)
def test_a_choice_that_must_stay_as_it_is_does_behind_what_was_held(alone):
    said = [event("Wilhelm"), alone, event(" Wilhelm Röntgen"), END]
    assert through(*said) == [
        event(""),
        rest("Wilhelm") + alone,
        event(" Wilhelm Röntgen"),
        END,
        b"",
    ]


@pytest.mark.parametrize(
    "odd",
    [
        b'data: {"choices": [{"delta": {"content": "a", "content": "b"}}]}\n\n',
        b'data: {"choices": \xff}\n\n',
        b'data: {"choices": [',
    ],
    ids=["twice", "not UTF-8", "cut off"],
)
def test_from_an_event_that_is_not_understood_the_stream_passes(odd):
    stream = RewordedChoices(begin)
    said = [event("Wilhelm"), odd, event(" Wilhelm Röntgen"), DONE]
    out = b"".join(through(*said, stream=stream))
    assert out == b"".join([event(""), rest("Wilhelm"), *said[1:]])
    assert (stream.failure, stream.changed) == (None, False)


def test_an_event_too_large_to_hold_lets_the_stream_pass():
    stream = RewordedChoices(begin, max_event_bytes=1000)
    large = [b"data: " + b"x" * 600, b"x" * 600, b"\n\n"]
    out = through(event("Wilhelm"), *large, event(" Wilhelm Röntgen"), stream=stream)
    assert out == [
        event(""),
        b"",
        rest("Wilhelm") + large[0] + large[1],
        large[2],
        event(" Wilhelm Röntgen"),
        b"",
    ]


class Breaks(RecoveryStream):
    """A recovery that fails at the word it is told, after taking it in."""

    def __init__(self, word):
        super().__init__(SOURCE)
        self.word = word

    def feed(self, text):
        out = super().feed(text)
        if self.word in text:
            raise ValueError(text)
        return out

    def close(self):
        if self.word == "close":
            raise ValueError(self.word)
        return super().close()


@pytest.mark.parametrize("word", ["It", "helm", "ntgen", "again", "close"])
@pytest.mark.parametrize("chunks", [1, 99])
def test_a_fault_of_ours_loses_nothing_and_says_nothing_twice(word, chunks):
    stream = RewordedChoices(lambda: Breaks(word))
    said = [event("It was Wil"), event("helm Rö"), event("ntgen "), event("again"), END, DONE]
    pieces = said if chunks == 99 else [b"".join(said)]
    out = b"".join(through(*pieces, stream=stream))
    assert type(stream.failure) is ValueError
    assert contents(out)[0].replace(" Conrad", "") == "It was Wilhelm Röntgen again"
    assert_only_texts_differ(out, b"".join(said))


def test_it_tells_whether_anything_changed():
    for said, changed in [(SAID, True), ("It was Wilhelm, Röntgen", False)]:
        stream = RewordedChoices(begin)
        through(*map(event, said), DONE, stream=stream)
        assert stream.changed is changed


# -- the stream of a response ----------------------------------------------------------------------


def of_response(kind, **data):
    """An event of a streamed response, as OpenAI writes it."""
    data = {"type": f"response.{kind}", **data}
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"event: response.{kind}\ndata: {text}\n\n".encode()


def delta(text, item=0, part=0, logprobs=()):
    where = {"item_id": f"m{item}", "output_index": item, "content_index": part}
    return of_response("output_text.delta", **where, delta=text, logprobs=[*logprobs])


def part_of(text, annotations=()):
    return {"type": "output_text", "text": text, "annotations": [*annotations], "logprobs": []}


def response(*texts, tools=()):
    """A response whose first item is a thought."""
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": SAID}]}
    said = [{"type": "message", "content": [part_of(text) for text in texts]}]
    return {"id": "r", "tools": [*tools], "output": [thought, *said] if texts else []}


def whole(text, item=1, part=0, annotations=()):
    """The events that repeat a text after its pieces, but for the last."""
    where = {"output_index": item, "content_index": part}
    told = part_of(text, annotations)
    message = {"type": "message", "content": [told]}
    return [
        of_response("output_text.done", **where, text=text, logprobs=[]),
        of_response("content_part.done", part=told, **where),
        of_response("output_item.done", output_index=item, item=message),
    ]


CREATED = of_response("created", response=response(tools=[{"type": "function", "name": "f"}]))


def of_a_response(*pieces, stream=None):
    return through(*pieces, stream=stream or RewordedResponse(begin))


def test_a_responses_text_is_reworded_piece_by_piece_and_wherever_it_stands_whole():
    stream = RewordedResponse(begin)
    added = of_response("content_part.added", output_index=1, content_index=0, part=part_of(""))
    thought = of_response("reasoning_text.delta", output_index=0, content_index=0, delta=SAID)
    said = [delta("It was Wil", 1), delta("helm Rö", 1), delta("ntgen.", 1)]
    completed = of_response("completed", response=response(SAID))
    assert of_a_response(
        CREATED, added, thought, *said, *whole(SAID), completed, stream=stream
    ) == [
        CREATED,
        added,
        thought,
        delta("It was", 1),
        delta("", 1),
        delta(" Wilhelm Conrad Röntgen.", 1),
        *whole(MEANT),
        of_response("completed", response=response(MEANT)),
        b"",
    ]
    assert (stream.changed, stream.failure) == (True, None)


@pytest.mark.parametrize("end", [*whole("Wilhelm Röntgen"), DONE])
def test_what_is_held_at_a_texts_end_comes_in_an_event_of_its_own(end):
    meant = end.replace(b"Wilhelm R", b"Wilhelm Conrad R")
    held = delta("Wilhelm Conrad Röntgen", 1)
    assert of_a_response(delta("Wilhelm Röntgen", 1), end) == [delta("", 1), held + meant, b""]


def test_each_part_of_each_item_has_a_text_of_its_own():
    said = [delta("Wilhelm", 1, 0), delta("Wilhelm", 1, 1), delta(" Röntgen.", 1, 0)]
    completed = of_response("incomplete", response=response("Wilhelm Röntgen.", "Wilhelm"))
    meant = of_response("incomplete", response=response("Wilhelm Conrad Röntgen.", "Wilhelm"))
    assert of_a_response(*said, completed) == [
        delta("", 1, 0),
        delta("", 1, 1),
        delta("Wilhelm Conrad Röntgen.", 1, 0),
        delta("Wilhelm", 1, 1) + meant,
        b"",
    ]


@pytest.mark.parametrize("kind", ["web_search", "file_search", "code_interpreter", None])
def test_a_response_with_tools_whose_finds_are_cited_passes(kind):
    created = of_response("created", response=response(tools=[{"type": kind}]))
    said = [created, delta("Wilhelm Röntgen"), *whole("Wilhelm Röntgen", 0)]
    assert of_a_response(*said) == [*said, b""]


def test_a_measured_text_stays_as_it_is():
    said = [delta("Wilhelm ", 1), delta("Röntgen.", 1, logprobs=[{}]), *whole("Wilhelm Röntgen.")]
    assert of_a_response(*said) == [delta("", 1), delta("Wilhelm ", 1) + said[1], *said[2:], b""]


def test_from_an_annotation_on_a_text_stays_and_its_whole_is_what_was_said():
    note = of_response(
        "output_text.annotation.added", output_index=1, content_index=0, annotation={}
    )
    said = [delta("Wilhelm Röntgen, Wilhelm", 1), note, delta(" Röntgen.", 1)]
    text = "Wilhelm Röntgen, Wilhelm Röntgen."
    meant = "Wilhelm Conrad Röntgen, Wilhelm Röntgen."
    assert of_a_response(*said, *whole(text, annotations=[{}])) == [
        delta("Wilhelm Conrad Röntgen,", 1),
        delta(" Wilhelm", 1) + note,
        said[2],
        *whole(meant, annotations=[{}]),
        b"",
    ]


@pytest.mark.parametrize(
    "odd",
    [
        of_response("output_text.done", output_index=1, text=["Wilhelm Röntgen"]),
        of_response("output_text.done", output_index=7, text="Wilhelm Röntgen"),
        of_response("output_text.done", output_index=1, text="Another"),
        of_response("output_text.delta", output_index=1, delta={}),
        of_response("output_item.done", item=7, part=[], response=[], note="output_text"),
        of_response("completed", response={"output": {}, "tools": {}}),
        b'data: {"output_text": 1}\n\n',
    ],
)
def test_what_is_no_text_of_the_response_stays(odd):
    before = delta("Wilhelm Röntgen ", 1)
    assert b"".join(of_a_response(before, odd, delta("it is.", 1))).count(odd) == 1


@pytest.mark.parametrize(
    "odd",
    [
        b'data: {"type": "response.output_text.delta", "delta": "a", "delta": "b"}\n\n',
        b'data: {"output_text": 1, "output_index": -1}\n\n',
        b'data: {"response": {"output": [], "output": []}}\n\n',
        b'data: {"output_text": \n\n',
    ],
)
def test_from_an_event_of_a_response_that_is_not_understood_the_stream_passes(odd):
    said = [delta("Wilhelm", 1), odd, delta(" Wilhelm Röntgen", 1), *whole("Wilhelm")]
    out = b"".join(of_a_response(*said))
    assert out == b"".join([delta("", 1), delta("Wilhelm", 1), *said[1:]])


# -- laws ------------------------------------------------------------------------------------------

CONTENT = re.compile(rb'"content":( ?)"(?:[^"\\]|\\.)*+"')
BLOCK = re.compile(rb"(?:[^\r\n]+(?:\r\n|\r|\n|\Z))*(?:\r\n|\r|\n|\Z)")


def payloads(raw):
    """The data of each event, read simply: the whole stream at once."""
    text = raw.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for block in re.split(rb"\n\n+", text):
        data = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line[:5] == b"data:"]
        if data:
            yield b"\n".join(data)


def contents(raw):
    """What each choice says in all."""
    said = {}
    for payload in payloads(raw):
        if payload != b"[DONE]" and payload[:1] == b"{":
            for choice in json.loads(payload)["choices"]:
                text = choice["delta"].get("content") or ""
                said[choice["index"]] = said.get(choice["index"], "") + text
    return said


def assert_only_texts_differ(out, stream):
    """All bytes but the contents' are the same, and what events there are more carry text alone."""
    expected = [CONTENT.sub(rb'"content":\1""', block) for block in BLOCK.findall(stream)]
    for block in BLOCK.findall(out):
        if expected and CONTENT.sub(rb'"content":\1""', block) == expected[0]:
            del expected[0]
        else:
            (choice,) = json.loads(next(payloads(block)))["choices"]
            assert list(choice["delta"]) == ["content"]
    assert expected == []


WORDS = st.sampled_from(
    [
        "Wilhelm",
        "Wil",
        "helm",
        " Röntgen",
        " ",
        "The ",
        " prize",
        ".",
        "\n",
        "😀",
        "\ud83d",
        "\ude00",
    ]
)
HALF = re.compile("[\ud800-\udfff]")
GAPS = st.sampled_from([b"", b"", b": ping", b"event: a", b"id: 1", b"retry: 9"])
EOLS = st.sampled_from([b"\n", b"\r\n", b"\r"])
OTHERS = st.sampled_from([b"data: ", b'data:{"choices":[]}', b": ping", b"data: x", b"other"])


@st.composite
def events(draw):
    """One event, written as any sender might, with its lines' own ends."""
    eol = draw(EOLS)
    if draw(st.integers(0, 3)) == 0:
        return draw(OTHERS) + eol + eol
    content = draw(st.lists(WORDS, max_size=4).map("".join))
    written = json.dumps(content, ensure_ascii=draw(st.booleans()) or bool(HALF.search(content)))
    space = draw(st.sampled_from(["", " "]))
    index = draw(st.integers(0, 1))
    more = draw(st.sampled_from(["", ',"role":"assistant"', ',"content2":"Wilhelm Röntgen"']))
    split = draw(st.sampled_from(["", "\n"]))
    choice = f'{{"index":{index},"delta":{{"content":{space}{written}{more}}},{split}"x":1e400}}'
    payload = f'{{"n":1E5,{split}"choices":{space}[{choice}],"n":-0}}'.encode()
    before = draw(GAPS)
    data = [b"data:" + draw(st.sampled_from([b"", b" "])) + line for line in payload.split(b"\n")]
    return b"".join(line + eol for line in [*([before] if before else []), *data, b""])


STREAMS = st.builds(
    lambda bom, all_of_them, end: bom + b"".join(all_of_them) + end,
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.lists(events(), max_size=12),
    st.sampled_from([b"", DONE, DONE[:-1]]),
)


def cut(data, cuts):
    edges = [0, *sorted(min(at, len(data)) for at in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def plainly(text):
    """Two halves of a character are that character, in one event or in two."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


PIECES = st.lists(st.sampled_from(["Wilhelm", " Röntgen", "Wil", "helm", " ", ".", "\n", "😀"]))


@examples(150)
@given(st.lists(st.tuples(PIECES, PIECES), min_size=1, max_size=2), st.data())
def test_a_responses_pieces_and_its_wholes_say_the_same(items, data):
    """Two parts of an item speak by turns; each comes in pieces, then whole."""
    stream, expected = [], []
    for item, parts in enumerate(items):
        turns = data.draw(st.permutations([p for p in (0, 1) for _ in parts[p]]))
        rests = [iter(part) for part in parts]
        stream += [delta(next(rests[part]), item, part) for part in turns]
        texts = ["".join(part) for part in parts]
        stream += [event for p, text in enumerate(texts) for event in whole(text, item, p)[:2]]
        expected += [reword(text) for text in texts]
    raw = b"".join(stream)
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=9))
    pieces, wholes = {}, []
    for payload in map(json.loads, payloads(b"".join(of_a_response(*cut(raw, cuts))))):
        place = payload["output_index"], payload["content_index"]
        pieces[place] = pieces.get(place, "") + payload.get("delta", "")
        told = payload.get("text", payload.get("part", {}).get("text"))
        wholes += [] if told is None else [told]
    assert [pieces[place] for place in sorted(pieces)] == expected
    assert wholes == [text for text in expected for _ in range(2)]


@examples(150)
@given(STREAMS, st.lists(st.integers(0, 3000), max_size=9))
def test_any_stream_in_pieces_of_any_size_is_recovered_as_a_whole(stream, cuts):
    out = b"".join(through(*cut(stream, cuts)))
    expected = {index: plainly(reword(text)) for index, text in contents(stream).items()}
    assert {index: plainly(text) for index, text in contents(out).items()} == expected
    assert_only_texts_differ(out, stream)


@examples(50)
@given(STREAMS, st.lists(st.integers(0, 3000), max_size=9))
def test_with_nothing_to_bring_back_every_text_stays(stream, cuts):
    rewritten = RewordedChoices(lambda: RecoveryStream(align([])))
    out = b"".join(through(*cut(stream, cuts), stream=rewritten))
    assert_only_texts_differ(out, stream)
    assert list(map(plainly, contents(out).values())) == list(
        map(plainly, contents(stream).values())
    )
    assert not rewritten.changed


@examples(100)
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=9))
def test_bytes_that_are_no_answer_pass_as_they_are(data, cuts):
    assert b"".join(through(*cut(data, cuts))) == data
