"""What was computed before, by content: vectors of documents and questions, results of turns.

Vectors may outlive the process, on a shelf in a file.  And what was sent before, by digest, where
several processes have to know.
"""

from __future__ import annotations

from proxy.memo.disk import DiskMemo
from proxy.memo.lru import Lru, Usage
from proxy.memo.sent import Sent
from proxy.memo.shared_turns import SharedTurns
from proxy.memo.shelf import DiskShelf
from proxy.memo.turns import TurnMemo
from proxy.memo.vectors import VectorMemo

__all__ = [
    "DiskMemo",
    "DiskShelf",
    "Lru",
    "Sent",
    "SharedTurns",
    "TurnMemo",
    "Usage",
    "VectorMemo",
]
