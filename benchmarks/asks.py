"""Asks for the whole text told from look-ups: how many are found, how many look-ups are stopped.

    LACONIC_DATA=... python benchmarks/asks.py

``asks_dev`` is measured source by source with a head that saw nothing of that source: the shipped
weights are trained on none of ``eval/``, and where a training source is of the same kind (qmsum,
nq_open), the head is trained once more without it.  ``grey_squality`` ("throughout the story") is
disputable, so totals are given without and with it.  ``safe`` and ``sure`` are the two thresholds
of the policy key ``whole_text``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from common import records
from proxy.compress.asks import (
    Head,
    WholeTextScore,
    features,
    needs_whole_text,
    read_as_english,
    whole_text_score,
)
from proxy.policy.schema import WholeText
from proxy.scorers.encoder import EmbeddedEncoder

sys.path.append(str(Path(__file__).parent.parent / "training"))
from train_asks import data_folder, english, fit, gather, see

RELATED = {"qmsum": "qmsum", "nq_open": "qed"}  # source of asks_dev -> training source of its kind
GREY = "grey_squality"


@dataclass(frozen=True, slots=True)
class Case:
    """An ask of an evaluation set, and what was said of it."""

    text: str
    whole: bool
    source: str
    lang: str
    score: WholeTextScore

    def flagged(self, choice: WholeText) -> bool:
        """Whether this ask passes through under the policy's choice."""
        return needs_whole_text(self.score, choice)


def main() -> None:
    """Print the tables."""
    encoder = EmbeddedEncoder()
    dev = _dev(encoder)
    _table("asks_dev, by source left out", dev, lambda case: case.source)
    _table("asks_dev, by language", [c for c in dev if c.source != GREY], lambda case: case.lang)
    certain = [case for case in dev if case.source != GREY]
    _table("asks_dev, all", certain, lambda _: f"without {GREY}")
    _table("", dev, lambda _: f"with {GREY}")
    _table("other sets, shipped weights", _others(encoder), lambda case: case.source)


def _dev(encoder: EmbeddedEncoder) -> list[Case]:
    heads = {source: _head_without(related, encoder) for source, related in RELATED.items()}
    cases = []
    for row in records("asks_dev"):
        head = heads.get(row["source"])
        score = _judge(row["ask"], encoder, head)
        cases.append(Case(row["ask"], row["label"] == "whole", row["source"], row["lang"], score))
    return cases


def _head_without(source: str, encoder: EmbeddedEncoder) -> Head:
    asks = english(gather(data_folder(), without={source}), encoder)
    return fit(see([ask.text for ask in asks], encoder), [ask.whole for ask in asks])


def _judge(text: str, encoder: EmbeddedEncoder, head: Head | None = None) -> WholeTextScore:
    (vectors,) = encoder.embed_questions([text])
    if head is None or not read_as_english(text, vectors):
        return whole_text_score(text, vectors)
    return WholeTextScore(head.probability(features(text, vectors)), "head")


def _others(encoder: EmbeddedEncoder) -> list[Case]:
    asks = [(row["question"], False, "nq_30docs_dev", "en") for row in records("nq_30docs_dev")]
    asks += [(row["question"], False, "xquad_en", "en") for row in records("xquad_en")]
    asks += [
        (row["question"], False, f"xquad_multi {row['lang']}", row["lang"])
        for row in records("xquad_multi")
    ]
    for meeting in records("qmsum_val"):
        for name, whole in (("specific", False), ("general", True)):
            queries = meeting[f"{name}_query_list"]
            asks += [(query["query"], whole, "qmsum_val", "en") for query in queries]
    return [Case(*ask, _judge(ask[0], encoder)) for ask in asks]


def _table(title: str, cases: Iterable[Case], key: Callable[[Case], str]) -> None:
    if title:
        print(f"\n{title}")
        print(f"{'':24}{'whole':>6} {'safe':>6} {'sure':>6} {'look-up':>9} {'safe':>6} {'sure':>6}")
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(key(case), []).append(case)
    for name, group in sorted(groups.items()):
        halves = [[c for c in group if c.whole], [c for c in group if not c.whole]]
        print(f"{name:24}{_figures(halves[0], 6)} {_figures(halves[1], 9)}")


def _figures(cases: list[Case], width: int) -> str:
    """Count the asks, and the share of them that passes through: ``   53   94.3   71.7``."""
    if not cases:
        return f"{0:>{width}} {'':>6} {'':>6}"
    shares = [
        100 * float(np.mean([case.flagged(choice) for case in cases]))
        for choice in (WholeText.SAFE, WholeText.SURE)
    ]
    return f"{len(cases):>{width}} {shares[0]:>6.1f} {shares[1]:>6.1f}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
