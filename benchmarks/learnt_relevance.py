"""Compare relevance with a learnt turn of the question's vector against relevance as it ships.

    LACONIC_DATA=... python benchmarks/learnt_relevance.py runs/relevance/turn.npy

Answers kept at equal budgets, on the dev sets, under ``rag`` and, for follow-ups, ``default``; the
difference with its paired 95 % bootstrap interval.  ``training/train_relevance.py`` makes the turn.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from answers import SHAPES, Case, follow_ups, paragraph_cases, passage_cases, sampled
from common import Pipeline, has_answer, policy, records
from paired import difference
from proxy.compress.ports import ScoreRequest, Scores, Vector


@dataclass
class Turning(Pipeline):
    """The pipeline with every question's vector turned, q + q M; documents' are shared."""

    matrix: Vector | None = None
    turned: bool = field(default=False)

    def _scores(self, ask: ScoreRequest) -> Scores:
        scores = super()._scores(ask)
        if not self.turned or self.matrix is None:
            return scores
        turned = (turn(question.final, self.matrix) for question in scores.questions)
        pairs = zip(scores.questions, turned, strict=True)
        return replace(scores, questions=tuple(replace(q, final=final) for q, final in pairs))


def turn(question: Vector, matrix: Vector) -> Vector:
    """Return q + q M of a question's vector (d,), made length 1 before; matrix (d, d)."""
    unit = question / np.linalg.norm(question)
    return (unit + unit @ matrix).astype(np.float32)


def kept(pipeline: Pipeline, case: Case, name: str, rate: float | None) -> bool:
    """Tell whether the answer is there after compression."""
    result = pipeline.run(case.messages, policy(name, rate))
    return has_answer(result.text(), case.answers, case.question)


Trial = tuple[str, Sequence[Case], str, float | None]


LANGUAGES = ("ar", "es", "hi", "zh")
RATES = {"nq_30docs_dev": (0.25, 0.125, 0.0625), "xquad_en": (0.125, 0.0625)}
"""Per set; .25 and .125 in other languages."""


def question_sets(count: int) -> dict[str, Sequence[Case]]:
    """Return so many cases of each of the sets of questions that have an answer."""
    shape = SHAPES["context, question"]
    found = records("xquad_multi")
    others = {lang: [record for record in found if record["lang"] == lang] for lang in LANGUAGES}
    return {
        "nq_30docs_dev": passage_cases(sampled(records("nq_30docs_dev"), count)),
        "xquad_en": paragraph_cases(sampled(records("xquad_en"), count), shape),
        **{
            f"xquad_{lang}": paragraph_cases(sampled(mine, count), shape)
            for lang, mine in others.items()
        },
    }


def trials(count: int) -> Iterator[Trial]:
    """Yield each set, and the policy and rate that it is tried under."""
    for name, cases in question_sets(count).items():
        yield from ((name, cases, "rag", rate) for rate in RATES.get(name, (0.25, 0.125)))
    later = follow_ups(sampled(records("xquad_en"), count * 3 // 5), "user", "questions")
    yield "follow-ups", later, "default", None
    yield "follow-ups", later, "rag", 0.5


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("turn", type=Path)
    parser.add_argument("--cases", type=int, default=250)
    options = parser.parse_args()
    pipeline = Turning(matrix=np.load(options.turn))
    print("| set | policy | as it ships | learnt | difference, points |\n|---|---|---|---|---|")
    for name, cases, chosen, rate in trials(options.cases):
        found = []
        for pipeline.turned in (False, True):
            found.append([kept(pipeline, case, chosen, rate) for case in cases])
        plain, learnt = (100 * np.array(each, dtype=float) for each in found)
        apart = difference(learnt.tolist(), plain.tolist()).told("{:+.1f}")
        under = chosen if rate is None else f"{chosen} {rate}"
        print(
            f"| {name} | {under} | {plain.mean():.1f} | {learnt.mean():.1f} | {apart} |", flush=True
        )


if __name__ == "__main__":
    main()
