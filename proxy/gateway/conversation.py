"""What a conversation is known by: its start, which each of its requests brings along again.

The start is everything up to the end of the first user message.  Which side of a comparison a
conversation is on hangs on the start alone, so that every turn of it is treated alike, by any
process, on any machine, after any restart.  The name that the ledger knows it by is made under the
caller's key: who does not have the key cannot try texts on it (law 11).

Where the history lies with the provider (``previous_response_id``), no start comes along: such a
request is on neither side and has no name.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b, sha256

from proxy.digests import digest_of
from proxy.types import Arm, Request


def opening_of(request: Request) -> bytes | None:
    """Return the digest of a conversation's start, 32 bytes; None where the request has none."""
    if request.continues or not request.messages:
        return None
    return digest_of(_opening_words(request))


def _opening_words(request: Request) -> Iterator[str]:
    for message in request.messages:
        yield message.role
        yield from (leaf.text for leaf in message.leaves)
        if message.role == "user" and not request.separate:
            return


def arm_of(request: Request, holdout: float) -> Arm | None:
    """Return the side that a request's conversation is on, a share of ``holdout`` being held out.

    None where nothing is held out, or the request shows no start.
    """
    opening = opening_of(request) if holdout else None
    if opening is None:
        return None
    drawn = int.from_bytes(opening[:8], "big") / 2**64
    return Arm.HELD_OUT if drawn < holdout else Arm.COMPRESSED


def name_of(request: Request, api_key: str | None) -> str | None:
    """Return the sixteen hex digits that the ledger knows a conversation of a caller by.

    Who has neither key nor text learns nothing from them; without a key, texts can be tried.
    """
    opening = opening_of(request)
    if opening is None:
        return None
    key = sha256((api_key or "").encode("utf-8", "surrogateescape")).digest()
    return blake2b(opening, key=key, digest_size=8).hexdigest()
