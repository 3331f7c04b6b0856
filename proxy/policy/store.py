"""The policies in force, replaced while the proxy runs.

Knows neither files nor time: whoever watches the directory hands in what it read.
"""

from __future__ import annotations

from collections.abc import Mapping

from proxy.errors import PolicyError
from proxy.policy.load import load_policies
from proxy.policy.routing import PolicySet


class PolicyStore:
    """Holds the last good :class:`PolicySet`, and what is wrong with a newer one if it was bad.

    A request takes ``current`` once and keeps it, so that a reload never changes one half-way.
    """

    __slots__ = ("_current", "_error", "_fallback")

    def __init__(self, initial: PolicySet, *, fallback: str | None = None) -> None:
        """Start with ``initial``; ``fallback`` (``--policy NAME``) is kept over every reload."""
        self._current = initial if fallback is None else initial.with_fallback(fallback)
        self._fallback = fallback
        self._error: PolicyError | None = None

    @property
    def current(self) -> PolicySet:
        """The policies in force: the last ones that were good."""
        return self._current

    @property
    def error(self) -> PolicyError | None:
        """Why the newest files were not taken over; ``None`` where they are in force."""
        return self._error

    def replace(self, files: Mapping[str, str]) -> None:
        """Take over new files (name -> text), or keep the last good ones and the error."""
        try:
            self._current = load_policies(files, fallback=self._fallback)
        except PolicyError as error:
            self._error = error
        else:
            self._error = None

    def refuse(self, error: PolicyError) -> None:
        """Keep the last good policies where the new files could not even be read."""
        self._error = error
