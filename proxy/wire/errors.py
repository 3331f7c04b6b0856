"""What can go wrong between bytes and values, in two words.

``Unparsed``: we cannot look inside, so the bytes go through as sent (law 8).  ``BodyTooLarge``: the
caller is told so.  Neither ever quotes the body: a detail says what kind of thing was found, what
was wanted, and where (law 11).
"""

from __future__ import annotations

from proxy.errors import CallerError
from proxy.types import Reason


class Unparsed(ValueError):
    """The bytes are not something we understand well enough to edit.

    ``reason`` is ``UNPARSED`` or ``DUPLICATE_KEY``; ``detail`` is ``where: found X, wanted Y``.
    """

    def __init__(self, detail: str, reason: Reason = Reason.UNPARSED) -> None:
        """Keep the sentence for the ledger, and the reason."""
        super().__init__(detail)
        self.detail = detail
        self.reason = reason


class BodyTooLarge(CallerError):
    """A body is, or unpacks to, more than the limit: 413."""

    def __init__(self, limit_bytes: int) -> None:
        """Name the limit; how much more the body holds is not known."""
        super().__init__(
            f"body: found more than {limit_bytes} bytes, wanted at most that many",
            status=413,
            code="request_too_large",
        )
