"""Laconic's own method, put together: tag, compress turn by turn, remember."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from proxy import tagging
from proxy.compress.ports import ScoreRequest, Scores
from proxy.compress.request import compress, keep_verbatim, too_short
from proxy.compress.result import Compressed, TurnResult
from proxy.compress.separate import together
from proxy.compress.units import Cuts
from proxy.policy import Policy
from proxy.tokens import encoding_for
from proxy.types import Memory, Outcome, Request, Turn


class Cascade:
    """The cascade over memories of turns; a :class:`~proxy.gateway.ports.Method`."""

    def __init__(
        self,
        memory: Memory[TurnResult],
        revision: Callable[[], str],
        *,
        tagged: Memory[tagging.Tagged] | None = None,
        cuts: Cuts | None = None,
    ) -> None:
        """Remember results in ``memory``, under the scorer's ``revision`` at the time.

        What turns were tagged as is remembered in ``tagged``, how texts were cut in ``cuts``.
        """
        self._memory = memory
        self._tagged, self._cuts = tagged, cuts
        self._revision = revision

    def too_short(self, model: str | None, texts: Sequence[str], policy: Policy) -> Outcome | None:
        """Return what a request comes to that is too short to be looked into; else None."""
        return too_short(texts, policy, encoding_for(model))

    def compress(
        self, request: Request, policy: Policy
    ) -> Generator[ScoreRequest, Scores, Compressed]:
        """Tag the request's turns and compress them; separate prompts one after the other."""
        if not request.separate:
            return (yield from self._compress(request, policy))
        made: list[Compressed] = []
        for prompt in _prompts(request):
            made.append((yield from self._compress(prompt, policy)))  # noqa: PERF401 - it yields
        return together(made)

    def keep_verbatim(self, request: Request, policy: Policy, compressed: Compressed) -> None:
        """Make the turns that were edited pass verbatim from now on."""
        turns = [turn for prompt in _prompts(request) for turn in self._turns(prompt, policy)]
        keep_verbatim(compressed, turns, self._memory)

    def _compress(
        self, request: Request, policy: Policy
    ) -> Generator[ScoreRequest, Scores, Compressed]:
        encoding, turns = encoding_for(request.model), self._turns(request, policy)
        return (
            yield from compress(turns, policy, encoding, self._memory, self._revision(), self._cuts)
        )

    def _turns(self, request: Request, policy: Policy) -> Sequence[Turn]:
        return tagging.turns(request, policy.tagging, self._tagged)


def _prompts(request: Request) -> Sequence[Request]:
    """Return the requests that are answered apart: the request itself, unless it is several."""
    if not request.separate:
        return (request,)
    return [replace(request, messages=(m,), separate=False) for m in request.messages]
