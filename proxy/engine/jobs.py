"""What waits for the model: jobs (one score request each) made of items (one text each)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from proxy.compress.ports import (
    Document,
    DocumentVectors,
    KeepProbabilities,
    Passage,
    QuestionVectors,
    Scores,
    ScoreTimings,
    SelfInformation,
)
from proxy.memo.vectors import Vectors, arrays_of
from proxy.scorers.ensemble import Asked
from proxy.scorers.pooling import Steps, Together


@dataclass(slots=True)
class Item:
    """One text to embed or rate; ``steps`` are under way once it has been begun."""

    place: int  # in the job's vectors
    key: bytes
    estimate: int  # tokens, guessed
    asked: Asked
    text: Document | Passage | str
    steps: Steps[list[Vectors]] | None = None

    @property
    def joins(self) -> bool:
        """Whether it may be read with others: it has not begun, and nothing was heard before it."""
        return self.steps is None and not (isinstance(self.text, Passage) and self.text.heard)


@dataclass(slots=True)
class Job:
    """A score request in work: what is known, what is missing, and who waits for it."""

    vectors: list[Vectors | None]  # documents, questions, passages, classified texts
    waiting: deque[Item]
    submitted_s: float
    memo_hits: int
    future: Future[Scores] = field(default_factory=Future)
    begun_s: float | None = None
    in_work: int = 0  # items that a thread holds right now
    model_s: float = 0.0
    scored_tokens: int = 0
    remaining: int = 0  # encoder tokens still to read, guessed
    memo_misses: int = 0

    def __post_init__(self) -> None:
        """Count what is missing."""
        self.remaining = sum(item.estimate for item in self.waiting)
        self.memo_misses = len(self.waiting)

    def found(self, items: int) -> None:
        """Count what was missing as known after all."""
        self.memo_hits += items
        self.memo_misses -= items

    @property
    def finished(self) -> bool:
        """Whether nothing is missing any more."""
        return not self.waiting and not self.in_work

    def take(self, together: Callable[[Asked], Together], threads: int) -> list[Item]:
        """Hand out the next item, and others of its kind to be read in one call.

        They have room in what goes ``together``, and each of ``threads`` is left its share, unless
        that is less than a call is worth.  Equal texts are not taken together: the later one is
        found in the memo.
        """
        items = [self.waiting.popleft()]
        least, most = together(items[0].asked)
        room = min(most, max(least, -(-self.remaining // threads))) - items[0].estimate
        keys = {items[0].key}
        while self.waiting and self.waiting[0].estimate <= room:
            other = self.waiting[0]
            if other.key in keys or not _join(items[0], other):
                break
            items.append(self.waiting.popleft())
            keys.add(other.key)
            room -= other.estimate
        self.in_work += len(items)
        return items

    def scores(self) -> Scores:
        """Return the answer; call it once nothing is missing."""
        begun_s = self.submitted_s if self.begun_s is None else self.begun_s
        return Scores(
            documents=tuple(v for v in self.vectors if isinstance(v, DocumentVectors)),
            questions=tuple(v for v in self.vectors if isinstance(v, QuestionVectors)),
            passages=tuple(v for v in self.vectors if isinstance(v, SelfInformation)),
            classified=tuple(v for v in self.vectors if isinstance(v, KeepProbabilities)),
            timings=ScoreTimings(
                queue_ms=(begun_s - self.submitted_s) * 1000,
                model_ms=self.model_s * 1000,
                scored_tokens=self.scored_tokens,
                memo_hits=self.memo_hits,
                memo_misses=self.memo_misses,
            ),
        )


class Ring:
    """Jobs that take turns: whoever was served goes to the back."""

    def __init__(self) -> None:
        """Begin empty."""
        self._jobs: deque[Job] = deque()

    def __len__(self) -> int:
        """Return how many jobs have items waiting."""
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        """Go through the jobs, the next to be served first."""
        return iter(self._jobs)

    def add(self, job: Job) -> None:
        """Put a job at the back."""
        self._jobs.append(job)

    def take(
        self, together: Callable[[Asked], Together], threads: int
    ) -> tuple[Job, list[Item]] | None:
        """Hand out items of the next job that someone still waits for; drop the others."""
        while self._jobs:
            job = self._jobs.popleft()
            if job.future.done() or not job.waiting:
                job.waiting.clear()
                continue
            items = job.take(together, threads)
            if job.waiting:
                self._jobs.append(job)
            return job, items
        return None

    def give_back(self, job: Job, items: Sequence[Item]) -> None:
        """Put unfinished items first in their job again."""
        if not job.waiting:
            self._jobs.append(job)
        job.waiting.extendleft(reversed(items))


def _join(item: Item, other: Item) -> bool:
    """Tell whether two may be read in one call: they are of one kind."""
    return item.asked is other.asked and item.joins and other.joins


def is_finite(vectors: Vectors) -> bool:
    """Tell whether a model's answer is made of numbers."""
    return all(
        array.dtype.kind != "f" or bool(np.isfinite(array).all()) for array in arrays_of(vectors)
    )
