"""Train the head that tells asks for the whole text from look-ups (``proxy/compress/asks.py``).

    LACONIC_DATA=... python training/train_asks.py

Trained on ``training/asks.jsonl`` (written for this purpose: templates and objects of our own, in
fifteen languages) and on questions of ``relevance/`` in the data folder; on nothing of ``eval/``.
Only asks that the recogniser takes for English reach the head, so only those train it.  Logistic
regression, both classes of equal weight, L2 on scaled features, L-BFGS in float64 from zero: the
same data and encoder give the same weights.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from proxy.compress.asks import BUCKETS, Features, Head, features, read_as_english
from proxy.scorers.encoder import EmbeddedEncoder

OWN = Path(__file__).parent / "asks.jsonl"
OUT = Path(__file__).parent.parent / "proxy" / "compress" / "data" / "asks.npz"
SEED = 1
L2 = 3.0
SCALES = {"embedding": 4.0, "wording": 0.7, "words": 3.0}  # how dear the L2 term makes each view
DRAWN = {"qed": 600, "policyqa": 250, "hybridqa": 150, "extractive_qa": 150, "qmsum": 400}


@dataclass(frozen=True, slots=True)
class Ask:
    """An ask and whether its answer needs the whole text; ``source`` is where it is from."""

    text: str
    whole: bool
    source: str


def main() -> None:
    """Read the command line, train, write the weights and what they were trained on."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    encoder = EmbeddedEncoder()
    asks = english(gather(data_folder()), encoder)
    head = fit(see([ask.text for ask in asks], encoder), [ask.whole for ask in asks])
    record = {
        "encoder": encoder.revision,
        "l2": L2,
        "scales": SCALES,
        "seed": SEED,
        "asks": Counter(f"{ask.source}/{'whole' if ask.whole else 'lookup'}" for ask in asks),
    }
    np.savez_compressed(
        args.out,
        weights=head.weights.astype(np.float16),
        bias=np.float32(head.bias),
        record=np.array(json.dumps(record, sort_keys=True)),
    )
    print(f"{args.out}: {len(asks)} asks, {args.out.stat().st_size / 1e3:.1f} kB")


def data_folder() -> Path:
    """Return LACONIC_DATA; exits 1 where it is not set."""
    if folder := os.environ.get("LACONIC_DATA"):
        return Path(folder)
    sys.exit("LACONIC_DATA: found nothing, wanted the folder that holds relevance/")


def gather(data: Path, without: Collection[str] = ()) -> list[Ask]:
    """Collect the training asks, but those of the sources in ``without``."""
    rng = random.Random(SEED)
    own = [json.loads(line) for line in OWN.read_text(encoding="utf-8").splitlines()]
    asks = [Ask(row["ask"], row["label"] == "whole", "own") for row in own]
    for source, wanted in DRAWN.items():
        found = sorted(set(questions(data, source)))
        rng.shuffle(found)
        asks += [Ask(text, whole=False, source=source) for text in found[:wanted]]
    general = sorted({q["query"] for m in _rows(data, "qmsum") for q in m["general_query_list"]})
    asks += [Ask(t, whole=True, source="qmsum") for t in general if "about digits" not in t]
    return [ask for ask in asks if ask.source not in without]


QUESTIONS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "qed": lambda row: [row["question_text"]],
    "policyqa": lambda row: [row["question"]],
    "hybridqa": lambda row: [row["question"]],
    "qmsum": lambda row: [query["query"] for query in row["specific_query_list"]],
    # Its other questions are cloze statements.
    "extractive_qa": lambda row: [row["question"]] if "?" in row["question"] else [],
}


def questions(data: Path, source: str) -> list[str]:
    """Return the look-ups of one source."""
    return [text for row in _rows(data, source) for text in QUESTIONS[source](row)]


def _rows(data: Path, source: str) -> list[dict[str, Any]]:
    path = data / "relevance" / f"{source}_train.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def english(asks: Sequence[Ask], encoder: EmbeddedEncoder) -> list[Ask]:
    """Keep the asks that reach the head: the others are judged by their wording alone."""
    vectors = encoder.embed_questions([ask.text for ask in asks])
    return [a for a, v in zip(asks, vectors, strict=True) if read_as_english(a.text, v)]


def see(texts: Sequence[str], encoder: EmbeddedEncoder) -> Features:
    """Return the features of each text: (n_texts, n_features)."""
    vectors = encoder.embed_questions(texts)
    return np.stack([features(t, v) for t, v in zip(texts, vectors, strict=True)])


def fit(seen: Features, whole: Sequence[bool]) -> Head:
    """Fit the regression; features as :func:`see` gives them, unscaled."""
    scale = _scale(seen.shape[1])
    x = torch.from_numpy(seen.astype(np.float64) * scale)  # (n, f)
    y = torch.tensor(whole, dtype=torch.float64)  # (n,)
    weight = torch.where(y > 0, (y == 0).sum() / (y > 0).sum(), 1.0)
    slope = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [slope, bias], max_iter=200, history_size=20, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        fitted = torch.nn.functional.binary_cross_entropy_with_logits(
            x @ slope + bias, y, weight, reduction="sum"
        )
        total: torch.Tensor = fitted + L2 * slope.square().sum() / 2
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return Head((slope.detach().numpy() * scale).astype(np.float32), bias.item())


def _scale(width: int) -> NDArray[np.float64]:
    """Lay SCALES over the features, in the order of ``proxy.compress.asks.features``."""
    embedding = 2 * EmbeddedEncoder().width
    scale = np.full(width, SCALES["wording"])
    scale[:embedding] = SCALES["embedding"]
    scale[width - BUCKETS :] = SCALES["words"]
    return scale


if __name__ == "__main__":
    torch.set_num_threads(1)  # sums in one order
    main()
