"""Slow twins of the long-prompt methods: the algorithms said plainly, for tests to hold against."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence

from proxy.compress.ports import KeepProbabilities
from proxy.compress.recovery import TELLING, TELLING_LETTERS, Alignment
from proxy.compress.words import DIGITS, Word

_WORD = re.compile(r"[぀-ヿ㐀-鿿豈-﫿]|[^\W぀-ヿ㐀-鿿豈-﫿]{1,64}|[^\w\s]")


def recover(answer: str, source: Alignment) -> str:
    """Say :func:`proxy.compress.recovery.recover` by trying every run at every place."""
    matches = list(_WORD.finditer(answer))
    words = [match.group() for match in matches]
    ends = [0, *(match.end() for match in matches)]
    gaps = [answer[end : match.start()] for end, match in zip(ends, matches, strict=False)]
    out: list[str] = []
    at = 0
    while at < len(words):
        length, start = _longest_run(words[at:], source)
        for i in range(at, at + length):
            bridge = source.bridges[start + i - at - 1] if start is not None and i > at else ""
            out += [gaps[i] if "\n" in gaps[i] else bridge or gaps[i], words[i]]
        at += length
    return "".join([*out, answer[ends[-1] :]])


def _longest_run(words: Sequence[str], source: Alignment) -> tuple[int, int | None]:
    """Return how many of ``words`` stand in the prompt, and where; (1, None) where none do."""
    for length in range(len(words), 0, -1):
        starts = list(_occurrences(words[:length], source))
        if starts:
            telling = [w for w in words[:length] if w[0].isalnum() and _long_or_marked(w)]
            bridged = {s: "".join(map(str, source.bridges[s : s + length - 1])) for s in starts}
            shortest = min(starts, key=lambda s: (len(bridged[s]), s))
            return length, shortest if len(telling) >= TELLING else None
    return 1, None


def _occurrences(words: Sequence[str], source: Alignment) -> Iterator[int]:
    for start in range(len(source.words) - len(words) + 1):
        stop = start + len(words)
        if (
            source.words[start:stop] == tuple(words)
            and None not in source.bridges[start : stop - 1]
        ):
            yield start


def _long_or_marked(word: str) -> bool:
    return len(word) >= TELLING_LETTERS or not word.islower()


def word_probabilities(words: Sequence[Word], rated: KeepProbabilities) -> list[float]:
    """Say :func:`proxy.compress.llmlingua2.word_probabilities` one word and token at a time."""
    means: list[float] = []
    for word in words:
        own = [
            float(keep)
            for keep, start, end in zip(rated.keep, rated.starts, rated.ends, strict=True)
            if start < word.span.end and end > word.span.start
        ]
        means.append(round(sum(own) / len(own), DIGITS) if own else 0.0)
    return means


def keep_words(
    scores: Sequence[float],
    forced: Collection[int],
    count: Callable[[Collection[int]], int],
    target: int,
) -> set[int]:
    """Take the highest-scoring words one by one, counting exactly, where they fit."""
    kept = set(forced)
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if i not in kept and count({*kept, i}) <= target:
            kept.add(i)
    return kept


def choose_documents(
    relevance: Sequence[float], lengths: Sequence[int], least: Sequence[int], room: float, k: float
) -> list[int]:
    """Say :func:`proxy.compress.longllmlingua.choose_documents`: the most relevant that is left."""
    rest = list(range(len(relevance)))
    taken: list[int] = []
    while rest and sum(lengths[i] for i in taken) < k * room:
        best = min(rest, key=lambda i: (relevance[i], i))
        rest.remove(best)
        if sum(least[i] for i in [*taken, best]) <= room:
            taken.append(best)
    return taken


Surprise = Callable[[Sequence[str], Sequence[bool], Sequence[str]], Sequence[float]]
"""Each word's nats in a window, given the words read before it and which of them were kept."""


def contrast_words(
    words: Sequence[str], size: int, rate: float, plain: Surprise, asked: Surprise
) -> tuple[list[bool], list[float]]:
    """Say LongLLMLingua's second stage for one document, in which every word is one token.

    Returns which words are kept, and the contrast of each.
    """
    kept: list[bool] = []
    contrast: list[float] = []
    left = 0.0
    for begin in range(0, len(words), size):
        read, window = words[:begin], words[begin : begin + size]
        pairs = zip(plain(read, kept, window), asked(read, kept, window), strict=True)
        new = [round(round(p, DIGITS) - round(a, DIGITS), DIGITS) for p, a in pairs]
        budget = rate * len(window) + left
        best = sorted(range(len(window)), key=lambda i: (-new[i], i))[: int(budget + 1e-9)]
        left = budget - len(best)
        kept += [i in best for i in range(len(window))]
        contrast += new
    return kept, contrast


def fit_to(
    kept: Collection[int],
    ranked: Sequence[int],
    count: Callable[[Collection[int]], int],
    target: int,
) -> set[int]:
    """Drop the worst word while over the target; then add the best that fit, one by one.

    >>> fit_to({1, 2}, [0, 1, 2], len, 1), fit_to({2}, [0, 1, 2], len, 2)
    ({1}, {0, 2})
    """
    chosen = set(kept)
    for i in reversed(ranked):
        if i in chosen and count(chosen) > target:
            chosen.remove(i)
    for i in ranked:
        if i not in chosen and count({*chosen, i}) <= target:
            chosen.add(i)
    return chosen
