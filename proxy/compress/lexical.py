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

_NO_INTS: Final = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Table:
    """How often each unit, or each document, has each of some terms, and how long it is.

    Only what occurs is here: unit ``units[i]`` has term ``terms[i]`` ``counts[i]`` times.
    """

    units: Ints  # (n_pairs,)
    terms: Ints  # (n_pairs,)
    counts: Floats  # (n_pairs,)
    lengths: Floats  # (n,)
    n_terms: int

    def of_documents(self, sizes: Sequence[int] | Ints) -> Table:
        """Add up the units of each document: ``sizes`` consecutive ones."""
        document = np.repeat(np.arange(len(sizes)), sizes)
        cells = document[self.units] * self.n_terms + self.terms
        counts = _added(cells, self.counts, len(sizes) * self.n_terms)
        having = np.flatnonzero(counts)
        documents, terms = np.divmod(having, max(1, self.n_terms))
        lengths = _added(document, self.lengths, len(sizes))
        return Table(documents, terms, counts[having], lengths, self.n_terms)

    def scores(self) -> Floats:
        """Return BM25 (n,).  The idf is over these rows alone: law 5."""
        n = len(self.lengths)
        if not len(self.units):
            return np.zeros(n)
        having = np.bincount(self.terms, minlength=self.n_terms)
        idf = np.log1p((n - having + 0.5) / (having + 0.5))
        norm = K1 * (1 - B + B * self.lengths / self.lengths.mean())
        scored = idf[self.terms] * self.counts * (K1 + 1) / (self.counts + norm[self.units])
        return _added(self.units, scored, n)


@dataclass(frozen=True, slots=True)
class Index:
    """Where numbered terms, from 1, occur: ``entries`` are ``term * n_units + unit``, sorted."""

    entries: Ints = field(repr=False)  # (n_occurrences,)
    lengths: Floats  # (n_units,)


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

    def digits(self, characters: Ints) -> Ints:
        """Return the digits of characters (n,), given as code points; 0 for what is not there."""
        after = self.alphabet.searchsorted(characters, "right")
        return after * (after > self.alphabet.searchsorted(characters))


def read_terms(units: Sequence[str]) -> tuple[Terms, ...]:
    """Index units, in parts of ``UNITS_OF_A_PART``."""
    starts = range(0, len(units), UNITS_OF_A_PART)
    return tuple(_part(units[start : start + UNITS_OF_A_PART]) for start in starts)


@dataclass(frozen=True, slots=True)
class Counts:
    """How often units, or documents of them, have the words and grams of a question."""

    words: Table
    grams: Table

    def of_documents(self, sizes: Sequence[int] | Ints) -> Counts:
        """Add up the units of each document: ``sizes`` consecutive ones."""
        return Counts(self.words.of_documents(sizes), self.grams.of_documents(sizes))

    def scores(self) -> Floats:
        """Return BM25 (n,), not negative; zeros where no term is shared."""
        return self.words.scores() + GRAM_SHARE * self.grams.scores()


def count_terms(question: str, parts: Sequence[Terms]) -> Counts:
    """Count a question's words and grams in units, part after part."""
    words = sorted(set(_words(question)))
    of_words = [[part.vocabulary.get(word, 0) for word in words] for part in parts]
    return Counts(
        _count([part.words for part in parts], np.array(of_words, np.int64)),
        _count([part.grams for part in parts], _gram_numbers(_asked_grams(words), parts)),
    )


def bm25(question: str, units: Sequence[str]) -> Floats:
    """Return one score a unit, not negative; zeros where the question shares no term.

    >>> bm25("Who wrote Faust?", ["Goethe wrote Faust.", "It rained."]).argmax()
    np.int64(0)
    """
    return count_terms(question, read_terms(units)).scores()


def _count(indexes: Sequence[Index], numbers: Ints) -> Table:
    """Count terms in the units of each index, one index after the other.

    ``numbers`` (n_indexes, m) are those of the terms in each; 0 is a term that is nowhere.  An
    index is searched and read once, for all terms: many small ones cost little more than their
    occurrences.
    """
    n_terms = numbers.shape[-1] if numbers.size else 0
    lengths = np.concatenate([np.zeros(0), *(index.lengths for index in indexes)])
    if not n_terms:
        return Table(_NO_INTS, _NO_INTS, np.zeros(0), lengths, 0)
    sizes = np.array([len(index.lengths) for index in indexes], np.int64)[:, None]
    begins = numbers * sizes
    bounds = np.concatenate([begins, begins + sizes], axis=1)
    places = np.stack([i.entries.searchsorted(b) for i, b in zip(indexes, bounds, strict=True)])
    first, found = places[:, :n_terms], np.diff(places.reshape(-1, 2, n_terms), axis=1)[:, 0]
    at = _ranges(first.ravel(), found.ravel())
    ends = found.sum(axis=1).cumsum().tolist()
    reads = [i.entries[at[a:b]] for i, a, b in zip(indexes, [0, *ends], ends, strict=False)]
    before = np.cumsum(sizes)[:, None] - sizes  # units of earlier indexes
    units = np.concatenate(reads) + np.repeat((before - begins).ravel(), found.ravel())
    terms = np.repeat(np.tile(np.arange(n_terms), len(indexes)), found.ravel())
    return _counted(units, terms, lengths, n_terms)


def _counted(units: Ints, terms: Ints, lengths: Floats, n_terms: int) -> Table:
    """Count what occurs (n_occurrences,), equal pairs of a unit and a term in a row."""
    new = np.ones(len(units) + 1, dtype=bool)
    new[1:-1] = (units[1:] != units[:-1]) | (terms[1:] != terms[:-1])
    starts = np.flatnonzero(new)
    counts, firsts = np.diff(starts).astype(np.float64), starts[:-1]
    return Table(units[firsts], terms[firsts], counts, lengths, n_terms)


def _ranges(first: Ints, sizes: Ints) -> Ints:
    """Return ``first[i], first[i] + 1, ...``, ``sizes[i]`` of them, one range after the other."""
    ends = np.cumsum(sizes)
    ranges: Ints = np.arange(sizes.sum()) + np.repeat(first - (ends - sizes), sizes)
    return ranges


def _added(places: Ints, values: Floats, n: int) -> Floats:
    """Add up values by place: (n,)."""
    return np.bincount(places, values, minlength=n).astype(np.float64, copy=False)


def _gram_numbers(grams: Ints, parts: Sequence[Terms]) -> Ints:
    """Return the numbers (n_parts, m) of grams, given by code points (m, 3), in each part."""
    characters, places = np.unique(grams, return_inverse=True)
    digits = np.array([part.digits(characters) for part in parts], np.int64)
    digits = digits.reshape(len(parts), len(characters))[:, places.reshape(grams.shape)]
    first, second, third = digits.transpose(2, 0, 1)
    base = np.array([len(part.alphabet) + 1 for part in parts], np.int64)[:, None]
    two = grams[:, 2] == 0
    numbers = first * base + second
    numbers = np.where(two, numbers, numbers * base + third)
    absent = (first == 0) | (second == 0) | ((third == 0) & ~two)
    return np.where(absent, 0, numbers)


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
