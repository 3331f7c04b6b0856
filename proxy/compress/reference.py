"""Slow twins: the algorithms said plainly, for tests to hold the fast routines against."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from proxy.compress.lexical import GRAM_SHARE, K1, B


def bm25(question: str, units: Sequence[str]) -> list[float]:
    """Say :func:`proxy.compress.lexical.bm25` one unit and one term at a time."""
    read = [_words(unit) for unit in units]
    words = _bm25(_words(question), read, [len(unit) for unit in read])
    cut = [_grams(unit, 2) for unit in units]
    both = [two + _grams(unit, 3) for two, unit in zip(cut, units, strict=True)]
    asked = _grams(question, 2) + _grams(question, 3)
    grams = _bm25(asked, both, [len(unit) for unit in cut])
    return [word + GRAM_SHARE * gram for word, gram in zip(words, grams, strict=True)]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _grams(text: str, n: int) -> list[str]:
    return [word[i : i + n] for word in _words(text) for i in range(len(word) - n + 1)]


def _bm25(
    terms: Sequence[str], units: Sequence[Sequence[str]], lengths: Sequence[int]
) -> list[float]:
    scores = [0.0] * len(units)
    mean = sum(lengths) / len(units) if units else 0
    if not mean:
        return scores
    counts = [Counter(unit) for unit in units]
    for term in set(terms):
        having = sum(1 for count in counts if count[term])
        idf = math.log(1 + (len(units) - having + 0.5) / (having + 0.5))
        for i, count in enumerate(counts):
            norm = K1 * (1 - B + B * lengths[i] / mean)
            scores[i] += idf * count[term] * (K1 + 1) / (count[term] + norm)
    return scores
