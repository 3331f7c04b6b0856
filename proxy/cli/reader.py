"""A small lexical reader: the demo's stand-in for a large model.

It finds, in whatever prompt it is given, the sentence that shares most with the question.  It
knows words only, no encoder: it does not share the judgement of what compressed the prompt.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_PASSAGE = re.compile(r"^Passage (\d+): (.*)$", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_WORD = re.compile(r"\w+")
_QUESTION = re.compile(r"[^.!?\n]*\?")
_LONG_FORM = re.compile(r"^(?:Question:\s*)?")

_STOP = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be been by did do does for from had has have how in is it its of on or "
        "that the their they this to was were what when where which who whom whose why with",
    )
)
# What an answer of the kind asked for looks like; the first that fits the question decides.
_KINDS: tuple[tuple[re.Pattern[str], re.Pattern[str]], ...] = (
    (re.compile(r"\b(when|what year|which year)\b", re.IGNORECASE), re.compile(r"\b\d{3,4}\b")),
    (re.compile(r"\bhow (many|much|long|high|wide|far|old)\b", re.IGNORECASE), re.compile(r"\d")),
    (
        re.compile(r"\b(who|whose|whom|emperor|engineer)\b", re.IGNORECASE),
        re.compile(r"(?<=\w )[A-Z]\w+"),
    ),
    (re.compile(r"\bwhere\b", re.IGNORECASE), re.compile(r"\b(?:in|at|near|from|to) [A-Z]\w+")),
)
_TITLE_SHARE = 0.5  # a question word in the title is worth half of one in the sentence
_KIND_SHARE = 0.15  # of the score, for holding what the question asks for
_PLAIN_LENGTH = 40  # words at which a sentence's score is halved


@dataclass(frozen=True, slots=True)
class Found:
    """A sentence and where it stands; ``passage`` is None outside numbered passages."""

    sentence: str
    passage: int | None

    def __str__(self) -> str:
        """Spell it as an answer."""
        return (
            self.sentence if self.passage is None else f"{self.sentence} [passage {self.passage}]"
        )


@dataclass(frozen=True, slots=True)
class _Candidate:
    found: Found
    words: frozenset[str]
    title: frozenset[str]
    length: int


def read(prompt: str) -> Found:
    """Return the sentence of ``prompt`` that bears most on the last question in it."""
    question = last_question(prompt)
    if question is None:
        return Found("There is no question in what I was sent.", None)
    candidates = list(_candidates(prompt, question))
    rarity = _rarity(question, candidates)
    scored = [(_score(c, rarity, question), -i) for i, c in enumerate(candidates)]
    best = max(scored, default=(0.0, 0))
    if best[0] <= 0:
        return Found("I find no answer in what I was sent.", None)
    return candidates[-best[1]].found


def last_question(prompt: str) -> str | None:
    """Return the last sentence that ends in a question mark."""
    asked = _QUESTION.findall(prompt)
    return _LONG_FORM.sub("", asked[-1].strip()) if asked else None


def sentences(text: str) -> list[str]:
    """Split a text after full stops, question and exclamation marks."""
    return [s.strip() for s in _SENTENCE_END.split(text) if s.strip()]


def _candidates(prompt: str, question: str) -> Iterator[_Candidate]:
    heads = list(_PASSAGE.finditer(prompt))
    if not heads:
        yield from _of_text(prompt, None, "", question)
        return
    for head, end in zip(heads, [*(h.start() for h in heads[1:]), len(prompt)], strict=True):
        text = prompt[head.end() : end]
        yield from _of_text(text, int(head[1]), head[2], question)


def _of_text(text: str, passage: int | None, title: str, question: str) -> Iterator[_Candidate]:
    for sentence in sentences(text):
        if question not in sentence:
            words = _words(sentence)
            yield _Candidate(
                Found(sentence, passage), words, _words(title), len(_WORD.findall(sentence))
            )


def _words(text: str) -> frozenset[str]:
    """Return the words that carry meaning, cut to six letters so that endings do not matter."""
    return frozenset(w[:6] for w in _WORD.findall(text.lower()) if w not in _STOP)


def _rarity(question: str, candidates: Sequence[_Candidate]) -> dict[str, float]:
    """Return idf(w) = log(1 + N / (1 + df)) of the question's words, over sentences."""
    df = Counter(w for c in candidates for w in c.words)
    return {w: math.log(1 + len(candidates) / (1 + df[w])) for w in _words(question)}


def _score(candidate: _Candidate, rarity: Mapping[str, float], question: str) -> float:
    """Sum the rarity of the question's words that the sentence or its title has."""
    own = sum(rarity[w] for w in sorted(rarity.keys() & candidate.words))
    shared = (rarity.keys() & candidate.title) - candidate.words
    titled = sum(rarity[w] for w in sorted(shared))
    score = (own + _TITLE_SHARE * titled) / (1 + candidate.length / _PLAIN_LENGTH)
    return score * (1 + _KIND_SHARE * _is_of_the_kind(candidate.found.sentence, question))


def _is_of_the_kind(sentence: str, question: str) -> bool:
    for asks, looks in _KINDS:
        if asks.search(question):
            return any(found[0] not in question for found in looks.finditer(sentence))
    return False
