import json
import os
import re
import sys
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.types import Address, LeafEdit, Mark, Quote, Span
from proxy.wire import leaves_of, parse_chat, render, splice
from proxy.wire.completions import parse_completion
from proxy.wire.responses import parse_responses
from proxy.wire.splice import _as_written, _Written

examples = settings(max_examples=int(os.environ.get("LACONIC_EXAMPLES", "150")), deadline=None)

CHARACTER = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u....|\\.|[^\\]", re.DOTALL)
SPELLINGS = [
    *"ab é😀語",
    r"\u00e9",
    r"\u0041",
    r"\/",
    r"\n",
    r"\\",
    r"\"",
    r"\ud83d\ude00",
    r"\uD83D\uDE00",
    r"\ud83d",
    r"\ude00",
    r"\u0000",
    r"\u2028",
]
ODDITIES = [
    '"big":123456789012345678901234567890',
    '"far":1e400',
    '"spelled":1e2',
    '"x":1,"x":[2]',
    '"lone":"\\ud83d"',
    '"slash":"\\/\\u00e9"',
    '"deep":[[[[[[{"content":"no"}]]]]]]',
    '"top_p": 0.10 ',
]

strings = st.lists(st.sampled_from(SPELLINGS), max_size=12).map("".join)
oddities = st.lists(st.sampled_from(ODDITIES), max_size=2, unique=True)
separators = st.sampled_from([",", " , ", ",\n"])


@st.composite
def objects(draw, fields):
    members = draw(st.permutations([*fields, *draw(oddities)]))
    return "{" + draw(separators).join(members) + "}"


@st.composite
def messages(draw):
    role = draw(st.sampled_from(["user", "system", "assistant", "tool"]))
    if draw(st.booleans()):
        content = f'"{draw(strings)}"'
    else:
        parts = []
        for _ in range(draw(st.integers(0, 3))):
            kind, field = draw(st.sampled_from([("text", "text"), ("image_url", "url")]))
            parts.append(draw(objects([f'"type":"{kind}"', f'"{field}":"{draw(strings)}"'])))
        content = f"[{','.join(parts)}]"
    return draw(objects([f'"role":"{role}"', f'"content": {content}']))


@st.composite
def items(draw):
    """An item of a responses body."""
    if draw(st.booleans()):
        content = f'"{draw(strings)}"'
    else:
        parts = []
        for _ in range(draw(st.integers(0, 3))):
            kind = draw(st.sampled_from(["input_text", "output_text", "input_image"]))
            parts.append(draw(objects([f'"type":"{kind}"', f'"text":"{draw(strings)}"'])))
        content = f"[{','.join(parts)}]"
    kind = draw(st.sampled_from(["function_call_output", "reasoning", "message", "mcp_call"]))
    if kind == "message":
        fields = ['"role":"user"', *draw(st.sampled_from([[], ['"type":"message"']]))]
        return draw(objects([*fields, f'"content": {content}']))
    return draw(objects([f'"type":"{kind}"', '"call_id":"c"', f'"output": {content}']))


@st.composite
def chat_bodies(draw):
    listed = draw(separators).join(draw(st.lists(messages(), max_size=4)))
    return parse_chat, draw(objects(['"model":"m"', f'"messages":[{listed}]'])).encode()


@st.composite
def responses_bodies(draw):
    listed = draw(separators).join(draw(st.lists(items(), max_size=4)))
    given = draw(st.sampled_from([f'"input":[{listed}]', f'"input":"{draw(strings)}"']))
    told = f'"instructions":"{draw(strings)}"'
    return parse_responses, draw(objects(['"model":"m"', given, told])).encode()


@st.composite
def completion_bodies(draw):
    listed = draw(separators).join(f'"{text}"' for text in draw(st.lists(strings, max_size=4)))
    given = draw(st.sampled_from([f'"prompt":[{listed}]', f'"prompt":"{draw(strings)}"']))
    return parse_completion, draw(objects(['"model":"m"', given])).encode()


bodies = st.one_of(chat_bodies(), responses_bodies(), completion_bodies())


def spans_of(text):
    return st.lists(st.integers(0, len(text)), min_size=2, max_size=8).map(
        lambda cuts: [Span(*pair) for pair in zip(*[iter(sorted(cuts))] * 2, strict=False)]
    )


@st.composite
def edited(draw):
    """A request, and edits of some of its leaves: kept spans with marks and quotes between them."""
    parse, raw = draw(bodies)
    request = parse(raw)
    leaves = leaves_of(request)
    edits = []
    for address, leaf in leaves.items():
        if draw(st.booleans()):
            pieces = []
            for span in draw(spans_of(leaf.text)):
                pieces.append(span)
                if draw(st.booleans()):
                    other = draw(st.sampled_from(sorted(leaves)))
                    quoted = draw(spans_of(leaves[other].text))[0]
                    pieces.append(draw(st.sampled_from([*Mark, Quote(other, quoted)])))
            edits.append(LeafEdit(address, tuple(pieces)))
    return parse, request, draw(st.permutations(edits))


def normal(text):
    """The text as JSON gives it back."""
    return json.loads(json.dumps(text))


def replace_texts(body, texts):
    """The parsed body with the texts at these addresses replaced, the naive way."""
    for (message, part), text in texts.items():
        holder, key = place_of(body, message)
        if isinstance(holder[key], str):
            holder[key] = text
        else:
            holder[key][part]["text"] = text
    return body


def place_of(body, message):
    """The object that holds a message's content, and under which key."""
    if "messages" in body:
        return body["messages"][message], "content"
    if "prompt" in body:
        whole = isinstance(body["prompt"], str)
        return (body, "prompt") if whole else (body["prompt"], message)
    if message == 0:
        return body, "instructions"
    if isinstance(body["input"], str):
        return body, "input"
    item = body["input"][message - 1]
    return item, "content" if "content" in item else "output"


def between(request):
    """Everything but the leaves: the bytes before, between and after them."""
    edges = [0, *(edge for leaf in sorted_leaves(request) for edge in leaf.raw), len(request.raw)]
    return [request.raw[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]


def sorted_leaves(request):
    return sorted(leaves_of(request).values(), key=lambda leaf: leaf.raw)


def written(request, piece, own, *, ascii_marks):
    """The slow twin: one spelling per character, then a slice of the list."""
    if isinstance(piece, Mark):
        return json.dumps(piece, ensure_ascii=ascii_marks)[1:-1]
    address, span = piece if isinstance(piece, Quote) else (own, piece)
    start, end = leaves_of(request)[address].raw
    return "".join(CHARACTER.findall(request.raw[start + 1 : end - 1].decode())[slice(*span)])


@examples
@given(edited())
def test_nothing_but_the_edited_strings_changes(drawn):
    parse, request, edits = drawn
    after = parse(splice(request, edits))
    assert between(after) == between(request)
    touched = {edit.address for edit in edits}
    for old, new in zip(sorted_leaves(request), sorted_leaves(after), strict=True):
        if old.address not in touched:
            assert after.raw[slice(*new.raw)] == request.raw[slice(*old.raw)]


@examples
@given(edited())
def test_the_edited_strings_hold_what_render_says(drawn):
    _, request, edits = drawn
    leaves = leaves_of(request)
    texts = {edit.address: render(edit, leaves) for edit in edits}
    assert texts == {address: normal(text) for address, text in texts.items()}
    expected = replace_texts(json.loads(request.raw), texts)
    assert json.loads(splice(request, edits)) == expected


@examples
@given(edited())
def test_kept_and_quoted_text_keeps_the_callers_spelling(drawn):
    parse, request, edits = drawn
    leaves = leaves_of(request)
    after = parse(splice(request, edits))
    for edit in edits:
        start, end = leaves_of(after)[edit.address].raw
        spelled = [
            "".join(written(request, piece, edit.address, ascii_marks=way) for piece in edit.pieces)
            for way in (True, False)
        ]
        forged = render(edit, leaves) != "".join(
            piece.value if isinstance(piece, Mark) else text_of(piece, edit.address, leaves)
            for piece in edit.pieces
        )
        if not forged:
            assert after.raw[start + 1 : end - 1].decode() in spelled


def text_of(piece, own, leaves):
    address, span = piece if isinstance(piece, Quote) else (own, piece)
    return leaves[address].text[slice(*span)]


@examples
@given(bodies)
def test_keeping_everything_changes_no_byte(drawn):
    parse, raw = drawn
    request = parse(raw)
    whole = [LeafEdit(a, (Span(0, len(leaf.text)),)) for a, leaf in leaves_of(request).items()]
    assert splice(request, whole) == splice(request, []) == raw


def chat(*contents):
    listed = [b'{"role":"user","content":"%s"}' % content.encode() for content in contents]
    return parse_chat(b'{"messages":[%s]}' % b",".join(listed))


def contents_of(raw):
    return [raw[slice(*leaf.raw)].decode() for leaf in sorted_leaves(parse_chat(raw))]


def test_a_worked_example():
    request = chat(r"caf\u00e9 \ud83d\ude00 and é\/😀 end", r"new \"q\"")
    edit = LeafEdit(
        Address(1, 0),
        (
            Mark.RECALL_HEADING,
            Quote(Address(0, 0), Span(3, 6)),
            Mark.RECALL_END,
            Span(0, 5),
            Mark.GAP,
            Span(6, 7),
        ),
    )
    cut = LeafEdit(Address(0, 0), (Span(0, 4), Span(10, 14), Mark.NEWLINE, Span(14, 18)))
    assert contents_of(splice(request, [edit, cut])) == [
        r'"caf\u00e9 é\/😀\n end"',
        r'"[From above]\n\u00e9 \ud83d\ude00\n\nnew \" \""',
    ]


@pytest.mark.parametrize(
    "pieces",
    [
        (Span(0, 2), Span(3, 5)),
        (Span(0, 2), Span(2, 2), Span(3, 5)),
        (Quote(Address(0, 0), Span(0, 2)), Span(3, 5)),
        (Mark.GAP, Span(0, 2), Quote(Address(0, 0), Span(3, 4))),
    ],
)
def test_two_halves_of_a_pair_are_never_joined(pieces):
    request = chat(r"a\ud83d-\ude00b", "other")
    edits = [LeafEdit(Address(0, 0), pieces), LeafEdit(Address(1, 0), (Span(0, 1),))]
    assert render(edits[0], leaves_of(request)) == "a\ud83d-\ude00b"
    assert contents_of(splice(request, edits)) == [r'"a\ud83d-\ude00b"', '"o"']


@pytest.mark.parametrize("high", [r"\ud800", r"\udbff"])
@pytest.mark.parametrize("low", [r"\udc00", r"\udfff"])
def test_no_two_halves_are_joined_whichever_they_are(high, low):
    request = chat(f"a{high}-{low}b")
    edit = LeafEdit(Address(0, 0), (Span(0, 2), Span(3, 5)))
    assert splice(request, [edit]) == request.raw


@pytest.mark.parametrize(
    ("content", "other", "made"),
    [
        ("é\\n語", "😀", '"é😀…"'),  # as little is escaped as may be
        (r"\u00e9\n\u8a9e", r"\ud83d\ude00", r'"\u00e9\ud83d\ude00\u2026"'),  # all but ASCII
        (r"\u00e9\n\u8a9e", "😀", r'"\u00e9😀\u2026"'),  # now the one, now the other
        (r"\u00E9\n\u8a9e", r"\ud83d\ude00", r'"\u00E9\ud83d\ude00\u2026"'),  # as nobody writes
        (r"\ud83d\n\u8a9e", r"\u00e9", r'"\ud83d\u00e9\u2026"'),  # what UTF-8 cannot have
    ],
)
def test_a_leaf_is_spelled_as_it_came_however_that_is(content, other, made):
    pieces = (Span(0, 1), Quote(Address(1, 0), Span(0, 1)), Mark.ELISION)
    edits = [LeafEdit(Address(0, 0), pieces), LeafEdit(Address(1, 0), ())]
    assert contents_of(splice(chat(content, other), edits))[0] == made


@pytest.mark.parametrize(("first", "second"), [("é\\n", "b"), (r"\u00e9\n", r"\u00e8")])
def test_each_leaf_is_looked_at_once_and_never_escape_by_escape(monkeypatch, first, second):
    looked = []

    def telling(writer):
        return lambda text: looked.append((writer, text)) or writer(text)

    module = sys.modules[_as_written.__module__]
    monkeypatch.setattr(module, "_WRITERS", tuple(map(telling, module._WRITERS)))
    monkeypatch.setattr(module, "_as_written", None)
    request = chat(first, second, second)
    quote = Quote(Address(0, 0), Span(0, 1))
    edits = [LeafEdit(Address(0, 0), (Span(1, 2),))]
    edits += [LeafEdit(Address(n, 0), (Mark.ELISION, quote)) for n in (1, 2)]
    newline, *others = contents_of(splice(request, edits))
    assert newline == r'"\n"'
    assert {json.loads(other) for other in others} == {"…é"}
    whole = [(writer, text) for writer, text in looked if text == "é\n"]
    assert len(whole) == len(set(whole)) > 0


def test_what_is_written_is_told_from_what_it_means():
    request = chat(r"a\nb\u00e9")
    assert _as_written(request.raw, request.messages[0].leaves[0]) == _Written(
        r"a\nb\u00e9", array("I", [1, 3]), array("I", [0, 1, 6])
    )
    plain = chat("ab")
    assert _as_written(plain.raw, plain.messages[0].leaves[0]).of(Span(0, 2)) == "ab"


def test_halves_in_another_order_stay_halves():
    request = chat(r"a\ude00-\ud83db")
    edit = LeafEdit(Address(0, 0), (Span(0, 2), Span(3, 5)))
    assert render(edit, leaves_of(request)) == "a\ude00\ud83db"
    assert contents_of(splice(request, [edit])) == [r'"a\ude00\ud83db"']


@pytest.mark.parametrize(
    ("written", "left"), [(r"a\ud83d-b", r"a\ud83db"), (r"a-\ude00b", r"a\ude00b")]
)
def test_half_a_pair_beside_a_character_is_no_trap(written, left):
    request = chat(written)
    cut = (Span(0, 2), Span(3, 4)) if "d83d" in written else (Span(0, 1), Span(2, 4))
    assert contents_of(splice(request, [LeafEdit(Address(0, 0), cut)])) == [f'"{left}"']


def test_a_leaf_may_become_empty():
    assert contents_of(splice(chat("a", "b"), [LeafEdit(Address(0, 0), ())])) == ['""', '"b"']


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([LeafEdit(Address(0, 0), (Span(0, 3), Span(2, 4)))], "overlapping"),
        ([LeafEdit(Address(0, 0), (Span(2, 4), Span(0, 3)))], "overlapping"),
        ([LeafEdit(Address(0, 0), (Span(0, 6),))], "wanted a span of"),
        ([LeafEdit(Address(0, 0), (Span(-1, 2),))], "wanted a span of"),
        ([LeafEdit(Address(0, 0), (Span(3, 2),))], "wanted a span of"),
        ([LeafEdit(Address(0, 0), (Quote(Address(1, 0), Span(0, 6)),))], "wanted a span of"),
        ([LeafEdit(Address(0, 0), (Quote(Address(9, 0), Span(0, 1)),))], "no such leaf"),
        ([LeafEdit(Address(0, 1), (Span(0, 1),))], "no such leaf"),
        ([LeafEdit(Address(0, 0), (Span(0, 1),)), LeafEdit(Address(0, 0), ())], "two edits"),
    ],
)
def test_impossible_edits_are_refused(edits, message):
    with pytest.raises(ValueError, match=message):
        splice(chat("alpha", "beta"), edits)


def test_many_spans_of_a_long_text():
    sentence = r"Wo\u0308rter \ud83d\ude00 und S\u00e4tze, é.\n"
    request = chat(sentence * 20_000)
    [leaf] = request.messages[0].leaves
    length = len(leaf.text) // 20_000
    kept = tuple(Span(at, at + length) for at in range(0, len(leaf.text), 2 * length))
    [content] = contents_of(splice(request, [LeafEdit(leaf.address, kept)]))
    assert content == f'"{sentence * 10_000}"'
