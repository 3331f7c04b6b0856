"""Results of turns: a turn that was compressed once is not compressed again."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from proxy.memo.lru import Lru, Usage


class Weighed(Protocol):
    """Anything that knows about how much memory it holds."""

    @property
    def weight_bytes(self) -> int:
        """About how many bytes this keeps alive."""


Result = TypeVar("Result", bound=Weighed)


class TurnMemo(Generic[Result]):
    """Frozen turn results by turn key; forgetting one costs time, never a different answer.

    The exception is a turn that passed verbatim because the model was late: once forgotten it is
    compressed as if it were new (law 8 holds for as long as the memo reaches).
    """

    def __init__(self, limit_bytes: int = 64 * 2**20) -> None:
        """Hold results of at most ``limit_bytes`` together."""
        self._results: Lru[Result] = Lru(limit_bytes)

    def get(self, key: bytes) -> Result | None:
        """Return what was put under ``key``, or None."""
        return self._results.get(key)

    def put(self, key: bytes, result: Result) -> None:
        """Remember a result."""
        self._results.put(key, result, result.weight_bytes)

    @property
    def usage(self) -> Usage:
        """How it has served so far."""
        return self._results.usage
