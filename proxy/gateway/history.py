"""What was sent before: what a provider's prompt cache may hold, and what a request makes it miss.

A cache serves the longest beginning of a prompt that it has seen, to the byte.  Two chains of
digests run over a request's turns: one over what the caller sent, one over what was sent on.  A
beginning whose first chain is known was in an earlier request; where its second chain is known too
it went on in the same form, and a cache may hold it; where it is not, it went on in another form,
and has to be paid for as if it were new.  That is never so under one policy, save where an earlier
turn is restored (laws 5, 8 and 12); a caller that asks for another rate each turn pays for it.

Only digests are kept, in memory, the latest ones: what was forgotten counts as never sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from proxy.compress.result import SentTurn
from proxy.memo import Lru

_REMEMBERED = 40_000  # digests: some five hundred conversations of forty turns, 8 MB


@dataclass(frozen=True, slots=True)
class Seen:
    """What of a request was sent before.

    ``unchanged`` tokens open it in the same form as before, ``busted`` ones were sent before in
    another.  ``again`` says that even its newest turn was, as in a second try.
    """

    unchanged: int = 0
    busted: int = 0
    again: bool = False


class History:
    """The beginnings of prompts that were sent, by digest; for one thread at a time."""

    def __init__(self, limit: int = _REMEMBERED) -> None:
        """Remember ``limit`` digests."""
        self._known: Lru[bool] = Lru(limit)

    def note(self, scope: str, turns: Sequence[SentTurn], *, edited: bool) -> Seen:
        """Tell what was sent before, and remember this request.

        ``scope`` names what a cache is kept apart by: upstream, model, credential.  Where it was
        not ``edited`` the turns went as they came.
        """
        came = went = blake2b(scope.encode("utf-8", "replace"), digest_size=16).digest()
        unchanged = busted = 0
        again = same = True
        closing = 0
        for turn in turns:
            form = hash(turn.edits) if edited and turn.edits else 0
            came = _linked(b"came", came, turn.text)
            went = _linked(b"went", went, turn.text, form.to_bytes(8, "little", signed=True))
            again = self._met(came) and again  # met in any case: it is remembered
            same = self._met(went) and same and again
            tokens = closing + (turn.tokens.after if form else turn.tokens.before)
            unchanged += tokens * same
            busted += tokens * (again and not same)
            came = _linked(b"said", came, turn.closing)
            went = _linked(b"said", went, turn.closing)
            closing = turn.closing_tokens
        return Seen(unchanged, busted, again and bool(turns))

    def _met(self, digest: bytes) -> bool:
        """Tell whether a digest was met before; from now on it was."""
        met = self._known.get(digest) is not None
        self._known.put(digest, value=True)
        return met


def _linked(*parts: bytes) -> bytes:
    return blake2b(b"".join(parts), digest_size=16).digest()
