import math
from itertools import chain
from operator import mul

import numpy as np
import pytest
from driving import SCORER, examples
from hypothesis import given
from hypothesis import strategies as st

from proxy.compress import reference
from proxy.compress.lexical import read_terms
from proxy.compress.ports import Document, DocumentVectors, QuestionVectors
from proxy.compress.relevance import Stack, cosine, lexical_weight, rate_units
from proxy.types import Span

words = st.lists(
    st.sampled_from(["the", "lighthouse", "at", "Skagen", "京都", "नदी", "نعم", "zzq"]),
    max_size=6,
).map(" ".join)


def stacks(documents):
    """Stack each document by itself: how they are stacked makes no difference."""
    return [Stack.of([document]) for document in documents]


def rate(question, documents):
    """Rate units given as lists of texts, one list a document."""
    made = []
    for units in documents:
        ends = np.cumsum([len(unit) + 1 for unit in units])
        spans = tuple(
            Span(int(e) - 1 - len(u), int(e) - 1) for e, u in zip(ends, units, strict=True)
        )
        made.append(Document(" ".join(units), spans))
    texts = [unit for units in documents for unit in units]
    (asked,) = SCORER.embed_questions([question])
    return rate_units(question, asked, read_terms(texts), stacks(SCORER.embed_documents(made)))


def plain_cosine(a, b):
    """By the formula, a product at a time."""
    dot, norms = sum(map(mul, a, b)), math.hypot(*a) * math.hypot(*b)
    return dot / norms if norms else 0.0


vectors = st.lists(st.integers(-3, 3).map(float), min_size=3, max_size=3)


@examples(150)
@given(
    words,
    st.integers(0, 12),
    vectors,
    st.lists(
        st.tuples(vectors, st.lists(st.tuples(words, vectors), min_size=1, max_size=4)),
        min_size=1,
        max_size=4,
    ),
)
def test_scores_equal_their_slow_twin(question, tokens, asked, documents):
    texts = [[text for text, _ in units] for _, units in documents]
    made = [
        DocumentVectors(
            np.array([vector for _, vector in units]),
            np.ones(len(units), np.int32),
            np.array(whole),
        )
        for whole, units in documents
    ]
    ask = QuestionVectors(np.array(asked), np.array(asked), 1.0, tokens)
    found = rate_units(question, ask, read_terms([*chain(*texts)]), stacks(made))
    joined = reference.bm25(question, ["\n".join(one) for one in texts])
    twin = reference.relevance(
        [[plain_cosine(vector, asked) for _, vector in units] for _, units in documents],
        [plain_cosine(whole, asked) for whole, _ in documents],
        (
            reference.bm25(question, [*chain(*texts)]),
            [score for score, one in zip(joined, texts, strict=True) for _ in one],
        ),
        lexical_weight(question, tokens),
    )
    assert found.scores.tolist() == pytest.approx(twin, abs=1e-4)


@examples(150)
@given(words, st.lists(st.lists(words, min_size=1, max_size=4), min_size=1, max_size=4))
def test_standing_runs_from_the_middle_to_the_best(question, documents):
    relevance = rate(question, documents)
    count = sum(map(len, documents))
    assert (
        relevance.scores.shape == relevance.similarity.shape == relevance.standing.shape == (count,)
    )
    assert np.isfinite(relevance.scores).all()
    assert relevance.standing.max() == 1
    assert relevance.standing.min() >= 0
    assert relevance.standing[relevance.scores.argmax()] == 1
    by_score = np.argsort(-relevance.scores, kind="stable")
    assert (np.diff(relevance.standing[by_score]) <= 1e-3).all()


def test_the_unit_that_shares_the_questions_words_is_best():
    documents = [["the ferry sails", "the lighthouse at Skagen"], ["نعم", "the river"]]
    assert rate("when was the lighthouse at Skagen lit", documents).scores.argmax() == 1


def test_its_document_lifts_a_unit():
    documents = [["it opened early", "the lighthouse at Skagen"], ["it opened early", "the ferry"]]
    scores = rate("lighthouse Skagen", documents).scores
    assert scores[0] > scores[2]


def test_equal_units_have_equal_scores_and_all_stand_out():
    relevance = rate("ferry", [["the same"], ["the same"]])
    assert relevance.scores.tolist() == [0.0, 0.0]
    assert relevance.standing.tolist() == [1.0, 1.0]


def test_scores_are_rounded_before_they_are_compared():
    relevance = rate("the ferry", [["the ferry sails", "the town"], ["a ferry"]])
    assert relevance.scores.tolist() == np.round(relevance.scores, 4).tolist()


def test_no_units_have_no_scores():
    (asked,) = SCORER.embed_questions(["what"])
    assert rate_units("what", asked, [], []).scores.shape == (0,)


def test_a_vector_without_length_is_similar_to_nothing():
    rows = np.array([[3, 4], [0, 0]], np.float32)
    assert cosine(rows, np.array([3, 4], np.float32)).tolist() == pytest.approx([1, 0])
    assert cosine(rows, np.zeros(2, np.float32)).tolist() == [0, 0]


def test_a_unit_of_which_nothing_is_read_is_taken_for_its_document():
    vectors = DocumentVectors(
        np.array([[0.0, 0.0], [0.0, 1.0]]), np.array([0, 4], np.int32), np.array([1.0, 0.0])
    )
    ask = QuestionVectors(np.array([1.0, 0.0]), np.array([1.0, 0.0]), 1.0, 2)
    found = rate_units("what", ask, read_terms(["[1]", "It rained."]), stacks([vectors]))
    assert found.similarity.tolist() == [1.0, 0.5]
