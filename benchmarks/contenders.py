"""Everything that is compared: Laconic's methods as policies, baselines, and other packages.

A contender shortens a case to a share of its context's tokens and says what it came to.  To compare
one more, add a line to ``METHODS``: the shipped policy it starts from, and what differs.  Guards
that would let a case pass are off for all of them, so that every case is compared.
"""

from __future__ import annotations

import json
import random
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import numpy as np

from common import MODEL, Pipeline, policy, texts
from proxy.compress.cascade import keep_units
from proxy.compress.guarded import Past, Scene, units_result
from proxy.compress.layout import read_material, render
from proxy.compress.lexical import bm25
from proxy.compress.ports import KeepProbabilities, Passage, ScoreRequest, Scores, SelfInformation
from proxy.compress.relevance import Relevance
from proxy.compress.result import TurnResult
from proxy.compress.stop_words import STOP_WORDS
from proxy.policy.schema import FlatRelevance, Policy, Recall, Target, WholeText
from proxy.scorers import Models, load_models
from proxy.scorers.pooling import drain
from proxy.tagging import turns
from proxy.tokens import encoding_for
from proxy.types import Address, Component, Count, LeafEdit, Reason, Span
from proxy.wire import parse_chat, splice
from sets import Case

METHODS: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "cascade": ("rag", {}),
    "cascade, fine": ("rag", {"fine": {}}),
    "llmlingua": ("llmlingua", {}),
    "llmlingua, exact": ("llmlingua", {"variant": "exact"}),
    "longllmlingua": ("longllmlingua", {}),
    "llmlingua2": ("llmlingua2", {}),
    "selective context, tokens": ("selective-context", {"unit": "token"}),
    "selective context, phrases": ("selective-context", {"unit": "phrase"}),
    "selective context, sentences": ("selective-context", {"unit": "sentence"}),
    "lexical": ("lexical", {}),
}
"""Name -> shipped policy, and the keys of its method that differ."""

OWN: Final = "cascade"
"""What the others are measured against."""


@dataclass(frozen=True)
class Output:
    """A shortened case.

    ``message`` is the text that is sent; ``kept`` the characters of the original message that are
    in it, where that is known; ``reason`` names a target that was missed.
    """

    message: str = field(repr=False)
    before: int  # context tokens
    after: int
    kept: tuple[Span, ...] | None = field(default=None, repr=False)
    reason: Reason | None = None


class Contender(Protocol):
    """Shortens cases."""

    def __call__(self, bench: Bench, case: Case, rate: float) -> Output:
        """Shorten a case to ``rate`` of its context's tokens."""


class Bench(Pipeline):
    """The pipeline with the causal LM and the classifier behind it; scores are kept for a case."""

    def __init__(self, language_model: str, classifier: str | None = None) -> None:
        """Load the encoder; the others load when a method first asks."""
        super().__init__()
        self.models: Models = load_models("embedded", language_model, classifier)
        self.read: Sequence[str] = ()
        self.passages: dict[Passage, SelfInformation] = {}
        self.classified: dict[str, KeepProbabilities] = {}

    def forget_unless(self, documents: Sequence[str]) -> None:
        """Drop all scores, unless the next case has the same documents as the last."""
        if documents == self.read:
            return
        self.read = documents
        for known in (self.documents, self.questions, self.passages, self.classified):
            known.clear()

    def _scores(self, ask: ScoreRequest) -> Scores:
        for passage in ask.passages:
            if passage not in self.passages:
                self.passages[passage] = drain(self.models.passages_steps([passage]))[0]
        for text in ask.classified:
            if text not in self.classified:
                self.classified[text] = drain(self.models.classified_steps([text]))[0]
        return replace(
            super()._scores(ask),
            passages=tuple(self.passages[passage] for passage in ask.passages),
            classified=tuple(self.classified[text] for text in ask.classified),
        )


# -- methods ------------------------------------------------------------------------------------


def method(name: str) -> Contender:
    """Return one of METHODS."""
    shipped, keys = METHODS[name]

    def shorten(bench: Bench, case: Case, rate: float) -> Output:
        result = bench.run(case.messages, unguarded(shipped, rate, keys))
        outcome = result.compressed.outcome
        count = outcome.components[Component.CONTEXT]
        return _output(result.body, result.compressed.edits, count, outcome.reason)

    return shorten


def unguarded(shipped: str, rate: float, keys: Mapping[str, Any] | None = None) -> Policy:
    """Return a shipped policy that shortens whatever it is given, by ``rate``."""
    found = policy(shipped)
    choices = found.method.model_dump() | dict(keys or {})
    changes = {
        "method": type(found.method).model_validate(choices),
        "whole_text": WholeText.IGNORE,
        "flat_relevance": FlatRelevance.IGNORE,
        "min_tokens": 0,
        "recall": Recall(share=0),
    }
    return found.model_copy(update=changes).with_context(Target(rate=rate))


def _output(body: bytes, edits: Sequence[LeafEdit], count: Count, reason: Reason | None) -> Output:
    message = "\n".join(texts(json.loads(body)["messages"]))
    pieces = {edit.address: edit.pieces for edit in edits}.get(Address(0, 0))
    kept = None if pieces is None else tuple(p for p in pieces if isinstance(p, Span))
    return Output(message, count.before, count.after, kept, reason)


# -- baselines ----------------------------------------------------------------------------------

Order = Callable[[Sequence[str], str, random.Random], Sequence[float]]

ORDERS: Final[Mapping[str, Order]] = {
    "BM25 sentences": lambda units, question, rng: bm25(question, units).tolist(),  # noqa: ARG005
    "random sentences": lambda units, question, rng: [rng.random() for _ in units],  # noqa: ARG005
    "head": lambda units, question, rng: [-float(i) for i in range(len(units))],  # noqa: ARG005
    "tail": lambda units, question, rng: [float(i) for i in range(len(units))],  # noqa: ARG005
}
"""The cascade's own units and budget under another score, titles not pulled in."""


def by_order(name: str) -> Contender:
    """Return one of ORDERS."""

    def shorten(bench: Bench, case: Case, rate: float) -> Output:  # noqa: ARG001 - a contender's
        choice = unguarded("rag", rate).model_copy(update={"titles": False})
        request = parse_chat(case.body)
        (turn,) = turns(request, choice.tagging)
        scene = Scene(turn, Past(), choice, encoding_for(MODEL))
        result = _in_order(scene, ORDERS[name], random.Random(case.context))
        count = result.components[Component.CONTEXT]
        return _output(splice(request, result.edits), result.edits, count, result.reason)

    return shorten


def _in_order(scene: Scene, order: Order, rng: random.Random) -> TurnResult:
    """Compress a turn as the cascade does, under another score."""
    material = read_material(scene.turn, scene.policy, scene.encoding)
    units = [material.text(i) for i in range(len(material.units))]
    none = np.zeros(len(units))
    scores = np.array(order(units, scene.turn.question or "", rng))
    kept, reason = keep_units(scene, material, Relevance(scores, none, none))
    return units_result(material, kept, render(material, kept, scene.encoding), reason)


_STOPS: Final = STOP_WORDS["en"] | {"no", "not", "nor", "only", "before", "after", "if"}
"""A usual list of English stop words, negations included."""


def without_stop_words(bench: Bench, case: Case, rate: float) -> Output:  # noqa: ARG001
    """Drop stop words everywhere, then whatever is over the budget from the end."""
    count = encoding_for(MODEL).count
    before = count(case.context)
    words = [
        word
        for word in re.findall(r"\s*\S+", case.context)
        if word.strip().casefold() not in _STOPS
    ]
    fitting = bisect_right(
        range(len(words) + 1), int(rate * before), key=lambda n: count("".join(words[:n]))
    )
    text = "".join(words[: fitting - 1])
    return Output(case.prompt(text), before, count(text))


BASELINES: Final[Mapping[str, Contender]] = {
    **{name: by_order(name) for name in ORDERS},
    "stop words, then head": without_stop_words,
}


def contenders(*, classifier: bool) -> dict[str, Contender]:
    """Return everything that can be compared here; LLMLingua-2 needs a classifier."""
    chosen = [name for name in METHODS if classifier or METHODS[name][0] != "llmlingua2"]
    return {**{name: method(name) for name in chosen}, **BASELINES}
