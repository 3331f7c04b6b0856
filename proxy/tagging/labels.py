"""Labels, headings and tag names: what a line, or a tag, announces."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from proxy.tagging import words
from proxy.tagging.words import Label

_LONGEST = 120  # characters of a line in which a label must end
_NAME = r"[^:：\n*#\[\]<>|{}\"=]{1,60}?"
_HEADING = re.compile(r"(#{1,6})[ \t]*(.{1,100}?)[ \t]*#{0,6}$")
_BOLD = re.compile(r"(?:\*\*|__)([^*\n]{1,80}?)[:：]?(?:\*\*|__)[ \t]{0,4}[:：]?[ \t]{0,4}")
_INLINE = re.compile(rf"[*_]?({_NAME})[*_]?[ \t]{{0,4}}[:：][*_]?(?!//)[ \t]{{0,4}}")
_FRAMED = (
    re.compile(r"\[\[ ## (\w{1,40}) ## \]\]"),
    re.compile(
        r"(?:={2,}|-{2,}|\*{2,}|~{2,}|<{2,}"
        r"|#{3,})[ \t]{0,4}([^=*<>#-]{1,60}?)[ \t]{0,4}(?:={2,}|-{2,}|\*{2,}|~{2,}|>{2,}"
        r"|#{3,})[:：]?$"
    ),
    re.compile(r"[\[【<「]([^\]】>」\n]{1,60})[\]】>」][:：]?[ \t]{0,4}"),
)
_NUMBERED = re.compile(
    r"(?:\[\^?\d{1,4}\]|【\d{1,4}】|\(\d{1,3}\)(?=[ \t]*\S)"
    r"|[\[(]?(?:doc(?:ument)?|passage|source|article|text|chunk|snippet|excerpt|result|reference|context"
    r"|paragraph|section|page|item|record|entry|file|evidence|fact|abstract|review|comment"
    r"|email|message|post"
    r"|documento|pasaje|fuente|fragmento|dokument|quelle|abschnitt|passage|extrait|trecho|fonte"
    r"|brano"
    r"|документ|отрывок|источник|фрагмент|दस्तावेज़|अनुच्छेद|وثيقة|مستند|فقرة)s?"
    r"[ \t]*(?:\[\d{1,4}\]|\(\d{1,4}\)|[#№]?[ \t]?\d{1,4}|no\.? ?\d{1,4})(?![\w.,]\d)[\])]?"
    r"|(?:文档|段落|资料|文章|参考|文書|資料|片段|第)[ \t]*\d{1,4}[ \t]*[段篇条節]?)"
    r"[ \t]{0,2}[:：.)\-–—|(\]]?",
    re.IGNORECASE,
)
_PART = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*(?:[\u0900-\u0dff]+[^\W\d_]*)*")


_FIELDS = frozenset(
    [
        "source",
        "file",
        "page",
        "section",
        "chapter",
        "document",
        "doc",
        "record",
        "case",
        "post",
        "website",
    ]
)
"""Labels that, with something short after them, are a line of a document's head."""

_PLACEHOLDER = re.compile(r"(?:the|your|an?) [^.!?\n]{1,60}$|[{<\[][^\n]{1,60}[}>\]]$")
"""What stands after a label in the description of a format: ``Observation: the result``."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """A label at the start of a line; ``end`` is where it stops, in characters of the line."""

    label: Label
    end: int
    alone: bool  # nothing follows on its line
    level: int = 0  # of a heading; 0 for other labels
    numbered: bool = False  # "Passage 3": the head of one document among several


def meaning(name: str) -> Label | None:
    """Return what a label's name announces: ``customer email`` -> context."""
    parts = [p.lower().replace("’", "'") for p in _PART.findall(name)]
    if not parts or len(parts) > 6 or name[:1].isdigit():
        return None
    if parts == ["description"]:
        return None  # of a tool, a skill, a field: anything
    if len(parts) == 1 and parts[0] not in words.LABELS:
        # Scripts without spaces: the end of the name is its noun.
        tails = (parts[0][-n:] for n in (4, 3, 2)) if ord(parts[0][0]) >= 0x2E80 else ()
        return next((words.LABELS[t] for t in tails if t in words.LABELS), None)
    if len(parts) > 1:
        parts = [p for p in parts if len(p) > 1]  # a letter numbers: "Text A"
    if not parts or any(p not in words.LABELS and p not in words.FILLERS for p in parts):
        return None
    if parts[0] in {"task", "instruction", "instructions", "output", "response", "answer"}:
        last = words.LABELS.get(parts[-1])
        if len(parts) > 1 and last is not Label.ANSWER:
            return Label.INSTRUCTION
    known = [words.LABELS[p] for p in parts if p in words.LABELS]
    return known[-1] if known else None


def tag_meaning(name: str, extra: Mapping[str, Label]) -> Label | None:
    """Return what an XML tag's name announces: ``user_query`` -> question."""
    if name.lower() in extra:
        return extra[name.lower()]
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|[_.:-]|\d+", " ", name)
    found = meaning(spaced.strip())
    if found is not None:
        return found
    parts = spaced.lower().split()
    return words.LABELS.get(parts[-1]) if len(parts) > 1 else None


def announce(line: str, *, fresh: bool) -> Announcement | None:
    """Return the label that a line starts with; ``fresh`` tells that a blank line precedes it."""
    head = line[:_LONGEST]
    first = head[:1]
    short = len(line) < _LONGEST
    if first == "#" and short and (found := _HEADING.match(head)):
        return _whole(found.group(2).strip("*_:： "), line, len(found.group(1)))
    if first in "[=-*~<#【「" and short:
        for pattern in _FRAMED:
            if found := pattern.match(head):
                return _named(found.group(1), found.end(), line)
    if head.startswith(("**", "__")) and (found := _BOLD.match(head)):
        return _named(found.group(1), found.end(), line)
    if (":" in head or "：" in head) and (found := _INLINE.match(head)):
        return _named(found.group(1), found.end(), line)
    if fresh and len(line) <= 40 and (line.isupper() or line.istitle() or len(line) <= 6):
        return _whole(line, line, 0)
    return None


def _whole(name: str, line: str, level: int) -> Announcement | None:
    label = meaning(name)
    if label is None:
        return None
    return Announcement(label, len(line), alone=True, level=level, numbered=_has_number(name))


def _named(name: str, end: int, line: str) -> Announcement | None:
    label = meaning(name)
    if label is None:
        return None
    alone = not line[end:].strip()
    if not alone and label is Label.CONTEXT:
        if _PLACEHOLDER.match(line, end):
            return None
        if name.strip().lower() in _FIELDS:
            label = Label.META
    return Announcement(label, end, alone=alone, numbered=_has_number(name))


def _has_number(name: str) -> bool:
    return any(ch.isdigit() for ch in name)


def numbered_head(line: str) -> int | None:
    """Return where the number that opens a document ends: ``[3] ...``, ``Document [3](...``."""
    found = _NUMBERED.match(line[:_LONGEST])
    return found.end() if found else None
