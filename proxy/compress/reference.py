"""Slow twins: the algorithms said plainly, for tests to hold the fast routines against."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from proxy.compress.lexical import GRAM_SHARE, K1, B
from proxy.compress.selective_context import MOST_WORDS
from proxy.compress.stop_words import STOP_WORDS


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


# -- words and LLMLingua ------------------------------------------------------------------------


def word_nats(
    words: Sequence[tuple[int, int]], tokens: Sequence[tuple[int, int, float]]
) -> list[float]:
    """Say :func:`proxy.compress.words.word_nats` word by word; tokens are (start, end, nats)."""
    return [
        round(sum(nats for begins, ends, nats in tokens if begins < end and ends > start), 4)
        for start, end in words
    ]


def choose_documents(
    perplexity: Sequence[float], lengths: Sequence[int], least: Sequence[int], room: float, k: float
) -> list[int]:
    """Say :func:`proxy.compress.llmlingua.choose_documents`: what fits, then what fills."""
    order = sorted(range(len(perplexity)), key=lambda i: (-round(perplexity[i], 4), i))
    taken: list[int] = []
    for document in order:
        more = [*taken, document]
        if sum(lengths[i] for i in more) <= k * room and sum(least[i] for i in more) <= room:
            taken = more
    while not taken or sum(lengths[i] for i in taken) < room:
        bottom = sum(least[i] for i in taken)
        rest = [i for i in order if i not in taken and bottom + least[i] <= room]
        if not rest:
            break
        taken.append(rest[0])
    return sorted(taken)


def choose_whole(
    perplexity: Sequence[float], lengths: Sequence[int], least: Sequence[int], room: float
) -> tuple[list[int], list[int]]:
    """Say :func:`proxy.compress.llmlingua.choose_whole`: which are taken, and which whole."""
    whole: list[int] = []
    for document in sorted(range(len(perplexity)), key=lambda i: (-round(perplexity[i], 4), i)):
        spent = sum(lengths[i] for i in whole)
        if spent + lengths[document] <= room:
            whole.append(document)
        elif spent + least[document] < room:
            return sorted([*whole, document]), sorted(whole)
    return sorted(whole), sorted(whole)


Prompt = Sequence[str]
"""A prompt as a list of words."""


def itpc_exact(
    windows: Sequence[Prompt],
    costs: Sequence[Sequence[int]],
    droppable: Sequence[Sequence[bool]],
    rate: float,
    surprise: Callable[[Prompt, Prompt], Sequence[float]],
) -> list[list[bool]]:
    """Say LLMLingua's second stage, re-reading the words that were kept before each window.

    ``surprise(kept, window)`` gives each word's nats after the kept words and the raw ones before
    it in its window.  Returns which words are kept.
    """
    kept: list[str] = []
    out: list[list[bool]] = []
    left = 0.0
    for words, prices, free in zip(windows, costs, droppable, strict=True):
        keep, left = _itpc_step(surprise(kept, words), prices, free, rate, left)
        kept += [word for word, stays in zip(words, keep, strict=True) if stays]
        out.append(keep)
    return out


def itpc_gather(
    windows: Sequence[Prompt],
    costs: Sequence[Sequence[int]],
    droppable: Sequence[Sequence[bool]],
    rate: float,
    surprise: Callable[[Sequence[Prompt], Sequence[Sequence[bool]], Prompt], Sequence[float]],
) -> list[list[bool]]:
    """Say LLMLingua's second stage, going on from the states of the raw windows at kept words.

    ``surprise(read, kept, window)`` gives each word's nats after the windows read so far, of whose
    states those of the kept words are left.  Returns which words are kept.
    """
    out: list[list[bool]] = []
    left = 0.0
    for j, (words, prices, free) in enumerate(zip(windows, costs, droppable, strict=True)):
        nats = surprise(windows[:j], out, words)
        keep, left = _itpc_step(nats, prices, free, rate, left)
        out.append(keep)
    return out


def _itpc_step(
    nats: Sequence[float], costs: Sequence[int], free: Sequence[bool], rate: float, left: float
) -> tuple[list[bool], float]:
    """Keep a window's most surprising words; return what is carried to the next window."""
    keep = [not may_go for may_go in free]
    if not any(free) or rate >= 1:
        return [True] * len(nats), left
    budget = rate * sum(cost for cost, may_go in zip(costs, free, strict=True) if may_go) + left
    order = sorted(range(len(nats)), key=lambda i: (-round(nats[i], 4), i))
    for i in order:
        if free[i] and costs[i] <= budget + 1e-9:
            keep[i] = True
            budget -= costs[i]
    return keep, budget


# -- Selective Context --------------------------------------------------------------------------


def phrases(words: Sequence[str]) -> list[list[int]]:
    """Say :func:`proxy.compress.selective_context.phrases` word by word."""
    out: list[list[int]] = []
    for i, word in enumerate(words):
        before = words[i - 1] if i else ""
        opens = _functional(word) and not _functional(before)
        if not out or opens or len(out[-1]) == MOST_WORDS or not before[-1:].isalnum():
            out.append([])
        out[-1].append(i)
    return out


def _functional(word: str) -> bool:
    letters = re.match(r"[^\w]*([^\W\d_]+(?:['’][^\W\d_]+)?)?", word)
    said = letters[1] if letters and letters[1] else ""
    return any(said.casefold() in known for known in STOP_WORDS.values())


def selective_context(
    groups: Sequence[Sequence[int]],
    nats: Sequence[float],
    count: Callable[[Sequence[int]], int],
    target: int,
) -> list[int]:
    """Say Selective Context: of the units, the most informative that still fit, best first.

    ``count`` gives the tokens of some words.
    """
    kept: list[int] = []
    for group in sorted(groups, key=lambda group: (-sum(nats[i] for i in group), group)):
        if count(sorted([*kept, *group])) <= target:
            kept = sorted([*kept, *group])
    return kept


# -- the cascade ----------------------------------------------------------------------------------


def relevance(
    similarity: Sequence[Sequence[float]],
    whole: Sequence[float],
    lexical: tuple[Sequence[float], Sequence[float]],
    weight: float,
) -> list[float]:
    """Say :func:`proxy.compress.relevance.rate_units` one unit at a time.

    ``similarity[d][i]`` is the cosine of unit i of document d, ``whole[d]`` that of the document;
    ``lexical`` are BM25 of all units, in order, and of each unit's document.
    """
    pairs = [(own + whole[d]) / 2 for d, units in enumerate(similarity) for own in units]
    of_units, of_documents = (_standardised(values) for values in lexical)
    return [
        near + weight * (unit + 0.6 * document) / 1.6
        for near, unit, document in zip(_standardised(pairs), of_units, of_documents, strict=True)
    ]


def _standardised(values: Sequence[float]) -> list[float]:
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    return [(value - mean) / spread if spread > 1e-9 else 0.0 for value in values]


def by_budget(
    order: Sequence[int],
    frames: Callable[[int], Collection[int]],
    count: Callable[[Collection[int]], int],
    target: int,
) -> set[int]:
    """Say :func:`proxy.compress.selection.by_budget`: the best units that fit, one by one.

    ``frames`` gives what goes with a unit: its document's title.
    """
    kept: set[int] = set()
    for unit in order:
        more = {*kept, unit, *frames(unit)}
        if count(more) <= target:
            kept = more
    return kept


def by_threshold(
    standing: Sequence[float], documents: Sequence[int], least: float, reach: int
) -> set[int]:
    """Say :func:`proxy.compress.selection.by_threshold`, for units none of which is a frame."""
    return {
        unit
        for unit, document in enumerate(documents)
        for near in range(len(documents))
        if standing[near] >= least and documents[near] == document and abs(unit - near) <= reach
    }


# -- the cascade's fine stage -------------------------------------------------------------------


@dataclass(frozen=True)
class Unit:
    """A unit in words: their numbers, which of them are light, and what it costs as a unit."""

    words: Sequence[int]
    light: Sequence[int]
    cost: int


def fine(
    kept: Sequence[Unit],
    rest: Sequence[Unit],
    nats: Sequence[float],
    count: Callable[[Collection[int]], int],
    *,
    tokens: int,
    whole: float,
    rate: float,
) -> set[int]:
    """Say the fine stage on units, best first, of which ``kept`` fit in ``tokens``.

    Every light word costs one token; ``count`` gives the tokens of some words.
    """
    first = max(n for n in range(len(kept) + 1) if _cost(kept[:n]) <= whole * tokens + 1e-9)
    room = (tokens - _cost(kept[:first])) / rate
    following = list(rest)
    while _cost([*kept[first:], *following]) > room + 1e-9 and following:
        following.pop()
    free = tokens - count(_all_words(kept))
    gone = [i for unit in kept[first:] for i in _spared(unit, nats, rate)]
    more: list[Unit] = []
    for unit in following:
        spared = _spared(unit, nats, rate)
        if _cost([*more, unit]) > free + len(gone) + len(spared):
            break
        more.append(unit)
        gone += spared
    while more:
        words = _all_words([*kept, *more])
        for i in sorted(gone, key=lambda i: (nats[i], -i)):
            if count(words) > tokens:
                words.remove(i)
        if count(words) <= tokens:
            return words
        gone = [i for i in gone if i not in more[-1].words]
        more.pop()
    return _all_words(kept)


def _cost(units: Sequence[Unit]) -> int:
    return sum(unit.cost for unit in units)


def _all_words(units: Sequence[Unit]) -> set[int]:
    return {i for unit in units for i in unit.words}


def _spared(unit: Unit, nats: Sequence[float], rate: float) -> list[int]:
    order = sorted(unit.light, key=lambda i: (nats[i], -i))
    return order[: int((1 - rate) * len(unit.words) + 1e-9)]


# -- the lexical method -------------------------------------------------------------------------


def without_stop_words(words: Sequence[str], stops: Collection[str], kept: Collection[str]) -> str:
    """Say the lexical method without a target, on words with a blank between them."""
    return " ".join(w for w in words if w.casefold() not in stops or w.casefold() in kept)


def without_commonest(
    words: Sequence[str], stops: Collection[str], kept: Collection[str], target: int
) -> str:
    """Say the lexical method with a target in words: of stop words, the commonest goes first."""
    idle = [i for i, w in enumerate(words) if w.casefold() in stops and w.casefold() not in kept]
    common = Counter(words[i].casefold() for i in idle)
    left = list(range(len(words)))
    while len(left) > target and idle:
        worst = max(idle, key=lambda i: (common[words[i].casefold()], i))
        idle.remove(worst)
        left.remove(worst)
    return " ".join(words[i] for i in left)


def lettered(word: str, count: Callable[[str], int]) -> str:
    """Say :func:`proxy.compress.lexical_method.lettered` by substitution."""
    short = re.sub(r"(?<=[A-Za-z])[aeiou](?=[A-Za-z])", "", word, flags=re.IGNORECASE)
    plain = re.fullmatch(r"[A-Za-z]{7,}", word) is not None
    return short if plain and count(f" {short}") < count(f" {word}") else word


def squeezed(gap: str) -> str:
    """Say :func:`proxy.compress.lexical_method.squeezed` by substitution."""
    gap = re.sub(r"\A[^\n]*\n(?:[^\n]*\n)+", "\n\n", gap)
    return re.sub(r"\A[^\n]+(?=\n)", "", gap) if "\n" in gap else gap[:1]


def abbreviated(text: str, names: Sequence[str]) -> str:
    """Say :func:`proxy.compress.abbreviations.abbreviated` by replacing, name by name."""
    for name in names:
        initials = "".join(letter for letter in name if letter.isupper())
        before, _, rest = text.partition(name)
        text = f"{before}{name} ({initials}){rest.replace(name, initials)}"
    return text
