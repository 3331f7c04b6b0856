"""Compare every method at equal achieved tokens, by the answers that are still there.

    LACONIC_DATA=... python benchmarks/quality.py [--nq 40] [--xquad 80] [--json FILE]

Baselines of the same run: whole sentences at random, from the head, from the tail, and by BM25.
Intervals are 95 % bootstrap over cases.  A method that needs a causal LM uses the one that
travels in the package, or ``--language-model NAME``.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from answers import SHAPES, Case, paragraph_cases, passage_cases, sampled
from common import Pipeline, has_answer, policy, records
from proxy.compress.lexical import bm25
from proxy.compress.ports import ScoreRequest, Scores
from proxy.compress.units import lay_out
from proxy.policy.schema import Policy
from proxy.scorers import Models, load_models
from proxy.scorers.pooling import drain
from proxy.tokens import encoding_for
from proxy.types import Address, Component, Kind, Segment, Span

RATES = (0.5, 0.25, 0.125)
METHODS = ("rag", "selective-context", "llmlingua", "longllmlingua")
DRAWS = 1000


class AllModels(Pipeline):
    """The pipeline of the other benchmarks, with causal LM and token classifier behind it."""

    def __init__(self, language_model: str, classifier: str | None = None) -> None:
        """Load the models; LM and classifier load when a method first asks."""
        super().__init__()
        self.models: Models = load_models("embedded", language_model, classifier)

    def _scores(self, ask: ScoreRequest) -> Scores:
        passages = tuple(drain(self.models.passage_steps(p)) for p in ask.passages)
        classified = tuple(drain(self.models.classified_steps(text)) for text in ask.classified)
        return replace(super()._scores(ask), passages=passages, classified=classified)


@dataclass(frozen=True)
class Outcome:
    """Per case: was the answer kept, and at what rate."""

    kept: list[bool]
    rates: list[float]


def by_policy(pipeline: Pipeline, cases: Sequence[Case], chosen: Policy) -> Outcome:
    """Run a policy over all cases."""
    results = [pipeline.run(case.messages, chosen) for case in cases]
    kept = [
        has_answer(result.text(), case.answers, case.question)
        for result, case in zip(results, cases, strict=True)
    ]
    return Outcome(kept, [result.rate for result in results])


Order = Callable[[Sequence[str], str, random.Random], Sequence[float]]

BASELINES: dict[str, Order] = {
    "random": lambda units, _, rng: [rng.random() for _ in units],
    "head": lambda units, _, rng: [-float(i) for i in range(len(units))],  # noqa: ARG005
    "tail": lambda units, _, rng: [float(i) for i in range(len(units))],  # noqa: ARG005
    "BM25": lambda units, question, rng: bm25(question, units).tolist(),  # noqa: ARG005
}


def by_order(cases: Sequence[Case], order: Order, rate: float) -> Outcome:
    """Keep the best sentences up to ``rate`` of the tokens, in their order."""
    rng, count = random.Random(0), encoding_for("gpt-4o").count
    kept, rates = [], []
    for case in cases:
        units = [unit for document in case.documents for unit in sentences(document)]
        costs = [count(unit) for unit in units]
        room = rate * sum(costs)
        scores = order(units, case.question, rng)
        taken: set[int] = set()
        for i in sorted(range(len(units)), key=lambda i: -scores[i]):
            if costs[i] <= room:
                room -= costs[i]
                taken.add(i)
        text = "\n".join(unit for i, unit in enumerate(units) if i in taken)
        kept.append(has_answer(text, case.answers, case.question))
        rates.append(sum(costs[i] for i in taken) / sum(costs))
    return Outcome(kept, rates)


def sentences(document: str) -> list[str]:
    """Split a document as the cascade does."""
    whole = Span(0, len(document))
    segment = Segment(Address(0, 0), whole, document, Component.CONTEXT, Kind.PROSE, "benchmark")
    return [unit.span.of(document) for unit in lay_out(segment, 0, 0).units]


def interval(kept: Sequence[bool]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean, in percent."""
    values = np.asarray(kept, dtype=float)
    draws = np.random.default_rng(0).integers(0, len(values), (DRAWS, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), (2.5, 97.5))
    return 100 * float(low), 100 * float(high)


def main() -> None:
    """Print a table per set, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--nq", type=int, default=40)
    parser.add_argument("--xquad", type=int, default=80)
    parser.add_argument("--language-model", default="embedded")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    pipeline = AllModels(options.language_model)
    sets = {
        "xquad_en": paragraph_cases(
            sampled(records("xquad_en"), options.xquad), SHAPES["context, question"]
        ),
        "nq_30docs_dev": passage_cases(sampled(records("nq_30docs_dev"), options.nq)),
    }
    found = []
    for name, cases in sets.items():
        for rate in RATES:
            for method in (*BASELINES, *METHODS):
                if method in BASELINES:
                    outcome = by_order(cases, BASELINES[method], rate)
                else:
                    outcome = by_policy(pipeline, cases, policy(method, rate))
                low, high = interval(outcome.kept)
                mean, achieved = float(np.mean(outcome.kept)), float(np.mean(outcome.rates))
                print(
                    f"{name:14} {method:18} rate {rate:<6} achieved {achieved:.3f}  "
                    f"kept {100 * mean:5.1f} % ({low:.1f} to {high:.1f})",
                    flush=True,
                )
                found.append((name, method, rate, achieved, mean, low, high))
    if options.json:
        options.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
