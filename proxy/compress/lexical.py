"""BM25 over words and character n-grams: the term that knows names, codes and other languages.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), eq. 3.15,
with units as the documents.  What does not depend on the question is an index of the units
(:func:`read_terms`), made once, linear in characters; a question then looks up its own terms, which
costs what they occur, not what the text is long.
"""

from __future__ import annotations

import re
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
class Table:
    """How often each unit, or each document, has each of some terms, and how long it is."""

    counts: Floats  # (n, n_terms)
    lengths: Floats  # (n,)

    def of_documents(self, sizes: Sequence[int]) -> Table:
        """Add up the units of each document: ``sizes`` consecutive ones."""
        ends = np.cumsum(sizes, dtype=np.int64)
        return Table(_sums(self.counts, ends), _sums(self.lengths, ends))

    def scores(self) -> Floats:
        """Return BM25 (n,).  The idf is over these rows alone: law 5."""
        n = len(self.lengths)
        if self.counts.shape[1] == 0 or self.lengths.sum() == 0:
            return np.zeros(n)
        having = (self.counts > 0).sum(axis=0)
        idf = np.log1p((n - having + 0.5) / (having + 0.5))
        norm = K1 * (1 - B + B * self.lengths / self.lengths.mean())[:, None]
        scored = idf * self.counts * (K1 + 1) / (self.counts + norm)
        return np.asarray(scored.sum(axis=1))


@dataclass(frozen=True, slots=True)
class Index:
    """Where numbered terms, from 1, occur: ``entries`` are ``term * n_units + unit``, sorted."""

    entries: Ints = field(repr=False)  # (n_occurrences,)
    lengths: Floats  # (n_units,)

    def count(self, terms: Ints) -> Table:
        """Count terms (m,) in each unit; 0 is a term that is nowhere."""
        n, m = len(self.lengths), len(terms)
        first = np.searchsorted(self.entries, terms * n)
        found = np.searchsorted(self.entries, (terms + 1) * n) - first
        ends = np.cumsum(found)
        places = np.arange(found.sum()) + np.repeat(first - (ends - found), found)
        cells = (self.entries[places] % n) * m + np.repeat(np.arange(m), found)
        counts = np.bincount(cells, minlength=n * m).astype(np.float64)
        return Table(counts.reshape(n, m), self.lengths)


@dataclass(frozen=True, slots=True)
class Terms:
    """The words and the character grams of at most ``UNITS_OF_A_PART`` units.

    A word's number is its place in ``vocabulary``; that of a gram, of two or three characters, is
    written to the base of ``alphabet``, where each character's place, from 1, is its digit.
    """

    words: Index
    grams: Index
    vocabulary: Mapping[str, int] = field(repr=False)
    alphabet: Ints = field(repr=False)  # (n_characters,) code points, ascending

    def count_words(self, asked: Sequence[str]) -> Table:
        """Count words in each unit."""
        return self.words.count(np.array([self.vocabulary.get(w, 0) for w in asked], np.int64))

    def count_grams(self, asked: Ints) -> Table:
        """Count grams in each unit, from their code points (m, 3)."""
        base, known = len(self.alphabet) + 1, np.append(self.alphabet, -1)
        digits = np.searchsorted(self.alphabet, asked)
        digits = np.where(known[digits] == asked, digits + 1, 0)
        first, second, third = digits.T
        numbers = first * base + second
        numbers = np.where(asked[:, 2] == 0, numbers, numbers * base + third)
        absent = (first == 0) | (second == 0) | ((third == 0) & (asked[:, 2] != 0))
        return self.grams.count(np.where(absent, 0, numbers))


def read_terms(units: Sequence[str]) -> tuple[Terms, ...]:
    """Index units, in parts of ``UNITS_OF_A_PART``."""
    starts = range(0, len(units), UNITS_OF_A_PART)
    return tuple(_part(units[start : start + UNITS_OF_A_PART]) for start in starts)


@dataclass(frozen=True, slots=True)
class Counts:
    """How often units, or documents of them, have the words and grams of a question."""

    words: Table
    grams: Table

    def of_documents(self, sizes: Sequence[int]) -> Counts:
        """Add up the units of each document: ``sizes`` consecutive ones."""
        return Counts(self.words.of_documents(sizes), self.grams.of_documents(sizes))

    def scores(self) -> Floats:
        """Return BM25 (n,), not negative; zeros where no term is shared."""
        return self.words.scores() + GRAM_SHARE * self.grams.scores()


def count_terms(question: str, parts: Sequence[Terms]) -> Counts:
    """Count a question's words and grams in units, part after part."""
    words = sorted(set(_words(question)))
    grams = _asked_grams(words)
    return Counts(
        _joined([part.count_words(words) for part in parts], len(words)),
        _joined([part.count_grams(grams) for part in parts], len(grams)),
    )


def bm25(question: str, units: Sequence[str]) -> Floats:
    """Return one score a unit, not negative; zeros where the question shares no term.

    >>> bm25("Who wrote Faust?", ["Goethe wrote Faust.", "It rained."]).argmax()
    np.int64(0)
    """
    return count_terms(question, read_terms(units)).scores()


def _joined(parts: Sequence[Table], terms: int) -> Table:
    """Put tables of the same terms one below the other."""
    counts = np.concatenate([np.zeros((0, terms)), *(part.counts for part in parts)])
    return Table(counts, np.concatenate([np.zeros(0), *(part.lengths for part in parts)]))


def _sums(rows: Floats, ends: Ints) -> Floats:
    """Add up the rows (n, ...) between one end (k,) and the next: (k, ...); exact for counts."""
    upto = np.concatenate((np.zeros((1, *rows.shape[1:])), rows.cumsum(axis=0)))
    return np.diff(upto[ends], axis=0, prepend=upto[:1])


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _asked_grams(words: Sequence[str]) -> Ints:
    """Return the distinct grams of words as code points (m, 3), the third 0 where it has two."""
    codes = [tuple(map(ord, word)) for word in words]
    twos = {(*word[i : i + 2], 0) for word in codes for i in range(len(word) - 1)}
    threes = {word[i : i + 3] for word in codes for i in range(len(word) - 2)}
    return np.array(sorted(twos | threes), dtype=np.int64).reshape(-1, 3)


def _part(units: Sequence[str]) -> Terms:
    read = [_words(unit) for unit in units]
    words, vocabulary = _index_words(read)
    grams, alphabet = _index_grams([" ".join(found) for found in read])
    return Terms(words, grams, vocabulary, alphabet)


def _index_words(read: Sequence[Sequence[str]]) -> tuple[Index, dict[str, int]]:
    vocabulary: dict[str, int] = {}
    numbers = [vocabulary.setdefault(word, len(vocabulary) + 1) for word in chain(*read)]
    lengths = [len(words) for words in read]
    entries = np.array(numbers, dtype=np.int64) * len(read) + np.repeat(
        np.arange(len(read)), lengths
    )
    return Index(np.sort(entries), np.array(lengths, dtype=np.float64)), vocabulary


def _index_grams(lines: Sequence[str]) -> tuple[Index, Ints]:
    """Index lines of words by their grams: two or three characters without a blank."""
    joined = "\x00".join(lines) + "\x00"
    codes = np.frombuffer(joined.encode("utf-32-le", errors="surrogatepass"), dtype="<u4")
    rows = np.cumsum(codes == 0) - (codes == 0)
    found = np.zeros(max(int(codes.max()), ord(" ")) + 1, dtype=np.int64)
    found[codes] = 1
    found[[0, ord(" ")]] = 0
    digits, base = (found * np.cumsum(found))[codes], int(found.sum()) + 1
    two = (digits[:-1] > 0) & (digits[1:] > 0)
    three = two[:-1] & (digits[2:] > 0)
    pairs = digits[:-1] * base + digits[1:]
    twos = pairs[two] * len(lines) + rows[:-1][two]
    threes = (pairs[:-1][three] * base + digits[2:][three]) * len(lines) + rows[:-2][three]
    lengths = np.bincount(rows[:-1][two], minlength=len(lines)).astype(np.float64)
    return Index(np.sort(np.concatenate([twos, threes])), lengths), np.flatnonzero(found)
