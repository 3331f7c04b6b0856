"""Bodies that begin as an earlier one did: what was read of that is not read again.

Callers resend a conversation with every request, in the same bytes and one turn longer.  A body is
known by its *opening*, all of it up to the end of the first user message, and the last body that
opened so is held against it: the two are equal, byte for byte, up to the end of some message, and
to that point what was read of the one is what would be read of the other.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeAlias

from proxy.digests import linked
from proxy.types import Memory, Message, Spellings


class Place(NamedTuple):
    """Where an item of a body's list of messages ends, and what had been read by then."""

    position: int  # bytes of the body
    steps: int  # of the cursor
    messages: int


@dataclass(frozen=True, slots=True)
class Beginning:
    """A body that was read, up to the last of its messages; ``spellings`` are its leaves'."""

    raw: bytes = field(repr=False)
    messages: tuple[Message, ...]
    places: tuple[Place, ...]
    spellings: Spellings = field(repr=False)

    @property
    def weight_bytes(self) -> int:
        """About how many bytes this keeps alive: the body, its texts, what they became."""
        return 3 * len(self.raw) + 500 * len(self.places)

    def shared_with(self, raw: bytes) -> Sequence[Place]:
        """Return the places up to which ``raw`` is the same body.

        >>> places = (Place(2, 1, 1), Place(4, 2, 2))
        >>> Beginning(b"[a,b]", (), places, {}).shared_with(b"[a,c]")
        (Place(position=2, steps=1, messages=1),)
        """
        if not self._is_other(raw, self.places[-1]):  # as where a conversation went on
            return self.places
        return self.places[: bisect_left(self.places, True, key=partial(self._is_other, raw))]

    def _is_other(self, raw: bytes, place: Place) -> bool:
        return not raw.startswith(self.raw[: place.position])


Beginnings: TypeAlias = Memory[Beginning]
"""Bodies by their openings."""


def key_of(opening: bytes) -> bytes:
    """Return what a body is remembered by that opens so."""
    return linked(opening, size=16)
