"""The seam between compression and the model: what is asked for, and what comes back.

A method is a generator that yields :class:`ScoreRequest` and is sent :class:`Scores`; the gateway
drives it against the engine, tests against a fake.  Arrays are float32, read-only, unnormalised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from proxy.types import Kind, Span

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
    """Late-pooled vectors of a document: means over token states, no specials.

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
class Heard:
    """A stretch of text that the causal LM read before, and the spans of it that were kept."""

    text: str = field(repr=False)
    kept: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Passage:
    """Text to be rated by the causal LM, after what it heard before.

    With ``exact`` the LM reads the kept spans of ``heard``, joined, and then ``text``: the
    probability of each token given the compressed prefix.  Without, it goes on from the states of
    the raw stretches, gathered at the kept positions: one read per token, but those states saw
    dropped tokens (LLMLingua's key-value cache).
    """

    text: str = field(repr=False)
    heard: tuple[Heard, ...] = ()
    exact: bool = True


STRETCH: Final = 400
"""Characters that the bands of a causal LM are measured on."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a stretch of text looks to a causal LM."""

    nats: float  # mean per token
    chars_per_token: float
    symbols: float  # share of its solid characters that are neither letters, marks nor digits


@dataclass(frozen=True, slots=True)
class Band:
    """What ordinary text of a kind looks like to a causal LM.

    Measured on stretches of ``stretch`` characters, of which 99 in 100 lie within each pair.  Only
    one side of each tells that the LM does not know a text: too surprising, too few characters a
    token (another script, base64), too many symbols (minified code).  What it foretells better
    than ordinary text it knows well.
    """

    nats: tuple[float, float]
    chars_per_token: tuple[float, float]
    symbols: tuple[float, float] = (0.0, 0.25)
    stretch: int = STRETCH  # 0: the same limits however short a text is

    def holds(self, manner: Manner, characters: int) -> bool:
        """Tell whether a stretch of so many characters is ordinary.

        The mean of a shorter one strays further: limits move away from the middle of the band with
        the square root of what is missing, on the scale of logarithms for a ratio.

        >>> band = Band((1.5, 6.7), (2.2, 5.5), (0.01, 0.1))
        >>> [band.holds(Manner(4.0, 2.0, 0.05), n) for n in (400, 100)]
        [False, True]
        """
        wider = max(1.0, self.stretch / max(1, characters)) ** 0.5
        least, most = self.chars_per_token
        middle = (least * most) ** 0.5
        return (
            manner.nats <= _further(self.nats, wider)
            and manner.chars_per_token >= middle * (least / middle) ** wider
            and manner.symbols <= _further(self.symbols, wider)
        )


def _further(pair: tuple[float, float], wider: float) -> float:
    """Return the upper end of a pair whose distance from the middle is multiplied."""
    middle = sum(pair) / 2
    return middle + wider * (pair[1] - middle)


NO_BANDS: Final[Mapping[Kind, Band]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class SelfInformation:
    """-log p of each token of a passage, in nats, aligned with the token itself.

    ``starts`` and ``ends`` are characters of the passage's text; the first token is rated after
    the beginning-of-sequence token.  ``bands`` are those of the LM, where it was calibrated.
    """

    nats: NDArray[np.float32]  # (n,)
    starts: NDArray[np.int32]  # (n,)
    ends: NDArray[np.int32]  # (n,)
    bands: Mapping[Kind, Band] = field(default_factory=lambda: NO_BANDS, repr=False)


@dataclass(frozen=True, slots=True)
class KeepProbabilities:
    """A token classifier's probability that each token is kept (LLMLingua-2)."""

    keep: NDArray[np.float32]  # (n,)
    starts: NDArray[np.int32]  # (n,)
    ends: NDArray[np.int32]  # (n,)


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """What a method wants from the models.  Any part may be empty.

    ``documents`` and ``questions`` are for the encoder, ``passages`` for the causal LM,
    ``classified`` for the token classifier.  ``turn`` is the turn it is for: each turn has a
    deadline of its own.
    """

    documents: tuple[Document, ...] = ()
    questions: tuple[str, ...] = field(default=(), repr=False)
    passages: tuple[Passage, ...] = ()
    classified: tuple[str, ...] = field(default=(), repr=False)
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
    passages: tuple[SelfInformation, ...] = ()
    classified: tuple[KeepProbabilities, ...] = ()
    timings: ScoreTimings = ScoreTimings()
