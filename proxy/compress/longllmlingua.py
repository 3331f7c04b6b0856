"""LongLLMLingua (Jiang et al., ACL 2024, arXiv 2310.06839), for prompts of many documents.

Theory of operation
-------------------
*Documents* (Sec. 4.1) are ranked by how well they foretell the question, with a sentence that
restricts it to them:

    r_k = -(1/N) sum_i log p(x_i of question and sentence | document k)         low = relevant

and taken, the most relevant first, until they hold k times the budget.  With k near 1 the few best
ones keep most of their words; LLMLingua's 2 would halve them.  A document's rate follows
from its rank among the K that were taken (Sec. 4.3), with rank 1/2, 3/2, ... K - 1/2 so that the
rates average tau:

    tau_k = clamp(tau + delta (1 - 2 rank / K), 0, 1)

*Words* (Sec. 4.1) are scored by contrast: how much less surprising the question makes them,

    s_i = log p(x_i | question, x_<i) - log p(x_i | x_<i)

in windows, the highest first, until the window's share is spent; what is left is carried on, as in
LLMLingua.  Each document is read by itself, after the words that were kept of its earlier windows,
so the order of documents does not sway the scores, and several can be read side by side.
In the end the turn is counted exactly: over the target, the words of least contrast go.

Documents stay in the caller's order.  With ``reorder`` the most relevant comes first, against the
"lost in the middle" effect; the text is then no longer a subsequence of the caller's (law 3).

A worked example.  Four documents of 100 tokens, rate .25, k = 2: room for 100, so the two with the
lowest r are taken, tau is .5, their rates .5 + .3 / 2 = .65 and .35, and the total is the target.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final, TypeAlias, cast

import numpy as np

from proxy.compress.companions import (
    Company,
    Kept,
    Render,
    best_first,
    company_of,
    forced_words,
    keep_components,
    targeted,
    words_of,
)
from proxy.compress.guarded import Scene, Steps, guarded, result_of, word_ratings
from proxy.compress.layout import Material, Rendered, document_texts, render_spans
from proxy.compress.llmlingua import Window, cut_windows, rigid_units, take_words
from proxy.compress.ports import Encoding, Heard, Passage, ScoreRequest, Scores, SelfInformation
from proxy.compress.result import TurnResult, untouched
from proxy.compress.words import (
    DIGITS,
    Scores1D,
    Wording,
    read_wording,
    render_words,
    word_nats,
    word_spans,
)
from proxy.policy.schema import LongLLMLingua, Variant
from proxy.types import Reason, Span

RESTRICTIVE: Final = "We can get the answer to this question in the given documents."
"""What the paper adds to the question, so that a document is held to it."""

SIDE_BY_SIDE: Final = 3
"""Documents of several windows that are read at once: a reader remembers a few states only."""

Asking: TypeAlias = Generator[ScoreRequest, Scores, None]


def compress_turn(scene: Scene) -> Steps:
    """Compress one turn by documents, then by words."""
    return guarded(scene, _compress)


def _compress(scene: Scene, material: Material) -> Generator[ScoreRequest, Scores, TurnResult]:
    method, question = cast("LongLLMLingua", scene.policy.method), scene.turn.question
    if question is None:
        return untouched(material, Reason.NO_QUESTION)
    texts = document_texts(material)
    scores = yield ScoreRequest(passages=(*map(Passage, texts), *foretold(question, texts)))
    plain, asked = scores.passages[: len(texts)], scores.passages[len(texts) :]
    wording = _wording(scene, material, plain)
    relevance = [relevance_of(rated) for rated in asked]
    protected = frozenset[int]()
    if method.keep_protected:
        protected = forced_words(wording, lambda i: wording.words[i].protected)
    plan = _plan(scene, wording, relevance, protected)
    reading = Reading(wording, question, exact=method.variant is Variant.EXACT)
    yield from reading.read_all(plan, method.window)
    render = _in_order(relevance) if method.reorder else render_words
    forced = protected.intersection(plan.words)

    def fit(company: Company) -> Kept:
        free = plan.words.intersection(company.free)
        return company.fit(best_first(reading.contrast, free), reading.kept & free)

    kept = keep_components(scene, wording, forced, fit, render)
    read = {i: float(reading.contrast[i]) for i in plan.words}
    ratings = word_ratings(wording, read)
    return result_of(wording, kept.words, scene, kept.reason, render, ratings)


def _wording(scene: Scene, material: Material, plain: Sequence[SelfInformation]) -> Wording:
    """Cut the turn into words; units that the LM cannot judge stay in one piece."""
    return read_wording(material, scene.encoding, rigid_units(material, plain).__contains__)


# -- documents ----------------------------------------------------------------------------------


def foretold(question: str, documents: Sequence[str]) -> list[Passage]:
    """Return what to ask for r_k: the question and the restrictive sentence, after a document."""
    text = f"{question}\n{RESTRICTIVE}"
    return [Passage(text, (Heard(f"{d}\n\n", (Span(0, len(d) + 2),)),)) for d in documents]


def relevance_of(rated: SelfInformation) -> float:
    """Return r_k, the mean nats of the question's tokens after a document: low is relevant."""
    return round(float(rated.nats.mean(dtype=np.float64)), DIGITS) if len(rated.nats) else 0.0


def choose_documents(
    relevance: Sequence[float],
    lengths: Sequence[int],
    least: Sequence[int],
    room: float,
    k: float,
) -> list[int]:
    """Take documents, the lowest r first, until they hold ``k`` times ``room``; best first.

    ``least`` is what a document costs with all words dropped that may be; together these must fit
    ``room`` itself.

    >>> choose_documents([2.0, 1.0, 3.0], [60, 50, 30], [5, 5, 5], room=50, k=2)
    [1, 0]
    """
    taken: list[int] = []
    total = bottom = 0
    for document in sorted(range(len(relevance)), key=lambda i: (relevance[i], i)):
        if total >= k * room:
            break
        if bottom + least[document] <= room:
            taken.append(document)
            total += lengths[document]
            bottom += least[document]
    return taken


def document_rates(tau: float, delta: float, documents: int) -> list[float]:
    """Return tau_k for documents ranked best first.

    >>> document_rates(0.5, 0.3, 2)
    [0.65, 0.35]
    """
    shares = (1 - (2 * rank + 1) / documents for rank in range(documents))
    return [round(min(1.0, max(0.0, tau + delta * share)), DIGITS) for share in shares]


@dataclass(frozen=True, slots=True)
class Plan:
    """The documents taken, each with its words and the share of the droppable ones it keeps."""

    rates: Mapping[int, float]  # document -> tau_k
    droppable: frozenset[int]
    words: frozenset[int]


def _plan(
    scene: Scene, wording: Wording, relevance: Sequence[float], protected: frozenset[int]
) -> Plan:
    """Choose documents of every component that has a target, and give them their rates."""
    everything = frozenset(range(len(wording.words)))
    rates: dict[int, float] = {}
    droppable: set[int] = set()
    for component in targeted(scene, wording):
        company = company_of(scene, wording, component, protected, everything)
        rates |= _rates(company, relevance)
        droppable |= set(company.free)
    units = wording.material.units
    words = frozenset(i for i in everything if units[wording.unit[i]].document in rates)
    return Plan(rates, words & droppable, words)


def _rates(company: Company, relevance: Sequence[float]) -> dict[int, float]:
    """Choose documents of one component; return the rates of those taken."""
    method, wording = cast("LongLLMLingua", company.scene.policy.method), company.wording
    documents = _documents_of(wording, words_of(wording, company.component))
    numbers, words = list(documents), list(documents.values())
    lengths = [_cost(wording, each) for each in words]
    least = [_cost(wording, each.difference(company.free)) for each in words]
    room = company.target() - replace(company, forced=frozenset()).measure(())
    taken = choose_documents([relevance[d] for d in numbers], lengths, least, room, method.k)
    bottom = sum(least[i] for i in taken)
    tau = (room - bottom) / max(1, sum(lengths[i] for i in taken) - bottom)
    rates = document_rates(tau, method.delta, len(taken))
    return {numbers[i]: rate for i, rate in zip(taken, rates, strict=True)}


def _documents_of(wording: Wording, words: Sequence[int]) -> dict[int, set[int]]:
    """Group words by their document."""
    groups: dict[int, set[int]] = {}
    for i in words:
        groups.setdefault(wording.material.units[wording.unit[i]].document, set()).add(i)
    return groups


def _cost(wording: Wording, words: Collection[int]) -> int:
    return sum(wording.costs[i] for i in words)


# -- words --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Stream:
    """One document under iterative compression: what is left to read, and what was kept."""

    windows: list[Window]
    rate: float
    left: float = 0.0
    heard: list[Heard] = field(default_factory=list)


@dataclass(slots=True)
class Reading:
    """The contrast of every word that was read, and the words kept so far."""

    wording: Wording
    question: str
    exact: bool
    contrast: Scores1D = field(init=False)
    kept: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        """Begin with no contrast anywhere."""
        self.contrast = np.zeros(len(self.wording.words))

    def read_all(self, plan: Plan, tokens: int) -> Asking:
        """Read the documents window by window: short ones together, a few long ones at a time."""
        streams = [
            Stream(self._windows(document, tokens), rate)
            for document, rate in sorted(plan.rates.items())
        ]
        short = [stream for stream in streams if len(stream.windows) == 1]
        long = [stream for stream in streams if len(stream.windows) > 1]
        groups = [long[i : i + SIDE_BY_SIDE] for i in range(0, len(long), SIDE_BY_SIDE)]
        for group in (short, *groups):
            yield from self._read(group, plan.droppable)

    def _read(self, streams: list[Stream], droppable: Collection[int]) -> Asking:
        """Read documents side by side until none has a window left."""
        while streams := [stream for stream in streams if stream.windows]:
            passages = [p for stream in streams for p in self._passages(stream)]
            scores = yield ScoreRequest(passages=tuple(passages))
            for stream, plain, asked in zip(
                streams, scores.passages[::2], scores.passages[1::2], strict=True
            ):
                self._keep(stream, plain, asked, droppable)

    def _windows(self, document: int, tokens: int) -> list[Window]:
        """Cut a document into windows; the first begins with its first word."""
        units = self.wording.material.documents[document]
        first, *rest = cut_windows(self.wording, units, tokens)
        begins = self.wording.words[first.words[0]].span.start
        return [replace(first, text=Span(begins, first.text.end)), *rest]

    def _passages(self, stream: Stream) -> tuple[Passage, Passage]:
        """Return a document's next window: as it is, and after the question."""
        text = self._text(stream.windows[0])
        asked = Heard(f"{self.question}\n", (Span(0, len(self.question) + 1),))
        heard = tuple(stream.heard)
        return Passage(text, heard, self.exact), Passage(text, (asked, *heard), self.exact)

    def _keep(
        self,
        stream: Stream,
        plain: SelfInformation,
        asked: SelfInformation,
        droppable: Collection[int],
    ) -> None:
        """Keep of a window what its share allows, and go on behind it."""
        window = stream.windows.pop(0)
        words = [self.wording.words[i] for i in window.words]
        start = window.text.start
        contrast = word_nats(words, plain, start) - word_nats(words, asked, start)
        self.contrast[window.words] = np.round(contrast, DIGITS)
        free = [i for i in window.words if i in droppable]
        costs = [self.wording.costs[i] for i in free]
        budget = stream.rate * sum(costs) + stream.left
        taken, stream.left = take_words(self.contrast[free].tolist(), costs, budget)
        gone = set(free) - {free[i] for i in taken}
        stays = [i for i in window.words if i not in gone]
        self.kept = self.kept.union(stays)
        edges = [start, *(word.span.end for word in words)]
        first = window.words[0]
        spans = [Span(a - start, b - start) for a, b in pairwise(edges)]
        kept = tuple(spans[i - first] for i in stays)
        stream.heard.append(Heard(self._text(window), kept))

    def _text(self, window: Window) -> str:
        return window.text.of(self.wording.leaf(window.words[0]))


# -- order --------------------------------------------------------------------------------------


def _in_order(relevance: Sequence[float]) -> Render:
    """Return a rendering in which the documents of a segment stand most relevant first."""

    def render(wording: Wording, kept: Collection[int], encoding: Encoding) -> Rendered:
        spans = word_spans(wording, kept)
        document = {
            (wording.material.units[unit].segment, word.span.start): wording.material.units[
                unit
            ].document
            for unit, word in zip(wording.unit, wording.words, strict=True)
        }
        moved = {
            segment: reordered(
                found, [document.get((segment, span.start)) for span in found], relevance
            )
            for segment, found in spans.items()
        }
        return render_spans(wording.material, moved, encoding)

    return render


def reordered(
    spans: Sequence[Span], documents: Sequence[int | None], relevance: Sequence[float]
) -> list[Span]:
    """Put runs of spans of one document in order of r; what stands between runs stays in place.

    ``documents`` says of each span which document it is a word of, None for a gap.

    >>> spans = [Span(0, 3), Span(3, 4), Span(4, 6), Span(6, 7), Span(7, 9)]
    >>> reordered(spans, [0, None, 1, None, 1], [2.0, 1.0])
    [Span(start=4, end=6), Span(start=6, end=7), Span(start=7, end=9), Span(start=3, end=4), \
Span(start=0, end=3)]
    """
    named = [i for i, document in enumerate(documents) if document is not None]
    runs: dict[int, list[int]] = {}
    for i in named:
        runs.setdefault(cast("int", documents[i]), []).append(i)
    edges = [(numbers[0], numbers[-1] + 1) for numbers in runs.values()]
    order = sorted(range(len(edges)), key=lambda n: (relevance[list(runs)[n]], n))
    out: list[Span] = []
    behind = 0
    for place, number in enumerate(order):
        out += spans[behind : edges[place][0]]
        out += spans[slice(*edges[number])]
        behind = edges[place][1]
    return [*out, *spans[behind:]]
