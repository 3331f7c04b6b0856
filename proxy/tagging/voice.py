"""Who is speaking in a paragraph: someone who asks, someone who commands, or a document.

Judged from the first words, the last character, pronouns and words about answering, on a bounded
sample, so that cost does not grow with the length of a document.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from proxy.tagging import words

_SAMPLE = 800  # characters looked at from the start of a paragraph
_TAIL = 200  # and from its end
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_QUOTED = re.compile(
    r"\"[^\"\n]{1,400}\"|“[^”\n]{1,400}”|«[^»\n]{1,400}»|„[^“\n]{1,400}“|「[^」\n]{1,400}」"
)
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_TOKEN = re.compile(r"\w+")
_CLAUSE = re.compile(r"[,،，][ \t]*(?:then |please )?([^\W\d_]+)")
_START = re.compile(r"[.!?][ \t\n]+(?:Please |Then )?([^\W\d_]+)(?! (?:of|is|was|are|were)\b)")
_ASKED = re.compile(r"\?[\"”)]?\s+[A-Z]")  # a question, and then another sentence
_SENTENCE = re.compile(r"[.!?](?=\s|$)|[。！？।]")
_CLOSERS = "\"'”’»)]*_` \t\r\n"
_OPENERS = "\u200e\u200f\"'“‘«([*_`¿¡>-•+ \t\ufeff"


class Voice(Enum):
    """How a paragraph speaks."""

    QUESTION = auto()
    COMMAND = auto()
    PERSONAL = auto()  # the caller tells of themselves: part of the ask unless it is quoted
    PASSAGE = auto()  # a document
    SHORT = auto()  # a title, a name, a question without form: its neighbours decide


@dataclass(frozen=True, slots=True)
class Paragraph:
    """What was heard in one paragraph.

    ``size`` is characters, East Asian ones counted two and a half times: the same text takes about
    as much in every script.  ``directed`` means that it talks about the answer to be given.
    """

    voice: Voice
    size: float
    asks: bool  # ends as a question
    directed: bool
    addressed: bool  # says "you" or "please"
    personal: bool  # says "I"
    imperative: bool  # opens with a command, or says who it speaks to
    comprehends: bool  # asks for something that is done on a given text
    cue: bool  # speaks of a text given elsewhere
    points: bool  # and points at it, or asks for something that is done on it
    colon: bool  # ends by announcing what follows


@dataclass(frozen=True, slots=True)
class _Speech:
    """A paragraph as the rules below look at it."""

    body: str  # without signs around it
    spoken: str  # a bounded sample, without what it quotes
    said: frozenset[str]  # the sample's words, lower-case
    size: float
    opening: tuple[str, ...]  # the first words, lower-case, those of politeness left out
    asks: bool
    commands: bool
    directed: bool
    personal: bool
    strong: bool


def hear(text: str) -> Paragraph:
    """Judge one paragraph."""
    speech = _speech(text)
    voice = _voice(speech)
    colon = text.rstrip(" \t\r\n*_").endswith((":", "："))
    asking = colon or voice in {Voice.QUESTION, Voice.COMMAND}
    cue = asking and words.CUE.search(speech.body[: _SAMPLE + _TAIL]) is not None
    on_a_text = voice is Voice.COMMAND and _on_a_text(speech.opening)
    return Paragraph(
        voice=voice,
        size=speech.size,
        asks=speech.asks,
        directed=speech.directed,
        addressed=words.SECOND_PERSON.within(speech.spoken, speech.said),
        personal=speech.personal,
        imperative=speech.commands or speech.strong,
        comprehends=voice is Voice.QUESTION or cue or on_a_text,
        cue=cue,
        points=cue and (_reads(speech) or words.POINT.search(speech.spoken) is not None),
        colon=colon,
    )


def opens_with_command(text: str) -> bool:
    """Tell whether a list item opens with a verb that tells somebody to do something."""
    body = text.strip(_OPENERS).lstrip("0123456789.) ").strip(_OPENERS)
    return _commands(_opening(body), body)


def _speech(text: str) -> _Speech:
    body = text.strip(_OPENERS + _CLOSERS) or text.strip()
    sample = body if len(body) <= _SAMPLE + _TAIL else f"{body[:_SAMPLE]} {body[-_TAIL:]}"
    spoken = _QUOTED.sub(" ", sample)  # what a document quotes is not said to us
    said = frozenset(_TOKEN.findall(spoken.lower()))
    wide = 0 if sample.isascii() else len(_WIDE.findall(sample))
    size = len(body) + 1.5 * wide * len(body) / max(1, len(sample))
    opening = _opening(body)
    sentences = max(1, len(_SENTENCE.findall(sample)))
    return _Speech(
        body=body,
        spoken=spoken,
        said=said,
        size=size,
        opening=opening,
        asks=_ends_as_question(text, body, size),
        commands=_commands(opening, body),
        directed=words.MODEL_WORDS.within(spoken, said),
        personal=words.FIRST_PERSON.count(spoken, said) >= max(1, sentences / 4),
        strong=words.STRONG_ADDRESS.within(spoken, said),
    )


def _opening(body: str) -> tuple[str, ...]:
    """Return the first four words, lower-case, words of politeness left out."""
    found = [m.group().lower().replace("’", "'") for m in _WORD.finditer(body[:120])][:8]
    while len(found) > 1 and found[0] in words.POLITE:
        found.pop(0)
    return tuple(found[:4])


def _ends_as_question(text: str, body: str, size: float) -> bool:
    last = text.rstrip(_CLOSERS)[-1:]
    if last in {"?", "？", "؟"}:
        return True
    bare = body.rstrip(".。 ")
    return size <= 160 and bare.endswith(("吗", "嗎", "呢", "か"))


def _commands(opening: tuple[str, ...], body: str) -> bool:
    """Tell whether a paragraph opens with a verb that tells somebody to do something."""
    if opening[:1] and (opening[0] in words.COMPREHEND or opening[0] in words.COMMAND):
        return opening[1:2] == () or opening[1] not in words.NOT_COMMANDS
    if opening[:2] == ("do", "not"):
        return True
    if opening[:1] and opening[0] in words.OPENERS and len(body) <= 500:
        clauses = any(_verb(m.group(1)) for m in _CLAUSE.finditer(body[:300]))
        return clauses and words.MODEL_WORDS.pattern.search(body[:300]) is not None
    return bool(words.IMPERATIVE_START.match(body) or words.IMPERATIVE_END.search(body[-40:]))


def _reads(speech: _Speech) -> bool:
    return not words.COMPREHEND.isdisjoint(speech.opening[:1])


def _on_a_text(opening: tuple[str, ...]) -> bool:
    """Tell whether a command asks for something that is done on a text, as far as its verb says."""
    return not opening or opening[0] in words.COMPREHEND or opening[0] not in words.COMMAND


def _verb(word: str) -> bool:
    return word.lower() in words.COMPREHEND or word.lower() in words.COMMAND


def _voice(speech: _Speech) -> Voice:  # noqa: PLR0911 - a decision list: the first that holds
    size = speech.size
    stopped = speech.body.endswith((".", "।", "。"))
    if speech.asks and size <= 400:
        return Voice.QUESTION
    if size <= 160 and not stopped and _wonders(speech.opening[:1], speech.body):
        return Voice.QUESTION
    asked_first = size <= 400 and _ASKED.search(speech.body) is not None
    if asked_first and not words.WH.isdisjoint(speech.opening[:1]):
        return Voice.QUESTION
    if speech.strong and (size <= 600 or (speech.commands and size <= 1500)):
        return Voice.COMMAND
    plain = speech.opening[:1] and speech.opening[0].isascii()  # a verb that is nothing else
    if speech.commands and (size <= 200 or (size <= 1500 and (plain or speech.directed))):
        return Voice.COMMAND
    if size <= 400 and (_rules_the_answer(speech) or _commands_within(speech)):
        return Voice.COMMAND
    if speech.personal:
        return Voice.PERSONAL
    if size >= 140 or (size >= 60 and (stopped or speech.body.endswith(("!", "…")))):
        return Voice.PASSAGE
    return Voice.SHORT


def _commands_within(speech: _Speech) -> bool:
    """Tell whether a later sentence of a short paragraph is a command about the answer."""
    starts = _START.finditer(speech.spoken) if speech.directed else ()
    return any(_verb(found.group(1)) for found in starts)


def _rules_the_answer(speech: _Speech) -> bool:
    """Tell whether a paragraph says what the answer must be: "The answer must be in JSON"."""
    answering = words.ANSWERING.within(speech.spoken, speech.said)
    return answering and words.MODAL.search(speech.spoken) is not None


def _wonders(first: tuple[str, ...], body: str) -> bool:
    """Tell whether a short text is a question by its words; a title in capitals is none."""
    titled = [word[0].isupper() for word in body.split() if word[0].isalpha() and len(word) > 2]
    if len(titled) >= 2 and all(titled) and not body.isupper():
        return False
    if not words.WH.isdisjoint(first):
        return True
    return not body.isascii() and words.WH_INSIDE.search(body) is not None
