"""Late pooling: a document is read once, whole; its units' vectors are means of their own tokens.

Theory of operation.  The text is tokenised once, without special tokens, and cut into windows that
the encoder can hold, at unit ends where there is one within reach.  Each window is read by itself,
alone and unpadded, so what a window's states are depends on nothing but its own tokens: that, and
not some tolerance, is why scores do not move with the batch (law 9).  A token belongs to the unit
in which its first character lies.  Sums are kept in float64, so a unit that straddles windows is
the plain token-weighted mean over its pieces.

Windows, also of several documents, may go to the model in one call where that gives each of them
the bits that it gets alone (``together``): a backend says so, after having tried.

Reading is a generator that stops after each call: whoever drives it may turn to a shorter job,
or drop the rest, between any two of them.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from proxy.compress.ports import Document, DocumentVectors, QuestionVectors, Vector

T = TypeVar("T")

Ids: TypeAlias = NDArray[np.int64]
Sums: TypeAlias = NDArray[np.float64]
Steps: TypeAlias = Generator[int, None, T]
"""Work in steps: yields the encoder tokens that a step read, returns the result."""

_SURROGATES = re.compile("[\ud800-\udfff]")
_UTF8_BYTES_PER_TOKEN = 4.0
_LONGEST_STRETCH = 50_000  # characters: about 20 ms of tokenising


class Together(NamedTuple):
    """How many tokens are well read in one call."""

    least: int  # fewer cost as much
    most: int  # more gain nothing; 0 where each window is read alone


ALONE: Final = Together(0, 0)


class Scorer(Protocol):
    """A model that embeds documents and questions.

    ``revision`` names model, weights and numeric backend: equal revisions give equal vectors, and
    the memo's keys hold it.  One thread at a time may drive a scorer's steps, unless it says so.
    """

    @property
    def revision(self) -> str:
        """Model, weights and numeric backend."""

    @property
    def together(self) -> Together:
        """Tokens of documents that are well read in one call."""

    def documents_steps(self, documents: Sequence[Document]) -> Steps[list[DocumentVectors]]:
        """Embed documents, windows of several read in one call, a call per step."""

    def question_steps(self, question: str) -> Steps[QuestionVectors]:
        """Embed a question, one window per step."""

    def embed_documents(self, documents: Sequence[Document]) -> list[DocumentVectors]:
        """Embed each document by itself."""

    def embed_questions(self, questions: Sequence[str]) -> list[QuestionVectors]:
        """Embed each question by itself."""

    def estimate_tokens(self, text: str) -> int:
        """Guess the encoder tokens of ``text``, without tokenising."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text as the encoder sees it, without special tokens."""

    ids: Ids  # (n,)
    starts: Ids  # (n,) each token's first character; ascending


@dataclass(frozen=True, slots=True)
class States:
    """What the encoder makes of one window: rows are tokens, special tokens left out."""

    final: Vector  # (n, d)
    middle: Vector  # (n, d), the layer two thirds down


class Window(NamedTuple):
    """Tokens that are read at once, and the ranges of them whose states are summed."""

    ids: Ids  # (n,)
    ranges: Ids  # (k, 2): [first, last), none of them empty


class _Pool:
    """The sums of a document's states as its windows are read: one per unit, and one of all."""

    def __init__(self, document: Document, width: int) -> None:
        self.document = document
        everything = (0, len(document.text) + 1)  # a token may lie behind the last character
        spans = chain.from_iterable((*document.units, everything))
        self.spans = np.fromiter(spans, np.int64).reshape(-1, 2)  # (units + 1, 2)
        self.counts = np.zeros(len(self.spans), dtype=np.int64)  # tokens of each
        self._sums = np.zeros((len(self.spans), width))

    def pieces(self) -> Iterator[_Piece]:
        """Cut the text into stretches."""
        text = self.document.text
        for begin, stop in stretches(len(text), self.spans[:-1, 1].tolist()):
            yield _Piece(self, begin, encodable(text[begin:stop]))

    def add(self, part: _Part, sums: Sums) -> None:
        """Take in what was found of a window: sums (k, d)."""
        if len(part.spans) == len(self._sums):  # a short document, as most are
            self._sums += sums
        else:
            self._sums[part.spans] += sums

    def vectors(self) -> DocumentVectors:
        """Return the means; call it once every window was read."""
        means = _mean(self._sums, self.counts[:, None])
        return DocumentVectors(
            units=means[:-1],
            unit_tokens=_frozen(self.counts[:-1].astype(np.int32)),
            whole=means[-1],
        )


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of a document's text, which is tokenised in one go."""

    pool: _Pool
    begin: int  # in the document
    text: str


class _Part(NamedTuple):
    """A window of a document, and which of the document's spans its ranges are of."""

    pool: _Pool
    spans: Ids  # (k,)
    window: Window


class LateEncoder(ABC):
    """A sentence encoder, read by late pooling; what differs between backends is abstract."""

    revision: str
    width: int  # d
    window: int  # tokens per window, special tokens not counted
    unknown: int | None  # id of the unknown token
    together: Together = ALONE

    @abstractmethod
    def tokenise(self, text: str) -> Tokens:
        """Tokenise text that has no lone surrogates; nothing in it is a special token."""

    def tokenise_all(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise several texts, each by itself."""
        return [self.tokenise(text) for text in texts]

    @abstractmethod
    def read(self, ids: Ids) -> States:
        """Run the model over one window of at most ``window`` tokens, alone."""

    def read_together(self, windows: Sequence[Ids]) -> list[Vector]:
        """Run the model over windows; each gets the final states that it gets alone."""
        return [self.read(ids).final for ids in windows]

    def sums(self, windows: Sequence[Window]) -> list[Sums]:
        """Run the model over windows; return of each the sums over its ranges: (k, d), float64."""
        states = self.read_together([window.ids for window in windows])
        return [_summed(each, window.ranges) for each, window in zip(states, windows, strict=True)]

    def whole_sums(self, windows: Sequence[Ids]) -> list[Sums]:
        """Run the model over windows; return the sum over all tokens of each: (1, d)."""
        return self.sums([Window(ids, np.array([[0, len(ids)]])) for ids in windows])

    def document_steps(self, document: Document) -> Steps[DocumentVectors]:
        """Embed a document, a call per step."""
        return (yield from self.documents_steps([document]))[0]

    def documents_steps(self, documents: Sequence[Document]) -> Steps[list[DocumentVectors]]:
        """Embed documents, windows of several read in one call, a call per step."""
        pools = [_Pool(document, self.width) for document in documents]
        pieces = (piece for pool in pools for piece in pool.pieces())
        chars = int(self.together.least * _UTF8_BYTES_PER_TOKEN)
        several = grouped(pieces, lambda piece: len(piece.text), chars)
        parts = (part for some in several for part in self._parts(some))
        for taken in grouped(parts, lambda part: len(part.window.ids), self.together.most):
            sums = self.sums([part.window for part in taken])
            for part, each in zip(taken, sums, strict=True):
                part.pool.add(part, each)
            yield sum(len(part.window.ids) for part in taken)
        return [pool.vectors() for pool in pools]

    def _parts(self, pieces: Sequence[_Piece]) -> Iterator[_Part]:
        """Cut stretches of text into windows, and count each unit's tokens."""
        found = self.tokenise_all([piece.text for piece in pieces])
        for piece, tokens in zip(pieces, found, strict=True):
            spans = np.searchsorted(tokens.starts, piece.pool.spans - piece.begin)  # in tokens
            piece.pool.counts += spans[:, 1] - spans[:, 0]
            for start, end in windows(len(tokens.ids), spans[:-1, 1], self.window):
                yield _part(piece.pool, tokens.ids[start:end], spans - start)

    def question_steps(self, question: str) -> Steps[QuestionVectors]:
        """Embed a question, one window per step."""
        ids = self.tokenise(encodable(question)).ids
        final, middle = np.zeros(self.width), np.zeros(self.width)
        for start, end in windows(len(ids), [], self.window):
            states = self.read(ids[start:end])
            final += states.final.astype(np.float64).sum(axis=0)
            middle += states.middle.astype(np.float64).sum(axis=0)
            yield end - start
        known = float(np.mean(ids != self.unknown)) if len(ids) else 1.0
        return QuestionVectors(_mean(final, len(ids)), _mean(middle, len(ids)), known, len(ids))

    def embed_documents(self, documents: Sequence[Document]) -> list[DocumentVectors]:
        """Embed each document by itself."""
        return [drain(self.document_steps(document)) for document in documents]

    def embed_questions(self, questions: Sequence[str]) -> list[QuestionVectors]:
        """Embed each question by itself."""
        return [drain(self.question_steps(question)) for question in questions]

    def estimate_tokens(self, text: str) -> int:
        """Guess the encoder tokens of ``text``: a quarter of its UTF-8 bytes."""
        return estimate_tokens(text)


def _part(pool: _Pool, ids: Ids, spans: Ids) -> _Part:
    """Return a window, given a document's spans in tokens (k, 2), counted from its first."""
    inside = np.minimum(np.maximum(spans, 0), len(ids))
    (some,) = (inside[:, 1] > inside[:, 0]).nonzero()
    return _Part(pool, some, Window(ids, inside[some]))


def _summed(states: Vector, ranges: Ids) -> Sums:
    """Sum states (n, d) over ranges (k, 2): (k, d)."""
    padded = np.zeros((len(states) + 1, states.shape[1]))
    padded[:-1] = states
    return np.add.reduceat(padded, ranges.ravel(), axis=0)[::2]  # what lies between is left out


def estimate_tokens(text: str) -> int:
    """Guess encoder tokens without tokenising: a quarter of the UTF-8 bytes, rounded up.

    English runs at some 4.5 bytes a WordPiece token, Chinese at 3, so the guess errs by a third.
    """
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return int(-(-size // _UTF8_BYTES_PER_TOKEN))


def drain(steps: Steps[T]) -> T:
    """Run every step and return the result."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result


def stretches(length: int, ends: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Cut ``length`` characters into stretches that are tokenised in one go, at unit ends.

    Texts up to 50,000 characters are one stretch, so this is seen only where a text is huge.
    """
    start = 0
    while start < length:
        end = start + _LONGEST_STRETCH
        if end >= length:
            end = length
        else:
            near = ends[bisect_right(ends, start) : bisect_right(ends, end)]
            end = near[-1] if near else end
        yield start, end
        start = end


def windows(tokens: int, ends: Sequence[int] | Ids, limit: int) -> Iterator[tuple[int, int]]:
    """Cut ``tokens`` tokens into windows of at most ``limit``, of even length, at ``ends``.

    ``ends`` are the token positions, ascending, at which a unit ends.  Of those within reach the
    one nearest to an even cut is taken, so that no window is a rump without context; where none
    is within reach (a unit longer than the window) the cut is made inside it.

    >>> list(windows(10, [3, 6, 10], 8))
    [(0, 6), (6, 10)]
    """
    cuts = np.asarray(ends, dtype=np.int64)
    start = 0
    while start < tokens:
        remaining = tokens - start
        if remaining <= limit:
            end = tokens
        else:
            even = start + -(-remaining // -(-remaining // limit))
            near = cuts[
                np.searchsorted(cuts, start, "right") : np.searchsorted(
                    cuts, start + limit, "right"
                )
            ]
            end = int(near[np.argmin(np.abs(near - even))]) if len(near) else start + limit
        yield start, end
        start = end


def grouped(items: Iterable[T], size: Callable[[T], int], limit: int) -> Iterator[list[T]]:
    """Group items that follow each other up to a limit in all; a larger one is alone.

    >>> list(grouped([2, 3, 9, 1, 4], int, 5))
    [[2, 3], [9], [1, 4]]
    """
    taken: list[T] = []
    total = 0
    for item in items:
        if taken and total + size(item) > limit:
            yield taken
            taken, total = [], 0
        taken.append(item)
        total += size(item)
    if taken:
        yield taken


def encodable(text: str) -> str:
    """Replace each lone surrogate, which UTF-8 cannot carry, by one U+FFFD: offsets stay."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def _mean(sums: Sums, counts: NDArray[np.int64] | int) -> Vector:
    return _frozen((sums / np.maximum(counts, 1)).astype(np.float32))


Array = TypeVar("Array", bound=NDArray[np.generic])


def _frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array
