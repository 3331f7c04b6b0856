r"""Units of what is written in lines and has a structure: logs, diffs, code, hits, tables.

A unit is whole lines, and what stands or falls together: an entry of a log with its stack trace, a
hunk, a function, a hit.  A document is what a heading speaks of (a file, a class), and the heading
is its frame: kept when, and only when, another unit of the document is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, TypeAlias

from proxy.types import Span


class Part(NamedTuple):
    """A unit of a document, or a frame of it."""

    span: Span
    frame: bool = False


Parts: TypeAlias = list[Part]
"""What one document is made of."""

_LINE = re.compile(r"[^\n]*\n?")


def lines_of(text: str) -> list[Span]:
    """Return the lines that are not blank, without the white space at their ends."""
    found: list[Span] = []
    for match in _LINE.finditer(text):
        end = match.start() + len(match.group().rstrip())
        if end > match.start():
            found.append(Span(match.start(), end))
    return found


def _joined(lines: Sequence[Span]) -> Span:
    return Span(lines[0].start, lines[-1].end)


# -- logs ---------------------------------------------------------------------------------------

ENTRY_CHARS = 4_000
"""What follows an entry's first line is part of it up to here."""

_ENTRY = re.compile(
    r"[\[(<]?(?:\d{4}[-/]\d\d[-/]\d\d|\d\d:\d\d:\d\d|[A-Z][a-z]{2} [ \d]?\d \d\d:\d\d"
    r"|(?:TRACE|DEBUG|INFO|WARN|ERROR|FATAL|CRITICAL|NOTICE|PANIC)|[IWEF]\d{4} \d\d:"
    r"|\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3} |\d{9})"
)
_GOES_ON = re.compile(
    r"[ \t]|at [\w$.<>/]+\(|Caused by: |\.{3} \d+ more|Traceback \(most recent|goroutine \d+ \["
    r"|During handling of the above|The above exception"
)
_ENDS_TRACE = re.compile(r"[\w.]+(?:Error|Exception|Exit|Interrupt|Warning|Group)\b")


def log_entries(text: str) -> Iterator[Span]:
    r"""Yield the entries of a log: a line with the indented lines and the stack trace under it.

    Where most lines open with a time or a level, those that do not belong to the one above.

    >>> text = "12:00:01 up\n12:00:02 ERROR no\nTraceback (most recent call last):\n  x\nE: y\n"
    >>> [text.count("\n", *span) for span in log_entries(text)]
    [0, 3]
    """
    lines = lines_of(text)
    opens = [_ENTRY.match(text, line.start) is not None for line in lines]
    stamped = 3 * sum(opens) >= len(lines)
    entry: list[Span] = []
    traced = False
    for line, new in zip(lines, opens, strict=True):
        goes_on = _GOES_ON.match(text, line.start) is not None
        ends = traced and not new and _ENDS_TRACE.match(text, line.start) is not None
        start = line.start + len(line.of(text)) - len(line.of(text).lstrip())
        within = entry and line.end - entry[0].start <= ENTRY_CHARS
        if within and (goes_on or ends or (stamped and not new)):
            entry.append(line)
        else:
            if entry:
                yield _joined(entry)
            entry = [Span(start, line.end)]
        traced = goes_on or (traced and not ends and not new)
    if entry:
        yield _joined(entry)


# -- diffs --------------------------------------------------------------------------------------

_FILE = re.compile(r"diff --|Index: \S|--- [^\n]*\n\+\+\+ ")
_HUNK = re.compile(r"@@@* -(?:\d+)(?:,(\d+))?(?: -\d+(?:,\d+)?)* \+\d+(?:,(\d+))? @@@*")
_COMMIT = re.compile(r"commit [0-9a-f]{7,64}\b|From [0-9a-f]{40} ")


class _Section(Enum):
    """What a stretch of a diff is: the header of a file, a hunk, or text between them."""

    HEADER = 1
    HUNK = 2
    TEXT = 3


@dataclass(slots=True)
class _Count:
    """How many lines of the old and of the new file a hunk has still to show."""

    old: int = 0
    new: int = 0

    def takes(self, line: str) -> bool:
        """Count a line, if it is of the hunk."""
        if line.startswith("\\"):  # No newline at end of file
            return True
        if self.old <= 0 and self.new <= 0:
            return False
        self.old -= not line.startswith("+")
        self.new -= not line.startswith("-")
        return True


def diff_documents(text: str) -> Iterator[Parts]:
    r"""Yield the files of a diff: the header frames its hunks; what stands between files is a unit.

    A hunk is one unit, since line numbers would lie about a part of it.

    >>> text = "--- a\n+++ b\n@@ -1 +1 @@\n-x\n+y\n@@ -9 +9,2 @@\n z\n+w\n"
    >>> [(part.span.of(text)[:5], part.frame) for part in next(diff_documents(text))]
    [('--- a', True), ('@@ -1', False), ('@@ -9', False)]
    """
    parts: Parts = []
    for section, span in _sections(text):
        if section is _Section.HUNK:
            parts.append(Part(span))
            continue
        if parts:
            yield _unframed(parts)
        parts = [Part(span, frame=section is _Section.HEADER)]
    if parts:
        yield _unframed(parts)


def _unframed(parts: Parts) -> Parts:
    """Make a unit of a heading that has nothing under it."""
    return parts if len(parts) > 1 else [Part(parts[0].span)]


def _sections(text: str) -> Iterator[tuple[_Section, Span]]:
    section, start, end = _Section.TEXT, 0, 0
    count = _Count()
    for match in _LINE.finditer(text):
        line = match.group().rstrip("\r\n")
        if section is not _Section.HUNK or not match.group() or not count.takes(line):
            if not line.strip():
                continue
            opened = _opened(text, match.start(), line, section)
            if opened is not None:
                if end > start:
                    yield section, Span(start, end)
                section, start = opened, match.start()
            if opened is _Section.HUNK:
                count = _count_of(line)
        end = match.start() + len(line)
    if end > start:
        yield section, Span(start, end)


def _opened(text: str, at: int, line: str, section: _Section) -> _Section | None:
    """Return what section a line opens, outside of hunks; None where the one before goes on."""
    if _HUNK.match(line):
        return _Section.HUNK
    within = section is _Section.HEADER
    if _FILE.match(text, at) and not (within and line.startswith("--- ")):
        return _Section.HEADER
    return _Section.TEXT if section is _Section.HUNK or _COMMIT.match(line) else None


def _count_of(line: str) -> _Count:
    found = _HUNK.match(line)
    return _Count(*(int(count or 1) for count in found.groups())) if found else _Count()


# -- search results -----------------------------------------------------------------------------

_HIT = re.compile(r"((?:[A-Za-z]:\\)?[^\s:,;|\"'{}()<>]{1,300}?)(?::|-(?=\d+-))\d+[:-]")
_PATH = re.compile(r"(?:[\w.@~+-]*/)+[\w.@+-]*")
_NUMBERED_HIT = re.compile(r"\s*\d+[:-]")


def are_hits(text: str) -> bool:
    """Whether most lines are hits in files, or paths, not results that take several lines each."""
    lines = [line.of(text) for line in lines_of(text)]
    hits = (
        _HIT.match(line) or _NUMBERED_HIT.match(line) or _PATH.fullmatch(line) for line in lines
    )
    return 2 * sum(hit is not None for hit in hits) >= len(lines)


def search_documents(text: str) -> Iterator[Parts]:
    r"""Yield what was found in each file.

    A path that stands on a line of its own frames its hits; lines between two ``--`` are one hit.

    >>> text = "a.py:1:x\na.py:9:y\nb.py:2:z\n"
    >>> [[part.span.of(text) for part in parts] for parts in search_documents(text)]
    [['a.py:1:x', 'a.py:9:y'], ['b.py:2:z']]
    """
    lines = lines_of(text)
    apart = any(line.of(text) == "--" for line in lines)
    parts: Parts = []
    file: str | None = None
    fresh = True
    for line in lines:
        written = line.of(text)
        if written == "--":
            fresh = True
            continue
        if parts and _NUMBERED_HIT.match(written):
            path = file
        elif found := _HIT.match(written):
            path = found.group(1)
        else:
            path = None
        if parts and path is not None and path == file:
            if apart and not fresh and not parts[-1].frame:
                parts[-1] = Part(Span(parts[-1].span.start, line.end))
            else:
                parts.append(Part(line))
        else:
            if parts:
                yield _unframed(parts)
            heading = path is None
            parts, file = [Part(line, frame=heading)], written if heading else path
        fresh = False
    if parts:
        yield _unframed(parts)


# -- code ---------------------------------------------------------------------------------------

DEFINITION_CHARS = 1_200
"""A class that is longer is divided into its members."""

_NUMBER = re.compile(r"[ ]{0,8}\d{1,6}(?:\t|→|:|[ ]?\| ?)")
_CLOSES = re.compile(r"[)}\]]|end\b|else\b|elif\b|except\b|finally\b|catch\b|#endif\b|EOF\b|\{")
_INTRODUCES = re.compile(
    r"@|//|/\*|\*|#(?!include|define|if|pragma)|--|\"\"\"|'''|\[[A-Za-z]|template\b"
)
_CONTAINS = re.compile(
    r"(?:(?:export|default|public|private|protected|internal|abstract|final|sealed|static|data"
    r"|pub(?:\([a-z]+\))?|open|partial|unsafe|declare)\s+)*"
    r"(?:class|interface|impl|trait|struct|enum|namespace|module|object|extension|describe|mod)\b"
)
_IMPORT = re.compile(
    r"import\b|from\s+[\w.]+\s+import|package\b|#include\b|use\s+[\w:]+|using\s+[\w.]+|require\b"
    r"|(?:const|let|var)\s.{1,80}=\s*require\(|\"use strict\""
)


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of code; ``code`` is without a line number and ``indent`` columns of white space."""

    span: Span
    code: Span
    indent: int


def is_import(unit: str) -> bool:
    """Whether a unit of code opens with an import, or the name of its package."""
    first = unit[_numbering(unit) :].lstrip()
    return _IMPORT.match(first) is not None


def code_documents(text: str) -> Iterator[Parts]:
    r"""Yield the definitions of a source file, whole; a long class is a document of its members.

    By indentation, whatever the language; line numbers before the lines are seen through.

    >>> text = "import a\n\ndef f():\n    return 1\n\ndef g():\n    return 2\n"
    >>> [parts[0].span.of(text)[:7] for parts in code_documents(text)]
    ['import ', 'def f()', 'def g()']
    """
    for block in _blocks(_code_lines(text), text):
        size = block[-1].span.end - block[0].span.start
        opening = next((i for i, line in enumerate(block) if _opens(text, line)), None)
        members = None
        if size > DEFINITION_CHARS and opening is not None:
            members = _members(block, opening, text)
        yield members or [Part(Span(block[0].span.start, block[-1].span.end))]


def _numbering(line: str) -> int:
    found = _NUMBER.match(line)
    return found.end() if found else 0


def _code_lines(text: str) -> list[_Line]:
    spans = lines_of(text)
    numbered = sum(_NUMBER.match(text, *span) is not None for span in spans) > 0.8 * len(spans)
    found: list[_Line] = []
    for span in spans:
        shown = _NUMBER.match(text, *span) if numbered else None
        start = shown.end() if shown else span.start
        written = text[start : span.end]
        code = written.lstrip()
        if code:
            indent = len(written[: len(written) - len(code)].expandtabs(4))
            found.append(_Line(span, Span(span.end - len(code), span.end), indent))
    return found


def _opens(text: str, line: _Line) -> bool:
    return _CONTAINS.match(text, *line.code) is not None


def _blocks(lines: Sequence[_Line], text: str) -> Iterator[list[_Line]]:
    """Yield runs of lines: one that is not indented further, and those that are, to its end.

    What introduces a definition (comments, decorators) goes with it, and short statements that
    stand without a blank line between them are one.
    """
    if not lines:
        return
    margin = min(line.indent for line in lines)
    quoted = _Quoted(text)
    block: list[_Line] = []
    deep = False  # the block has an indented line, and so ends with it
    introduced = True  # comments and decorators alone: they go with what follows
    for line in lines:
        outer = line.indent <= margin and not quoted.inside
        opens = outer and _CLOSES.match(text, *line.code) is None
        if block and opens:
            touching = text.count("\n", block[-1].span.end, line.span.start) == 1
            plain = not deep and not _begins_deep(text, line)
            if not (introduced or (touching and plain)):
                yield block
                block, deep, introduced = [], False, True
        if opens:
            introduced = introduced and _INTRODUCES.match(text, *line.code) is not None
        deep = deep or line.indent > margin
        block.append(line)
        quoted.read(line.code)
    yield block


def _begins_deep(text: str, line: _Line) -> bool:
    """Whether a line opens a definition, or introduces one."""
    return text[line.code.end - 1] in ":{(" or _INTRODUCES.match(text, *line.code) is not None


class _Quoted:
    """Follows strings of several lines, between three quotes."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.inside = ""

    def read(self, code: Span) -> None:
        at = code.start
        while at < code.end:
            if self.inside:
                found = self.text.find(self.inside, at, code.end)
                if found < 0:
                    return
                at, self.inside = found + len(self.inside), ""
                continue
            opened = _MANY_LINED.search(self.text, at, code.end)
            if opened is None:
                return
            self.inside, at = opened.group(), opened.end()


_MANY_LINED = re.compile(r"\"\"\"|'''")


def _members(block: Sequence[_Line], opening: int, text: str) -> Parts | None:
    """Return a class's heading, its members, and what closes it; None where it has no members."""
    head = opening + 1
    while head < len(block) and block[head].indent <= block[opening].indent:
        head += 1  # a brace on its own line
    last = len(block)
    while last > head and block[last - 1].indent <= block[opening].indent:
        last -= 1
    members = list(_blocks(block[head:last], text))
    if len(members) < 2:
        return None
    spans = [Span(member[0].span.start, member[-1].span.end) for member in members]
    parts = [Part(Span(block[0].span.start, block[head - 1].span.end), frame=True)]
    parts += [Part(span) for span in spans]
    if last < len(block):
        parts.append(Part(Span(block[last].span.start, block[-1].span.end), frame=True))
    return parts


# -- tables -------------------------------------------------------------------------------------

CELL_LINES = 50
"""A quoted cell of more lines is no cell: a quotation mark stands alone somewhere."""

_RULE = re.compile(r"[\s|:+=-]+")


def table_rows(text: str) -> Iterator[Part]:
    r"""Yield the rows of a table; the heading, and the rule under it, are frames.

    A row goes on while a quoted cell of it is open.

    >>> text = 'id,note\n1,"two\nlines"\n2,x\n'
    >>> [(part.span.of(text), part.frame) for part in table_rows(text)]
    [('id,note', True), ('1,"two\nlines"', False), ('2,x', False)]
    """
    rows = list(_rows(text, lines_of(text)))
    ruled = [i for i, row in enumerate(rows[:4]) if _RULE.fullmatch(row.of(text))]
    header = 1 + max((i for i in ruled if i <= 2), default=0)
    if len(rows) <= header:
        header = 0
    yield from (Part(row, frame=True) for row in rows[:header])
    closing = len(rows) > header and _RULE.fullmatch(rows[-1].of(text)) is not None
    for row in rows[header : len(rows) - closing]:
        yield Part(row)
    if closing:
        yield Part(rows[-1], frame=True)


def _rows(text: str, lines: Sequence[Span]) -> Iterator[Span]:
    i = 0
    while i < len(lines):
        last = i
        if text.count('"', *lines[i]) % 2:
            last = _quote_closes(text, lines, i)
        yield Span(lines[i].start, lines[last].end)
        i = last + 1


def _quote_closes(text: str, lines: Sequence[Span], first: int) -> int:
    """Return the line in which a quotation mark that a line leaves open is closed, or that line."""
    for i in range(first + 1, min(first + CELL_LINES, len(lines))):
        if text.count('"', *lines[i]) % 2:
            return i
    return first
