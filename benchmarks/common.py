"""What the benchmarks share: the data folder, the pipeline without a server, and the metrics.

Set LACONIC_DATA to a folder that holds ``eval/``.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import string
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from proxy.compress import Compressed, TurnResult, compress
from proxy.compress.ports import (
    Document,
    DocumentVectors,
    QuestionVectors,
    ScoreRequest,
    Scores,
)
from proxy.policy import load_policies, read_policy_dir
from proxy.policy.schema import Policy, Target
from proxy.scorers.encoder import EmbeddedEncoder
from proxy.tagging import turns
from proxy.tokens import encoding_for
from proxy.types import Component, Segment
from proxy.wire import endpoint_for, splice

MODEL = "gpt-4o"
POLICIES = Path(__file__).parent.parent / "policies"

Record = dict[str, Any]


def records(name: str) -> list[Record]:
    """Read ``eval/NAME.jsonl.gz`` of the data folder; exits 2 where there is none."""
    folder = os.environ.get("LACONIC_DATA")
    if not folder:
        sys.exit("LACONIC_DATA: found nothing, wanted the folder that holds eval/")
    with gzip.open(Path(folder) / "eval" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def policy(name: str, rate: float | None = None) -> Policy:
    """Return a shipped policy, its context rate replaced where one is given."""
    found = _shipped()[name]
    return found if rate is None else found.with_context(Target(rate=rate))


@cache
def _shipped() -> Mapping[str, Policy]:
    """Read the shipped policies, once a process."""
    return load_policies(read_policy_dir(POLICIES)).policies


def body_of(messages: Sequence[Record]) -> bytes:
    """Return a request body."""
    return json.dumps({"model": MODEL, "messages": messages}, ensure_ascii=False).encode()


@dataclass
class Pipeline:
    """Parse, tag, compress and splice in one process; vectors are kept for the next policy."""

    scorer: EmbeddedEncoder = field(default_factory=EmbeddedEncoder)
    documents: dict[Document, DocumentVectors] = field(default_factory=dict)
    questions: dict[str, QuestionVectors] = field(default_factory=dict)

    def run(self, messages: Sequence[Record], chosen: Policy) -> Result:
        """Compress one request, from the first turn on and without memory of another."""
        return self.run_raw(body_of(messages), chosen)

    def run_raw(self, raw: bytes, chosen: Policy) -> Result:
        """Compress one body."""
        request = endpoint_for(raw).parse(raw)
        tagged = turns(request, chosen.tagging)
        steps = compress(tagged, chosen, encoding_for(request.model), Forgetful())
        try:
            ask = next(steps)
            while True:
                ask = steps.send(self._scores(ask))
        except StopIteration as done:
            compressed: Compressed = done.value
        segments = [segment for turn in tagged for segment in turn.segments]
        return Result(splice(request, compressed.edits), compressed, segments)

    def _scores(self, ask: ScoreRequest) -> Scores:
        for document in ask.documents:
            if document not in self.documents:
                self.documents[document] = self.scorer.embed_documents([document])[0]
        for question in ask.questions:
            if question not in self.questions:
                self.questions[question] = self.scorer.embed_questions([question])[0]
        return Scores(
            tuple(self.documents[document] for document in ask.documents),
            tuple(self.questions[question] for question in ask.questions),
        )


class Forgetful:
    """A memory that remembers nothing: every turn is computed."""

    def get(self, key: bytes) -> TurnResult | None:  # noqa: ARG002 - the protocol's
        """Return nothing."""
        return None

    def put(self, key: bytes, result: TurnResult) -> None:
        """Forget."""


@dataclass(frozen=True)
class Result:
    """A compressed body, with what led to it."""

    body: bytes
    compressed: Compressed
    segments: list[Segment]

    @property
    def rate(self) -> float:
        """Context tokens kept / before."""
        count = self.compressed.outcome.components[Component.CONTEXT]
        return count.after / max(1, count.before)

    def text(self) -> str:
        """Return all message text that is sent."""
        return "\n".join(texts(json.loads(self.body)["messages"]))


def texts(messages: Iterable[Record]) -> Iterator[str]:
    """Yield the text of messages, string or parts."""
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            yield content
        for part in content if isinstance(content, list) else ():
            yield part.get("text", "")


def normalised(text: str) -> str:
    """Fold case, punctuation, articles and spaces, as SQuAD's evaluation does."""
    bare = "".join(char for char in text.lower() if char not in _PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


_PUNCTUATION = frozenset(string.punctuation)


def has_answer(text: str, answers: Iterable[str], question: str) -> bool:
    """Whether an answer stands in ``text`` once the question is taken out of it."""
    found = normalised(text.replace(question, " "))
    return any(wanted in found for wanted in map(normalised, answers) if wanted)


def stands_in_order(part: Iterable[str], whole: Iterable[str]) -> bool:
    """Whether the words of ``part`` stand in ``whole`` in their order.

    >>> stands_in_order(["a", "c"], "abc"), stands_in_order(["c", "a"], "abc")
    (True, False)
    """
    rest = iter(whole)
    return all(word in rest for word in part)


def percent(values: Sequence[bool | float]) -> float:
    """Return the mean as a percentage, or nan where there is nothing."""
    return 100 * sum(values) / len(values) if values else float("nan")


def among(rng: random.Random, own: str, pool: Sequence[str], size: int) -> list[str]:
    """Place ``own`` among ``size - 1`` others of ``pool``, at a random position."""
    others = rng.sample([other for other in pool if other != own], size - 1)
    others.insert(rng.randrange(size), own)
    return others
