"""Stage 3 of the cascade: how well each unit bears on the question.

score = z((cos(unit, q) + cos(document, q)) / 2) + weight * z(BM25)

Both cosines come from one forward pass over the document (late pooling: a unit in its context, and
the context itself).  z is over the turn's units, so a score depends on this turn alone (law 5).
The lexical weight grows with the share of the question that the encoder's vocabulary, which is
English, cannot know: names, codes and other scripts count by their letters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proxy.compress.lexical import bm25
from proxy.compress.ports import DocumentVectors, QuestionVectors, Vector

LATIN_WEIGHT = 0.2
OTHER_WEIGHT = 1.0
DIGITS = 4
"""Scores are rounded before they are compared (law 9)."""

Scores1D = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Relevance:
    """Per-unit figures of one turn, in the order of its units.

    ``scores`` order the units; ``similarity`` is the mean cosine, comparable between turns;
    ``standing`` is where a unit stands between the turn's middle (0) and its best (1).
    """

    scores: Scores1D
    similarity: Scores1D
    standing: Scores1D


def rate_units(
    question: str,
    asked: QuestionVectors,
    texts: Sequence[str],
    documents: Sequence[DocumentVectors],
) -> Relevance:
    """Rate the units of ``documents``, whose texts are ``texts`` in the same order.

    An empty turn gives empty figures.
    """
    if not texts:
        return Relevance(np.zeros(0), np.zeros(0), np.zeros(0))
    units = np.concatenate([document.units for document in documents])  # (n, d)
    wholes = np.concatenate([np.tile(d.whole, (len(d.units), 1)) for d in documents])  # (n, d)
    similarity = (_cosine(units, asked.final) + _cosine(wholes, asked.final)) / 2
    scores = _z(similarity) + lexical_weight(question) * _z(bm25(question, texts))
    return Relevance(
        np.round(scores, DIGITS), np.round(similarity, DIGITS), np.round(_standing(scores), DIGITS)
    )


def lexical_weight(question: str) -> float:
    """Return the weight of BM25: from 0.2 (Latin letters only) to 1 (none)."""
    letters = [char for char in question if char.isalpha()]
    if not letters:
        return OTHER_WEIGHT
    other = sum(not _is_english(char) for char in letters) / len(letters)
    # A few accents already tell of a language that the encoder knows badly.
    return LATIN_WEIGHT + (OTHER_WEIGHT - LATIN_WEIGHT) * min(1.0, 4 * other)


def _is_english(char: str) -> bool:
    return char.isascii()


def _cosine(rows: Vector, vector: Vector) -> Scores1D:
    """Cosines (n,) of rows (n, d) with one vector (d,); zero where either has no length."""
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(vector)
    dots = rows.astype(np.float64) @ vector.astype(np.float64)
    return np.divide(dots, norms, out=np.zeros(len(rows)), where=norms > 0)


def _z(values: Scores1D) -> Scores1D:
    spread = float(values.std())
    return (values - values.mean()) / spread if spread > 1e-9 else np.zeros(len(values))


def _standing(scores: Scores1D) -> Scores1D:
    """Rescale to 0 at the median and 1 at the best; all 1 where nothing stands out."""
    middle, best = float(np.median(scores)), float(scores.max())
    if best - middle < 1e-9:
        return np.ones(len(scores))
    return np.clip((scores - middle) / (best - middle), 0.0, 1.0)
