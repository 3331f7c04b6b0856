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
_CLAUSE = re.compile(r"[,،，][ \t]*(?:then |please )?([^\W\d_]+)")
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
    cue: bool  # points at a text given elsewhere
    colon: bool  # ends by announcing what follows


def hear(text: str) -> Paragraph:
    """Judge one paragraph."""
    body = text.strip(_OPENERS + _CLOSERS) or text.strip()
    sample = body if len(body) <= _SAMPLE + _TAIL else f"{body[:_SAMPLE]} {body[-_TAIL:]}"
    spoken = _QUOTED.sub(" ", sample)  # what a document quotes is not said to us
    size = len(body) + 1.5 * len(_WIDE.findall(sample)) * len(body) / max(1, len(sample))
    opening = _opening(body)
    sentences = max(1, len(_SENTENCE.findall(sample)))
    asks = _ends_as_question(text, body, size)
    directed = words.MODEL_WORDS.search(spoken) is not None
    personal = len(words.FIRST_PERSON.findall(spoken)) >= max(1, sentences / 4)
    addressed = words.SECOND_PERSON.search(spoken) is not None
    commands = _commands(opening, body)
    voice = _voice(
        body, spoken, size, opening, asks=asks, commands=commands, directed=directed,
        personal=personal,
    )
    asking = voice in {Voice.QUESTION, Voice.COMMAND}
    cue = asking and words.CUE.search(sample) is not None
    return Paragraph(
        voice=voice,
        size=size,
        asks=asks,
        directed=directed,
        addressed=addressed,
        personal=personal,
        imperative=commands or words.STRONG_ADDRESS.search(spoken) is not None,
        comprehends=voice is Voice.QUESTION
        or cue
        or (voice is Voice.COMMAND and _on_a_text(opening)),
        cue=cue,
        colon=text.rstrip(" \t\r\n*_").endswith((":", "：")),
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
    if opening[:1] and opening[0] in words.OPENERS:
        clauses = any(_verb(m.group(1)) for m in _CLAUSE.finditer(body[:300]))
        return clauses and words.MODEL_WORDS.search(body[:300]) is not None
    return bool(words.IMPERATIVE_START.match(body) or words.IMPERATIVE_END.search(body[-40:]))


def _on_a_text(opening: tuple[str, ...]) -> bool:
    """Tell whether a command asks for something that is done on a text, as far as its verb says."""
    return not opening or opening[0] in words.COMPREHEND or opening[0] not in words.COMMAND


def _verb(word: str) -> bool:
    return word.lower() in words.COMPREHEND or word.lower() in words.COMMAND


def _voice(  # noqa: PLR0911 - a decision list, first rule that holds
    body: str,
    spoken: str,
    size: float,
    opening: tuple[str, ...],
    *,
    asks: bool,
    commands: bool,
    directed: bool,
    personal: bool,
) -> Voice:
    first = opening[0] if opening else ""
    if asks and size <= 400:
        return Voice.QUESTION
    if size <= 160 and not body.endswith((".", "।", "。")) and _wonders(first, body):
        return Voice.QUESTION
    if size <= 1500 and words.STRONG_ADDRESS.search(spoken) and (commands or size <= 600):
        return Voice.COMMAND
    if commands and (size <= 200 or (directed and size <= 1500)):
        return Voice.COMMAND
    if size <= 400 and words.ANSWERING.search(spoken) and words.MODAL.search(spoken):
        return Voice.COMMAND
    if personal:
        return Voice.PERSONAL
    if size >= 140 or (size >= 60 and body.endswith((".", "।", "。", "!", "…"))):
        return Voice.PASSAGE
    return Voice.SHORT


def _wonders(first: str, body: str) -> bool:
    titled = [word[0].isupper() for word in body.split() if word[0].isalpha() and len(word) > 3]
    if len(titled) >= 2 and all(titled) and not body.isupper():
        return False  # "How to Train Your Dragon" is a title
    return first in words.WH or words.WH_INSIDE.search(body) is not None
