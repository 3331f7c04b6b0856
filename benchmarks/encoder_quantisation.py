"""How far the reduced encoder's rankings are from the original's.

    LACONIC_DATA=... python benchmarks/encoder_quantisation.py --original FOLDER [--questions 200]

Per question, its 30 passages are ranked sentence by sentence with the original float32 weights
(through transformers), with the shipped int8 weights in float32 arithmetic, and with int8
arithmetic.  Printed: the share of questions whose answer is still there when the best sentences up
to a rate of the tokens are kept, with a paired 95 % bootstrap interval of the difference to the
original; the rank correlation (Spearman) with the original; and how much of the original's
selection is selected.  Without ``--original`` the model comes from the build-time wheel.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import string
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

from convert_encoder import DEFAULT, locate
from proxy.compress.ports import Document, DocumentVectors, QuestionVectors
from proxy.scorers import Scorer
from proxy.scorers.arithmetic import FP32, INT8
from proxy.scorers.encoder import EmbeddedEncoder
from proxy.scorers.hub import HubEncoder
from proxy.types import Span

RATES = (0.5, 0.25, 0.125, 0.0625)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[^a-z])")
ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class Case:
    """One question and its passages, as documents whose units are sentences."""

    question: str
    answers: Sequence[str]
    documents: Sequence[Document]

    def units(self) -> list[str]:
        """Return every sentence, in order."""
        return [unit.of(doc.text) for doc in self.documents for unit in doc.units]


@dataclass
class Figures:
    """What one model did, case by case."""

    kept: list[list[bool]] = field(default_factory=list)  # per case, per rate
    overlap: list[list[float]] = field(default_factory=list)
    spearman: list[float] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0


def main() -> None:
    """Rank with each model and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--original", default=DEFAULT, help="hub name or folder of the original")
    parser.add_argument("--questions", type=int, default=200)
    args = parser.parse_args()
    torch.set_num_threads(1)
    models: dict[str, Scorer] = {
        "original, fp32": HubEncoder(str(locate(args.original))),
        "shipped, fp32 arithmetic": EmbeddedEncoder(runtime=FP32),
        "shipped, int8 arithmetic": EmbeddedEncoder(runtime=INT8),
    }
    figures = {name: Figures() for name in models}
    for case in cases(args.questions):
        measure(case, models, figures)
    print_table(figures)


def cases(wanted: int) -> Iterator[Case]:
    """Draw questions, with a seed, from nq_30docs_dev."""
    path = Path(os.environ["LACONIC_DATA"]) / "eval" / "nq_30docs_dev.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    for record in random.Random(0).sample(records, min(wanted, len(records))):
        passages = [record["gold"], *record["distractors"]]
        yield Case(record["question"], record["answers"], [document(p) for p in passages])


def document(passage: dict[str, Any]) -> Document:
    """Lay a passage out as ``title. text``; sentences of the text are its units."""
    head = f"{passage['title']}. "
    text = head + passage["text"]
    ends = [m.start() for m in SENTENCE_END.finditer(text, len(head))] + [len(text)]
    starts = [len(head)] + [m.end() for m in SENTENCE_END.finditer(text, len(head))]
    return Document(text, tuple(Span(a, b) for a, b in zip(starts, ends, strict=True)))


def measure(case: Case, models: dict[str, Scorer], figures: dict[str, Figures]) -> None:
    """Rank one case with every model, the original first."""
    base: NDArray[np.float64] | None = None
    units = case.units()
    for name, model in models.items():
        started = time.perf_counter()
        documents = model.embed_documents(case.documents)
        question = model.embed_questions([case.question])[0]
        found = figures[name]
        found.seconds += time.perf_counter() - started
        tokens = np.concatenate([d.unit_tokens for d in documents])
        found.tokens += int(tokens.sum())
        scores = unit_scores(documents, question)
        base = scores if base is None else base
        chosen = [select(scores, tokens, rate) for rate in RATES]
        wanted = [select(base, tokens, rate) for rate in RATES]
        found.kept.append([has_answer(units, c, case.answers) for c in chosen])
        found.overlap.append(
            [len(c & w) / max(len(w), 1) for c, w in zip(chosen, wanted, strict=True)]
        )
        found.spearman.append(float(np.corrcoef(ranks(scores), ranks(base))[0, 1]))


def unit_scores(
    documents: Sequence[DocumentVectors], question: QuestionVectors
) -> NDArray[np.float64]:
    """Score = mean of the unit's and the document's cosine with the question."""
    return np.concatenate(
        [
            (cosine(d.units, question.final) + cosine(d.whole[None], question.final)) / 2
            for d in documents
        ]
    )


def cosine(rows: NDArray[np.float32], vector: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine of each row with a vector, zero where either is zero."""
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(vector)
    found: NDArray[np.float64] = (rows @ vector) / np.maximum(norms, 1e-9)
    return found.astype(np.float64)


def select(scores: NDArray[np.float64], tokens: NDArray[np.int32], rate: float) -> set[int]:
    """Take the best units that fit ``rate`` of the tokens."""
    left, chosen = rate * int(tokens.sum()), set()
    for unit in np.argsort(-scores, kind="stable").tolist():
        if tokens[unit] <= left:
            left -= int(tokens[unit])
            chosen.add(unit)
    return chosen


def has_answer(units: Sequence[str], chosen: set[int], answers: Sequence[str]) -> bool:
    """Tell whether the kept text holds one of the answers, normalised as SQuAD does."""
    kept = normalised(" ".join(units[i] for i in sorted(chosen)))
    return any(normalised(answer) in kept for answer in answers)


def normalised(text: str) -> str:
    """Lower-case, without punctuation and articles."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def ranks(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return each unit's place in the ranking."""
    found: NDArray[np.int64] = np.argsort(np.argsort(-scores, kind="stable"))
    return found


def print_table(figures: dict[str, Figures]) -> None:
    """Print one row per model and rate."""
    base = np.array(next(iter(figures.values())).kept)
    for name, found in figures.items():
        kept = np.array(found.kept)
        speed = found.tokens / found.seconds
        print(
            f"\n{name}: {len(kept)} questions, Spearman {np.mean(found.spearman):.4f}, "
            f"{speed:,.0f} tokens/s on one thread"
        )
        for i, rate in enumerate(RATES):
            low, high = interval((kept - base.astype(int))[:, i])
            same = np.mean(found.overlap, axis=0)[i]
            print(
                f"  rate {rate:<7} answers {kept[:, i].mean():6.1%} "
                f"({low:+.1%} .. {high:+.1%})  same selection {same:.1%}"
            )


def interval(differences: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean of paired differences."""
    draws = np.random.default_rng(0).choice(differences, (2000, len(differences)))
    low, high = np.quantile(draws.mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    main()
