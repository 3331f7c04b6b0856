import json

import pytest
from driving import examples, segment
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.compress.protect import Protection, protected_spans
from proxy.compress.units import MAX_DOCUMENT_CHARS, lay_out
from proxy.types import Kind

SNIPPETS = (
    "The river rose. ",
    "Dr. Smith paid $3.50 at 10:30 a.m. on Jan. 5. ",
    "“It rained. Twice.” ",
    "See https://example.com/a.b?c=1. Then ",
    "`code. more` ",
    "```\nx = 1\n\n[1] y\n```\n",
    "\n\n",
    "\n",
    "[1] ",
    "Document [2](Title: A (b)) ",
    "Passage 3: ",
    "# Heading\n",
    "## Next\n\n",
    "- item\n",
    '<document index="1">\n',
    "</document>\n",
    "---\n",
    "| a | b |\n|---|---|\n| 1 | 2 |\n",
    "Q: why?\nA: because.\n",
    "User: hello\n",
    "  indented line\n",
    "今天下雨。我们在家。",
    "नदी बढ़ी। बारिश हुई। ",
    "ارتفع النهر؟ نعم. ",
    "🌧️👩‍👩‍👧 ",
    "\ud800",
    "\udc00 x",
    "\u2003",
    "\x0b",
    "\r\n",
    "2024-01-05 10:00:01 INFO up\n",
    '{"a": [1, 2, {"b": "c. d"}]}',
    "[1, ,2]",
    '["a", "b\\"c"]',
    "3.5 kg of it. ",
    "a very long line that was wrapped by an editor at\nforty characters or so. ",
)
texts = st.lists(
    st.one_of(
        st.sampled_from(SNIPPETS), st.text(max_size=8), st.text('[]{}<>#"`.:1 \n,', max_size=8)
    ),
    max_size=14,
).map("".join)
kinds = st.sampled_from(Kind)


def units(text, kind=Kind.PROSE):
    return [unit.span.of(text) for unit in lay_out(segment(text, kind), 0, 0).units]


def documents(text, kind=Kind.PROSE):
    """Units by document, frames in brackets."""
    laid: dict[int, list[str]] = {}
    for unit in lay_out(segment(text, kind), 0, 0).units:
        words = unit.span.of(text)
        laid.setdefault(unit.document, []).append(f"<{words}>" if unit.frame else words)
    return list(laid.values())


@examples(300)
@given(texts, kinds, st.integers(0, 3))
def test_every_character_is_in_the_head_a_unit_or_a_gap(text, kind, start):
    layout = lay_out(segment(text, kind, start=start), 7, 5, 3)
    leaf = "~" * start + text
    spans = [layout.head, *(span for unit in layout.units for span in (unit.span, unit.gap))]
    assert "".join(span.of(leaf) for span in spans) == text
    assert [span.start for span in spans] == [start, *(span.end for span in spans[:-1])]
    assert all(
        unit.segment == 7 and unit.document >= 5 and unit.stretch >= 3 for unit in layout.units
    )


@examples(300)
@given(texts, kinds)
@example("`0```\nx = 1\n\n[1] y\n```\nThe river rose. ", Kind.TABLE)
def test_units_begin_and_end_outside_of_protected_spans(text, kind):
    if kind is Kind.JSON:
        return  # its strings are the protected spans: see test_compress_json_units
    if kind in {Kind.CODE, Kind.DIFF, Kind.SEARCH}:
        return  # whole lines: see test_compress_line_units
    protection = Protection(protected_spans(text))
    for unit in lay_out(segment(text, kind), 0, 0).units:
        assert not protection.cuts(unit.span.start), unit.span.of(text)
        assert not protection.cuts(unit.span.end), unit.span.of(text)


@examples(200)
@given(texts, kinds)
def test_documents_and_stretches_are_numbered_without_a_break(text, kind):
    laid = lay_out(segment(text, kind), 0, 4, 9).units
    for first, numbers in ((4, [u.document for u in laid]), (9, [u.stretch for u in laid])):
        assert numbers == sorted(numbers)
        assert sorted(set(numbers)) == list(range(first, first + len(set(numbers))))
    assert len({(u.document, u.stretch) for u in laid}) == len({u.stretch for u in laid})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rained. We left! Why? No…", ["It rained.", "We left!", "Why?", "No…"]),
        ("Dr. Smith met J. R. Ewing. He spoke.", ["Dr. Smith met J. R. Ewing.", "He spoke."]),
        ("It cost 3.5 million. It sold.", ["It cost 3.5 million.", "It sold."]),
        ("Use e.g. salt. Then stir.", ["Use e.g. salt.", "Then stir."]),
        ("Read https://a.org/b. Now go.", ["Read https://a.org/b.", "Now go."]),
        ("He said “Stop. Go.” and left. Fine.", ["He said “Stop. Go.” and left.", "Fine."]),
        ('She wrote "No. Never." twice. Fine.', ['She wrote "No. Never." twice.', "Fine."]),
        ("今天下雨。我们在家！", ["今天下雨。", "我们在家！"]),
        ("नदी बढ़ी। बारिश हुई।", ["नदी बढ़ी।", "बारिश हुई।"]),
        ("هل ارتفع؟ نعم ارتفع.", ["هل ارتفع؟", "نعم ارتفع."]),
        ("Wait... what? Yes.", ["Wait... what?", "Yes."]),
        ("Run `a. b`. Then stop.", ["Run `a. b`.", "Then stop."]),
        ("(He left.) She stayed.", ["(He left.)", "She stayed."]),
    ],
)
def test_sentences_end_where_a_reader_says_so(text, expected):
    assert units(text) == expected


def test_numbered_passages_are_documents_framed_by_their_number():
    text = "[1] Ada wrote it. It ran.\n[2] Bob read it.\n\n[3] Eve heard."
    assert documents(text) == [
        ["<[1]>", "Ada wrote it.", "It ran."],
        ["<[2]>", "Bob read it."],
        ["<[3]>", "Eve heard."],
    ]


def test_a_title_in_the_label_frames_its_document():
    text = "Document [1](Title: Ada (poet)) Ada wrote. It ran.\nDocument [2](Title: Bob) Bob read."
    assert documents(text) == [
        ["<Document [1](Title: Ada (poet))>", "Ada wrote.", "It ran."],
        ["<Document [2](Title: Bob)>", "Bob read."],
    ]


def test_an_element_is_one_document_and_its_tags_frame_it():
    text = (
        '<document index="1">\n<source>a.txt</source>\nOne. Two.\n\nThree.\n</document>\n\n'
        "<document>\nFour. Five.\n\n</document>\n---\n"
    )
    assert documents(text) == [
        [
            '<<document index="1">\n<source>a.txt</source>>',
            "One.",
            "Two.",
            "Three.",
            "<</document>>",
        ],
        ["<<document>>", "Four.", "Five.", "<</document>>", "<--->"],
    ]


def test_a_heading_frames_what_stands_under_it():
    text = "# Rivers\n\nThe Elbe is long. It floods.\n\n# Towns\nDresden is old. It shines."
    assert documents(text) == [
        ["<# Rivers>", "The Elbe is long.", "It floods."],
        ["<# Towns>", "Dresden is old.", "It shines."],
    ]


def test_a_label_is_no_part_of_a_word_or_a_number():
    assert units("Doctor Smith came. He left.") == ["Doctor Smith came.", "He left."]
    assert units("Context matters here. It does.") == ["Context matters here.", "It does."]
    assert units("3.5 kg of it went. Fine.") == ["3.5 kg of it went.", "Fine."]
    assert units("10:30 it left. Fine.") == ["10:30 it left.", "Fine."]


def test_transcripts_are_read_line_by_line():
    text = "Anna: The bridge is shut!\nBen: Since when?\nAnna: Since May."
    assert units(text) == ["Anna: The bridge is shut!", "Ben: Since when?", "Anna: Since May."]


def test_only_an_announced_line_heads_a_list():
    assert documents("To buy:\n- milk\n- bread", Kind.LIST) == [["<To buy:>", "- milk", "- bread"]]
    assert documents("- milk\n- bread", Kind.LIST) == [["- milk", "- bread"]]
    assert documents("1. milk", Kind.LIST) == [["1. milk"]]
    long = f"{'To buy and to carry home ' * 8}:"
    assert documents(f"{long}\n- milk", Kind.LIST) == [[long, "- milk"]]


def test_lists_and_logs_are_read_by_line_and_indented_lines_go_along():
    text = "- one. two.\n  more of it\n- three\n- four"
    assert units(text, Kind.LIST) == ["- one. two.\n  more of it", "- three", "- four"]
    trace = "10:00 ERROR boom\n  at f()\n10:01 INFO ok"
    assert units(trace, Kind.LOG) == ["10:00 ERROR boom\n  at f()", "10:01 INFO ok"]


def test_the_heading_rows_of_a_table_frame_its_rows():
    text = "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |"
    assert documents(text, Kind.TABLE) == [["<| a | b |>", "<|---|---|>", "| 1 | 2 |", "| 3 | 4 |"]]
    assert documents("a,b\n1,2\n", Kind.TABLE) == [["<a,b>", "1,2"]]
    assert documents("a,b", Kind.TABLE) == [["a,b"]]


def test_a_line_that_was_only_wrapped_does_not_end_a_unit():
    text = "The quick brown fox that jumped over the lazy\ndog went home at noon. It slept."
    first = "The quick brown fox that jumped over the lazy\ndog went home at noon."
    assert units(text) == [first, "It slept."]


def test_demonstrations_are_units():
    text = "Q: One?\nA: 1.\n\nQ: Two?\nLet us think.\nA: 2.\nQ: Three?\nA: 3."
    wanted = ["Q: One?\nA: 1.", "Q: Two?\nLet us think.\nA: 2.", "Q: Three?\nA: 3."]
    assert units(text, Kind.DEMO) == wanted
    assert units(f"Examples:\n{text}", Kind.DEMO) == ["Examples:", *wanted]
    assert units("1 -> 2\n\n3 -> 4", Kind.DEMO) == ["1 -> 2", "3 -> 4"]


def test_code_is_cut_between_blocks_only():
    text = "def f():\n    return 1.0\n\ndef g():\n    pass"
    assert units(text, Kind.CODE) == ["def f():\n    return 1.0", "def g():\n    pass"]


def test_a_fence_is_never_cut():
    fence = "```\na = 1\n\n[1] b\n# c\n```"
    assert fence in units(f"Read this. Then that.\n{fence}\nIt ends. Truly.")
    assert fence in units(f"- one\n{fence}\n- two", Kind.LIST)


def test_a_long_document_is_divided_and_keeps_one_frame():
    text = "[1] " + "A sentence of some length stands here again. " * 200
    laid = lay_out(segment(text), 0, 0).units
    assert {unit.document for unit in laid} == {0}
    assert [unit.frame for unit in laid] == [True] + [False] * 200
    by_stretch: dict[int, list] = {}
    for unit in laid:
        by_stretch.setdefault(unit.stretch, []).append(unit.span)
    lengths = [spans[-1].end - spans[0].start for spans in by_stretch.values()]
    assert len(lengths) > 4
    assert max(lengths) <= MAX_DOCUMENT_CHARS + 10  # the frame goes with the first


def test_a_record_without_items_stays_whole():
    record = json.dumps({"text": "One. Two. Three.", "id": 7})
    assert units(record, Kind.JSON) == []
    assert units(f"{record}\n{record}\n", Kind.JSON) == [record, record]


HOSTILE = (
    "[",
    "#",
    '"',
    "<",
    " ",
    "1",
    "`",
    ".",
    "“",
    "\n",
    "\n ",
    "a",
    "a ",
    ". ",
    "<a",
    "1.",
    "1,",
    "/a",
    "@a",
    "a@",
    '\\"',
    "```",
    "#\n",
    "|",
    "\u2003\n",
    "漢",
    "。",
    ":",
    ".”",
    "[[1],",
    "\n<document>",
    "\n1.",
    "=",
    "...",
    "A:\\",
    "../",
    "<p>\n\n",
    "- ",
    "1 \t",
)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("opening", ["title", '"'])
def test_a_run_of_anything_is_laid_out(kind, opening):
    for seed in HOSTILE:
        text = opening + seed * (2_000 // len(seed)) + "x"
        layout = lay_out(segment(text, kind), 0, 0)
        rest = sum(u.gap.end - u.span.start for u in layout.units)
        assert layout.head.end + rest == len(text)


@pytest.mark.parametrize(
    ("kind", "opening", "seed"),
    [
        (Kind.PROSE, "title", " "),
        (Kind.PROSE, "x", "."),
        (Kind.PROSE, "x", '."'),
        (Kind.PROSE, "", "“"),
        (Kind.PROSE, "", "`"),
        (Kind.PROSE, "", "["),
        (Kind.PROSE, "", "<"),
        (Kind.PROSE, "", "#"),
        (Kind.PROSE, "1", ","),
        (Kind.PROSE, "", "<document>\n\n"),
        (Kind.DEMO, "example", " "),
        (Kind.DEMO, "q", "1"),
        (Kind.JSON, '"', '\\"'),
        (Kind.JSON, "", "["),
        (Kind.TABLE, "|", " "),
    ],
)
def test_a_very_long_run_is_read_in_one_pass(kind, opening, seed):
    """No clock is needed to tell: a pattern that goes back over such a run takes an hour."""
    text = opening + seed * (400_000 // len(seed)) + "x"
    layout = lay_out(segment(text, kind), 0, 0)
    rest = sum(u.gap.end - u.span.start for u in layout.units)
    assert layout.head.end + rest == len(text)
