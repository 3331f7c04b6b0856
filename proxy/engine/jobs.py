"""What waits for the model: jobs (one score request each) made of items (one text each)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from heapq import heapreplace

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
    waiting: deque[Item]  # not dealt into calls yet
    submitted_s: float
    memo_hits: int
    future: Future[Scores] = field(default_factory=Future)
    calls: deque[list[Item]] = field(default_factory=deque)  # each to be read at once
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
    def waits(self) -> bool:
        """Whether there is anything that no thread has taken."""
        return bool(self.calls or self.waiting)

    @property
    def finished(self) -> bool:
        """Whether nothing is missing any more."""
        return not self.waits and not self.in_work

    def drop(self) -> None:
        """Forget what waits."""
        self.waiting.clear()
        self.calls.clear()

    def take(self, together: Callable[[Asked], Together], threads: int) -> list[Item]:
        """Hand out the next item, or several of its kind to be read in one call."""
        if not self.calls:
            taken = [self.waiting.popleft()]
            limits = together(taken[0].asked)
            while self.waiting and limits.most and _join(taken[0], self.waiting[0]):
                taken.append(self.waiting.popleft())
            self.calls.extend(dealt(taken, limits, threads))
        items = self.calls.popleft()
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
            if job.future.done() or not job.waits:
                job.drop()
                continue
            items = job.take(together, threads)
            if job.waits:
                self._jobs.append(job)
            return job, items
        return None

    def give_back(self, job: Job, items: list[Item]) -> None:
        """Put unfinished items first in their job again."""
        if not job.waits:
            self._jobs.append(job)
        job.calls.appendleft(items)


def _join(item: Item, other: Item) -> bool:
    """Tell whether two may be read in one call: they are of one kind."""
    return item.asked is other.asked and item.joins and other.joins


def dealt(items: Sequence[Item], together: Together, threads: int) -> list[list[Item]]:
    """Deal items into calls that are about equally long, as many for each of ``threads``.

    So threads end together, and waste nothing.  What is longer than goes together is read alone,
    and what equals another last: it is found in the memo then.
    """
    first = {item.key: item for item in reversed(items)}
    longest = sorted((i for i in items if first[i.key] is i), key=lambda item: -item.estimate)
    alone = [[item] for item in longest if item.estimate > together.most]
    joined = longest[len(alone) :]
    tokens = sum(item.estimate for item in joined)
    number = _number(tokens, together, threads)
    calls = _by_length(joined, tokens, number) if together.least else _mixed(joined, number)
    again = [[item] for item in items if first[item.key] is not item]
    return [*alone, *filter(None, calls), *again]


def _mixed(items: Sequence[Item], number: int) -> list[list[Item]]:
    """Deal items, the longest first, each to the call that has least.

    Graham, "Bounds on Multiprocessing Timing Anomalies" (1969).
    """
    calls: list[list[Item]] = [[] for _ in range(number)]
    loads = [(0, place) for place in range(number)]
    for item in items:
        load, place = loads[0]
        calls[place].append(item)
        heapreplace(loads, (load + item.estimate, place))
    return calls


def _by_length(items: Sequence[Item], tokens: int, number: int) -> list[list[Item]]:
    """Cut items, the longest first, into runs.

    For models that read batches of one shape: few lengths in a call leave few batches half full.
    """
    calls: list[list[Item]] = [[] for _ in range(number)]
    before = 0
    for item in items:
        calls[min(before * number // max(1, tokens), number - 1)].append(item)
        before += item.estimate
    return calls


def _number(tokens: int, together: Together, threads: int) -> int:
    """Return how many calls tokens are dealt into, one at least.

    Calls hold ``least`` tokens, or a multiple of that: less would fill them no better.
    """
    if not tokens:
        return 1
    equal = threads * -(-tokens // (threads * together.most))
    least = max(1, together.least)
    size = min(-(-tokens // equal // least) * least, together.most)
    return -(-tokens // size)


def is_finite(vectors: Vectors) -> bool:
    """Tell whether a model's answer is made of numbers."""
    return all(
        array.dtype.kind != "f" or bool(np.isfinite(array).all()) for array in arrays_of(vectors)
    )
