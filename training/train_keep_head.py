"""Learn which tokens answer a question: a head on the frozen encoder's token states.

    python training/train_keep_head.py --data FOLDER --out runs/keep

p(token is kept) = sigmoid(w gelu(W [t, q, t * q, f] + b) + c), with t the token's state in its
text and q the question's vector, both of length 1, and f the cosines with q of the token, of its
unit and of its document.  A token inside an answer's span is to be kept, any other not; both weigh
the same in each case.  ``--self-information feature`` adds to f what the causal LM says of the
token; with ``target`` the other words of an answering unit are to be kept a little, the more the
more they tell.

What a unit is worth follows from its tokens in one of the ways of ``POOLS``.  Which way, and how
much it counts beside relevance, is chosen on the questions held out.  Both models read each text
once; what they say is kept beside the run.  ``benchmarks/keep_head.py`` compares the outcome with
the cascade on the dev sets; docs/decisions/0007-no-keep-head.md tells what came of it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray
from torch import Tensor, nn

from proxy.compress.ports import Document, Passage
from proxy.scorers import load_models
from proxy.scorers.encoder import EmbeddedEncoder
from proxy.scorers.pooling import Ids, drain
from proxy.types import Span
from relevance_data import TAKEN, Case, read_cases
from train_relevance import descend, unit_length

Odds = NDArray[np.float32]
Scores1D = NDArray[np.float64]

INNER = 64
"""Width of the bottleneck."""
OTHERS = 3
"""Documents without an answer that a case shows each time, drawn anew."""
SOFT = 0.3
"""What the most telling word beside an answer counts for, as a target."""
RATES = (0.125, 0.0625)
"""Shares of a case's characters at which units are chosen among, to compare ways."""
FACTORS = (0.25, 0.5, 1.0, 2.0, math.inf)
"""How much the head counts beside relevance; without end: the head alone."""


class Telling(StrEnum):
    """What self-information is used for."""

    NONE = "none"
    FEATURE = "feature"
    TARGET = "target"


# -- texts as tokens ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Text:
    """A document as the models see it.

    Row i is of the encoder's tokens that begin at character ``starts[i]``: as a rule one.
    """

    states: Tensor = field(repr=False)  # (n, d) half
    starts: Ids = field(repr=False)  # (n,) ascending
    nats: Tensor = field(repr=False)  # (n,) self-information
    units: Ids = field(repr=False)  # (n,) the unit that each lies in; -1 between units
    parts: Tensor = field(repr=False)  # (u, d) the units' vectors, of length 1, 0 where empty
    whole: Tensor = field(repr=False)  # (d,) the text's vector, of length 1

    @classmethod
    def of(cls, document: Document, states: Tensor, starts: Ids, nats: Tensor) -> Text:
        """Pool the states by the document's units."""
        units = units_at(starts, document.units)
        inside, wide = torch.from_numpy(units >= 0), states.float()
        at = torch.from_numpy(units)[inside]
        sums = torch.zeros(len(document.units), states.shape[1]).index_add_(0, at, wide[inside])
        return cls(states, starts, nats, units, _unit(sums), _unit(wide.sum(0)))

    def similarity(self, question: Tensor) -> Tensor:
        """Return the relevance of each unit (u,): the mean of its cosine and the text's."""
        return (self.parts @ question + self.whole @ question) / 2


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors, dim=-1)


def token_document(encoder: EmbeddedEncoder, text: str) -> Document:
    """Return a text each of whose tokens is a unit: its vectors are the tokens' states."""
    starts = np.unique(encoder.tokenise(text).starts).tolist()
    return Document(text, tuple(map(Span, starts, [*starts[1:], len(text)])))


def starts_of(document: Document) -> Ids:
    """Return where each unit begins (n,)."""
    return np.array([unit.start for unit in document.units], dtype=np.int64)


def nats_at(starts: Ids, nats: Odds, ends: NDArray[np.int32]) -> Odds:
    """Sum an LM's nats over the encoder's tokens, by where an LM token's last character lies: (n,).

    >>> nats_at(np.array([0, 4]), np.array([1, 2, 4], np.float32), np.array([2, 3, 9], np.int32))
    array([3., 4.], dtype=float32)
    """
    found = np.zeros(len(starts), dtype=np.float32)
    if len(found):
        at = np.searchsorted(starts, ends - 1, side="right") - 1
        np.add.at(found, np.maximum(at, 0), nats)
    return found


def units_at(starts: Ids, units: Sequence[Span]) -> Ids:
    """Return the unit in which each token begins (n,), -1 where there is none.

    >>> units_at(np.array([0, 3, 4]), [Span(0, 3), Span(4, 9)]).tolist()
    [0, -1, 1]
    """
    begins, ends = np.array(units, dtype=np.int64).reshape(-1, 2).T
    at = np.searchsorted(begins, starts, side="right") - 1
    inside = (at >= 0) & (starts < ends[np.maximum(at, 0)])
    return np.where(inside, at, -1)


# -- cases --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Example:
    """A question over texts, and the answer's spans in each of them."""

    source: str
    held_out: bool
    question: Tensor = field(repr=False)  # (d,) of length 1
    texts: tuple[Text, ...] = field(repr=False)
    spans: tuple[tuple[Span, ...], ...] = field(repr=False)
    answers: NDArray[np.bool_] = field(repr=False)  # (u,) of all units in order
    frame: NDArray[np.bool_] = field(repr=False)  # (u,)
    sizes: Ids = field(repr=False)  # (u,) characters


def examples(cases: Sequence[Case], cache: Path, *, rated: bool) -> list[Example]:
    """Read what the cases hold, each text once; ``cache`` keeps it for the next run.

    Without ``rated`` the LM reads nothing, and all self-information is 0.
    """
    documents = list(dict.fromkeys(d for case in cases for d in case.documents))
    questions = list(dict.fromkeys(case.question for case in cases))
    if not cache.exists():
        _read(documents, questions, cache, rated=rated)
    texts, vectors = _kept(documents, questions, cache)
    return [
        Example(
            case.source,
            case.held_out,
            vectors[case.question],
            tuple(texts[document] for document in case.documents),
            case.spans,
            np.array(case.answers),
            np.array(case.frame),
            np.array([len(text) for text in case.texts]),
        )
        for case in cases
    ]


def _kept(
    documents: Sequence[Document], questions: Sequence[str], cache: Path
) -> tuple[dict[Document, Text], dict[str, Tensor]]:
    with np.load(cache) as kept:
        counts, asked = kept["counts"], unit_length(kept["questions"])
        if (len(counts), len(asked)) != (len(documents), len(questions)):
            raise SystemExit(f"{cache}: found texts of other cases, wanted these: delete it")
        cuts = np.cumsum(counts)[:-1]
        read = [np.split(kept[name], cuts) for name in ("states", "starts", "nats")]
    texts = {
        document: Text.of(document, torch.from_numpy(states), starts, torch.from_numpy(nats))
        for document, states, starts, nats in zip(documents, *read, strict=True)
    }
    return texts, dict(zip(questions, asked, strict=True))


def _read(
    documents: Sequence[Document], questions: Sequence[str], cache: Path, *, rated: bool
) -> None:
    encoder, models = EmbeddedEncoder(), load_models("embedded", "embedded", None)
    states, starts, nats = [], [], []
    for document in documents:
        tokens = token_document(encoder, document.text)
        starts.append(starts_of(tokens))
        states.append(encoder.embed_documents([tokens])[0].units.astype(np.float16))
        nats.append(np.zeros(len(starts[-1]), dtype=np.float32))
        if rated:
            told = drain(models.passages_steps([Passage(document.text)]))[0]
            nats[-1] = nats_at(starts[-1], told.nats, told.ends)
    cache.parent.mkdir(parents=True, exist_ok=True)
    with cache.open("wb") as out:
        np.savez(
            out,
            counts=np.array([len(each) for each in starts]),
            states=np.concatenate(states),
            starts=np.concatenate(starts),
            nats=np.concatenate(nats),
            questions=np.stack([v.final for v in encoder.embed_questions(questions)]),
        )


# -- the head -----------------------------------------------------------------------------------


class KeepHead(nn.Module):
    """The log-odds that each token of a text is kept, given the question."""

    def __init__(self, width: int, telling: Telling) -> None:
        """Begin at random; ``width`` is the encoder's d."""
        super().__init__()
        self.telling = telling
        self.inner = nn.Linear(3 * width + 3 + (telling is Telling.FEATURE), INNER)
        self.outer = nn.Linear(INNER, 1)

    def forward(self, text: Text, question: Tensor) -> Tensor:
        """Return log-odds (n,) of a text's tokens; ``question`` (d,) is of length 1."""
        tokens = _unit(text.states.float())  # (n, d)
        units = torch.cat([text.parts @ question, torch.zeros(1)])[text.units]  # (n,); -1: none
        figures = [tokens @ question, units, (text.whole @ question).expand(len(tokens))]
        if self.telling is Telling.FEATURE:
            figures.append(torch.log1p(text.nats))
        scale = len(question) ** 0.5  # components of variance about 1
        asked = question * scale
        of_t, of_q, of_both, of_figures = self._weights(len(question))
        # W [t, q, t * q, f] with the question taken into the matrix, which is a third of the work
        hidden = tokens @ (scale * (of_t + of_both * asked)).T + of_q @ asked
        hidden = hidden + torch.stack(figures, 1) @ of_figures.T + self.inner.bias
        odds: Tensor = self.outer(F.gelu(hidden))[:, 0]
        return odds

    def _weights(self, width: int) -> tuple[Tensor, ...]:
        """Return W as of t, of q and of t * q, each (INNER, d), and of f (INNER, 3 or 4)."""
        rest = self.inner.in_features - 3 * width
        return torch.split(self.inner.weight, [width, width, width, rest], dim=1)

    def loss(self, example: Example, rng: np.random.Generator) -> Tensor:
        """Return the cross-entropy of one case, what is kept and what is not weighing the same."""
        texts = list(zip(example.texts, example.spans, strict=True))
        others = [pair for pair in texts if not pair[1]]
        drawn = rng.permutation(len(others))[:OTHERS].tolist()
        shown = [*(pair for pair in texts if pair[1]), *(others[i] for i in drawn)]
        odds = torch.cat([self(text, example.question) for text, _ in shown])
        soft = SOFT if self.telling is Telling.TARGET else 0.0
        wanted = torch.cat([targets(text, spans, soft) for text, spans in shown])
        kept = (wanted * F.softplus(-odds)).sum() / wanted.sum().clamp(min=1)
        gone = ((1 - wanted) * F.softplus(odds)).sum() / (1 - wanted).sum().clamp(min=1)
        return kept + gone


def targets(text: Text, spans: Sequence[Span], soft: float) -> Tensor:
    """Return how far each token is to be kept (n,): 1 in an answer, up to ``soft`` beside it."""
    inside = np.zeros(len(text.starts), dtype=bool)
    for span in spans:
        inside |= (text.starts >= span.start) & (text.starts < span.end)
    wanted = torch.from_numpy(inside).float()
    if soft and inside.any():
        beside = np.isin(text.units, np.unique(text.units[inside])) & ~inside & (text.units >= 0)
        ranks = text.nats.argsort().argsort() / len(text.nats)
        wanted += soft * ranks * torch.from_numpy(beside)
    return wanted


def train(
    shown: Sequence[Example], telling: Telling, *, epochs: int, rate: float, seed: int
) -> KeepHead:
    """Train on cases, in an order and from weights of ``seed``."""
    torch.manual_seed(seed)
    head = KeepHead(len(shown[0].question), telling)
    optimiser = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=0.05)
    rng = np.random.default_rng(seed)
    descend(
        optimiser,
        [rate],
        lambda i: head.loss(shown[i], rng),
        len(shown),
        epochs=epochs,
        seed=seed,
        batch=16,
    )
    return head


# -- from tokens to units -----------------------------------------------------------------------


def _chance(odds: Odds) -> Scores1D:
    return 1 / (1 + np.exp(-odds.astype(np.float64)))


def _highest(values: NDArray[np.floating]) -> float:
    return float(np.sort(values)[-3:].mean())


POOLS: Final[dict[str, Callable[[Odds], float]]] = {
    "mean": lambda odds: float(_chance(odds).mean()),
    "max": lambda odds: float(_chance(odds).max()),
    "top 3": lambda odds: _highest(_chance(odds)),
    "top 3, log-odds": _highest,
}
"""What a unit is worth, from the log-odds of its tokens."""


def pooled(odds: Odds, text: Text, way: str) -> Scores1D:
    """Return what each unit is worth (u,); one without tokens as little as the least."""
    found = [odds[text.units == unit] for unit in range(len(text.parts))]
    least = float(odds.min()) if len(odds) else 0.0
    return np.array([POOLS[way](own if len(own) else np.array([least])) for own in found])


def standard(values: Scores1D) -> Scores1D:
    """Return values (u,) less their mean, over their spread."""
    spread = float(values.std())
    return (values - values.mean()) / spread if spread > 1e-9 else np.zeros(len(values))


def blended(relevance: Scores1D, worth: Scores1D, factor: float) -> Scores1D:
    """Return relevance with the head's figures ``factor`` times as much beside it, all (u,)."""
    if math.isinf(factor):
        return standard(worth)
    return standard(relevance) + factor * standard(worth)


# -- what it is good for ------------------------------------------------------------------------


def kept_share(scores: Scores1D, example: Example, rate: float) -> float:
    """Return the share of the answering units that the best within ``rate`` of the text hold."""
    room = rate * float(example.sizes.sum())
    kept = []
    for unit in np.argsort(-scores, kind="stable").tolist():
        if not example.frame[unit] and example.sizes[unit] <= room:
            room -= float(example.sizes[unit])
            kept.append(unit)
    return float(example.answers[kept].sum() / example.answers.sum())


@dataclass(frozen=True, slots=True)
class Rated:
    """A held-out case, its units rated by relevance and in every way by the head."""

    example: Example
    relevance: Scores1D = field(repr=False)
    worth: dict[str, Scores1D] = field(repr=False)

    def share(self, way: str, factor: float, rate: float) -> float:
        """Return what is kept with one way and factor."""
        scores = blended(self.relevance, self.worth[way], factor)
        return kept_share(scores, self.example, rate)


@torch.no_grad()
def rated(head: KeepHead, example: Example) -> Rated:
    """Rate a case's units."""
    odds = [(head(text, example.question).numpy(), text) for text in example.texts]
    return Rated(
        example,
        torch.cat([text.similarity(example.question) for text in example.texts]).double().numpy(),
        {way: np.concatenate([pooled(each, text, way) for each, text in odds]) for way in POOLS},
    )


def best_way(cases: Sequence[Rated]) -> tuple[str, float]:
    """Return the way and the finite factor that keep most, each source and rate counting alike."""
    choices = [(way, factor) for way in POOLS for factor in FACTORS if math.isfinite(factor)]
    return max(choices, key=lambda choice: _mean_share(cases, *choice))


def _mean_share(cases: Sequence[Rated], way: str, factor: float) -> float:
    shares = [_share(mine, way, factor, rate) for mine in by_source(cases) for rate in RATES]
    return float(np.mean(shares))


def _share(cases: Sequence[Rated], way: str, factor: float, rate: float) -> float:
    return float(np.mean([case.share(way, factor, rate) for case in cases]))


def by_source(cases: Sequence[Rated]) -> list[list[Rated]]:
    """Group cases by where they are from."""
    groups: dict[str, list[Rated]] = {}
    for case in cases:
        groups.setdefault(case.example.source, []).append(case)
    return list(groups.values())


def told(cases: Sequence[Rated]) -> Iterator[str]:
    """Say what is kept of the answering units, in percent: every way, then the best by source."""
    for way in POOLS:
        cells = (f"{factor:g}: {100 * _mean_share(cases, way, factor):.1f}" for factor in FACTORS)
        yield f"{way:16} by factor  {'  '.join(cells)}"
    way, factor = best_way(cases)
    yield f"relevance alone {100 * _mean_share(cases, way, 0.0):.1f}; chosen: {way}, {factor:g}"
    for mine in by_source(cases):
        for rate in RATES:
            plain, alone, both = (
                100 * _share(mine, way, each, rate) for each in (0.0, math.inf, factor)
            )
            yield (
                f"{mine[0].example.source:14} held out {len(mine):4} at {rate:6}: "
                f"relevance {plain:.1f}, head {alone:.1f}, both {both:.1f}"
            )


# -- the outcome --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """A head, and how it is to be used."""

    head: KeepHead
    way: str
    factor: float

    def save(self, path: Path) -> None:
        """Write it."""
        used = {"telling": self.head.telling.value, "way": self.way, "factor": self.factor}
        torch.save({**used, "weights": self.head.state_dict()}, path)

    @classmethod
    def load(cls, path: Path) -> Outcome:
        """Read it."""
        kept = torch.load(path, weights_only=True)
        telling = Telling(kept["telling"])
        inner = kept["weights"]["inner.weight"]  # (INNER, 3 d + figures)
        head = KeepHead(inner.shape[1] // 3 - 1, telling)
        head.load_state_dict(kept["weights"])
        return cls(head, kept["way"], kept["factor"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, train, tell what is kept, write ``head.pt``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder that holds relevance/")
    add("--out", type=Path, required=True)
    add("--sources", nargs="*", choices=list(TAKEN), default=list(TAKEN))
    add("--self-information", type=Telling, choices=list(Telling), default=Telling.TARGET)
    add("--epochs", type=int, default=5)
    add("--rate", type=float, default=1e-3)
    add("--seed", type=int, default=0)
    add("--held", type=int, default=400, help="held-out cases to compare ways on")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    taken = {source: TAKEN[source] for source in options.sources}
    rating = options.self_information is not Telling.NONE
    cache = options.out / ("texts-rated.npz" if rating else "texts.npz")
    found = examples(list(read_cases(options.data, taken)), cache, rated=rating)
    shown, held = ([e for e in found if e.held_out is out] for out in (False, True))
    head = train(
        shown,
        options.self_information,
        epochs=options.epochs,
        rate=options.rate,
        seed=options.seed,
    )
    cases = [rated(head, example) for example in held[:: max(1, len(held) // options.held)]]
    print("\n".join(told(cases)))
    Outcome(head, *best_way(cases)).save(options.out / "head.pt")


if __name__ == "__main__":
    main()
