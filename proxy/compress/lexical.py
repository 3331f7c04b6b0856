"""BM25 over words and character n-grams: the term that knows names, codes and other languages.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), eq. 3.15,
with units as the documents.  What does not depend on the question is an index of the units
(:func:`read_terms`), made once, linear in characters; a question then looks up its own terms, which
costs what they occur, not what the text is long.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

K1 = 1.2
B = 0.75
GRAM_SHARE = 0.5
"""Weight of the character n-grams beside the words."""

UNITS_OF_A_PART: Final = 2048
"""A gram and its unit are one 64-bit number: 3 characters out of all that Unicode has, 11 bits."""

_WORD = re.compile(r"\w+")

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Terms:
    """An index of at most ``UNITS_OF_A_PART`` units: where each word and each gram occurs.

    ``words`` gives the unit of every occurrence of a word.  ``grams`` is sorted and holds
    ``gram * n_units + unit``, where a gram of two or three characters is a number to the base of
    the ``alphabet``: the digit of a character is its place there, from 1.
    """

    words: Mapping[str, Sequence[int]] = field(repr=False)
    word_lengths: Floats  # (n,) words of each unit
    grams: Ints = field(repr=False)  # (n_grams,)
    gram_lengths: Floats  # (n,) two-character grams of each unit
    alphabet: Ints = field(repr=False)  # (n_characters,) code points, ascending

    @property
    def units(self) -> int:
        """How many units it is of."""
        return len(self.word_lengths)

    def count_words(self, asked: Sequence[str]) -> Floats:
        """Return how often each unit has each word: (n, len(asked))."""
        rows = [self.words.get(word, ()) for word in asked]
        columns = np.repeat(np.arange(len(asked)), [len(row) for row in rows])
        cells = np.array([*chain(*rows)], dtype=np.int64) * len(asked) + columns
        return _table(cells, self.units, len(asked))

    def count_grams(self, asked: Ints) -> Floats:
        """Return how often each unit has each gram: (n, m), from their code points (m, 3)."""
        n, m = self.units, len(asked)
        wanted = self._numbers(asked)
        first = np.searchsorted(self.grams, wanted * n)
        found = np.searchsorted(self.grams, (wanted + 1) * n) - first
        found[wanted == 0] = 0
        ends = np.cumsum(found)
        places = np.arange(found.sum()) + np.repeat(first - (ends - found), found)
        cells = (self.grams[places] % n) * m + np.repeat(np.arange(m), found)
        return _table(cells, n, m)

    def _numbers(self, asked: Ints) -> Ints:
        """Return grams as numbers (m,), 0 where a character of one is nowhere in the units."""
        base, known = len(self.alphabet) + 1, np.append(self.alphabet, -1)
        digits = np.searchsorted(self.alphabet, asked)
        digits = np.where(known[digits] == asked, digits + 1, 0)
        first, second, third = digits.T
        numbers = first * base + second
        numbers = np.where(asked[:, 2] == 0, numbers, numbers * base + third)
        absent = (first == 0) | (second == 0) | ((third == 0) & (asked[:, 2] != 0))
        return np.where(absent, 0, numbers)


def read_terms(units: Sequence[str]) -> tuple[Terms, ...]:
    """Index units, in parts of ``UNITS_OF_A_PART``."""
    starts = range(0, len(units), UNITS_OF_A_PART)
    return tuple(_part(units[start : start + UNITS_OF_A_PART]) for start in starts)


@dataclass(frozen=True, slots=True)
class Counts:
    """How often units, or documents of them, have the terms of a question."""

    words: Floats  # (n, n_words)
    word_lengths: Floats  # (n,)
    grams: Floats  # (n, n_grams)
    gram_lengths: Floats  # (n,)

    def of_documents(self, sizes: Sequence[int]) -> Counts:
        """Add up the units of each document: ``sizes`` consecutive ones."""
        document = np.repeat(np.arange(len(sizes)), sizes)

        def summed(rows: Floats) -> Floats:
            total = np.zeros((len(sizes), *rows.shape[1:]))
            np.add.at(total, document, rows)
            return total

        return Counts(
            summed(self.words),
            summed(self.word_lengths),
            summed(self.grams),
            summed(self.gram_lengths),
        )

    def scores(self) -> Floats:
        """Return BM25 (n,), not negative; zeros where no term is shared.

        The idf is over these rows alone, so that a turn's scores depend on that turn (law 5).
        """
        return _score(self.words, self.word_lengths) + GRAM_SHARE * _score(
            self.grams, self.gram_lengths
        )


def count_terms(question: str, parts: Sequence[Terms]) -> Counts:
    """Count a question's words and grams in units, part after part."""
    words = sorted(set(_words(question)))
    grams = _asked_grams(words)
    return Counts(
        np.concatenate([np.zeros((0, len(words))), *(part.count_words(words) for part in parts)]),
        np.concatenate([np.zeros(0), *(part.word_lengths for part in parts)]),
        np.concatenate([np.zeros((0, len(grams))), *(part.count_grams(grams) for part in parts)]),
        np.concatenate([np.zeros(0), *(part.gram_lengths for part in parts)]),
    )


def bm25(question: str, units: Sequence[str]) -> Floats:
    """Return one score a unit, not negative; zeros where the question shares no term.

    >>> bm25("Who wrote Faust?", ["Goethe wrote Faust.", "It rained."]).argmax()
    np.int64(0)
    """
    return count_terms(question, read_terms(units)).scores()


def _score(counts: Floats, lengths: Floats) -> Floats:
    """BM25 from counts (n, n_terms) and lengths (n,)."""
    n = counts.shape[0]
    if counts.shape[1] == 0 or lengths.sum() == 0:
        return np.zeros(n)
    having = (counts > 0).sum(axis=0)
    idf = np.log1p((n - having + 0.5) / (having + 0.5))
    norm = K1 * (1 - B + B * lengths / lengths.mean())[:, None]
    return np.asarray((idf * counts * (K1 + 1) / (counts + norm)).sum(axis=1))


def _table(cells: Ints, rows: int, columns: int) -> Floats:
    """Count how often each cell of a table is named."""
    counts = np.bincount(cells, minlength=rows * columns)
    return counts.astype(np.float64).reshape(rows, columns)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _asked_grams(words: Sequence[str]) -> Ints:
    """Return the distinct grams of words as code points (m, 3), the third 0 where it has two."""
    codes = [tuple(map(ord, word)) for word in words]
    twos = {(*word[i : i + 2], 0) for word in codes for i in range(len(word) - 1)}
    threes = {word[i : i + 3] for word in codes for i in range(len(word) - 2)}
    return np.array(sorted(twos | threes), dtype=np.int64).reshape(-1, 3)


def _part(units: Sequence[str]) -> Terms:
    index: dict[str, list[int]] = defaultdict(list)
    lengths = np.zeros(len(units))
    lines: list[str] = []
    for row, unit in enumerate(units):
        words = _words(unit)
        lengths[row] = len(words)
        lines.append(" ".join(words))
        for word in words:
            index[word].append(row)
    return Terms(dict(index), lengths, *_grams(lines))


def _grams(lines: Sequence[str]) -> tuple[Ints, Floats, Ints]:
    """Index the grams of lines of words: those of two and three characters without a blank."""
    joined = "\x00".join(lines) + "\x00"
    codes = np.frombuffer(joined.encode("utf-32-le", errors="surrogatepass"), dtype="<u4")
    rows = np.cumsum(codes == 0) - (codes == 0)
    found = np.zeros(int(codes.max()) + 1, dtype=np.int64)
    found[codes] = 1
    found[[0, ord(" ")] if len(found) > ord(" ") else [0]] = 0
    digits, base = (found * np.cumsum(found))[codes], int(found.sum()) + 1
    two = (digits[:-1] > 0) & (digits[1:] > 0)
    three = two[:-1] & (digits[2:] > 0)
    pairs = digits[:-1] * base + digits[1:]
    twos = pairs[two] * len(lines) + rows[:-1][two]
    threes = (pairs[:-1][three] * base + digits[2:][three]) * len(lines) + rows[:-2][three]
    gram_lengths = np.bincount(rows[:-1][two], minlength=len(lines)).astype(np.float64)
    return np.sort(np.concatenate([twos, threes])), gram_lengths, np.flatnonzero(found)
