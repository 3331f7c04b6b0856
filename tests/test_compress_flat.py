import numpy as np
import pytest
from driving import policy

from proxy.compress.flat import LEAST_SIMILARITY, central, is_flat, overview_policy
from proxy.compress.ports import DocumentVectors
from proxy.compress.relevance import Relevance


def relevance(*similarity):
    figures = np.array(similarity)
    return Relevance(figures, figures, figures)


def vectors(*units):
    rows = np.array(units, np.float32)
    return DocumentVectors(rows, np.ones(len(rows), np.int32), rows.mean(axis=0))


@pytest.mark.parametrize(
    ("similarity", "expected"),
    [((), True), ((0.0, LEAST_SIMILARITY - 0.01), True), ((0.0, LEAST_SIMILARITY), False)],
)
def test_a_turn_is_flat_where_even_its_best_unit_is_unlike_the_question(similarity, expected):
    assert is_flat(relevance(*similarity)) is expected


def test_every_documents_most_central_unit_comes_before_any_second():
    first = vectors([1, 0], [1, 1], [0, 1])  # the middle one is the most central
    second = vectors([0, 1], [5, 5])
    order = np.argsort(-central([first, second]).scores, kind="stable").tolist()
    assert set(order[:2]) == {1, 4}
    assert set(order) == set(range(5))


def test_the_overview_rate_is_for_context_only():
    choices = policy(
        components={"context": {"min_relevance": 0.4}, "instruction": {"rate": 0.9}},
        overview_rate=0.7,
    )
    overview = overview_policy(choices)
    assert overview.components.context.model_dump(exclude_none=True) == {"rate": 0.7}
    assert overview.components.instruction == choices.components.instruction
    assert overview.components.question == choices.components.question
