"""Is the answer still there?  Contiguous answer recall after compression, at a given rate.

    LACONIC_DATA=... python benchmarks/answers.py [--limit N] [shapes] [languages] [nq] [followups]

No large LM is asked: an answer counts as kept when its text, normalised as in SQuAD, stands in what
is sent, the question taken out.  ``chance`` is the baseline of the same run: the same share of the
text spent on whole paragraphs drawn at random.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from common import Pipeline, Record, Result, among, has_answer, percent, policy, records
from proxy.policy.schema import Policy
from proxy.types import Component

SYSTEM = "Answer the question from the text. Be brief."


@dataclass(frozen=True)
class Case:
    """One request, and what must survive it."""

    messages: list[Record]
    question: str
    answers: list[str]
    documents: list[str]


Shape = Callable[[list[str], str], list[Record]]

SHAPES: dict[str, Shape] = {
    "context, question": lambda docs, q: [_user("\n\n".join([*docs, q]))],
    "question, context": lambda docs, q: [_user("\n\n".join([q, *docs]))],
    "two parts": lambda docs, q: [
        {"role": "user", "content": [_part("\n\n".join(docs)), _part(q)]}
    ],
    "system + user": lambda docs, q: [
        {"role": "system", "content": "\n\n".join([SYSTEM, *docs])},
        _user(q),
    ],
    "two messages": lambda docs, q: [_user("\n\n".join(docs)), _user(q)],
}


def _user(text: str) -> Record:
    return {"role": "user", "content": text}


def _part(text: str) -> Record:
    return {"type": "text", "text": text}


def paragraph_cases(found: Sequence[Record], shape: Shape, seed: int = 5) -> list[Case]:
    """Eight paragraphs and a question about one of them."""
    rng = random.Random(seed)
    pool = sorted({record["context"] for record in found})
    cases = []
    for record in found:
        docs = among(rng, record["context"], pool, 8)
        question = record["question"]
        cases.append(Case(shape(docs, question), question, record["answers"], docs))
    return cases


def passage_cases(found: Sequence[Record]) -> list[Case]:
    """Thirty numbered passages and a question, in one user message."""
    rng = random.Random(7)
    cases = []
    for record in found:
        passages = [record["gold"], *record["distractors"]]
        rng.shuffle(passages)
        docs = [
            f"Document [{n}](Title: {p['title']}) {p['text']}" for n, p in enumerate(passages, 1)
        ]
        question = record["question"]
        text = "\n".join(docs)
        messages = [_user(f"{text}\n\nQuestion: {question}\nAnswer:")]
        cases.append(Case(messages, question, record["answers"], docs))
    return cases


def follow_ups(found: Sequence[Record], where: str, between: str) -> list[Case]:
    """Documents in turn 1, three other asks before the real question in turn 4."""
    rng = random.Random(11)
    pool = sorted({record["context"] for record in found})
    cases = []
    for record in found:
        docs = among(rng, record["context"], pool, 8)
        others = [r for r in found if r["context"] in docs and r["context"] != record["context"]]
        earlier = _earlier(rng, others, found, between)
        documents = "\n\n".join(docs)
        if where == "system":
            messages = [
                {"role": "system", "content": f"{SYSTEM}\n\n{documents}"},
                _user(earlier[0]),
            ]
        else:
            messages = [_user(f"{documents}\n\n{earlier[0]}")]
        for ask in earlier[1:]:
            messages += [{"role": "assistant", "content": "I see."}, _user(ask)]
        messages += [{"role": "assistant", "content": "I see."}, _user(record["question"])]
        cases.append(Case(messages, record["question"], record["answers"], docs))
    return cases


def _earlier(
    rng: random.Random, others: list[Record], found: Sequence[Record], between: str
) -> list[str]:
    asked = [rng.choice(others or list(found))["question"]]
    if between == "questions":
        return asked + [rng.choice(others or list(found))["question"] for _ in range(2)]
    return [*asked, "Thanks, that helps.", "Good morning! How are you today?"]


# -- measuring ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """What one policy did to many cases."""

    kept: float
    chance: float
    rate: float
    whole: float
    over: int
    loose: float


def measure(pipeline: Pipeline, cases: Iterable[Case], chosen: Policy) -> Figures:
    """Run every case; ``loose`` is the share that ends more than one unit below its target."""
    kept: list[bool] = []
    lucky: list[bool] = []
    rng = random.Random(1)
    rates: list[float] = []
    passed: list[bool] = []
    over: list[bool] = []
    loose: list[bool] = []
    for case in cases:
        result = pipeline.run(case.messages, chosen)
        kept.append(has_answer(result.text(), case.answers, case.question))
        lucky.append(
            has_answer(drawn(rng, case.documents, result.rate), case.answers, case.question)
        )
        rates.append(result.rate)
        passed.append(not result.compressed.edits)
        above, below = budget_miss(result, chosen)
        over.append(above)
        loose.append(below)
    return Figures(
        kept=percent(kept),
        chance=percent(lucky),
        rate=sum(rates) / len(rates),
        whole=percent(passed),
        over=sum(over),
        loose=percent(loose),
    )


def drawn(rng: random.Random, documents: Sequence[str], rate: float) -> str:
    """Return whole documents drawn at random, up to ``rate`` of the characters."""
    room = rate * sum(map(len, documents))
    taken = []
    for document in rng.sample(documents, len(documents)):
        if len(document) <= room:
            room -= len(document)
            taken.append(document)
    return "\n".join(taken)


def budget_miss(result: Result, chosen: Policy) -> tuple[bool, bool]:
    """Return whether the context is over its target, and whether a unit more would have fit."""
    rate = chosen.components.context.rate
    if rate is None:
        return False, False
    count = result.compressed.outcome.components[Component.CONTEXT]
    target = int(rate * count.before)
    return count.after > target, target - count.after > LONGEST_UNIT_TOKENS


LONGEST_UNIT_TOKENS = 60
"""A long sentence with its title, in tokens: what "one unit" may mean at the most."""


def line(name: str, figures: Figures) -> None:
    """Print one row."""
    print(
        f"{name:34} kept {figures.kept:5.1f} %  chance {figures.chance:4.1f} %  "
        f"rate {figures.rate:.3f}  verbatim {figures.whole:4.1f} %  "
        f"over {figures.over}  loose {figures.loose:.1f} %",
        flush=True,
    )


def sampled(found: list[Record], limit: int | None) -> list[Record]:
    """Return all records, or a seeded sample."""
    return found if limit is None or limit >= len(found) else random.Random(3).sample(found, limit)


def shapes(pipeline: Pipeline, limit: int | None) -> None:
    """Five message shapes of xquad_en at rate .5."""
    found = sampled(records("xquad_en"), limit)
    for name, shape in SHAPES.items():
        line(name, measure(pipeline, paragraph_cases(found, shape), policy("rag", 0.5)))


def languages(pipeline: Pipeline, limit: int | None) -> None:
    """Other languages, 500 each, at .5 and .25."""
    found = records("xquad_multi")
    for language in sorted({record["lang"] for record in found}):
        mine = sampled([r for r in found if r["lang"] == language], min(limit or 500, 500))
        cases = paragraph_cases(mine, SHAPES["context, question"])
        for rate in (0.5, 0.25):
            line(f"{language} at {rate}", measure(pipeline, cases, policy("rag", rate)))


def passages(pipeline: Pipeline, limit: int | None) -> None:
    """NaturalQuestions, 30 passages in one user message."""
    cases = passage_cases(sampled(records("nq_30docs_dev"), limit))
    for rate in (0.5, 0.25, 0.125, 0.0625):
        line(f"nq_30docs at {rate}", measure(pipeline, cases, policy("rag", rate)))
    line("nq_30docs under default", measure(pipeline, cases, policy("default")))


def conversations(pipeline: Pipeline, limit: int | None) -> None:
    """Follow-ups: the real question comes three turns after the documents."""
    found = sampled(records("xquad_en"), min(limit or 300, 300))
    for where in ("user", "system"):
        for between in ("questions", "chat"):
            cases = follow_ups(found, where, between)
            for name in ("default", "rag"):
                chosen = policy(name, 0.5 if name == "rag" else None)
                line(f"{where}, {between}, {name}", measure(pipeline, cases, chosen))


PARTS = {"shapes": shapes, "languages": languages, "nq": passages, "followups": conversations}


def main() -> None:
    """Run the parts named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--limit", type=int, help="cases per set; all where not given")
    options = parser.parse_args()
    pipeline = Pipeline()
    for name in options.parts or PARTS:
        print(f"-- {name}")
        PARTS[name](pipeline, options.limit)


if __name__ == "__main__":
    main()
