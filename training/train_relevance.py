"""Learn to turn a question's vector towards the units that answer it, the encoder left as it is.

    python training/train_relevance.py --data FOLDER --out runs/relevance

q' = q + q M, with M (d, d) from zero, and relevance s as the cascade has it, the mean of
cos(unit, q') and cos(document, q').  The loss is contrastive over the units of a case (InfoNCE,
arXiv 1807.03748), its factor a learnt with M:

    -log( sum over answering units e^(a s) / sum over all units e^(a s) )

The encoder reads each text once; its vectors are kept beside the run, so that another run need not.
``benchmarks/learnt_relevance.py`` compares the outcome with the shipped relevance on the dev sets;
docs/decisions/0006-relevance-as-it-comes.md tells what came of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray
from torch import Tensor, nn

from proxy.compress.ports import Document
from proxy.scorers.encoder import EmbeddedEncoder
from relevance_data import TAKEN, Case, read_cases

FIRST_SCALE = 20.0
"""The cosines' factor a at the start."""


@dataclass(frozen=True, slots=True)
class Example:
    """One case as vectors, all of length 1."""

    source: str
    held_out: bool
    question: Tensor = field(repr=False)  # (d,)
    units: Tensor = field(repr=False)  # (n, d), of those that may be selected
    around: Tensor = field(repr=False)  # (n, d), the document that each unit stands in
    answers: Tensor = field(repr=False)  # (n,) bool


class Turned(nn.Module):
    """A question's vector, turned: (d,) to (d,)."""

    def __init__(self, width: int) -> None:
        """Begin with the identity."""
        super().__init__()
        self.matrix = nn.Parameter(torch.zeros(width, width))
        self.scale = nn.Parameter(torch.tensor(FIRST_SCALE))

    def forward(self, question: Tensor) -> Tensor:
        """Return the turned question, of length 1."""
        return F.normalize(question + question @ self.matrix, dim=-1)

    def loss(self, example: Example) -> Tensor:
        """Return the contrastive loss of one case."""
        turned = self(example.question)
        scores = self.scale * (example.units @ turned + example.around @ turned) / 2
        return torch.logsumexp(scores, 0) - torch.logsumexp(scores[example.answers], 0)


def examples(cases: Sequence[Case], cache: Path) -> list[Example]:
    """Embed what the cases hold, each text once; ``cache`` keeps the vectors for the next run."""
    documents = list(dict.fromkeys(d for case in cases for d in case.documents))
    questions = list(dict.fromkeys(case.question for case in cases))
    if not cache.exists():
        _embed(documents, questions, cache)
    with np.load(cache) as kept:
        units, wholes, asked = (unit_length(kept[k]) for k in ("units", "wholes", "questions"))
    if (len(wholes), len(asked)) != (len(documents), len(questions)):
        raise SystemExit(f"{cache}: found vectors of other cases, wanted these: delete it")
    sizes = [len(document.units) for document in documents]
    parts = dict(zip(documents, torch.split(units, sizes), strict=True))
    around = {d: w.expand(n, -1) for d, w, n in zip(documents, wholes, sizes, strict=True)}
    vectors = dict(zip(questions, asked, strict=True))
    return [
        _example(
            case,
            vectors[case.question],
            torch.cat([parts[document] for document in case.documents]),
            torch.cat([around[document] for document in case.documents]),
        )
        for case in cases
    ]


def _embed(documents: Sequence[Document], questions: Sequence[str], cache: Path) -> None:
    encoder = EmbeddedEncoder()
    read = encoder.embed_documents(documents)
    cache.parent.mkdir(parents=True, exist_ok=True)
    with cache.open("wb") as out:
        np.savez(
            out,
            units=np.concatenate([vectors.units for vectors in read]),
            wholes=np.stack([vectors.whole for vectors in read]),
            questions=np.stack([v.final for v in encoder.embed_questions(questions)]),
        )


def unit_length(vectors: NDArray[np.float32]) -> Tensor:
    """Return vectors (..., d), each made length 1."""
    return F.normalize(torch.from_numpy(np.array(vectors, dtype=np.float32)), dim=-1)


def _example(case: Case, question: Tensor, units: Tensor, around: Tensor) -> Example:
    free = ~torch.tensor(case.frame)
    answers = torch.tensor(case.answers)[free]
    return Example(case.source, case.held_out, question, units[free], around[free], answers)


def train(
    shown: Sequence[Example], *, epochs: int, rate: float, decay: float, seed: int, batch: int = 48
) -> Turned:
    """Train on cases, in an order of ``seed``, the rate on one cycle (arXiv 1708.07120)."""
    model = Turned(len(shown[0].question))
    optimiser = torch.optim.AdamW(
        [
            {"params": [model.matrix], "lr": rate, "weight_decay": decay},
            {"params": [model.scale], "lr": 0.05, "weight_decay": 0.0},
        ]
    )
    descend(
        optimiser,
        [rate, 0.05],
        lambda i: model.loss(shown[i]),
        len(shown),
        epochs=epochs,
        seed=seed,
        batch=batch,
    )
    return model


def descend(
    optimiser: torch.optim.Optimizer,
    rates: list[float],
    loss_of: Callable[[int], Tensor],
    count: int,
    *,
    epochs: int,
    seed: int,
    batch: int = 48,
) -> None:
    """Minimise the mean of ``loss_of`` over ``count`` cases; ``rates`` are each group's highest."""
    steps = epochs * -(-count // batch)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, total_steps=steps, pct_start=0.1)
    order = np.random.default_rng(seed)
    for _ in range(epochs):
        numbers = order.permutation(count)
        for start in range(0, count, batch):
            chosen = numbers[start : start + batch].tolist()
            loss = torch.stack([loss_of(i) for i in chosen]).mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            cycle.step()


@torch.no_grad()
def mean_loss(model: Turned, cases: Sequence[Example]) -> float:
    """Return the mean loss over cases."""
    return float(torch.stack([model.loss(case) for case in cases]).mean())


def main() -> None:
    """Read the command line, train, tell the loss per source, write ``turn.npy``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder that holds relevance/")
    add("--out", type=Path, required=True)
    add("--sources", nargs="+", choices=TAKEN, default=TAKEN, help="of relevance/; all of them")
    add("--epochs", type=int, default=2)
    add("--rate", type=float, default=1e-3)
    add("--decay", type=float, default=1.0)
    add("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    taken = {source: count for source, count in TAKEN.items() if source in options.sources}
    found = examples(list(read_cases(options.data, taken)), options.out / "vectors.npz")
    shown, held = ([e for e in found if e.held_out is out] for out in (False, True))
    model = train(
        shown, epochs=options.epochs, rate=options.rate, decay=options.decay, seed=options.seed
    )
    plain = Turned(len(shown[0].question))
    for source in dict.fromkeys(example.source for example in held):
        mine = [example for example in held if example.source == source]
        before, after = mean_loss(plain, mine), mean_loss(model, mine)
        print(f"{source:14} held out {len(mine):4}: loss {before:.3f} -> {after:.3f}")
    np.save(options.out / "turn.npy", model.matrix.detach().numpy())


if __name__ == "__main__":
    main()
