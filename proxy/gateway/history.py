"""What was sent before: what a provider's prompt cache may hold, and what a request makes it miss.

A cache serves the longest beginning of a prompt that it has seen, to the byte.  Two chains of
digests run over a request's turns: one over what the caller sent, one over what was sent on.  A
beginning whose first chain is known was in an earlier request; where its second chain is known too
it went on in the same form, and a cache may hold it; where it is not, it went on in another form,
and has to be paid for as if it were new.  That is never so under one policy, save where an earlier
turn is restored (laws 5, 8 and 12); a caller that asks for another rate each turn pays for it.

A request that ends where one before it ended is a second try: its newest turn was sent before.

Only digests are kept, the latest ones: what was forgotten counts as never sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from proxy.compress.result import SentTurn
from proxy.digests import linked
from proxy.memo import Lru, Sent
from proxy.types import LeafEdit

_REMEMBERED = 40_000  # digests: some five hundred conversations of forty turns, 8 MB


@dataclass(frozen=True, slots=True)
class Seen:
    """What of a request was sent before.

    ``unchanged`` tokens open it in the same form as before, ``busted`` ones were sent before in
    another.  ``again`` says that its newest turn was the newest of a request before, as in a
    second try.
    """

    unchanged: int = 0
    busted: int = 0
    again: bool = False


class History:
    """The beginnings of prompts that were sent, by digest; for one thread at a time.

    Processes that serve the same callers know them together where they share a file.
    """

    def __init__(self, limit: int = _REMEMBERED, shared: Sent | None = None) -> None:
        """Remember ``limit`` digests here, and in ``shared`` what others shall know, too."""
        self._known: Lru[bool] = Lru(limit)
        self._forms: Lru[bytes] = Lru(limit)
        self._shared = shared

    @property
    def shared(self) -> bool:
        """Whether other processes know it, too."""
        return self._shared is not None

    def note(self, scope: str, turns: Sequence[SentTurn], *, edited: bool) -> Seen:
        """Tell what was sent before, and remember this request.

        ``scope`` names what a cache is kept apart by: upstream, model, credential.  Where it was
        not ``edited`` the turns went as they came.
        """
        came, went = self._chains(scope, turns, edited=edited)
        newest = [_linked(b"newest", digest) for digest in came[-1:]]
        met = self._met([*came, *went, *newest])
        unchanged = busted = closing = 0
        known = same = True
        for turn, was_met, as_now in zip(turns, met, met[len(turns) :], strict=False):
            known, same = known and was_met, same and known and was_met and as_now
            edits = edited and turn.edits
            tokens = closing + (turn.tokens.after if edits else turn.tokens.before)
            unchanged += tokens * same
            busted += tokens * (known and not same)
            closing = turn.closing_tokens
        return Seen(unchanged, busted, bool(turns) and met[-1])

    def _chains(
        self, scope: str, turns: Sequence[SentTurn], *, edited: bool
    ) -> tuple[list[bytes], list[bytes]]:
        """Return the digests of what came and of what went, up to the end of each turn."""
        secret = b"" if self._shared is None else self._shared.secret
        came = went = blake2b(scope.encode("utf-8", "replace"), digest_size=16, key=secret).digest()
        all_came: list[bytes] = []
        all_went: list[bytes] = []
        for turn in turns:
            form = self._form(turn.edits) if edited and turn.edits else b""
            came = _linked(b"came", came, turn.text)
            went = _linked(b"went", went, turn.text, form)
            all_came.append(came)
            all_went.append(went)
            came = _linked(b"said", came, turn.closing)
            went = _linked(b"said", went, turn.closing)
        return all_came, all_went

    def _form(self, edits: tuple[LeafEdit, ...]) -> bytes:
        """Return the digest of a turn's edits, alike in every process; made once."""
        here = hash(edits).to_bytes(8, "little", signed=True)
        found = self._forms.get(here)
        if found is None:
            found = blake2b(repr(edits).encode(), digest_size=16).digest()
            self._forms.put(here, found)
        return found

    def _met(self, digests: Sequence[bytes]) -> list[bool]:
        """Tell of each digest whether it was met before; from now on it was."""
        met = [self._known.get(digest) is not None for digest in digests]
        strange = [digest for digest, known in zip(digests, met, strict=True) if not known]
        elsewhere = set[bytes]()
        if self._shared is not None:
            told = zip(strange, self._shared.meet(strange), strict=True)
            elsewhere = {digest for digest, known in told if known}
        for digest in digests:
            self._known.put(digest, value=True)
        return [known or digest in elsewhere for digest, known in zip(digests, met, strict=True)]


def _linked(*parts: bytes) -> bytes:
    return linked(*parts, size=16)
