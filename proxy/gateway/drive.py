"""A method driven to its end: its questions put to the engine, within the deadline.

A method is a generator that runs wherever it is pushed on; each push is a piece of work on text,
done where it holds up nobody, and what it asks for is waited for here.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

from proxy.compress.ports import ScoreRequest, Scores
from proxy.compress.result import Compressed
from proxy.errors import CompressionError, DeadlineExceeded, LaconicError, ScorerFailed
from proxy.gateway.ports import Engine

_MOST_DEADLINES = 10  # a request waits at most this often for as long as one turn may

Result = TypeVar("Result")
Steps: TypeAlias = Generator[ScoreRequest, Scores, Compressed]


class Fault(Exception):
    """A bug of ours, whatever its type: a library's panic need not even be an Exception."""

    def __init__(self, cause: BaseException) -> None:
        """Keep the type and the place; the message may quote text (law 11)."""
        super().__init__(type(cause).__name__)
        frames = traceback.extract_tb(cause.__traceback__)
        self.at = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else None


class Work(Protocol):
    """Runs a job somewhere it holds up nobody."""

    async def __call__(self, job: Callable[[], Result], /) -> Result:
        """Return what the job returns; raises CompressionError and Fault."""


@dataclass(slots=True)
class Drive:
    """Leads a method to its end: puts its questions to the engine, within the deadline."""

    engine: Engine
    work: Work
    queue_ms: float = 0.0
    model_ms: float = 0.0
    failure: ScorerFailed | None = None

    async def to_end(self, steps: Steps, deadline_s: float) -> Compressed:
        """Return what the method returns; raises what it and ``work`` raise.

        Every turn has the whole deadline: after a restart a long conversation is scored anew, and
        would lose its cached prefix if its turns had to share one.
        """
        now_s = asyncio.get_running_loop().time
        turn, until_s, last_s = -1, 0.0, now_s() + _MOST_DEADLINES * deadline_s
        move: Callable[[], ScoreRequest] = partial(next, steps)
        while True:
            asked = await self.work(partial(_advance, move))
            if isinstance(asked, Compressed):
                return asked
            if asked.turn != turn:
                turn, until_s = asked.turn, min(now_s() + deadline_s, last_s)
            try:
                scores = await self._scores(asked, until_s)
            except CompressionError as error:
                self.failure = error if isinstance(error, ScorerFailed) else self.failure
                move = partial(steps.throw, error)
            else:
                move = partial(steps.send, scores)

    async def _scores(self, asked: ScoreRequest, until_s: float) -> Scores:
        """Score what was asked; where that takes too long, in the background instead (law 8)."""
        try:
            scores = await self._in_time(asked, until_s)
        except DeadlineExceeded:
            await self.work(partial(self.engine.prefetch, asked))
            raise
        self.queue_ms += scores.timings.queue_ms
        self.model_ms += scores.timings.model_ms
        return scores

    async def _in_time(self, asked: ScoreRequest, until_s: float) -> Scores:
        now_s = asyncio.get_running_loop().time
        left_s = until_s - now_s()
        future = await self._submitted(asked, left_s)
        if future.done():
            return future.result()
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), until_s - now_s())
        except TimeoutError as error:
            raise DeadlineExceeded(f"not scored within {left_s:.3g} s") from error
        except LaconicError:
            raise
        except Exception as error:
            raise Fault(error) from error

    async def _submitted(self, asked: ScoreRequest, within_s: float) -> Future[Scores]:
        """Submit where it holds up nobody; a caller that leaves meanwhile drops the work too."""
        submitting = asyncio.ensure_future(
            self.work(partial(self.engine.submit, asked, within_s=within_s))
        )
        try:
            return await asyncio.shield(submitting)
        except asyncio.CancelledError:
            submitting.add_done_callback(_drop)
            raise


def _drop(submitting: asyncio.Future[Future[Scores]]) -> None:
    if not submitting.cancelled() and submitting.exception() is None:
        submitting.result().cancel()


def _advance(move: Callable[[], ScoreRequest]) -> ScoreRequest | Compressed:
    """Make one step.  A StopIteration must not leave a thread: it cannot cross a future."""
    try:
        return move()
    except StopIteration as end:
        compressed: Compressed = end.value
        return compressed
