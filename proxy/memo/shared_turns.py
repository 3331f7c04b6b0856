"""Turns that pass verbatim for good, known to every process that shares a file.

A turn that was once sent as it came (the model was late, or the upstream refused its edits) has to
be sent so again, or a provider's prompt cache misses (law 8).  Where a conversation's next request
may reach another process, that process has to know.  Everything else that a turn memo holds can be
computed again and comes out the same, so it stays in memory.

The file is meant for the life of a group of processes, not for longer: a model that is late once,
while it loads, shall not leave a prompt uncompressed for ever.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Final

from proxy.compress.result import TurnResult, verbatim
from proxy.memo.disk import DiskMemo
from proxy.memo.turns import TurnMemo
from proxy.types import Component, Reason

_FOR_GOOD: Final = frozenset(
    {Reason.DEADLINE, Reason.OVERLOADED, Reason.SCORER_FAILED, Reason.REFUSED_EDITED}
)


class SharedTurns:
    """A turn memo in front of a file with the turns that pass verbatim for good."""

    def __init__(self, memory: TurnMemo[TurnResult], disk: DiskMemo) -> None:
        """Share by ``disk``, which the caller closes."""
        self._memory = memory
        self._disk = disk

    def get(self, key: bytes) -> TurnResult | None:
        """Return what was put under ``key``, here or, if it is for good, by another process."""
        known = self._memory.get(key)
        if known is not None:
            return known
        place = self._place(key)
        packed = self._disk.get(place) if self._disk.holds([place]) else None
        if packed is None:
            return None
        known = _unpacked(packed)
        self._memory.put(key, known)
        return known

    def put(self, key: bytes, result: TurnResult) -> None:
        """Remember a result."""
        self._memory.put(key, result)
        if result.reason in _FOR_GOOD and not result.edits:
            self._disk.put(self._place(key), _packed(result))

    def _place(self, key: bytes) -> bytes:
        """Key the hash: a turn's own key says something to one who can guess the text (law 11)."""
        return blake2b(key, key=self._disk.secret, digest_size=16).digest()


def _packed(result: TurnResult) -> bytes:
    before = {component: count.before for component, count in result.components.items()}
    return json.dumps([result.reason, before, [size.before for size in result.sizes]]).encode()


def _unpacked(packed: bytes) -> TurnResult:
    reason, before, sizes = json.loads(packed)
    return verbatim({Component(name): n for name, n in before.items()}, Reason(reason), sizes)
