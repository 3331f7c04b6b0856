import re

import pytest
from driving import examples, is_subsequence
from hypothesis import given
from hypothesis import strategies as st

from proxy.compress import reference_long
from proxy.compress.recovery import RecoveryStream, align, align_edits, recover
from proxy.types import Address, LeafEdit, Mark, Quote, Span


def kept(text, *dropped):
    """The spans that remain when stretches of a text are dropped."""
    starts = [text.index(piece) for piece in dropped]
    ends = [start + len(piece) for start, piece in zip(starts, dropped, strict=True)]
    return tuple(map(Span, [0, *ends], [*starts, len(text)]))


def source(text, *dropped):
    return align([(text, kept(text, *dropped))])


def streamed(answer, shown, size):
    stream = RecoveryStream(shown)
    pieces = [stream.feed(answer[i : i + size]) for i in range(0, len(answer), size)]
    return "".join(pieces) + stream.close()


NOBEL = "The 1901 Nobel Prize in Physics went to Wilhelm Conrad Röntgen of Munich"


def test_a_name_that_lost_words_gets_them_back():
    shown = source(NOBEL, " Conrad")
    assert recover("It was Wilhelm Röntgen!", shown) == "It was Wilhelm Conrad Röntgen!"


def test_spans_that_touch_are_one_and_nothing_is_bridged_there():
    whole = align([(NOBEL, (Span(0, 20), Span(20, len(NOBEL))))])
    assert whole == align([(NOBEL, (Span(0, len(NOBEL)),))])
    assert (whole.bridged, source(NOBEL, " Conrad").bridged) == (False, True)


def test_the_longest_run_decides_where_several_begin_alike():
    text = "Anna of Kyiv ruled. Anna the Great of Rome fell"
    shown = source(text, " the Great")
    assert recover("Anna of Rome fell", shown) == "Anna the Great of Rome fell"
    assert recover("Anna of Kyiv", shown) == "Anna of Kyiv"


def test_the_shortest_original_wins_and_then_the_first():
    text = "Mayor Old Smith, Mayor Older Yet Smith, Mayor Odd Smith"
    shown = source(text, "Old ", "Older Yet ", "Odd ")
    assert recover("Mayor Smith", shown) == "Mayor Old Smith"


@pytest.mark.parametrize(("end", "name"), [("lost", "Old "), ("won", "Older Yet ")])
def test_what_follows_decides_between_originals_while_streaming(end, name):
    text = "Mayor Old Smith lost, Mayor Older Yet Smith won"
    stream = RecoveryStream(source(text, "Old ", "Older Yet "))
    assert stream.feed("Mayor Smith ") == "Mayor"
    assert stream.feed(end) + stream.close() == f" {name}Smith {end}"


def test_a_coincidence_elsewhere_in_the_original_is_not_taken():
    text = "Dilution, said Fuel; later Dilution of the new Fuel"
    shown = align([(text, (Span(27, 35), Span(47, 51)))])
    assert recover("Dilution Fuel", shown) == "Dilution of the new Fuel"


@pytest.mark.parametrize(
    ("text", "dropped", "answer"),
    [
        ("part of some big the", " some big", "part of the"),  # grammar, not wording
        ("Paris burned. Many fled. London stood", " Many fled", "burned. London"),  # a sentence
        ("Paris one\ntwo London", " one\ntwo", "Paris London"),  # a line
        ("Paris a b c d e f g h i London", " a b c d e f g h i", "Paris London"),  # too far
        ("Paris and London", " and", "Paris\nLondon"),  # the answer's own line break stays
        ("Paris and London", " and", "London Paris"),
        ('Paris "and" London', ' "and"', "Paris London"),  # JSON would have to escape it
        ("Paris \\and London", " \\and", "Paris London"),
        ("Paris\tand London", "\tand", "Paris London"),
    ],
)
def test_what_is_not_wording_stays_as_the_model_said_it(text, dropped, answer):
    assert recover(answer, source(text, dropped)) == answer


def test_text_without_spaces_is_recovered_by_character():
    assert recover("他们喜欢北京大学。", source("北京师范大学", "师范")) == "他们喜欢北京师范大学。"


def test_an_edited_request_gives_its_own_wording():
    text, quoted = "Fuel of Dilution rose", "Ada King Lovelace"
    leaves = {Address(0, 0): quoted, Address(2, 0): text}
    edit = LeafEdit(
        Address(2, 0),
        (Mark.RECALL_HEADING, Quote(Address(0, 0), Span(0, 17)), Span(0, 4), Span(7, 21)),
    )
    cut = LeafEdit(Address(0, 0), (Span(0, 3), Span(8, 17)))
    shown = align_edits((edit, cut), leaves)
    assert (
        recover("Ada Lovelace saw Fuel Dilution", shown) == "Ada King Lovelace saw Fuel of Dilution"
    )


def test_words_are_returned_as_soon_as_they_are_settled():
    stream = RecoveryStream(source(NOBEL, " Conrad"))
    assert stream.feed("It was Wil") == "It was"
    assert stream.feed("helm Rönt") == ""
    assert stream.feed("gen, in") == " Wilhelm Conrad Röntgen,"
    assert stream.close() == " in"


def test_one_possible_original_holds_nothing_back_but_the_last_word():
    text = " ".join(f"Word{i} gone" for i in range(50))
    shown = align([(text, tuple(Span(m.start(), m.end()) for m in re.finditer(r"Word\d+", text)))])
    stream = RecoveryStream(shown)
    out = ""
    for i in range(50):
        out += stream.feed(f"Word{i} ")
        assert i == 0 or out.endswith(f"Word{i}")
    assert out + stream.close() == " ".join(f"Word{i} gone" for i in range(49)) + " Word49 "


def test_a_word_without_end_is_not_held_back():
    stream = RecoveryStream(source(NOBEL, " Conrad"))
    assert sum(len(stream.feed("abcdefgh")) for _ in range(1000)) >= 8000 - 64


WORDS = st.sampled_from(["Ada", "ran", "of", "Berlin", "3", ".", "大", "学", "\n", "the", "ब", "ि"])
TEXTS = st.lists(st.tuples(WORDS, st.sampled_from(["", " ", "  "])), max_size=24).map(
    lambda pairs: "".join(word + gap for word, gap in pairs)
)


@st.composite
def prompts(draw):
    """Texts, each with the spans that were kept."""
    texts = draw(st.lists(TEXTS, max_size=3))
    cuts = [sorted(draw(st.sets(st.integers(0, len(text)), max_size=8))) for text in texts]
    return [
        (text, tuple(map(Span, cut[::2], cut[1::2]))) for text, cut in zip(texts, cuts, strict=True)
    ]


@examples(300)
@given(prompts(), TEXTS, st.integers(0, 4), st.integers(1, 9))
def test_recovery_is_its_slow_twin_in_pieces_of_any_size(prompt, answer, reach, size):
    shown = align(prompt, reach)
    expected = reference_long.recover(answer, shown)
    assert recover(answer, shown) == expected
    assert streamed(answer, shown, size) == expected


@examples(200)
@given(prompts(), st.data())
def test_an_answer_from_the_prompt_matches_its_twin_and_keeps_its_words(prompt, data):
    shown = align(prompt)
    first = data.draw(st.integers(0, len(shown.words)))
    last = data.draw(st.integers(first, len(shown.words)))
    answer = " ".join(shown.words[first:last])
    recovered = recover(answer, shown)
    assert recovered == reference_long.recover(answer, shown)
    assert is_subsequence("".join(answer.split()), "".join(recovered.split()))


@examples(100)
@given(TEXTS, st.lists(TEXTS, max_size=4))
def test_what_is_held_is_what_did_not_come_back_as_it_was_said(text, pieces):
    stream = RecoveryStream(align([(text, (Span(0, len(text)),))]))
    out = ""
    for number, piece in enumerate(pieces, 1):
        out += stream.feed(piece)
        assert out + stream.held == "".join(pieces[:number])
    stream.close()
    assert stream.held == ""


def test_held_words_are_told_without_what_would_come_back():
    stream = RecoveryStream(source(NOBEL, " Conrad"))
    assert stream.feed("It was Wilhelm Rönt") == "It was"
    assert stream.held == " Wilhelm Rönt"


@examples(100)
@given(TEXTS, TEXTS)
def test_nothing_dropped_changes_nothing(text, answer):
    assert recover(answer, align([(text, (Span(0, len(text)),))])) == answer
