"""Recovery: an answer's wording, brought back to that of the prompt before compression.

Theory of operation
-------------------
A model that was shown "Dilution Fuel" for "Dilution of the Fuel" answers "Dilution Fuel".
Subsequence recovery (LongLLMLingua, section 4.4) reads the answer word by word: the longest run of
answer words that stands in the compressed prompt is replaced by the stretch of the original that
became it, the shortest where there are several.  The paper looks for that stretch in the whole of
the original; here each kept word is known by its place, so a coincidence elsewhere is not taken
for it.

A model also writes "of the" of its own accord, so a run counts only with two *telling* words (long,
capitalised, numeric, or of a script without capitals), and nothing is brought back across a
dropped line, sentence or more than ``reach`` words: that was selection, not wording.  Nor is a
stretch with a character that JSON would escape: an answer may be JSON.

The answer is no longer the upstream's own text: law 1 is suspended, so this is off unless asked
for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from proxy.types import Address, LeafEdit, Quote, Span

REACH: Final = 8
"""Dropped words between two neighbours that recovery bridges, at most."""
TELLING: Final = 2
"""Telling words that a run must have."""
TELLING_LETTERS: Final = 5
"""A lower-case word tells from this length on."""

_UNSPACED = "぀-ヿ㐀-鿿豈-﫿"  # kana and han: a word each, as in the compressor
_LONGEST = 64  # letters; a longer run of them is cut, so that little is held back
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]{{1,{_LONGEST}}}|[^\w\s]")
_BREAK = re.compile(r"[.!?。！？।\"\\\x00-\x1f]")


class _Word(NamedTuple):
    """A word, or a single other character; ``gap`` is what stands before it."""

    text: str
    gap: str


@dataclass(frozen=True, slots=True)
class Alignment:
    """The kept words of a compressed prompt, and what was dropped between neighbours.

    ``bridges[i]`` is the original's text between words i and i + 1 where words were dropped there,
    empty where they stood side by side, None where nothing may be carried over.
    """

    words: tuple[str, ...] = field(repr=False)
    bridges: tuple[str | None, ...] = field(repr=False)
    places: Mapping[str, tuple[int, ...]] = field(repr=False)  # word -> where it stands

    @property
    def bridged(self) -> bool:
        """Whether there is anything that recovery could bring back."""
        return any(self.bridges)


def align(kept: Sequence[tuple[str, Sequence[Span]]], reach: int = REACH) -> Alignment:
    """Index original texts with the spans of them that were kept, in order.

    >>> w = align([("Dilution of the Fuel", (Span(0, 8), Span(15, 20)))])
    >>> w.words, w.bridges
    (('Dilution', 'Fuel'), (' of the ', None))
    """
    words: list[str] = []
    bridges: list[str | None] = []
    for text, spans in kept:
        last: int | None = None
        for start, end, word in _placed_words(text, spans):
            if last is not None:
                bridges[-1] = _bridge(text[last:start], reach)
            words.append(word)
            bridges.append(None)
            last = end
    places: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        places.setdefault(word, []).append(place)
    return Alignment(tuple(words), tuple(bridges), {w: tuple(p) for w, p in places.items()})


def align_edits(
    edits: Sequence[LeafEdit], leaves: Mapping[Address, str], reach: int = REACH
) -> Alignment:
    """Index what a request's edits kept of its leaves; ``leaves`` are the texts as sent."""
    kept: list[tuple[str, Sequence[Span]]] = []
    for edit in edits:
        for piece in edit.pieces:
            if isinstance(piece, Quote):
                kept += [(leaves[piece.address], (piece.span,))]
        own = tuple(piece for piece in edit.pieces if isinstance(piece, Span))
        kept += [(leaves[edit.address], own)]
    return align(kept, reach)


def _placed_words(text: str, spans: Sequence[Span]) -> Iterator[tuple[int, int, str]]:
    """Words of the kept spans, with their place in the original; touching spans are one."""
    merged: list[Span] = []
    for span in spans:
        if merged and merged[-1].end == span.start:
            merged[-1] = Span(merged[-1].start, span.end)
        else:
            merged.append(span)
    for start, end in merged:
        for match in _TOKEN.finditer(text, start, end):
            yield match.start(), match.end(), match.group()


def _bridge(dropped: str, reach: int) -> str | None:
    """Return what stands between two kept words: nothing, dropped words, or too much (None)."""
    lost = _TOKEN.findall(dropped)
    if not lost:
        return ""
    return dropped if len(lost) <= reach and not _BREAK.search(dropped) else None


def recover(answer: str, source: Alignment) -> str:
    """Return ``answer`` with the original's wording where it repeats the compressed prompt's.

    Every word of the answer stays, in its order; what comes in is the caller's own text.

    >>> source = align([("Dilution of the Fuel", (Span(0, 8), Span(15, 20)))])
    >>> recover("It is called Dilution Fuel.", source)
    'It is called Dilution of the Fuel.'
    """
    stream = RecoveryStream(source)
    return stream.feed(answer) + stream.close()


class RecoveryStream:
    """Recovers an answer while it streams: ``feed`` returns what is settled, ``close`` the rest.

    Whatever the pieces, their recovered parts joined are ``recover`` of the whole.  Held back are a
    word that may still grow, and a run for which the prompt has several originals.
    """

    def __init__(self, source: Alignment) -> None:
        """Begin an answer."""
        self._source = source
        self._partial = ""  # not yet a whole word
        self._starts: list[int] = []  # where in the prompt the run at hand began, all that fit
        self._length = 0  # words of the run so far
        self._telling = 0
        self._held: list[_Word] = []  # the last words of the run: not yet returned

    @property
    def held(self) -> str:
        """What was fed and not returned yet, as the model said it."""
        return "".join(word.gap + word.text for word in self._held) + self._partial

    def feed(self, text: str) -> str:
        """Take the next piece of the answer."""
        self._partial += text
        return "".join(self._take_words(last=False))

    def close(self) -> str:
        """Return what was held back; the next piece begins another answer."""
        out = [*self._take_words(last=True), *self._end_run(), self._partial]
        self._partial = ""
        return "".join(out)

    def _take_words(self, *, last: bool) -> Iterator[str]:
        """Take the whole words that have come; a word at the end may grow unless it is the last."""
        position = 0
        for match in _TOKEN.finditer(self._partial):
            if not last and match.end() == len(self._partial) and _grows(match.group()):
                break
            yield from self._take(_Word(match.group(), self._partial[position : match.start()]))
            position = match.end()
        self._partial = self._partial[position:]

    def _take(self, word: _Word) -> Iterator[str]:
        """Go on with the run where the prompt does, else end it and begin another."""
        words, bridges = self._source.words, self._source.bridges
        further = [
            start
            for start in self._starts
            if bridges[start + self._length - 1] is not None
            and words[start + self._length] == word.text
        ]
        if not further:
            yield from self._end_run()
            further = list(self._source.places.get(word.text, ()))
        self._starts = further
        self._length += 1
        self._telling += _tells(word.text)
        self._held.append(word)
        if not further:
            yield from self._end_run()
        elif self._telling >= TELLING:
            yield from self._settled()

    def _settled(self) -> Iterator[str]:
        """Return the held words before which all originals of the run say the same."""
        first = self._length - len(self._held)
        count = 0
        for word in self._held:
            before = first + count - 1
            ways = {self._between(start, before, word) for start in self._starts}
            if len(ways) > 1:
                break
            yield from (ways.pop(), word.text)
            count += 1
        del self._held[:count]

    def _end_run(self) -> Iterator[str]:
        """Return the held words as the run's shortest original has them, and forget the run."""
        counts = self._telling >= TELLING and self._starts
        start = min(self._starts, key=self._weight) if counts else None
        first = self._length - len(self._held)
        for offset, word in enumerate(self._held):
            yield word.gap if start is None else self._between(start, first + offset - 1, word)
            yield word.text
        self._starts, self._length, self._telling, self._held = [], 0, 0, []

    def _between(self, start: int, before: int, word: _Word) -> str:
        """Return what goes before a word: what was dropped there, else the answer's own gap."""
        if before < 0 or "\n" in word.gap:
            return word.gap
        return self._source.bridges[start + before] or word.gap

    def _weight(self, start: int) -> int:
        """Characters that an original of the run would bring back."""
        return sum(
            len(self._source.bridges[place] or "")
            for place in range(start, start + self._length - 1)
        )


def _tells(word: str) -> bool:
    """Whether a word is more than grammar."""
    return word[0].isalnum() and (len(word) >= TELLING_LETTERS or not word.islower())


def _grows(word: str) -> bool:
    """Whether letters that come later may belong to this word."""
    return len(word) < _LONGEST and _TOKEN.fullmatch(f"{word}a") is not None
