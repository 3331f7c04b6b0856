"""What the gateway needs of its neighbours; production, tests and benchmarks pass their own."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import Future
from typing import Protocol

from proxy.compress.ports import ScoreRequest, Scores
from proxy.compress.result import Compressed
from proxy.policy import Policy
from proxy.types import Outcome, Request


class Method(Protocol):
    """How a request is compressed: pure, and driven from outside, in any thread."""

    def too_short(self, model: str | None, texts: Sequence[str], policy: Policy) -> Outcome | None:
        """Return what a request comes to that is too short to be looked into; else None.

        ``texts`` are those of all its leaves.  Raises CompressionError.
        """

    def compress(
        self, request: Request, policy: Policy
    ) -> Generator[ScoreRequest, Scores, Compressed]:
        """Yield what must be scored, be sent the scores, return the edits.

        A CompressionError thrown in makes the turn at hand pass verbatim, now and later.
        """

    def keep_verbatim(self, request: Request, policy: Policy, compressed: Compressed) -> None:
        """Remember that the upstream refused these edits: their turns stay as they are."""


class Engine(Protocol):
    """The model's side; any thread may ask."""

    def ready(self) -> bool:
        """Tell whether the model is loaded and warm."""

    def submit(self, request: ScoreRequest, *, within_s: float | None = None) -> Future[Scores]:
        """Begin to answer; cancelling the future drops the work.

        Raises a CompressionError, DeadlineExceeded where it would take longer than ``within_s``.
        """

    def prefetch(self, request: ScoreRequest) -> None:
        """Score in the background, for the next time."""
