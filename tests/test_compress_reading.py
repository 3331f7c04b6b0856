"""Which documents the encoder reads."""

import numpy as np
from fakes import HashScorer

from proxy.compress.lexical import read_terms
from proxy.compress.ports import Document
from proxy.compress.reading import READ_CHARS, filled, shortlist
from proxy.types import Span


def documents(texts):
    return [Document(text, (Span(0, len(text)),)) for text in texts]


def chosen(question, texts, data):
    return shortlist(question, read_terms(texts), documents(texts), data)


def test_what_is_short_is_all_read():
    texts = ["a harbour", "a mill"]
    assert chosen("where is the mill", texts, [True, True]) == (0, 1)


def test_of_long_data_what_shares_words_with_the_question_is_read():
    texts = [f"row {i} of {'x' * 100}" for i in range(400)]
    texts[300] = f"the mill of {'y' * 100}"
    found = chosen("where is the mill", texts, [True] * 400)
    assert 300 in found
    assert sum(len(texts[i]) for i in found) <= READ_CHARS
    assert found == tuple(sorted(found))


def test_prose_is_read_however_long_it_is():
    texts = ["prose " * 4000, *(f"row {i} {'x' * 100}" for i in range(400)), "more prose"]
    found = chosen("what", texts, [False, *[True] * 400, False])
    assert {0, 401} <= set(found)
    assert len(found) < 402


def test_what_was_not_read_is_similar_to_nothing():
    made = documents(["one", "two", "three"])
    read = HashScorer().embed_documents([made[1]])
    vectors = filled(made, (1,), read, 64)
    assert vectors[1] is read[0]
    assert [v.units.shape for v in vectors] == [(1, 64)] * 3
    assert [int(v.unit_tokens.sum()) for v in vectors] == [0, 1, 0]
    assert not np.any(vectors[0].whole)
    assert filled(made[:1], (0,), read, 64) == tuple(read)
    assert [len(v.whole) for v in filled(made, (), (), 64)] == [64, 64, 64]
