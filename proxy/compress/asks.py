"""The ask: does it need all of the text, or do the passages that bear on it suffice.

"Translate this", "how many dates are there?", "refactor this file" need all of it: whatever is
selected away is missing from the answer.  "Who signed the lease?" does not.

An English ask is judged by a logistic head over three views of it: its embedding (late and middle
layer), its wording (what it does, to what, and what narrows it down) and hashed words.  The encoder
knows no other language well, and guesses wildly in a script it cannot read; there the wording
decides alone: a verb that takes the whole text, else an interrogative, else the benefit of the
doubt.  A missed ask harms and a false alarm only saves less, so doubt counts as whole.

The wording is in ``data/asks.toml``, the weights in ``data/asks.npz`` (``training/train_asks.py``).
"""

from __future__ import annotations

import math
import re
import tomllib
import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from io import BytesIO
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from proxy.compress.ports import QuestionVectors
from proxy.policy.schema import WholeText

Features = NDArray[np.float32]

SAFE: Final = 0.2
"""Probability from which ``whole_text: safe`` passes through: nine in ten such asks, and more."""
SURE: Final = 0.95
"""The same for ``whole_text: sure``, which hardly ever stops a look-up."""

BUCKETS: Final = 2048
_LONGEST = 4000  # characters of an ask that are read: its head and its tail
_CARRIED = 60  # words from which a question is likely to carry text rather than to ask

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?|\d+")
_CLAUSE_END = re.compile(
    r"(?<=[.!?;:。！？；।؟])\s*|\n+|,? \b(?:and then|and also|and|then|also|after that)\b,? "
)
_COURTESY = re.compile(
    r"^\W*(?:(?:please|pls|kindly|hey|hi|hello|ok|okay|now|then|and|also|first|just|simply|next|"
    r"can (?:yo)?u|could you|would you|will you|i want you to|i need you to|i would like you to|"
    r"i.d like you to|you (?:need|have|are asked|are expected) to|you (?:will|must|should)|"
    r"your (?:task|job|goal) is to|in this task,?|help me|help|let.s|we ask you to|quick question|"
    r"instruction|task|question|second|finally|try to|carefully|please)\b[\s,:.-]*)+"
)
_SENTENCE_END = re.compile(r"(?<=[.!?;。！？；।؟])\s*(?=\S)|\n+")


@dataclass(frozen=True, slots=True)
class WholeTextScore:
    """How likely the ask needs all of the text, to four decimals, and the rule that said so."""

    probability: float
    rule: str


_WHOLE = WholeTextScore(0.97, "wording")
_WHOLE_QUESTION = WholeTextScore(0.8, "wording-question")
_UNCLEAR = WholeTextScore(0.6, "unknown-wording")
_LOOKUP = WholeTextScore(0.03, "look-up-wording")


def needs_whole_text(score: WholeTextScore, choice: WholeText) -> bool:
    """Whether a policy's ``whole_text`` choice passes an ask of this score through."""
    if choice is WholeText.IGNORE:
        return False
    return score.probability >= (SURE if choice is WholeText.SURE else SAFE)


def whole_text_score(
    question: str,
    vectors: QuestionVectors,
    instructions: Sequence[str] = (),
    instruction_vectors: Sequence[QuestionVectors] = (),
) -> WholeTextScore:
    """Judge an ask: the question and the instructions in force.

    A question that asks for itself decides, whatever the instructions are about ("You summarise
    meetings." - "Who was absent?").  Where it is missing or merely carries text, the instruction
    that most needs all of the text decides.  ``instruction_vectors`` are those of
    ``instructions``, one each.
    """
    own = _score(question, vectors)
    if own.rule == "no-content" and not instructions:
        return own
    if own.rule != "no-content" and (own.probability >= SURE or _asks_for_itself(question)):
        return own
    inherited = [
        _score(text, vector)
        for text, vector in zip(instructions, instruction_vectors, strict=True)
        if _WORD.search(text)
    ]
    strongest = max(inherited, key=lambda s: s.probability, default=own)
    if own.rule == "no-content" or strongest.probability > max(own.probability, SAFE):
        return WholeTextScore(strongest.probability, f"instruction:{strongest.rule}")
    return own


def read_as_english(ask: str, vectors: QuestionVectors) -> bool:
    """Whether the head judges this ask, rather than its wording alone."""
    return not _foreign(_normal(ask), vectors.known)


def is_overview(question: str) -> bool:
    """Whether the ask wants an outline of the text (a summary, its main points, its topic).

    >>> is_overview("What are the main points?"), is_overview("Summarise the part about rent.")
    (True, False)
    """
    text = _normal(question)
    lexicon = _lexicon()
    if language := _foreign(text, 1.0):
        return lexicon.finds("overview", text, language) and not lexicon.finds(
            "part", text, language
        )
    found = lexicon.wording(text)
    outline = found["overview"] or (found["summarise"] and not found["about_part"])
    return outline and not found["discussion_of"] and not found["named_part"]


# -- one text -----------------------------------------------------------------------------------


def _score(ask: str, vectors: QuestionVectors) -> WholeTextScore:
    text = _normal(ask)
    if not _WORD.search(text):
        return WholeTextScore(1.0, "no-content")
    if foreign := _foreign(text, vectors.known):
        return _by_wording(text, foreign)
    seen = features(ask, vectors)
    if len(seen) != len(_head().weights):
        return _by_english_wording(text)
    return WholeTextScore(_head().probability(seen), "head")


def _by_english_wording(text: str) -> WholeTextScore:
    """Judge an English ask without the head, which was trained on the shipped encoder's vectors."""
    found = _lexicon().wording(text)
    narrowed = found["about_part"] or found["discussion_of"] or found["named_part"]
    if not narrowed and any(found[key] for key in (*_ACTS, "overview")):
        return _WHOLE
    return _LOOKUP if any(found[key] for key in _ASKS) else _UNCLEAR


def _by_wording(text: str, language: str) -> WholeTextScore:
    """Judge an ask in another language: ``language`` is its code, or "?" where unknown."""
    verdicts = [_clause_verdict(clause, language) for clause in _SENTENCE_END.split(text)]
    return max(verdicts, key=(_UNCLEAR, _LOOKUP, _WHOLE_QUESTION, _WHOLE).index)


def _clause_verdict(clause: str, language: str) -> WholeTextScore:
    """Judge a clause of an ask in another language.

    In a question a verb may tell of someone else's deed ("who translated it?"), so there only
    polite requests and certain questions count.
    """
    lexicon = _lexicon()
    if lexicon.finds("questions", clause, language):
        return _WHOLE_QUESTION
    if lexicon.finds("part", clause, language):
        return _LOOKUP
    asks = lexicon.finds("interrogatives", clause, language)
    acts = lexicon.finds("verbs", clause, language)
    if acts and (not asks or lexicon.finds("polite", clause, language)):
        return _WHOLE
    return _LOOKUP if asks or lexicon.finds("fetch", clause, language) else _UNCLEAR


def _asks_for_itself(question: str) -> bool:
    """Whether a question asks something, rather than carry text that instructions speak of."""
    text = _normal(question)
    if len(_WORD.findall(text)) > _CARRIED:
        return False
    lexicon = _lexicon()
    if language := _foreign(text, 1.0):
        return _by_wording(text, language) != _UNCLEAR
    found = lexicon.wording(text)
    return "?" in text or any(found[key] for key in (*_ACTS, *_ASKS, "fetch"))


def _normal(text: str) -> str:
    """Fold case and compatibility forms; keep head and tail of what is very long."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]}\n{text[-_LONGEST // 2 :]}"
    return unicodedata.normalize("NFKC", text).replace("’", "'").casefold().strip()


def _foreign(text: str, known: float) -> str:
    """Name the language where it is not English; "?" where it is none that the lexicon has."""
    letters = [c for c in text if c.isalpha()]
    strange = [c for c in letters if c > "\u024f"]
    if 2 * len(strange) > len(letters):
        return _SCRIPTS.get(_script(strange), "?")
    counts = _lexicon().evidence(text)
    best = max(counts, key=lambda code: (counts[code], code == "en"))
    if best == "en" and known < 0.7:
        return "?"
    return "" if best == "en" else best


def _script(letters: Sequence[str]) -> str:
    """Return the commonest first word of the letters' Unicode names (HIRAGANA, CYRILLIC ...)."""
    names = [unicodedata.name(c, "?").split()[0].split("-")[0] for c in letters]
    if "HIRAGANA" in names or "KATAKANA" in names:
        return "HIRAGANA"
    return max(sorted(set(names)), key=names.count)


_SCRIPTS = {
    "CJK": "zh",
    "HIRAGANA": "ja",
    "HANGUL": "ko",
    "DEVANAGARI": "hi",
    "ARABIC": "ar",
    "CYRILLIC": "ru",
    "THAI": "th",
}


# -- wording ------------------------------------------------------------------------------------


def _clauses(text: str) -> Iterator[str]:
    """Yield the clauses of a folded text, each without its courtesies."""
    for clause in _CLAUSE_END.split(text):
        bare = _COURTESY.sub("", clause).strip()
        if bare:
            yield bare


@dataclass(frozen=True, slots=True)
class _Lexicon:
    """``data/asks.toml``, compiled."""

    english: Mapping[str, re.Pattern[str]]
    foreign: Mapping[str, Mapping[str, re.Pattern[str]]]  # table -> language -> pattern
    words: Mapping[str, frozenset[str]]  # "generic": name no topic; "small": carry no meaning
    letters: Mapping[str, frozenset[str]]
    function_words: Mapping[str, frozenset[str]]

    def wording(self, text: str) -> dict[str, bool]:
        """Tell which English patterns occur in a folded text, or open one of its clauses."""
        places = [_COURTESY.sub("", text), *_clauses(text)]
        return {k: any(p.search(s) for s in places) for k, p in self.english.items()}

    def finds(self, table: str, text: str, language: str) -> bool:
        """Whether the language's pattern of ``table`` finds something; any, where it has none."""
        patterns = self.foreign[table]
        names = (language, "any") if language in patterns else tuple(patterns)
        return any(name in patterns and patterns[name].search(text) for name in names)

    def evidence(self, text: str) -> dict[str, int]:
        """Count what speaks for each language of Latin script: small words, letters, verbs."""
        words = _WORD.findall(text)
        tables = [self.foreign[name] for name in ("verbs", "questions", "fetch")]
        return {
            code: sum(word in small for word in words)
            + (not self.letters.get(code, frozenset()).isdisjoint(text))
            + sum(code in table and bool(table[code].search(text)) for table in tables)
            for code, small in self.function_words.items()
        }


_TABLES = ("verbs", "questions", "interrogatives", "fetch", "polite", "part", "overview")


@cache
def _lexicon() -> _Lexicon:
    raw = tomllib.loads(_data("asks.toml").decode())
    names = {f"<{k}>": "(?:" + "|".join(v.split()) + ")s?" for k, v in raw["names"].items()}
    return _Lexicon(
        english={key: _any_of(patterns, names) for key, patterns in raw["english"].items()},
        foreign={
            table: {code: _any_of(patterns, names) for code, patterns in raw[table].items()}
            for table in _TABLES
        },
        words={kind: frozenset(words.split()) for kind, words in raw["words"].items()},
        letters={code: frozenset(letters) for code, letters in raw["letters"].items()},
        function_words={code: frozenset(w.split()) for code, w in raw["function_words"].items()},
    )


def _any_of(patterns: Sequence[str], names: Mapping[str, str]) -> re.Pattern[str]:
    joined = "|".join(patterns)
    for name, words in names.items():
        joined = joined.replace(name, words)
    return re.compile(joined)


def _data(name: str) -> bytes:
    return resources.files("proxy.compress").joinpath("data", name).read_bytes()


# -- the head -----------------------------------------------------------------------------------


def features(ask: str, vectors: QuestionVectors) -> Features:
    """Return what the head sees: embedding (2 d), wording, hashed words (BUCKETS)."""
    text = _normal(ask)
    parts = (_unit(vectors.middle), _unit(vectors.final), _wording(text), _hashed(text))
    return np.concatenate(parts).astype(np.float32)


def _unit(vector: Features) -> Features:
    return vector / max(float(np.linalg.norm(vector)), 1e-6)


def _wording(text: str) -> Features:
    """See what the ask does, to what, and what narrows it down: patterns, and their meetings."""
    lexicon = _lexicon()
    found = lexicon.wording(text)
    words = _WORD.findall(text)
    content = [w for w in words if w not in lexicon.words["small"]]
    generic = sum(w in lexicon.words["generic"] for w in content)
    acts = any(found[k] for k in _ACTS)
    narrowed = found["about_part"] or found["discussion_of"] or found["named_part"]
    asks = any(found[k] for k in _ASKS)
    measures = (
        generic / max(len(content), 1),
        min(len(content) - generic, 8) / 8,
        min(len(words), 60) / 60,
        acts and not narrowed,
        acts and found["this_text"],
        acts and asks,
        found["summarise"] and narrowed,
        found["summarise"] and not narrowed,
        found["make"] and found["answering"],
        asks and found["this_text"],
        asks and not acts,
        asks and not found["this_text"] and not found["pointing"],
        found["overview"] and not found["discussion_of"],
        found["code_noun"] and found["pointing"],
        found["critique"] and found["this_text"],
        found["everything"] and not asks,
        not asks and not acts and not found["fetch"],
        not acts and not found["everything"] and not found["overview"] and not found["arc"],
    )
    return np.array([*found.values(), *measures], dtype=np.float32)


_ACTS = (
    "translate",
    "correct",
    "rewrite",
    "summarise",
    "convert",
    "make",
    "classify",
    "critique",
    "extract",
    "count",
    "compare",
    "code",
    "carry_on",
)
_ASKS = ("asks_who", "asks_what", "asks_whether")


def _hashed(text: str) -> Features:
    """Words and word pairs, hashed to BUCKETS, as a unit vector."""
    words = ["^", *_WORD.findall(text)[:200]]
    grams = {*words, *(f"{a} {b}" for a, b in pairwise(words))}
    out = np.zeros(BUCKETS, dtype=np.float32)
    for gram in grams:
        out[zlib.crc32(gram.encode()) % BUCKETS] += 1
    return _unit(out)


@dataclass(frozen=True, slots=True)
class Head:
    """A logistic regression over :func:`features`."""

    weights: Features  # (n_features,)
    bias: float

    def probability(self, seen: Features) -> float:
        """Return the probability, to four decimals, that the ask needs all of the text."""
        logit = float(seen @ self.weights) + self.bias
        return round(1 / (1 + math.exp(-min(max(logit, -60.0), 60.0))), 4)


@cache
def _head() -> Head:
    with np.load(BytesIO(_data("asks.npz"))) as stored:
        return Head(stored["weights"].astype(np.float32), float(stored["bias"]))
