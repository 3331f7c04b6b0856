"""The flat-relevance guard: where no unit stands out, similarity is no guide.

Measured with the shipped encoder: over 99 % of look-ups about the text have a unit of mean cosine
0.22 or more; nine in ten asks about everything, or about something else, have none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from proxy.compress.ports import DocumentVectors
from proxy.compress.relevance import DIGITS, Relevance, Scores1D, cosine
from proxy.policy.schema import Policy, Target

LEAST_SIMILARITY = 0.2
"""A turn whose best unit is less similar to the question than this is flat."""


def is_flat(relevance: Relevance) -> bool:
    """Whether no unit stands out from the others."""
    return float(relevance.similarity.max(initial=0.0)) < LEAST_SIMILARITY


def central(documents: Sequence[DocumentVectors]) -> Relevance:
    """Rate units by how central they are to their document, every document's best first.

    So a budget takes one unit of each document before it takes a second of any.
    """
    scores: list[Scores1D] = []
    for document in documents:
        near = cosine(document.units, document.whole)
        rank: Scores1D = np.empty(len(near))
        rank[np.argsort(-np.round(near, DIGITS), kind="stable")] = np.arange(len(near))
        scores.append(-rank + np.round(near, DIGITS) / 2)
    joined: Scores1D = np.concatenate(scores).round(DIGITS)
    return Relevance(joined, np.zeros(len(joined)), np.ones(len(joined)))


def overview_policy(policy: Policy) -> Policy:
    """Return the policy with its milder overview rate on context."""
    return policy.with_context(Target(rate=policy.overview_rate))
