"""Counting tokens, whatever the text: exact, bounded in time, and never raising on its content.

Theory of operation.  tiktoken splits a text by a pattern and merges bytes within each piece.  Two
kinds of text defeat it: very long runs of white space (its pattern engine overflows and the
extension panics with a BaseException) and very long runs without any (time grows faster than
length).  Both are cut up beforehand.  A run without white space is cut where a letter meets a
digit or a mark other than an apostrophe: every encoding splits there anyway, so the count stays
exact.  Where 50,000 characters offer no such place, and in white space beyond 20,000 characters,
the cut is blunt and may move the count by two tokens.

Text is never searched for special tokens: ``<|endoftext|>`` is seven tokens of text.  A lone
surrogate, which UTF-8 cannot carry, counts as U+FFFD.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from itertools import pairwise
from typing import Final

import numpy as np
import tiktoken
from numpy.typing import NDArray

from proxy.errors import CompressionError
from proxy.tokens.remembered import Remembered, Sizes

LONGEST_SPACE: Final = 20_000
LONGEST_WORD: Final = 50_000

_SHORT: Final = 256  # characters: what is remembered of such texts is at most a few MiB
_SOON: Final = 1_000  # characters that are encoded sooner than their lines are looked up
_REMEMBERED: Final = 1_000_000  # tokens of lines: with the lines, some five MiB an encoding

_SURROGATES: Final = re.compile("[\ud800-\udfff]")
# The lookbehinds let a run be tried from its first character only, so that search is linear.
_RUNS: Final = re.compile(rf"(?<!\s)\s{{{LONGEST_SPACE + 1},}}|(?<!\S)\S{{{LONGEST_WORD + 1},}}")


@dataclass(frozen=True, slots=True)
class Encoding:
    """One of the upstream's encodings; ``estimated`` where the upstream may use another."""

    name: str
    estimated: bool
    _core: tiktoken.Encoding = field(repr=False)
    _lines: Remembered = field(
        default_factory=partial(Remembered, _REMEMBERED), repr=False, compare=False
    )

    def count(self, text: str) -> int:
        """Count the tokens of ``text``.

        Raises CompressionError where the tokenizer gives up.
        """
        if len(text) <= _SHORT:
            return _count_of_short(self, text)
        return len(self._sizes(_encodable(text)))

    def count_by(self, text: str, boundaries: Sequence[int]) -> list[int]:
        """Count the tokens whose first character lies in each stretch ``[b[i], b[i + 1])``.

        ``boundaries`` ascend, in characters; one figure comes back for each two neighbours.  A
        token that begins inside a character, as byte-level tokens may, belongs to that character.
        Raises CompressionError where the tokenizer gives up.

        >>> from proxy.tokens import encoding_for
        >>> encoding_for("gpt-4o").count_by("one two three", [0, 4, 13])
        [2, 1]
        """
        text = _encodable(text)
        sizes = self._sizes(text)
        starts = np.cumsum(sizes, dtype=np.int64) - sizes  # in bytes
        found = np.searchsorted(starts, _byte_positions(text, boundaries))
        return [int(b - a) for a, b in pairwise(found)]

    def _sizes(self, text: str) -> Sizes:
        """Return the bytes of each token of a text without lone surrogates."""
        if len(text) <= _SOON:
            return self._encoded_sizes(text)
        return self._lines.sizes(text, self._encoded_sizes)

    def _encoded_sizes(self, text: str) -> Sizes:
        tokens = [token for piece in pieces(text) for token in self._encode(piece)]
        return _token_sizes(self._core)[np.array(tokens, dtype=np.int64)]

    def _encode(self, text: str) -> list[int]:
        try:
            return self._core.encode_ordinary(text)
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # the extension's own BaseException
                raise
            raise CompressionError(f"{self.name}: the tokenizer panicked") from error


@lru_cache(maxsize=4096)
def _count_of_short(encoding: Encoding, text: str) -> int:
    """Count a short text's tokens, once: instructions come with every request."""
    return sum([len(encoding._encode(piece)) for piece in pieces(_encodable(text))])  # noqa: SLF001


def pieces(text: str) -> Iterator[str]:
    """Cut ``text`` where runs are too long for the tokenizer; the pieces join to the whole."""
    if len(text) <= LONGEST_SPACE:
        yield text
        return
    start = 0
    for run in _RUNS.finditer(text):
        longest = LONGEST_SPACE if text[run.start()].isspace() else LONGEST_WORD
        edge = run.start()
        while run.end() - edge > longest:
            edge = _cut(text, edge, longest)
            yield text[start:edge]
            start = edge
    yield text[start:]


def _cut(text: str, start: int, longest: int) -> int:
    """Return the last sure boundary in the ``longest`` characters from ``start``, or their end."""
    end = start + longest
    return next((i for i in range(end, start, -1) if _is_sure(text[i - 1], text[i])), end)


def _is_sure(before: str, after: str) -> bool:
    """Tell whether every encoding splits between these two characters."""
    return before.isalpha() and after != "'" and unicodedata.category(after)[0] in "NPS"


def _encodable(text: str) -> str:
    """Replace each lone surrogate by one U+FFFD, so that positions stay."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def _byte_positions(text: str, boundaries: Sequence[int]) -> NDArray[np.int64]:
    """Return the UTF-8 position of each character position."""
    if text.isascii():
        return np.array(boundaries, dtype=np.int64)
    edges = [0, *boundaries]
    return np.cumsum([len(text[a:b].encode()) for a, b in pairwise(edges)])


@cache
def _token_sizes(core: tiktoken.Encoding) -> Sizes:
    """Return the bytes of each token, by rank."""
    sizes = np.zeros(core.n_vocab, dtype=np.uint16)
    for token, rank in core._mergeable_ranks.items():  # noqa: SLF001 - no public way is fast
        sizes[rank] = len(token)
    return sizes
