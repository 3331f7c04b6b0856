"""What was computed before, by content: vectors of documents and questions, results of turns."""

from __future__ import annotations

from proxy.memo.lru import Lru, Usage
from proxy.memo.turns import TurnMemo
from proxy.memo.vectors import VectorMemo

__all__ = ["Lru", "TurnMemo", "Usage", "VectorMemo"]
