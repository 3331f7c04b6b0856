"""Compare a head that says which tokens answer with the cascade, with and without its fine stage.

    LACONIC_DATA=... python benchmarks/keep_head.py runs/keep/head.pt [--cases N] [--sets ...]

The head is used in two ways, each at equal budgets: for the worth of units, alone in place of their
similarity or beside it, against the cascade as it ships; and for which light words the fine stage
lets go, alone or beside self-information, against the fine stage.  Kept answers are contiguous, as
in ``answers.py``; of meetings (QMSum) it is the share of the relevant turns' words, as in
``fine.py``.  Differences are in points, with paired 95 % bootstrap intervals.
``training/train_keep_head.py`` makes the head.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).parent.parent / "training"))

from answers import Case
from common import Result, has_answer, records
from contenders import Bench
from fine import MEASURES, RATES, Meeting, evidence, forced, meetings
from learnt_relevance import LANGUAGES, question_sets
from paired import difference
from proxy.compress.ports import (
    Document,
    DocumentVectors,
    Passage,
    QuestionVectors,
    ScoreRequest,
    Scores,
    SelfInformation,
    Vector,
)
from proxy.compress.relevance import cosine
from proxy.policy.schema import Cascade, Fine
from proxy.scorers.pooling import drain
from proxy.types import Kind
from train_keep_head import (
    Odds,
    Outcome,
    Scores1D,
    Telling,
    Text,
    blended,
    nats_at,
    pooled,
    starts_of,
    token_document,
)
from train_relevance import unit_length

ANY = 1e9
"""Nats below which every stretch lies: what the head says is held to no band."""


@dataclass(frozen=True, slots=True)
class Use:
    """How much the head counts beside relevance and beside self-information; without end: alone."""

    units: float = 0.0
    words: float = 0.0
    fine: bool = False


class Keeping(Bench):
    """The pipeline of the other benchmarks with the head in it; a text is read once.

    For policies as ``fine.forced`` makes them: one question is asked, and then the documents.
    """

    def __init__(self, outcome: Outcome) -> None:
        """Use the head as ``use`` says, at first not at all."""
        super().__init__("embedded")
        self.outcome, self.use = outcome, Use()
        self._texts: dict[Document, Text] = {}
        self._asked: QuestionVectors | None = None
        self._odds: dict[Document, Odds] = {}  # of the question asked last
        self.around: tuple[Document, ...] = ()  # the documents asked for last

    def _scores(self, ask: ScoreRequest) -> Scores:
        scores = super()._scores(ask)
        if scores.questions:
            self.hear(scores.questions[0])
            if self.use.units:
                scores = replace(scores, questions=(_along(scores.questions[0]),))
        if ask.documents:
            self.around = ask.documents
            if self.use.units:
                scores = replace(scores, documents=tuple(self._stood(ask, scores)))
        if ask.passages and self.use.words:
            pairs = zip(ask.passages, scores.passages, strict=True)
            scores = replace(scores, passages=tuple(self.told(*pair) for pair in pairs))
        return scores

    def hear(self, asked: QuestionVectors) -> None:
        """Take a question as the one that the head is to answer."""
        if asked is not self._asked:
            self._asked, self._odds = asked, {}

    def odds(self, document: Document) -> Odds:
        """Return the log-odds of a document's tokens (n,) for the question asked last."""
        if document not in self._odds and self._asked is not None:
            with torch.no_grad():
                found = self.outcome.head(self.text(document), unit_length(self._asked.final))
            self._odds[document] = found.numpy()
        return self._odds[document]

    def text(self, document: Document) -> Text:
        """Return a document as the head is to see it."""
        if document not in self._texts:
            tokens = token_document(self.scorer, document.text)
            starts = starts_of(tokens)
            states = torch.from_numpy(self.scorer.embed_documents([tokens])[0].units.copy())
            nats = np.zeros(len(starts), dtype=np.float32)
            if self.outcome.head.telling is Telling.FEATURE:
                rated = drain(self.models.passages_steps([Passage(document.text)]))[0]
                nats = nats_at(starts, rated.nats, rated.ends)
            self._texts[document] = Text.of(document, states.half(), starts, torch.from_numpy(nats))
        return self._texts[document]

    def _stood(self, ask: ScoreRequest, scores: Scores) -> Iterator[DocumentVectors]:
        """Yield vectors whose cosines with the question's stand in for the blended scores."""
        asked = self._asked
        if asked is None:
            raise RuntimeError("documents: found no question before them, wanted one")
        similar = np.concatenate([similarity(one, asked) for one in scores.documents])
        way = self.outcome.way
        worth = [pooled(self.odds(each), self.text(each), way) for each in ask.documents]
        found = blended(similar, np.concatenate(worth), self.use.units)
        done = 0
        for one in scores.documents:
            size = len(one.units)
            yield stand_in(one, found[done : done + size], float(np.abs(found).max()))
            done += size

    def told(self, passage: Passage, rated: SelfInformation) -> SelfInformation:
        """Return what the head says of a passage's words, in the place of their nats.

        A passage that the LM cannot judge stays as it is, so that it loses no word here either.
        """
        band = rated.bands.get(Kind.PROSE)
        if not len(rated.nats) or band is None or rated.nats.mean() > band.nats[1]:
            return rated
        wanted = self._wanted(passage.text, rated)
        if math.isfinite(self.use.words):
            wanted = rated.nats / rated.nats.mean() + self.use.words * wanted / wanted.mean()
        lifted = {kind: replace(each, nats=(0.0, ANY)) for kind, each in rated.bands.items()}
        return replace(rated, nats=wanted.astype(np.float32), bands=lifted)

    def _wanted(self, text: str, rated: SelfInformation) -> Vector:
        """Return -log p(dropped) of each of the LM's tokens (n,): sums over the encoder's."""
        found, done = np.full(len(rated.nats), 1e-6, dtype=np.float32), 0
        for document in self.around:
            at = text.find(document.text, done)
            if at >= 0:
                done = at + len(document.text)
                tokens = np.searchsorted(rated.ends, self.text(document).starts + at, side="right")
                values = np.logaddexp(0, self.odds(document))
                np.add.at(found, np.minimum(tokens, len(found) - 1), values)
        return found


def similarity(one: DocumentVectors, asked: QuestionVectors) -> Scores1D:
    """Return the relevance of a document's units (u,), as the cascade has it."""
    return (cosine(one.units, asked.final) + cosine(one.whole[None], asked.final)) / 2


def stand_in(one: DocumentVectors, scores: Scores1D, most: float) -> DocumentVectors:
    """Return vectors whose cosines with ``_along`` are scores (u,) over ``most``.

    Relevance is standardised, so that its scale is of no account.
    """
    units = np.zeros_like(one.units)
    units[:, 0] = scores / max(most, 1e-9)
    units[:, 1] = np.sqrt(1 - np.minimum(1, units[:, 0] ** 2))
    return replace(one, units=units, whole=np.zeros_like(one.whole))


def _along(question: QuestionVectors) -> QuestionVectors:
    """Return a question whose vector is the first axis."""
    final = np.zeros_like(question.final)
    final[0] = 1.0
    return replace(question, final=final)


# -- figures ------------------------------------------------------------------------------------


def uses(factor: float) -> dict[str, Use]:
    """Return what is compared; ``factor`` is how much the head counts beside relevance."""
    return {
        "as it ships": Use(),
        "units: head": Use(units=math.inf),
        "units: both": Use(units=factor),
        "fine": Use(fine=True),
        "fine, words: head": Use(words=math.inf, fine=True),
        "fine, words: both": Use(words=1.0, fine=True),
    }


AGAINST = {
    "units: head": "as it ships",
    "units: both": "as it ships",
    "fine, words: head": "fine",
    "fine, words: both": "fine",
}


def kept(case: Case, result: Result, *, all_words: bool) -> float:
    """Return what is kept of a case's answer, in percent."""
    if isinstance(case, Meeting):
        return 100 * evidence(case, result, all_words=all_words)
    return 100 * float(has_answer(result.text(), case.answers, case.question))


def rows(pipeline: Keeping, name: str, cases: Sequence[Case], rate: float) -> Iterator[str]:
    """Yield rows of the table: all uses over a set's cases at a rate, in each measure."""
    plain = forced(rate)
    fine = plain.model_copy(update={"method": Cascade(fine=Fine())})
    compared = uses(pipeline.outcome.factor)
    results: dict[str, list[Result]] = {use: [] for use in compared}
    for case in cases:  # by case, since the head rates texts once for the question asked last
        for use, chosen in compared.items():
            pipeline.use = chosen
            results[use].append(pipeline.run(case.messages, fine if chosen.fine else plain))
    achieved = sorted(float(np.mean([one.rate for one in each])) for each in results.values())
    for measured, all_words in MEASURES[isinstance(cases[0], Meeting)]:
        found = {
            use: [kept(*pair, all_words=all_words) for pair in zip(cases, each, strict=True)]
            for use, each in results.items()
        }
        bases = [f"{np.mean(found[use]):.1f}" for use in ("as it ships", "fine")]
        apart = [difference(found[a], found[b]).told("{:+.1f}") for a, b in AGAINST.items()]
        within = f"{achieved[0]:.4f} to {achieved[-1]:.4f}"
        cells = [f"{name}{measured}", f"{rate:g}", *bases, *apart, within, str(len(cases))]
        yield f"| {' | '.join(cells)} |"


def sets(count: int) -> dict[str, Sequence[Case]]:
    """Return the development sets, some cases of each; of meetings two queries each."""
    found = records("qmsum_val")
    few = random.Random(3).sample(found, min(len(found), max(2, count // 20)))
    return {**question_sets(count), "qmsum_val": meetings(few)}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("head", type=Path)
    parser.add_argument("--cases", type=int, default=160)
    names = ["nq_30docs_dev", "xquad_en", *(f"xquad_{lang}" for lang in LANGUAGES), "qmsum_val"]
    parser.add_argument("--sets", nargs="*", choices=names, default=names)
    parser.add_argument("--rates", nargs="*", type=float, default=RATES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = Keeping(Outcome.load(options.head))
    print(f"units: {pipeline.outcome.way}, both: {pipeline.outcome.factor:g} times relevance")
    columns = ["set", "rate", "as it ships", "fine", *AGAINST, "achieved", "cases"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    found = sets(options.cases)
    for name in options.sets:
        for rate in options.rates:
            print("\n".join(rows(pipeline, name, found[name], rate)), flush=True)


if __name__ == "__main__":
    main()
