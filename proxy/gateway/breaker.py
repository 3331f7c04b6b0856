"""A circuit breaker for each route: where the upstream keeps refusing edits, none are made.

A refusal costs the caller a second trip (law 8), so an upstream that will not have what we send is
left alone for a while::

    closed     edits are made; the last ones are remembered, refused or not
    open       after REFUSALS of the last WINDOW were refused: requests pass through as they came
    half-open  after PAUSE_S one request is edited, to see; accepted closes, refused opens again

A request that is let out to see and never tells (the caller hung up, the upstream had other
troubles) is followed by another after PAUSE_S.  Time comes in as a value.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, TypeAlias

REFUSALS: Final = 5
WINDOW: Final = 10
PAUSE_S: Final = 60.0
_MOST_ROUTES: Final = 1024  # beyond what anybody configures; reloads may rename routes for ever

Changed: TypeAlias = Callable[[str, bool], None]
"""Told of a route, and whether it is open now."""


class Admission(Enum):
    """Whether a request may be edited."""

    EDIT = auto()
    TRIAL = auto()  # it may, and what comes of it decides
    PASS = auto()


@dataclass(slots=True)
class _Circuit:
    refused: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    trial_at_s: float | None = None  # of a monotonic clock; None while closed


class Breaker:
    """Knows, per route, how the upstream took the latest edits.  For one thread."""

    def __init__(self, changed: Changed = lambda _route, _is_open: None) -> None:
        """Begin with every route closed; ``changed`` is told when one opens or closes."""
        self._circuits: dict[str, _Circuit] = {}
        self._changed = changed

    def admit(self, route: str, now_s: float) -> Admission:
        """Tell whether a request on ``route`` may be edited."""
        circuit = self._circuits.get(route)
        if circuit is None or circuit.trial_at_s is None:
            return Admission.EDIT
        if now_s < circuit.trial_at_s:
            return Admission.PASS
        circuit.trial_at_s = now_s + PAUSE_S
        return Admission.TRIAL

    def withdraw(self, route: str, now_s: float) -> None:
        """Take a trial back that came to no edit: the next request may try."""
        circuit = self._circuits.get(route)
        if circuit is not None and circuit.trial_at_s is not None:
            circuit.trial_at_s = now_s

    def report(self, route: str, admission: Admission, now_s: float, *, refused: bool) -> None:
        """Take in what became of an edited request.

        Of requests that were sent before the route opened nothing more is learnt.
        """
        circuit = self._circuit(route)
        if circuit.trial_at_s is None:
            circuit.refused.append(refused)
            if sum(circuit.refused) >= REFUSALS:
                circuit.trial_at_s = now_s + PAUSE_S
                self._changed(route, True)
        elif admission is Admission.TRIAL and refused:
            circuit.trial_at_s = now_s + PAUSE_S
        elif admission is Admission.TRIAL:
            del self._circuits[route]
            self._changed(route, False)

    def _circuit(self, route: str) -> _Circuit:
        if route not in self._circuits and len(self._circuits) >= _MOST_ROUTES:
            del self._circuits[next(iter(self._circuits))]
        return self._circuits.setdefault(route, _Circuit())
