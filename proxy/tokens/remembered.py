"""What was counted before: the sizes of the tokens of lines, which come again with other questions.

Theory of operation.  Every encoding first splits a text by a pattern, and merges bytes only within
what that makes.  No pattern reaches over a line break that stands alone, between two characters
neither of which is white space, and the second no slash: so the tokens of a text are those of the
lines that end there, one after the other, and a line's are the same in any company.  Lines that
are not known are encoded together where they follow each other, for each call lets go of the
interpreter's lock and has to wait for it again.

There are two generations, so that what is still asked for outlives what is not; either may be read
by any thread while another writes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import accumulate, groupby, pairwise
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Sizes: TypeAlias = NDArray[np.uint16]
"""The bytes of each token: (n,)."""

_SHOWN: Final = r"[^\s\x00-\x20\x7f-\xa0]"  # whoever's notion of white space it is
_SURE: Final = re.compile(rf"\n(?<={_SHOWN}\n)(?!/)(?={_SHOWN})")
_ENTRY: Final = 64  # what an entry takes besides its tokens, in tokens


def lines(text: str) -> list[str]:
    r"""Cut a text behind line breaks where every encoding splits it.

    >>> lines("one\ntwo\n\nthree \nfour\n/five\n")
    ['one\n', 'two\n\nthree \nfour\n/five\n']
    """
    cuts = [0, *(match.end() for match in _SURE.finditer(text)), len(text)]
    return [text[start:end] for start, end in pairwise(cuts)]


class Remembered:
    """The sizes of the tokens of lines that were asked for last."""

    def __init__(self, tokens: int) -> None:
        """Keep about so many tokens, at most twice as many."""
        self._tokens = tokens
        self._young: dict[str, Sizes] = {}
        self._old: dict[str, Sizes] = {}
        self._held = 0  # by the young

    def sizes(self, text: str, encode: Callable[[str], Sizes]) -> Sizes:
        """Return the sizes of a text's tokens; ``encode`` makes those of lines not known."""
        if len(text) > self._tokens:  # it would push everything else out
            return encode(text)
        known = [(line, self._get(line)) for line in lines(text)]
        found: list[Sizes] = []
        for lacking, group in groupby(known, key=lambda pair: pair[1] is None):
            if lacking:
                found += self._encoded([line for line, _ in group], encode)
            else:
                found += [sizes for _, sizes in group if sizes is not None]
        return np.concatenate(found)

    def _get(self, line: str) -> Sizes | None:
        young = self._young.get(line)
        if young is not None:
            return young
        old = self._old.get(line)
        if old is not None:
            self._put(line, old)
        return old

    def _encoded(self, some: Sequence[str], encode: Callable[[str], Sizes]) -> list[Sizes]:
        """Encode lines in one go, and remember each by itself."""
        sizes = encode("".join(some))
        ends = np.cumsum(sizes, dtype=np.int64)
        breaks = list(accumulate(len(line.encode()) for line in some))
        parts = np.split(sizes, np.searchsorted(ends, breaks[:-1], side="right"))
        for line, part in zip(some, parts, strict=True):
            self._put(line, part.copy())  # not a view, which would hold on to the others
        return parts

    def _put(self, line: str, sizes: Sizes) -> None:
        self._young[line] = sizes
        self._held += len(sizes) + _ENTRY
        if self._held > self._tokens:
            self._old, self._young, self._held = self._young, {}, 0
