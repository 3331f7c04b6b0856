"""BM25 over words and character n-grams: the term that knows names, codes and other languages.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), eq. 3.15,
with units as the documents.  Only the question's terms are counted, so one pass over the text, in
numpy, does the work: linear in characters, whatever the number of units.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

K1 = 1.2
B = 0.75
GRAM_SHARE = 0.5
"""Weight of the character n-grams beside the words."""

_WORD = re.compile(r"\w+")
_SHIFT = np.uint64(21)  # a code point has 21 bits


def bm25(question: str, units: Sequence[str]) -> NDArray[np.float64]:
    """Return one score a unit, not negative; zeros where the question shares no term.

    The idf is over these units alone, so that a turn's scores depend on that turn (law 5).

    >>> bm25("Who wrote Faust?", ["Goethe wrote Faust.", "It rained."]).argmax()
    np.int64(0)
    """
    if not units:
        return np.zeros(0)
    return _score(*_word_counts(question, units)) + GRAM_SHARE * _score(
        *_gram_counts(question, units)
    )


Counts = NDArray[np.float64]


def _score(counts: Counts, lengths: Counts) -> Counts:
    """BM25 from counts (n_units, n_terms) and unit lengths (n_units,)."""
    n = counts.shape[0]
    if counts.shape[1] == 0 or lengths.sum() == 0:
        return np.zeros(n)
    having = (counts > 0).sum(axis=0)
    idf = np.log1p((n - having + 0.5) / (having + 0.5))
    norm = K1 * (1 - B + B * lengths / lengths.mean())[:, None]
    return np.asarray((idf * counts * (K1 + 1) / (counts + norm)).sum(axis=1))


def _word_counts(question: str, units: Sequence[str]) -> tuple[Counts, Counts]:
    terms = {word: i for i, word in enumerate(sorted(set(_WORD.findall(question.casefold()))))}
    counts = np.zeros((len(units), len(terms)))
    lengths = np.zeros(len(units))
    for row, unit in enumerate(units):
        words = _WORD.findall(unit.casefold())
        lengths[row] = len(words)
        for word in words:
            column = terms.get(word)
            if column is not None:
                counts[row, column] += 1
    return counts, lengths


def _gram_counts(question: str, units: Sequence[str]) -> tuple[Counts, Counts]:
    """Character 2- and 3-grams that lie within words."""
    asked = np.unique(np.concatenate(_grams(_codes([question]))[:2]))
    codes = _codes(units)
    twos, threes, rows_of_two, rows_of_three = _grams(codes)
    counts = np.zeros((len(units), len(asked)))
    for grams, rows in ((twos, rows_of_two), (threes, rows_of_three)):
        column = np.searchsorted(asked, grams)
        column[column == len(asked)] = 0
        hit = asked[column] == grams if len(asked) else np.zeros(len(grams), bool)
        np.add.at(counts, (rows[hit], column[hit]), 1)
    lengths = np.bincount(rows_of_two, minlength=len(units)).astype(float)
    return counts, lengths[: len(units)]


def _codes(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Code points of all texts, casefolded, one zero after each; what is no word becomes one."""
    joined = "\x00".join(" ".join(_WORD.findall(text.casefold())) for text in texts) + "\x00"
    raw = joined.encode("utf-32-le", errors="surrogatepass")
    return np.frombuffer(raw, dtype="<u4").astype(np.uint64)


def _grams(
    codes: NDArray[np.uint64],
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
    """All 2-grams and 3-grams without a blank in them, and the text each one is from."""
    rows = np.cumsum(codes == 0) - (codes == 0)
    solid = (codes != 0) & (codes != ord(" "))
    two = solid[:-1] & solid[1:]
    three = two[:-1] & solid[2:]
    twos = (codes[:-1] << _SHIFT) | codes[1:]
    threes = (codes[:-2] << (_SHIFT + _SHIFT)) | (codes[1:-1] << _SHIFT) | codes[2:]
    return twos[two], threes[three], rows[:-1][two], rows[:-2][three]
