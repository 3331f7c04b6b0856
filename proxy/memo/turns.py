"""Results of turns: a turn that was compressed once is not compressed again."""

from __future__ import annotations

from typing import Generic, TypeVar

from proxy.memo.lru import Lru, Usage

Result = TypeVar("Result")


class TurnMemo(Generic[Result]):
    """Frozen turn results by turn key; forgetting one costs time, never a different answer.

    The exception is a turn that passed verbatim because the model was late: once forgotten it is
    compressed as if it were new (law 8 holds for as long as the memo reaches).
    """

    def __init__(self, limit: int = 20_000) -> None:
        """Hold at most ``limit`` results."""
        self._results: Lru[Result] = Lru(limit)

    def get(self, key: bytes) -> Result | None:
        """Return what was put under ``key``, or None."""
        return self._results.get(key)

    def put(self, key: bytes, result: Result) -> None:
        """Remember a result."""
        self._results.put(key, result)

    @property
    def usage(self) -> Usage:
        """How it has served so far."""
        return self._results.usage
