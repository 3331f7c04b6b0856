"""A bounded memory that forgets what was not used for longest, for any number of threads."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Usage:
    """How a memory has served so far."""

    hits: int
    misses: int
    entries: int
    size: int  # in the unit of its limit


class Lru(Generic[Value]):
    """Values by key, up to a total size."""

    def __init__(self, limit: int) -> None:
        """Hold values whose sizes sum to at most ``limit``; 0 holds none."""
        self._limit = limit
        self._values: OrderedDict[bytes, tuple[Value, int]] = OrderedDict()
        self._lock = Lock()
        self._size = self._hits = self._misses = 0

    def get(self, key: bytes) -> Value | None:
        """Return the value and make it the newest, or None; counts a hit or a miss."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                self._misses += 1
                return None
            self._hits += 1
            self._values.move_to_end(key)
            return found[0]

    def peek(self, key: bytes) -> Value | None:
        """Return the value or None, without counting or renewing it."""
        with self._lock:
            found = self._values.get(key)
            return None if found is None else found[0]

    def put(self, key: bytes, value: Value, size: int = 1) -> None:
        """Keep a value, in place of the oldest ones; one larger than the limit is not kept."""
        with self._lock:
            self._drop(key)
            if size > self._limit:
                return
            self._values[key] = (value, size)
            self._size += size
            while self._size > self._limit:
                self._drop(next(iter(self._values)))

    @property
    def usage(self) -> Usage:
        """How it has served so far."""
        with self._lock:
            return Usage(self._hits, self._misses, len(self._values), self._size)

    def _drop(self, key: bytes) -> None:
        found = self._values.pop(key, None)
        if found is not None:
            self._size -= found[1]
