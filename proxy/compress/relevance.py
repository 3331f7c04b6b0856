"""Stage 3 of the cascade: how well each unit bears on the question.

score = z((cos(unit, q) + cos(document, q)) / 2) + weight * lexical
lexical = (z(BM25(unit)) + 0.6 z(BM25(document))) / 1.6

Both cosines come from one forward pass over the document (late pooling: a unit in its context, and
the context itself); a unit of which the encoder reads nothing (a number) is taken for its context.
The lexical term looks at both likewise.  z is over the turn's units, so a score depends on this
turn alone (law 5).  The lexical weight grows with the question's *fertility*, the encoder tokens
that a word takes: 1.1 in English, which the encoder's vocabulary knows, 2 in Spanish, 3 to 17 in
other scripts, which then count by their letters.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from proxy.compress.lexical import Ints, Terms, count_terms
from proxy.compress.ports import DocumentVectors, QuestionVectors, Vector

DOCUMENT_SHARE = 0.6
"""Weight of a document's BM25 beside its unit's."""
LEAST_WEIGHT, MOST_WEIGHT = 0.1, 3.0
"""Lexical weight where the encoder knows every word, and where it knows none."""
KNOWN_FERTILITY, WEIGHT_PER_TOKEN = 1.4, 1.7
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


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Vectors of a turn's documents one below the other, and what no question changes of them."""

    rows: Vector = field(repr=False)  # (n_units + n_documents, d): units, then documents
    norms: Scores1D  # (n_units + n_documents,)
    are_units: NDArray[np.bool_]  # (n_units + n_documents,)
    read: NDArray[np.bool_]  # (n_units,) whether the encoder reads anything of a unit
    sizes: Ints  # (n_documents,) units of each

    @classmethod
    def of(cls, documents: Sequence[DocumentVectors]) -> Self:
        """Stack the vectors of one document or more."""
        units = [document.units for document in documents]
        rows = np.concatenate([*units, [document.whole for document in documents]])
        read = np.concatenate([document.unit_tokens for document in documents]) > 0
        sizes = np.array([len(document.units) for document in documents], np.int64)
        return cls(rows, _norms(rows), np.arange(len(rows)) < len(read), read, sizes)

    @property
    def nbytes(self) -> int:
        """How many bytes this keeps alive."""
        kept = (self.rows, self.norms, self.are_units, self.read, self.sizes)
        return sum(array.nbytes for array in kept)


def rate_units(
    question: str, asked: QuestionVectors, terms: Sequence[Terms], stacks: Sequence[Stack]
) -> Relevance:
    """Rate the units of the documents in ``stacks``; ``terms`` index them in the same order.

    An empty turn gives empty figures.
    """
    if not stacks:
        return Relevance(np.zeros(0), np.zeros(0), np.zeros(0))
    units, wholes = _cosines(stacks, asked.final)
    sizes = np.concatenate([stack.sizes for stack in stacks])
    around = np.repeat(wholes, sizes)
    read = np.concatenate([stack.read for stack in stacks])
    similarity = (np.where(read, units, around) + around) / 2
    weight = lexical_weight(question, asked.tokens)
    scores = _z(similarity) + weight * _lexical(question, terms, sizes)
    return Relevance(
        np.round(scores, DIGITS), np.round(similarity, DIGITS), np.round(_standing(scores), DIGITS)
    )


def lifted(relevance: Relevance, units: Mapping[int, float]) -> Relevance:
    """Put these units before all others, by what is given more, then as they stood."""
    if not units:
        return relevance
    scores, standing = relevance.scores.copy(), relevance.standing.copy()
    chosen, more = list(units), np.array(list(units.values()))
    reach = 1 + float(scores.max() - scores.min())
    _, rank = np.unique(np.round(more, DIGITS), return_inverse=True)
    scores[chosen] += reach * (1 + rank)
    standing[chosen] = 1.0
    return Relevance(np.round(scores, DIGITS), relevance.similarity, standing)


def lowered(relevance: Relevance, numbers: Collection[int]) -> Relevance:
    """Put these units after all others, in the order they had among themselves."""
    if not numbers:
        return relevance
    scores, standing = relevance.scores.copy(), relevance.standing.copy()
    chosen = list(numbers)
    scores[chosen] -= 1 + scores.max() - scores.min()
    standing[chosen] = 0.0
    return Relevance(np.round(scores, DIGITS), relevance.similarity, standing)


def lexical_weight(question: str, tokens: int) -> float:
    """Return the weight of the lexical term, from the encoder tokens that the question took.

    >>> lexical_weight("who wrote this opera", 4), lexical_weight("अल्फा", 9)
    (0.1, 3.0)
    """
    fertility = tokens / max(1, len(question.split()))
    return float(
        np.clip(
            LEAST_WEIGHT + WEIGHT_PER_TOKEN * (fertility - KNOWN_FERTILITY),
            LEAST_WEIGHT,
            MOST_WEIGHT,
        )
    )


def _lexical(question: str, terms: Sequence[Terms], sizes: Ints) -> Scores1D:
    """BM25 of units, and of the documents they stand in; ``sizes`` are units per document."""
    counts = count_terms(question, terms)
    around = np.repeat(counts.of_documents(sizes).scores(), sizes)
    return (_z(counts.scores()) + DOCUMENT_SHARE * _z(around)) / (1 + DOCUMENT_SHARE)


def cosine(rows: Vector, vector: Vector) -> Scores1D:
    """Cosines (n,) of rows (n, d) with one vector (d,); zero where either has no length."""
    dots = rows.astype(np.float64) @ vector.astype(np.float64)
    return _quotients(dots, _norms(rows) * np.linalg.norm(vector))


def _cosines(stacks: Sequence[Stack], vector: Vector) -> tuple[Scores1D, Scores1D]:
    """Return the cosines of all units (n_units,) and of all documents (n_documents,)."""
    wide = vector.astype(np.float64)
    dots = [stack.rows.astype(np.float64) @ wide for stack in stacks]
    found = _quotients(
        np.concatenate(dots),
        np.concatenate([stack.norms for stack in stacks]) * np.linalg.norm(vector),
    )
    rows = np.concatenate([stack.are_units for stack in stacks])
    return found[rows], found[~rows]


def _quotients(dots: Scores1D, lengths: Scores1D) -> Scores1D:
    out: Scores1D = np.zeros(len(dots))
    np.divide(dots, lengths, out=out, where=lengths > 0)
    return out


def _norms(rows: Vector) -> Scores1D:
    return np.asarray(np.linalg.norm(rows, axis=1), np.float64)


def _z(values: Scores1D) -> Scores1D:
    spread = float(values.std())
    return (values - values.mean()) / spread if spread > 1e-9 else np.zeros(len(values))


def _standing(scores: Scores1D) -> Scores1D:
    """Rescale to 0 at the median and 1 at the best; all 1 where nothing stands out."""
    middle, best = float(np.median(scores)), float(scores.max())
    if best - middle < 1e-9:
        return np.ones(len(scores))
    return np.clip((scores - middle) / (best - middle), 0.0, 1.0)
