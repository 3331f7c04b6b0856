"""The seam between compression and the model: what is asked for, and what comes back.

A method is a generator that yields :class:`ScoreRequest` and is sent :class:`Scores`; the gateway
drives it against the engine, tests against a fake.  Arrays are float32, read-only, unnormalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from proxy.types import Span

Vector: TypeAlias = NDArray[np.float32]


class Encoding(Protocol):
    """The upstream's tokenizer, as far as budgets need it (``proxy.tokens`` has the real one)."""

    @property
    def name(self) -> str:
        """The encoding's name, such as ``o200k_base``."""

    @property
    def estimated(self) -> bool:
        """Whether its counts only estimate the upstream's."""

    def count(self, text: str) -> int:
        """Tokens of ``text``."""

    def count_by(self, text: str, boundaries: Sequence[int]) -> list[int]:
        """Tokens whose first character lies in each stretch ``[b[i], b[i + 1])``."""


@dataclass(frozen=True, slots=True)
class Document:
    """Text to be embedded in context, and the units whose vectors are wanted.

    ``units`` are ascending, disjoint spans of ``text``.  A document longer than the encoder's
    window is split by the scorer at unit ends.  Equal documents have equal vectors, whatever else
    is in the batch: this value is the memo's key.
    """

    text: str = field(repr=False)
    units: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class DocumentVectors:
    """Late-pooled vectors of a document (algorithms.md): means over token states, no specials.

    ``units[i]`` is the mean of unit i's own tokens' final states, zero where it has none;
    ``whole`` the token-weighted mean over all tokens of the document.
    """

    units: Vector  # (n_units, d)
    unit_tokens: NDArray[np.int32]  # (n_units,) encoder tokens; 0 where the unit has none
    whole: Vector  # (d,)


@dataclass(frozen=True, slots=True)
class QuestionVectors:
    """A question, embedded by itself.

    ``final`` is the mean of the last layer's states, ``middle`` that of the layer two thirds down
    (features for the whole-text head), both without special tokens; ``known`` is the share of
    tokens that are not the unknown token; ``tokens`` their number.
    """

    final: Vector  # (d,)
    middle: Vector  # (d,)
    known: float
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """What a method wants embedded.  Either part may be empty.

    ``turn`` is the turn it is for: each turn has a deadline of its own.
    """

    documents: tuple[Document, ...] = ()
    questions: tuple[str, ...] = field(default=(), repr=False)
    turn: int = 0


@dataclass(frozen=True, slots=True)
class ScoreTimings:
    """Where scoring spent its time, and how much the memo spared."""

    queue_ms: float = 0.0
    model_ms: float = 0.0
    scored_tokens: int = 0  # encoder tokens that went through the model
    memo_hits: int = 0
    memo_misses: int = 0


@dataclass(frozen=True, slots=True)
class Scores:
    """The answer to a ScoreRequest, in its order."""

    documents: tuple[DocumentVectors, ...] = ()
    questions: tuple[QuestionVectors, ...] = ()
    timings: ScoreTimings = ScoreTimings()
