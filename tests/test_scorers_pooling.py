import numpy as np
import pytest
from fakes import HashScorer
from hypothesis import given
from hypothesis import strategies as st

from proxy.compress.ports import Document
from proxy.scorers.pooling import drain, estimate_tokens, stretches, windows
from proxy.types import Span

SCORER = HashScorer()

cuts = st.lists(st.integers(1, 400), max_size=30).map(sorted)


def slow_vectors(scorer, document):
    """Late pooling said plainly, for a document that fits one window: token by token."""
    tokens = scorer.tokenise(document.text)
    states = scorer.read(tokens.ids).final.astype(float)
    zero = np.zeros(scorer.width)
    units = [
        [s for s, c in zip(states, tokens.starts, strict=True) if unit.start <= c < unit.end]
        for unit in document.units
    ]
    return [np.mean(own, axis=0) if own else zero for own in units], np.mean(states, axis=0)


def documents(texts):
    """Lay texts side by side, each a unit, with gaps that belong to none."""
    text, units = "", []
    for part in texts:
        units.append(Span(len(text), len(text) + len(part)))
        text += part + " gap "
    return Document(text, tuple(units))


@given(st.integers(0, 400), cuts, st.integers(1, 60))
def test_windows_cover_everything_once_and_fit(tokens, ends, limit):
    found = list(windows(tokens, ends, limit))
    assert [i for start, end in found for i in range(start, end)] == list(range(tokens))
    assert all(0 < end - start <= limit for start, end in found)


@given(st.integers(1, 400), cuts, st.integers(1, 60))
def test_a_window_ends_at_a_unit_end_where_one_is_in_reach(tokens, ends, limit):
    for start, end in windows(tokens, ends, limit):
        in_reach = [e for e in ends if start < e <= start + limit]
        assert end == tokens or end in in_reach or not in_reach


def test_windows_are_even_where_the_units_allow_it():
    assert list(windows(120, list(range(10, 121, 10)), 100)) == [(0, 60), (60, 120)]


def test_a_text_that_fits_is_one_window():
    assert list(windows(100, [10, 20, 100], 100)) == [(0, 100)]
    assert list(windows(0, [], 100)) == []


@given(st.integers(0, 400_000), st.lists(st.integers(0, 400_000), max_size=9).map(sorted))
def test_stretches_cover_everything_once(length, ends):
    found = list(stretches(length, ends))
    assert [start for start, _ in found] == [0, *(end for _, end in found)][: len(found)]
    assert not found or found[-1][1] == length
    assert all(0 < end - start <= 50_000 for start, end in found)


@given(st.lists(st.text("ab ,.é😀", max_size=12), min_size=1, max_size=4))
def test_unit_vectors_are_means_of_their_own_tokens(texts):
    document = documents(texts)
    if len(SCORER.tokenise(document.text).ids) > SCORER.window:
        return
    units, whole = slow_vectors(SCORER, document)
    found = SCORER.embed_documents([document])[0]
    np.testing.assert_allclose(found.units, units, atol=1e-6)
    np.testing.assert_allclose(found.whole, whole, atol=1e-6)
    counts = [len(SCORER.tokenise(unit.of(document.text)).ids) for unit in document.units]
    assert found.unit_tokens.tolist() == counts


def test_a_unit_longer_than_a_window_is_the_mean_over_its_pieces():
    text = " ".join(f"w{i}" for i in range(100))
    found = SCORER.embed_documents([Document(text, (Span(0, len(text)),))])[0]
    # HashScorer's states do not depend on their window, so the mean over windows is the mean.
    states = SCORER.read(SCORER.tokenise(text).ids).final
    np.testing.assert_allclose(found.units[0], states.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.whole, states.mean(axis=0), atol=1e-6)
    assert found.unit_tokens.tolist() == [100]


def test_a_huge_text_is_read_in_stretches_to_the_same_end():
    sentence = "one two three four. "
    text = sentence * 6000  # 120,000 characters
    spans = tuple(Span(i, i + len(sentence)) for i in range(0, len(text), len(sentence)))
    found = SCORER.embed_documents([Document(text, spans)])[0]
    alone = SCORER.embed_documents([Document(sentence, (Span(0, len(sentence)),))])[0]
    assert found.unit_tokens.tolist() == [5] * 6000
    np.testing.assert_allclose(found.units, np.tile(alone.units, (6000, 1)), atol=1e-6)
    np.testing.assert_allclose(found.whole, alone.whole, atol=1e-6)


def test_units_without_tokens_are_zero():
    found = SCORER.embed_documents([Document("a   b", (Span(0, 1), Span(1, 4), Span(4, 5)))])[0]
    assert found.unit_tokens.tolist() == [1, 0, 1]
    assert not found.units[1].any()


@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_document_has_zero_vectors(text):
    found = SCORER.embed_documents([Document(text, ())])[0]
    assert (found.units.shape, found.whole.any()) == ((0, 64), False)


def test_a_document_without_units_still_has_a_whole():
    assert SCORER.embed_documents([Document("one two", ())])[0].whole.any()


def test_vectors_are_read_only():
    found = SCORER.embed_documents([Document("a", (Span(0, 1),))])[0]
    for array in (found.units, found.unit_tokens, found.whole):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_lone_surrogates_do_not_move_offsets():
    clean = SCORER.embed_documents([Document("x \ufffd yes", (Span(4, 7),))])[0]
    found = SCORER.embed_documents([Document("x \ud800 yes", (Span(4, 7),))])[0]
    assert found.unit_tokens.tolist() == [1]
    assert np.array_equal(found.units, clean.units)


def test_a_step_is_a_window_and_says_how_many_tokens_it_read():
    text = " ".join(["w"] * 70)
    steps = SCORER.document_steps(Document(text, ()))
    assert list(steps) == [32, 32, 6]
    assert drain(SCORER.question_steps("one two")).known == 1.0


def test_known_is_the_share_of_tokens_that_the_model_has_words_for():
    found = SCORER.embed_questions(["one zzz two zzz", "zzz", ""])
    assert [question.known for question in found] == [0.5, 0.0, 1.0]


def test_a_question_longer_than_a_window_is_averaged_over_all_of_it():
    text = " ".join(f"w{i}" for i in range(100))
    found = SCORER.embed_questions([text])[0]
    states = SCORER.read(SCORER.tokenise(text).ids)
    np.testing.assert_allclose(found.final, states.final.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.middle, states.middle.mean(axis=0), atol=1e-6)


def test_tokens_are_guessed_without_tokenising():
    guesses = [estimate_tokens(text) for text in ("", "word " * 100, "我" * 100, "\ud800")]
    assert guesses == [0, 125, 75, 1]
