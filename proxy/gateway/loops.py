"""Loops that no address gives away: A in front of B in front of A.

A request goes on as it came, with nothing added (law 1), so a loop does not show in one request.
It shows in many: the same request comes in again and again while none of them is answered.  Only
then is ``x-laconic-hop`` sent along, with the names of the processes passed, and only over
connections to addresses that are not public: no provider ever sees it.  A process that finds its
own name there answers 508 (RFC 5842, 7.2), and that answer unwinds the loop.
"""

from __future__ import annotations

import random
import re
from typing import Final, TypeAlias

from proxy.errors import LoopDetected

SUSPICIOUS: Final = 16
"""So many requests that look the same are not in flight at once by chance, or not often."""

_HOPS = re.compile(r"[0-9a-f]{16}(, [0-9a-f]{16}){0,63}")

Look: TypeAlias = tuple[str, str, str]
"""What a request looks like: method, target, length."""


class LoopGuard:
    """Knows how often a request that looks the same is in flight.  For one thread."""

    def __init__(self) -> None:
        """Take a name that no other process has."""
        self._name = f"{random.getrandbits(64):016x}"
        self._in_flight: dict[Look, int] = {}

    def passing(self, look: Look, hops: str) -> Passing:
        """Count a request for as long as it lasts; give the hops to send along, if any.

        Entering raises LoopDetected where ``hops``, which came with it, say that it was here
        before.
        """
        return Passing(self._in_flight, self._name, look, hops)


class Passing:
    """A request while it passes: a context that gives the hops to send along."""

    __slots__ = ("_hops", "_in_flight", "_look", "_name")

    def __init__(self, in_flight: dict[Look, int], name: str, look: Look, hops: str) -> None:
        """Use :meth:`LoopGuard.passing`."""
        self._in_flight, self._name, self._look, self._hops = in_flight, name, look, hops

    def __enter__(self) -> str | None:
        """Count it."""
        before = self._hops.split(", ") if self._hops and _HOPS.fullmatch(self._hops) else []
        if self._name in before:
            raise LoopDetected("request: found again what was forwarded, wanted an upstream's end")
        count = self._in_flight[self._look] = self._in_flight.get(self._look, 0) + 1
        return ", ".join([*before, self._name]) if before or count > SUSPICIOUS else None

    def __exit__(self, *_: object) -> None:
        """Count it no longer."""
        count = self._in_flight[self._look] - 1
        if count:
            self._in_flight[self._look] = count
        else:
            del self._in_flight[self._look]
