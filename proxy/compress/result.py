"""What compressing a turn came to: remembered by the turn memo, read by recall and the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from proxy.compress.layout import Material
from proxy.compress.relevance import Stack
from proxy.types import Address, Component, Count, LeafEdit, Outcome, Reason, Segment

Counts = Mapping[Component, Count]


@dataclass(frozen=True, slots=True, eq=False)
class Ratings:
    """What a method chose by: the score of each unit of a turn or, with ``words``, of each word.

    Higher is kept rather; nan where something was not rated.
    """

    scores: NDArray[np.float32]  # (n,)
    words: NDArray[np.int32] | None = None  # (n, 3): the unit, start and end in its leaf

    @property
    def weight_bytes(self) -> int:
        """How many bytes this keeps alive."""
        return self.scores.nbytes + (0 if self.words is None else self.words.nbytes)


@dataclass(frozen=True, slots=True)
class TurnResult:
    """One turn's edits and figures.

    ``dropped`` are unit numbers (``layout.Material``) that the edits leave out; ``recalled`` are
    (turn, unit) pairs that this turn brought back; ``restores`` says that this turn's ask needs
    everything before it whole (law 12).  ``material`` is there where something was dropped.
    ``before`` and ``after`` are the turn's tokens as sent, and with its edits; ``sizes`` those of
    each segment, without what recall brought back.  ``vectors`` are those of the material's
    documents, where all of them were read: recall need not ask for them.  ``ratings`` are there to
    be looked at.
    """

    components: Counts
    edits: tuple[LeafEdit, ...] = ()
    reason: Reason | None = None
    dropped: frozenset[int] = frozenset()
    recalled: frozenset[tuple[int, int]] = frozenset()
    recalled_tokens: int = 0
    restores: bool = False
    material: Material | None = field(default=None, repr=False)
    sizes: tuple[Count, ...] = field(default=(), repr=False)
    vectors: Stack | None = field(default=None, repr=False, compare=False)
    ratings: Ratings | None = field(default=None, repr=False, compare=False)
    before: int = field(init=False)
    after: int = field(init=False)

    def __post_init__(self) -> None:
        """Add the tokens up: every later turn asks for them."""
        counts = self.components.values()
        object.__setattr__(self, "before", sum(count.before for count in counts))
        object.__setattr__(self, "after", sum(count.after for count in counts))

    @property
    def weight_bytes(self) -> int:
        """About how many bytes this keeps alive for recall: texts, their n-grams, units."""
        own = 1_000 + 100 * len(self.sizes)
        own += 0 if self.ratings is None else self.ratings.weight_bytes
        own += 0 if self.vectors is None else self.vectors.nbytes
        if self.material is None:
            return own
        characters = sum(map(len, self.material.texts.values()))
        return own + 22 * characters + 600 * len(self.material.units)

    def undone(self, reason: Reason) -> TurnResult:
        """Return the result of passing this turn as it was sent after all."""
        before = {component: count.before for component, count in self.components.items()}
        return verbatim(before, reason, [size.before for size in self.sizes])


@dataclass(frozen=True, slots=True)
class SentTurn:
    """One turn as it is sent: what a provider's cache goes by.

    ``text`` is the digest of what the caller sent, whatever the policy, and ``closing`` that of the
    assistant messages after it, empty where there are none yet.  ``tokens`` are those of the turn
    without and with its ``edits``; ``closing_tokens`` are never edited.
    """

    text: bytes = field(repr=False)
    closing: bytes = field(repr=False)
    edits: tuple[LeafEdit, ...]
    tokens: Count
    closing_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Sized:
    """A turn's segments, and the tokens of each: in the same order, as many.

    ``recalled`` tokens of earlier turns were brought back at the head of the leaf ``at``.
    ``material`` is there where something was dropped, with the ``ratings`` that decided.
    """

    segments: tuple[Segment, ...] = field(repr=False)
    sizes: tuple[Count, ...]
    recalled: int = 0
    at: Address | None = None
    material: Material | None = field(default=None, repr=False)
    ratings: Ratings | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Compressed:
    """A request's edits, its outcome, its turns' memo keys and its turns (oldest first).

    ``sized`` are the segments of each turn, with what each of them came to.
    """

    edits: tuple[LeafEdit, ...]
    outcome: Outcome
    turn_keys: tuple[bytes, ...] = field(default=(), repr=False)
    turns: tuple[SentTurn, ...] = field(default=(), repr=False)
    sized: tuple[Sized, ...] = field(default=(), repr=False)


def verbatim(
    before: Mapping[Component, int], reason: Reason | None, sizes: Sequence[int] = ()
) -> TurnResult:
    """Return the result of a turn that passes as it is; ``sizes`` are its segments' tokens."""
    counts = {component: Count(before[component], before[component]) for component in Component}
    same = tuple(Count(size, size) for size in sizes)
    return TurnResult(MappingProxyType(counts), reason=reason, sizes=same)


def untouched(material: Material, reason: Reason | None) -> TurnResult:
    """Return the result of a turn that was laid out, and passes as it is."""
    return verbatim(material.before, reason, material.sizes)
