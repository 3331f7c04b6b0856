"""What compressing a turn came to: remembered by the turn memo, read by recall and the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from proxy.compress.layout import Material
from proxy.types import Component, Count, LeafEdit, Outcome, Reason

Counts = Mapping[Component, Count]


@dataclass(frozen=True, slots=True)
class TurnResult:
    """One turn's edits and figures.

    ``dropped`` are unit numbers (``layout.Material``) that the edits leave out; ``recalled`` are
    (turn, unit) pairs that this turn brought back; ``restores`` says that this turn's ask needs
    everything before it whole (law 12).  ``material`` is there where something was dropped.
    """

    components: Counts
    edits: tuple[LeafEdit, ...] = ()
    reason: Reason | None = None
    dropped: frozenset[int] = frozenset()
    recalled: frozenset[tuple[int, int]] = frozenset()
    recalled_tokens: int = 0
    restores: bool = False
    material: Material | None = field(default=None, repr=False)

    @property
    def weight_bytes(self) -> int:
        """About how many bytes this keeps alive for recall: texts, their n-grams, units."""
        if self.material is None:
            return 1_000
        characters = sum(map(len, self.material.texts.values()))
        return 1_000 + 22 * characters + 600 * len(self.material.units)

    @property
    def before(self) -> int:
        """Tokens of the turn as sent."""
        return sum(count.before for count in self.components.values())

    @property
    def after(self) -> int:
        """Tokens of the turn with its edits."""
        return sum(count.after for count in self.components.values())

    def undone(self, reason: Reason) -> TurnResult:
        """Return the result of passing this turn as it was sent after all."""
        return verbatim({c: count.before for c, count in self.components.items()}, reason)


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
class Compressed:
    """A request's edits, its outcome, its turns' memo keys and its turns (oldest first)."""

    edits: tuple[LeafEdit, ...]
    outcome: Outcome
    turn_keys: tuple[bytes, ...] = field(default=(), repr=False)
    turns: tuple[SentTurn, ...] = field(default=(), repr=False)


def verbatim(before: Mapping[Component, int], reason: Reason | None) -> TurnResult:
    """Return the result of a turn that passes as it is."""
    counts = {component: Count(before[component], before[component]) for component in Component}
    return TurnResult(MappingProxyType(counts), reason=reason)
