"""Selective Context (Li et al., EMNLP 2023, arXiv 2310.06201): the least informative goes.

    I(unit) = sum over its tokens of -log p(x_i | x_<i)

Each document is read by itself, once; units are words, phrases or sentences, and those of least
self-information are dropped until the budget is met.  The paper takes phrases from a parser; ours
are runs of words that end at punctuation, before a function word that follows a content word, or
after MOST_WORDS.  Sentences that the LM cannot judge and lines of data stay; where they alone are
over the budget, they compete as the units that they are.

A worked example, in nats: "The cat" 7.5, "sat" 6, "on the mat." 3.5.  A budget that holds two of
the three keeps "The cat sat".
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import pairwise
from typing import cast

import numpy as np

from proxy.compress.cascade import keep_units
from proxy.compress.companions import Company, Kept, keep_components
from proxy.compress.guarded import (
    Scene,
    Steps,
    guarded,
    result_of,
    unit_ratings,
    units_result,
    word_ratings,
)
from proxy.compress.layout import Material, document_texts, render
from proxy.compress.llmlingua import rigid_units, yielding_words
from proxy.compress.ports import Passage, ScoreRequest, Scores, SelfInformation
from proxy.compress.relevance import Relevance
from proxy.compress.result import TurnResult
from proxy.compress.stop_words import STOP_WORDS, letters_of
from proxy.compress.words import (
    DIGITS,
    Scores1D,
    Word,
    Wording,
    nats_of,
    read_wording,
    word_nats,
)
from proxy.policy.schema import SelectiveContext, SelfInformationUnit
from proxy.types import Reason

MOST_WORDS = 6
"""Words in a phrase, where no punctuation or function word ends it before."""

_FUNCTION_WORDS = frozenset().union(*STOP_WORDS.values())


def compress_turn(scene: Scene) -> Steps:
    """Compress one turn by dropping the units that tell the LM least."""
    return guarded(scene, _compress)


def _compress(scene: Scene, material: Material) -> Generator[ScoreRequest, Scores, TurnResult]:
    method = cast("SelectiveContext", scene.policy.method)
    scores = yield ScoreRequest(passages=tuple(map(Passage, document_texts(material))))
    if method.unit is SelfInformationUnit.SENTENCE:
        return _by_sentences(scene, material, scores.passages)
    return _by_words(scene, material, scores.passages, method)


def _by_sentences(scene: Scene, material: Material, rated: Sequence[SelfInformation]) -> TurnResult:
    """Select units as the cascade does, by their own self-information."""
    informative: Scores1D = np.zeros(len(material.units))
    for numbers, one in zip(material.documents, rated, strict=True):
        units = [material.units[i] for i in numbers]
        words = [Word(unit.span, unit.gap) for unit in units]
        informative[list(numbers)] = word_nats(words, one, units[0].span.start)
    none = np.zeros(len(informative))
    kept, reason = keep_units(scene, material, Relevance(informative, none, none))
    rendered = render(material, kept, scene.encoding)
    return units_result(material, kept, rendered, reason, unit_ratings(informative))


# -- words and phrases --------------------------------------------------------------------------


def phrases(words: Sequence[str]) -> list[range]:
    """Group words, in order, into phrases; a phrase is a range of them.

    >>> words = "The lighthouse at Skagen was lit, they say".split()
    >>> [" ".join(words[i] for i in phrase) for phrase in phrases(words)]
    ['The lighthouse', 'at Skagen', 'was lit,', 'they say']
    """
    starts = [0] if words else []
    for i in range(1, len(words)):
        ended = not (words[i - 1][-1].isalnum())
        opens = _is_function_word(words[i]) and not _is_function_word(words[i - 1])
        if ended or opens or i - starts[-1] >= MOST_WORDS:
            starts.append(i)
    return [range(a, b) for a, b in pairwise([*starts, len(words)])]


def _is_function_word(word: str) -> bool:
    letters = letters_of(word)
    return bool(letters) and letters[0] in _FUNCTION_WORDS


def _by_words(
    scene: Scene,
    material: Material,
    rated: Sequence[SelfInformation],
    method: SelectiveContext,
) -> TurnResult:
    rigid = rigid_units(material, rated)
    wording = read_wording(material, scene.encoding, rigid.__contains__)
    nats = nats_of(wording, dict(enumerate(rated)))
    forced = frozenset(
        i
        for i, word in enumerate(wording.words)
        if not wording.is_frame(i)
        and (wording.unit[i] in rigid or (word.protected and method.keep_protected))
    )
    groups = [group for u in range(len(material.units)) for group in _groups(wording, u, method)]
    yielding = frozenset[int]() if method.keep_protected else yielding_words(wording, rigid)

    def fit(company: Company) -> Kept:
        found = keep_groups(company, groups, nats)
        if found.reason is Reason.FORCED_OVER_BUDGET and not yielding.isdisjoint(company.forced):
            found = keep_groups(company.freed(yielding), groups, nats)
        return found

    kept = keep_components(scene, wording, forced, fit)
    rated_words = word_ratings(wording, nats)
    return result_of(wording, kept.words, scene, kept.reason, ratings=rated_words)


def _groups(wording: Wording, unit: int, method: SelectiveContext) -> list[list[int]]:
    """Return the words of a unit that stand or fall together."""
    numbers = wording.of_unit(unit)
    if method.unit is SelfInformationUnit.TOKEN:
        return [[i] for i in numbers]
    return [[numbers[i] for i in p] for p in phrases([wording.text(i) for i in numbers])]


def keep_groups(company: Company, groups: Sequence[Sequence[int]], nats: Scores1D) -> Kept:
    """Keep the groups of most self-information that fit the component's target."""
    free = set(company.free)
    mine = [[i for i in group if i in free] for group in groups if not free.isdisjoint(group)]
    sums = [round(float(nats[group].sum()), DIGITS) for group in mine]
    ranked = sorted(range(len(mine)), key=lambda group: (-sums[group], group))
    return company.fit(ranked, groups=mine)
