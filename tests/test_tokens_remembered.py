import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.tokens import encoding_for
from proxy.tokens.remembered import Remembered, lines

ENCODINGS = [encoding_for("gpt-4o"), encoding_for("gpt-4")]

NASTY = [*"aZ9é你́.,'\"/[-#_ \t\r\v\x1c\x85\xa0\u2028😀", "\n", "\n", "\n\n", "'s", "don't", "12345"]
texts = st.lists(st.sampled_from([*NASTY, "word", "Word\n", " and", ".\n", "a\nb"]), max_size=40)


def sizes_of(encoding):
    def encode(text):
        tokens = encoding._core.encode_ordinary(text)
        return np.array(
            [len(encoding._core.decode_single_token_bytes(token)) for token in tokens], np.uint16
        )

    return encode


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.name)
@given(first=texts, second=texts)
@example(first=["a\n", "'s"], second=["b\n", "/c"])
def test_tokens_of_remembered_lines_are_those_of_the_whole_text(encoding, first, second):
    encode, memory = sizes_of(encoding), Remembered(1000)
    one, two = "".join(first), "".join(second)
    for text in (one, two, two + one, one + "\n" + two + "\n" + one, one + two):
        assert memory.sizes(text, encode).tolist() == encode(text).tolist()


@given(texts)
def test_lines_join_to_the_text(parts):
    text = "".join(parts)
    assert "".join(lines(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "one", "one \ntwo", "one\n two", "one\n\ntwo", "one\n/two", "one\r\n\ttwo", "one\n"],
)
def test_nothing_is_cut_where_a_token_might_reach_over(text):
    assert lines(text) == [text]


class Asked:
    """Takes each character for a token; says what it was asked to encode."""

    def __init__(self):
        self.texts = []

    def __call__(self, text):
        self.texts.append(text)
        return np.array([len(c.encode()) for c in text], np.uint16)


def test_lines_that_are_not_known_are_encoded_in_one_go_and_once():
    encode, memory = Asked(), Remembered(10_000)
    assert memory.sizes("one\ntwo\nthrée", encode).tolist() == [1] * 11 + [2, 1]
    assert memory.sizes("two\nnew\nother\none\nlast\none", encode).sum() == 26
    assert encode.texts == ["one\ntwo\nthrée", "new\nother\n", "last\none"]


def test_what_is_asked_for_outlives_what_is_not():
    encode, memory = Asked(), Remembered(300)
    memory.sizes("old\nkept\n", encode)
    for number in range(40):
        memory.sizes(f"new {number}\nkept\n", encode)
        assert len(memory._young) + len(memory._old) < 12
    encode.texts.clear()
    memory.sizes("kept\n", encode)
    memory.sizes("old\nkept\n", encode)
    assert encode.texts == ["old\n"]


def test_a_text_too_long_to_be_remembered_is_encoded_as_it_is():
    encode, memory = Asked(), Remembered(100)
    assert len(memory.sizes("ab\n" * 50, encode)) == 150
    assert (encode.texts, memory._young) == (["ab\n" * 50], {})


def test_an_encoding_remembers_the_lines_of_long_texts_and_counts_them_alike():
    encoding = encoding_for("gpt-4o")
    passages = [f"[{number}] The lighthouse at Skagen was lit in 1858." for number in range(40)]
    for text in ("\n".join(passages), "\n".join([*passages[20:], "Why?", *passages[:20]])):
        assert encoding.count(text) == len(encoding._core.encode_ordinary(text))
    assert all(f"{passage}\n" in encoding._lines._young for passage in passages[:30])


def test_what_is_encoded_sooner_than_looked_up_is_not_remembered():
    encoding, text = encoding_for("gpt-4o"), "Never\nsaid\nbefore. " * 40
    for part in (text[:200], text[:900]):
        assert encoding.count_by(part, [0, 5, len(part)])[0] == 1
        assert encoding.count(part) == len(encoding._core.encode_ordinary(part))
    assert "Never\n" not in encoding._lines._young
