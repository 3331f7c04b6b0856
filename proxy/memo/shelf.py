"""Vectors on disk: the codec over the file."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.memo.codec import Damaged, pack, unpack
from proxy.memo.disk import DiskMemo
from proxy.memo.vectors import Vectors


class DiskShelf:
    """What :class:`~proxy.memo.vectors.VectorMemo` keeps beyond the life of the process."""

    def __init__(self, disk: DiskMemo) -> None:
        """Keep vectors in ``disk``, which the caller closes."""
        self._disk = disk
        self.secret = disk.secret

    def get(self, key: bytes) -> Vectors | None:
        """Return what was put under ``key``; what does not come back whole is dropped."""
        packed = self._disk.get(key)
        if packed is None:
            return None
        try:
            return unpack(packed)
        except Damaged:
            self._disk.forget(key)
            return None

    def holds(self, keys: Sequence[bytes]) -> set[bytes]:
        """Return those of ``keys`` that are there."""
        return self._disk.holds(keys)

    def put(self, key: bytes, vectors: Vectors) -> None:
        """Keep vectors, at some time soon."""
        self._disk.put(key, pack(vectors))
