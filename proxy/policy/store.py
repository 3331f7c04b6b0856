"""The policies in force, replaced while the proxy runs.

Knows neither files nor time: whoever watches the directory hands in what it read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from proxy.errors import PolicyError
from proxy.policy.load import load_policies
from proxy.policy.routing import PolicySet


class PolicyStore:
    """Holds the last good :class:`PolicySet`, and what is wrong with a newer one if it was bad.

    A request takes ``current`` once and keeps it, so that a reload never changes one half-way.
    """

    __slots__ = ("_current", "_error", "_fallback", "_keys", "_usable")

    def __init__(
        self,
        initial: PolicySet,
        *,
        fallback: str | None = None,
        keys: Collection[str] | None = None,
    ) -> None:
        """Start with ``initial``; ``fallback`` (``--policy NAME``) is kept over every reload.

        ``keys`` are the names of the proxy keys, for ``load_policies``.
        """
        self._current = initial if fallback is None else initial.with_fallback(fallback)
        self._fallback = fallback
        self._keys = keys
        self._usable: Callable[[PolicySet], None] = lambda _: None
        self._error: PolicyError | None = None

    def require(self, usable: Callable[[PolicySet], None]) -> None:
        """Ask ``usable`` of the policies in force and of all that come; it raises PolicyError."""
        usable(self._current)
        self._usable = usable

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
            loaded = load_policies(files, fallback=self._fallback, keys=self._keys)
            self._usable(loaded)
            self._current = loaded
        except PolicyError as error:
            self._error = error
        else:
            self._error = None

    def refuse(self, error: PolicyError) -> None:
        """Keep the last good policies where the new files could not even be read."""
        self._error = error
