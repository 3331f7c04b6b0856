"""Demonstrations: a repeated pattern of labels whose last item is left open.

    Text: a dull film          <- opener
    Sentiment: negative        <- closer: one demonstration
    ...
    Text: a bright film        <- the last item: the question
    Sentiment:                 <- left open

No label needs to be known: that the pattern repeats, and that its last item is unanswered, is what
tells demonstrations from a transcript or a form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from proxy.tagging import words
from proxy.tagging.words import Label

_LINE_LABEL = re.compile(
    r"^[ \t]*(?:#{1,4} |\*\*"
    r"|\[)?([^\W\d_][\w ()/'-]{0,32}?)[ \t]{0,2}#?\d{0,3}(?:\*\*|\])?[ \t]{0,2}[:：](?:\*\*)?",
    re.MULTILINE,
)
_ARROW = re.compile(r"^.{1,200}?(=>|->|→|==>|>>>)[ \t]*(.{0,200})$", re.MULTILINE)
_OPEN_END = 60  # characters that may follow the last, open label: "Let's think step by step"
_TEMPLATE = re.compile(
    r"\b(?:you (?:should|must|will|can)|the (?:input|original|final|user's) (?:question|answer"
    r"|text)"
    r"|your (?:answer|response|reasoning))\b|\{\{?\w+\}?\}|<(?:your|the) [\w ]+>|\.\.\.$",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Demos:
    """Where demonstrations stand, and where the open item's label and the label left open are."""

    start: int
    end: int
    item: tuple[int, int] | None  # the open item's label; none where the text before names it
    closer: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class _Mark:
    name: str
    start: int
    end: int


def find(text: str) -> Demos | None:
    """Return the demonstrations of a text whose last item is unanswered."""
    marks = [
        _Mark(m.group(1).lower(), m.start() + _indent(m.group()), m.end())
        for m in _LINE_LABEL.finditer(text)
    ]
    return _labelled(text, marks) or _answered_pairs(text, marks) or _arrows(text)


def _indent(matched: str) -> int:
    return len(matched) - len(matched.lstrip())


def _labelled(text: str, marks: list[_Mark]) -> Demos | None:
    if len(marks) < 3:
        return None
    last = marks[-1]
    is_open = len(text[last.end :].strip()) <= _OPEN_END and not text[last.end :].strip().endswith(
        "?"
    )
    names = [mark.name for mark in marks]
    closer = last.name if is_open and names.count(last.name) >= 2 else None
    opener = _opener(names, closer)
    if opener is None:
        return None
    items = [i for i, name in enumerate(names) if name == opener]
    if closer is None:
        closer = _usual_closer(names, items)
    if not _repeats(text, marks, items, opener, closer):
        return None
    first, final = marks[items[0]], marks[items[-1]]
    asked = any(words.LABELS.get(n) is Label.QUESTION for n in names[items[-1] + 1 :])
    return Demos(
        start=first.start,
        end=_trim(text, first.start, final.start),
        item=None if asked else (final.start, final.end),
        closer=(last.start, last.end) if is_open and last.name == closer else None,
    )


def _answered_pairs(text: str, marks: list[_Mark]) -> Demos | None:
    """Find questions that all have their answers, with something else after them."""
    known = [words.LABELS.get(mark.name) for mark in marks]
    pairs = [
        i
        for i in range(len(marks) - 1)
        if known[i] is Label.QUESTION and known[i + 1] is Label.ANSWER
    ]
    if len(pairs) < 2 or len(pairs) != known.count(Label.QUESTION):
        return None
    start, final = marks[pairs[0]], marks[pairs[-1] + 1]
    end = text.find("\n\n", final.end)
    if (
        end < 0
        or not text[final.end : end].strip()
        or _TEMPLATE.search(text[start.start : end][:4000])
    ):
        return None
    return Demos(start.start, end, None, None)


def _opener(names: list[str], closer: str | None) -> str | None:
    """Return the label that begins an item: the first after the last complete item's closer."""
    if closer is None:
        known = words.LABELS.get(names[-1])
        return None if known is Label.ANSWER else names[-1]
    before = len(names) - 2 - names[:-1][::-1].index(closer)
    asked = {Label.QUESTION, Label.INPUT, Label.CONTEXT}
    between = [name for name in names[before + 1 : -1] if name in names[:before]]
    telling = [name for name in between if words.LABELS.get(name) in asked]
    even = [name for name in between if abs(names.count(name) - names.count(closer)) <= 1]
    return next(iter(telling + even), None)


def _usual_closer(names: list[str], items: list[int]) -> str | None:
    if len(items) < 2 or items[-1] - items[-2] < 2:
        return None
    return names[items[-1] - 1]


def _repeats(
    text: str, marks: list[_Mark], items: list[int], opener: str, closer: str | None
) -> bool:
    if len(items) < 2:
        return False
    inner = [marks[here:there] for here, there in pairwise(items)]
    if closer is None:
        complete = [text[m[0].end : marks[i].start] for m, i in zip(inner, items[1:], strict=True)]
        asks = words.LABELS.get(opener) in {Label.QUESTION, Label.INPUT}
        return asks and len(items) >= 3 and all(map(_answered, complete))
    if not all(closer in (mark.name for mark in item[1:]) for item in inner):
        return False
    if len(items) >= 4:
        return True
    if _TEMPLATE.search(text[inner[0][0].start : marks[items[-1]].start][:4000]):
        return False
    return len(items) == 3 or (opener in words.LABELS and words.LABELS.get(closer) is Label.ANSWER)


def _answered(item: str) -> bool:
    lines = item.strip().splitlines()
    return len(lines) >= 2 and not lines[-1].rstrip().endswith(("?", "？", "؟"))


def _trim(text: str, start: int, end: int) -> int:
    """Leave out a last paragraph that speaks to the model: "Now classify this one:"."""
    while True:
        bare = len(text[start:end].rstrip()) + start
        gap = text.rfind("\n\n", start, bare)
        if gap < 0 or bare - gap > 300:
            return end
        paragraph = text[gap:bare].strip()
        if _LINE_LABEL.match(paragraph) and not paragraph.endswith((":", "：")):
            return end
        end = gap + 2


def _arrows(text: str) -> Demos | None:
    """Find lines of the form ``this => that`` before a last, open ``this =>``."""
    if not text.rstrip().endswith(("=>", "->", "→", ">>>")):
        return None
    found = list(_ARROW.finditer(text))
    complete = [m for m in found[:-1] if m.group(2).strip()]
    if len(complete) < 2 or found[-1].group(2).strip():
        return None
    final = found[-1].start()
    return Demos(complete[0].start(), final, (final, final), None)
