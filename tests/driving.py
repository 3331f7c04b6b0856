"""Compression driven without a server: requests from plain messages, answered by a small scorer."""

import json
import os
from pathlib import Path

from fakes import HashScorer
from hypothesis import HealthCheck, settings

from proxy import tagging
from proxy.compress import compress
from proxy.compress.ports import Scores, ScoreTimings
from proxy.errors import CompressionError
from proxy.policy.schema import Policy
from proxy.tokens import encoding_for
from proxy.types import Address, Component, Kind, Message, Segment, Span, Turn
from proxy.types import Leaf as TextLeaf
from proxy.wire import leaves_of, parse_chat, render, splice

ENCODING = encoding_for("gpt-4o")
TEXTS = Path(__file__).parent / "texts"
"""Longer texts, written for these tests."""


class WideScorer(HashScorer):
    """As wide as the shipped encoder: the whole-text head has weights for that width."""

    width = 384


SCORER = WideScorer()


def examples(default):
    """Hypothesis settings: so many examples, or as many as the environment says."""
    return settings(
        max_examples=int(os.environ.get("LACONIC_EXAMPLES", default)),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def policy(**choices):
    """A policy that selects from anything: no guard but those asked for."""
    given = {
        "name": "test",
        "components": {"context": {"rate": 0.5}},
        "min_tokens": 0,
        "protect_kinds": [],
        "whole_text": "ignore",
        "flat_relevance": "ignore",
        "recall": {"share": 0.3},
    }
    return Policy.model_validate(given | choices)


class Notes(dict):
    """A memory of turns: ``put`` and ``get``."""

    def put(self, key, result):
        self[key] = result


def body(messages, **fields):
    return json.dumps({"model": "gpt-4o", "messages": messages, **fields}).encode()


class Answers:
    """Answers what compression asks, with the scorer or with the errors it is given."""

    def __init__(self, errors=(), scorer=SCORER):
        self.asked = []
        self.scorer = scorer
        self.errors = list(errors)

    def __call__(self, request):
        self.asked.append(request)
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        return Scores(
            documents=tuple(self.scorer.embed_documents(request.documents)),
            questions=tuple(self.scorer.embed_questions(request.questions)),
            timings=ScoreTimings(scored_tokens=1),
        )


def drive(steps, answers):
    """Lead a generator of score requests to its end."""
    move = lambda: next(steps)  # noqa: E731 - what to do next
    try:
        while True:
            asked = move()
            try:
                scores = answers(asked)
            except CompressionError as error:
                move = lambda error=error: steps.throw(error)  # noqa: E731
            else:
                move = lambda scores=scores: steps.send(scores)  # noqa: E731
    except StopIteration as done:
        return done.value


class Run:
    """One request, compressed: what came out, and what was asked for on the way."""

    def __init__(self, messages, choices=None, *, memory=None, answers=None, request=None):
        self.policy = choices or policy()
        self.answers = answers or Answers()
        self.request = request or parse_chat(body(messages))
        self.turns = tagging.turns(self.request, self.policy.tagging)
        self.memory = Notes() if memory is None else memory
        steps = compress(self.turns, self.policy, ENCODING, self.memory, SCORER.revision)
        self.compressed = drive(steps, self.answers)
        self.outcome = self.compressed.outcome
        self.sent = splice(self.request, self.compressed.edits)

    @property
    def reasons(self):
        return dict(self.outcome.turn_reasons)

    def texts(self):
        """What the upstream sees: the text of every leaf, by address."""
        leaves = leaves_of(self.request)
        edits = {edit.address: edit for edit in self.compressed.edits}
        return {
            a: render(edits[a], leaves) if a in edits else leaf.text for a, leaf in leaves.items()
        }

    def text(self, message, part=0):
        return self.texts()[Address(message, part)]


def segment(text, kind=Kind.PROSE, component=Component.CONTEXT, start=0):
    return Segment(Address(0, 0), Span(start, start + len(text)), text, component, kind, "test")


def turn(text, kind=Kind.PROSE, question="what?"):
    """A turn of one user leaf that is context throughout."""
    leaf = TextLeaf(Address(0, 0), text, Span(0, 0))
    message = Message(0, "user", (leaf,))
    segments = (segment(text, kind),) if text else ()
    return Turn(0, (message,), segments, question, own_question=True)


def is_subsequence(short, long):
    """Whether the characters of ``short`` stand in ``long`` in their order."""
    rest = iter(long)
    return all(ch in rest for ch in short)


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def passages(*facts):
    """Numbered passages of three sentences; the fact stands in the middle."""
    return "\n\n".join(
        f"[{i}] Passage number {i} opens with a plain remark. {fact} It closes without adding much."
        for i, fact in enumerate(facts, 1)
    )
