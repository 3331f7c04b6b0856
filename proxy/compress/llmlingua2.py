"""LLMLingua-2 (Pan et al., Findings of ACL 2024, arXiv 2403.12968), without its accidents.

A token classifier, trained on what a large model left in its summaries, says how likely each token
is kept.  A word's probability is the mean over its tokens (Sec. 4.2).  The likeliest words are kept
until the budget is spent: one threshold over the whole turn, not one per chunk, so a chunk that
says much keeps much (their appendix L).  Words with digits and the policy's own are kept exactly.

The question may steer: with ``question_weight`` w a word's score is

    (1 - w) * p(word kept) + w * standing(unit)

where a unit stands between the turn's middle (0) and its best (1) by relevance.

A worked example.  "The committee met on 12 May and chose a new chair" with the probabilities
.1 .9 .6 .2 - .8 .1 .9 .1 .4 .9 and a budget of six words: "12" holds a digit, and with "May" (its
unit of measure, so to say) is one word; then come committee, chose, chair, met, and new: "committee
met 12 May chose new chair".
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from typing import cast

import numpy as np

from proxy.compress.companions import best_first, forced_words, keep_components
from proxy.compress.guarded import Scene, Steps, guarded, result_of, word_ratings
from proxy.compress.layout import Material
from proxy.compress.ports import KeepProbabilities, ScoreRequest, Scores
from proxy.compress.relevance import Stack, rate_units
from proxy.compress.result import TurnResult
from proxy.compress.words import DIGITS, Scores1D, Word, Wording, read_wording
from proxy.policy.schema import LLMLingua2

_EDGES = re.compile(r"^\W+|\W+$")


def compress_turn(scene: Scene) -> Steps:
    """Compress one turn by words, likeliest first."""
    return guarded(scene, _compress)


def _compress(scene: Scene, material: Material) -> Generator[ScoreRequest, Scores, TurnResult]:
    method, question = cast("LLMLingua2", scene.policy.method), scene.turn.question
    documents = material.embeddable
    texts = tuple(document.text for document in documents)
    if question is None or not method.question_weight:
        scores = yield ScoreRequest(classified=texts)
    else:
        scores = yield ScoreRequest(documents, (question,), classified=texts)
    wording = read_wording(material, scene.encoding)
    rated = word_scores(wording, scores.classified)
    if scores.questions:
        asked = scores.questions[0]
        stack = Stack.of(scores.documents)
        relevance = rate_units(question or "", asked, material.terms, [stack])
        rated = steered(rated, relevance.standing[list(wording.unit)], method.question_weight)
    kept = keep_components(
        scene,
        wording,
        forced_words(wording, lambda i: _stays(wording, i, method)),
        lambda company: company.fit(best_first(rated, company.free)),
    )
    ratings = word_ratings(wording, rated)
    return result_of(wording, kept.words, scene, kept.reason, ratings=ratings)


def _stays(wording: Wording, number: int, method: LLMLingua2) -> bool:
    """Whether a word is kept whatever its probability."""
    text = wording.text(number)
    if method.keep_protected and wording.words[number].protected:
        return True
    if method.keep_digits and any(character.isdigit() for character in text):
        return True
    bare = _EDGES.sub("", text).casefold()
    return any(bare == word.casefold() for word in method.force_words)


def word_scores(wording: Wording, classified: Sequence[KeepProbabilities]) -> Scores1D:
    """Return each word's probability (n_words,) from those of the turn's stretches."""
    scores = np.zeros(len(wording.words))
    material = wording.material
    for numbers, rated in zip(material.stretches, classified, strict=True):
        words = wording.of_units(numbers)
        start = material.units[numbers[0]].span.start
        scores[words] = word_probabilities([wording.words[i] for i in words], rated, start)
    return scores


def word_probabilities(words: Sequence[Word], rated: KeepProbabilities, start: int = 0) -> Scores1D:
    """Return the mean probability of each word's tokens (n_words,); 0 where it has none.

    ``start`` is where in the words' text the rated passage begins.  A token that spans several
    words counts for each of them.

    >>> from proxy.types import Span
    >>> word = Word(Span(0, 8), Span(8, 8))
    >>> keep = np.array([0.5, 1.0], np.float32)
    >>> rated = KeepProbabilities(keep, np.array([0, 3], np.int32), np.array([3, 8], np.int32))
    >>> word_probabilities([word], rated)
    array([0.75])
    """
    totals = np.concatenate([[0.0], np.cumsum(rated.keep, dtype=np.float64)])
    begins = np.array([word.span.start - start for word in words], dtype=np.int64)
    ends = np.array([word.span.end - start for word in words], dtype=np.int64)
    first = np.searchsorted(rated.ends, begins, side="right")
    last = np.maximum(np.searchsorted(rated.starts, ends, side="left"), first)
    means: Scores1D = np.round((totals[last] - totals[first]) / np.maximum(last - first, 1), DIGITS)
    return means


def steered(probabilities: Scores1D, standing: Scores1D, weight: float) -> Scores1D:
    """Blend words' probabilities with the standing of their units.

    >>> steered(np.array([0.9, 0.4]), np.array([0.0, 1.0]), 0.5)
    array([0.45, 0.7 ])
    """
    blended: Scores1D = np.round((1 - weight) * probabilities + weight * standing, DIGITS)
    return blended
