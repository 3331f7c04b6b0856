import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import tiktoken
import tiktoken_ext.openai_public as definitions
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import CompressionError
from proxy.tokens import encoding_for, models, preload
from proxy.tokens.encoding import LONGEST_SPACE, LONGEST_WORD, Encoding, pieces

GPT4O = encoding_for("gpt-4o")
GPT4 = encoding_for("gpt-4")

any_text = st.text(st.characters(categories=None), max_size=200)


def slow_count_by(encoding, text, boundaries):
    """The same, token by token: decode lengths, walk the bytes to the character they lie in."""
    character_of_byte = [i for i, c in enumerate(text) for _ in c.encode()]
    found, position = [0] * (len(boundaries) - 1), 0
    for token in encoding._core.encode_ordinary(text):
        character = character_of_byte[position]
        position += len(encoding._core.decode_single_token_bytes(token))
        for i in range(len(found)):
            found[i] += boundaries[i] <= character < boundaries[i + 1]
    return found


@pytest.mark.parametrize(
    ("model", "name", "estimated"),
    [
        ("gpt-4o", "o200k_base", False),
        ("gpt-4o-2024-08-06", "o200k_base", False),
        ("openai/gpt-4o-mini", "o200k_base", False),
        ("openrouter/openai/gpt-4o:online", "o200k_base", False),
        ("azure/gpt-35-turbo", "cl100k_base", False),
        ("gpt-4", "cl100k_base", False),
        ("gpt-4.1-nano", "o200k_base", False),
        ("gpt-5-mini", "o200k_base", False),
        ("o3", "o200k_base", False),
        ("gpt-oss-120b", "o200k_base", False),
        ("ft:gpt-3.5-turbo-0125:org::id", "cl100k_base", False),
        ("ft:gpt-4.1-mini-2025-04-14:org::id", "o200k_base", False),
        ("text-embedding-3-small", "cl100k_base", False),
        ("davinci", "o200k_base", True),
        ("gpt2", "o200k_base", True),
        ("claude-sonnet-4", "o200k_base", True),
        ("someone/gpt-4o", "o200k_base", True),
        ("", "o200k_base", True),
        (None, "o200k_base", True),
    ],
)
def test_model_names_decide_the_encoding(model, name, estimated):
    encoding = encoding_for(model)
    assert (encoding.name, encoding.estimated) == (name, estimated)


@pytest.mark.parametrize(
    ("text", "cl100k", "o200k"),
    [
        ("antidisestablishmentarianism", 6, 6),
        ("2 + 2 = 4", 7, 7),
        ("お誕生日おめでとう", 9, 8),
        ("tiktoken is great!", 6, 6),
    ],
)
def test_counts_are_those_that_openai_publishes(text, cl100k, o200k):
    # developers.openai.com/cookbook/examples/how_to_count_tokens_with_tiktoken
    assert [GPT4.count(text), GPT4O.count(text)] == [cl100k, o200k]


def test_the_first_count_needs_no_network_and_no_cache(tmp_path):
    code = (
        "import socket\n"
        "def refuse(*a, **k): raise OSError('no network')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "from proxy.tokens import encoding_for\n"
        "print(encoding_for('gpt-4o').count('hello world'), encoding_for('gpt-4').count('hi'))"
    )
    done = subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TIKTOKEN_CACHE_DIR": str(tmp_path)},
    )
    assert done.stdout.split() == ["2", "1"]
    assert list(tmp_path.iterdir()) == []


def test_ranks_other_than_those_that_tiktoken_names_are_refused():
    with pytest.raises(ValueError, match=r"^o200k_base.tiktoken: found sha256 \w+, wanted 00ff$"):
        models._installed_ranks("https://example.org/o200k_base.tiktoken", "00ff")


def test_preload_may_be_called_again():
    preload()
    preload()


def test_special_tokens_in_text_are_text():
    assert GPT4O.count("<|endoftext|>") == 7
    assert GPT4.count("<|fim_prefix|>") > 1


@given(any_text)
def test_count_takes_any_text(text):
    assert GPT4O.count(text) >= (text != "")


@given(st.text(max_size=200), st.data())
def test_stretches_count_as_the_slow_way(text, data):
    ends = data.draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=8).map(sorted))
    assert GPT4O.count_by(text, ends) == slow_count_by(GPT4O, text, ends)


@given(any_text, st.data())
def test_stretches_of_a_whole_text_sum_to_its_count(text, data):
    inner = data.draw(st.lists(st.integers(0, len(text)), max_size=6).map(sorted))
    assert sum(GPT4O.count_by(text, [0, *inner, len(text)])) == GPT4O.count(text)


def test_a_token_inside_a_character_belongs_to_that_character():
    text = "a\U00013000b"  # a hieroglyph: four bytes, several tokens
    assert GPT4O.count_by(text, [0, 1, 2, 3]) == [1, GPT4O.count("\U00013000"), 1]


def test_lone_surrogates_count_as_the_replacement_character():
    assert GPT4O.count_by("x \ud800 y", [0, 2, 3, 5]) == GPT4O.count_by("x \ufffd y", [0, 2, 3, 5])


@pytest.mark.parametrize("character", [" ", "\n", "a", "^", "é", "我", "\u0300", "\x1c"])
def test_a_million_of_one_character_is_counted(character):
    text = character * 1_000_000
    assert 0 < GPT4O.count(text) <= 2_000_000
    assert sum(GPT4O.count_by(text, [0, 10, 999_999, 1_000_000])) == GPT4O.count(text)


runs = st.lists(
    st.tuples(
        st.sampled_from([" ", "\n", " \n", "a", "我们,", "x1", "\t", "it's", "..."]),
        st.integers(1, 60_000),
    ),
    max_size=4,
)


@settings(max_examples=25, deadline=None)
@given(runs)
def test_pieces_join_to_the_text_and_no_run_is_longer_than_the_tokenizer_takes(made):
    text = "".join(part * times for part, times in made)
    cut = list(pieces(text))
    assert "".join(cut) == text
    for piece in cut:
        assert max((len(word) for word in piece.split()), default=0) <= LONGEST_WORD
        assert max(map(len, re.findall(r"\s+", piece)), default=0) <= LONGEST_SPACE


@pytest.mark.parametrize(
    "part", ["我们今天很高兴。", '{"a":1,"name":"x"},', "deadbeef42", "don't;"]
)
def test_text_without_spaces_that_has_sure_boundaries_is_counted_exactly(part):
    text = part * (3 * LONGEST_WORD // len(part))
    assert len(list(pieces(text))) > 1
    for encoding in (GPT4O, GPT4):
        assert encoding.count(text) == len(encoding._core.encode_ordinary(text))


@pytest.mark.parametrize("part", [" ", "a", "\n", "!"])
def test_a_blunt_cut_moves_the_count_by_two_at_most(part):
    text = "x " + part * 90_000 + " y"
    cuts = len(list(pieces(text))) - 1
    exact = len(GPT4O._core.encode_ordinary(text))
    assert abs(GPT4O.count(text) - exact) <= 2 * cuts


class Panics:
    """What tiktoken's extension raises is no Exception, so ``except Exception`` misses it."""

    n_vocab = 0

    def __init__(self, error):
        self.error = error

    def encode_ordinary(self, text):
        raise self.error


PanicException = type("PanicException", (BaseException,), {})


def test_a_panic_of_the_tokenizer_becomes_an_error_of_ours():
    with pytest.raises(CompressionError, match="panicked") as caught:
        Encoding("o200k_base", False, Panics(PanicException())).count("secret")
    assert isinstance(caught.value.__cause__, PanicException)
    assert "secret" not in str(caught.value)


def test_an_interrupt_while_counting_stays_an_interrupt():
    with pytest.raises(KeyboardInterrupt):
        replace(GPT4O, _core=Panics(KeyboardInterrupt())).count("x")


def test_nothing_of_tiktoken_is_changed():
    assert definitions.load_tiktoken_bpe is tiktoken.load.load_tiktoken_bpe
