"""What a stretch of text is made of: prose, list, table, JSON, code, log, diff, search results."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

from proxy.types import Kind
from proxy.wire.scan import is_json

_ENOUGH = 200  # lines looked at to judge a block
_LIST = re.compile(r"(?:[-*•+–·▪◦]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)])[ \t]")
_LOG = re.compile(
    r"(?:\[?\(?\d{4}[-/]\d\d[-/]\d\d[T \]]"
    r"|\[?\d\d:\d\d:\d\d|[A-Z][a-z]{2} [ \d]?\d \d\d:\d\d:\d\d "
    r"|\[?(?:TRACE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL|CRITICAL|NOTICE)\b[\]: ]"
    r"|\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3} |[IWEF]\d{4} \d\d:\d\d)"
)
_TRACE = re.compile(
    r"(?:Traceback \(most recent|File \"[^\"]{1,300}\", line \d+|at [\w$.<>/]{1,200}\(|Caused by: "
    r"|Exception in thread |[\w.]{1,80}(?:Error|Exception): |goroutine \d+ \[|panic: )"
)
_CODE = re.compile(
    r"(?:def |class |import |from [\w.]+ import |return\b|if .{0,120}[:{]$|for .{0,120}[:{]$"
    r"|while .{0,120}[:{]$"
    r"|else\b.{0,4}$|elif |try:|except\b|with .{0,120}:$|@\w|#include|public |private "
    r"|protected |static "
    r"|func |fn |let |const |var |function\b|package |using [\w.]+;|namespace |struct |enum |\}"
    r"|\{$|</?\w+[ >/]"
    r"|SELECT |INSERT |CREATE |UPDATE |DELETE |FROM |WHERE |JOIN |ALTER |<!|<\?|//|/\*"
    r"|[+-]{3} [ab]/|@@ "
    r"|[`\"]?\w{1,60}[`\"]? (?:INTEGER|INT|BIGINT|SERIAL|TEXT|VARCHAR|NUMERIC|DECIMAL|TIMESTAMP"
    r"|BOOLEAN|DATE)\b|diff --git|\$ \w|sudo |[\w.\[\]]{1,60} [-+*/]?= )",
)
_CODE_END = (";", "{", "}", "):", ");", "},", "],", "=>", "*/")


def line_kind(line: str) -> Kind:
    """Judge one line by its first and last characters."""
    head = line[:400]
    if head.startswith("|") or head.count("|") >= 3 or head.count("\t") >= 2:
        return Kind.TABLE
    if _LOG.match(head) or _TRACE.match(head):
        return Kind.LOG
    if head.startswith(("{", "}")) or (_CODE.match(head) and not head.endswith((". ", "."))):
        return Kind.CODE
    if _LIST.match(head):
        return Kind.LIST
    if line.endswith(_CODE_END):
        return Kind.CODE
    return Kind.PROSE


def kind_of(lines: Sequence[str]) -> Kind:
    """Judge a block by the majority of its lines; a comma-separated table by its even commas."""
    seen = [line.strip() for line in lines[:_ENOUGH]]
    if is_csv(seen):
        return Kind.TABLE
    kinds = [line_kind(line) for line in seen]
    for kind in (Kind.TABLE, Kind.LOG, Kind.CODE, Kind.LIST):
        share = kinds.count(kind) / max(1, len(kinds))
        least = 1 if kind is Kind.LOG else 2
        if kinds.count(kind) >= least and share >= (0.3 if kind is Kind.LOG else 0.5):
            return kind
    return Kind.PROSE


def is_csv(lines: Sequence[str]) -> bool:
    """Tell whether lines are comma- or semicolon-separated rows: short cells, even counts."""
    rows = [line for line in lines if line]
    if len(rows) < 3:
        return False
    for comma in ",;":
        counts = [row.count(comma) for row in rows]
        usual = counts[0]
        even = sum(count == usual for count in counts) >= 0.9 * len(counts)
        if usual and even and (usual >= 2 or ", " not in rows[0]) and ". " not in rows[0]:
            return not rows[0].endswith((".", "?", ":", ","))
    return False


class JsonFinder:
    """Finds JSON values in one text, within a bound on the characters spent on failures."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._spare = 4 * len(text) + 1000
        # Numbers stay text: a number of ten thousand digits must not cost, or raise.
        self._decoder = json.JSONDecoder(parse_int=str, parse_float=str)

    def end_of_value(self, start: int) -> int | None:
        """Return where the object or array that opens at ``start`` ends, if one does."""
        if self._spare <= 0:
            return None
        try:
            value, end = self._decoder.raw_decode(self._text, start)
        except json.JSONDecodeError as wrong:
            self._spare -= wrong.pos - start + 50
            return None
        except RecursionError:
            self._spare -= 10_000
            return None
        rest = self._text[end : end + 200].partition("\n")[0]
        worth = isinstance(value, dict) or any(isinstance(v, (dict, list, str)) for v in value)
        return end if worth and not rest.strip(" \t\r,;") else None


# -- what a tool returned -----------------------------------------------------------------------

_HEAD = 20_000  # characters looked at to judge a result
_HUNK = re.compile(r"^@@@* -\d+(?:,\d+)?(?: -\d+(?:,\d+)?)* \+\d+(?:,\d+)? @@@*", re.MULTILINE)
_PATCHED = re.compile(r"^(?:diff --git |\+\+\+ |Index: )", re.MULTILINE)
_HIT = re.compile(r"(?:[A-Za-z]:\\)?[^\s:,;|\"'{}()<>]{1,300}?[:-]\d+[:-]")
_PATH = re.compile(r"(?:[\w.@~+-]*/)+[\w.@+-]*")
_NUMBER = re.compile(r"[ ]{0,8}\d{1,6}(?:\t|→|[ ]?\| )")
_LINK = re.compile(r"^.{0,20}?https?://\S+[ \t]*$", re.MULTILINE)
_LINKS, _RESULT_CHARS = 3, 3_000
_CELLS = re.compile(r"\S(?: ?\S)*")


def result_kind(text: str) -> Kind | None:
    r"""Return what a tool returned as a whole, or None where it is prose, or of several kinds.

    >>> result_kind('{"ok": 1}'), result_kind("src/a.py:3:x = 1\nsrc/b.py:9:x = 2")
    (<Kind.JSON: 'json'>, <Kind.SEARCH: 'search'>)
    """
    if _is_json(text):
        return Kind.JSON
    head = text[:_HEAD]
    if _HUNK.search(head) and _PATCHED.search(head):
        return Kind.DIFF
    lines = [line for line in head.split("\n")[:_ENOUGH] if line.strip()]
    if len(lines) < 2:
        return None
    return Kind.SEARCH if _is_search(head, lines) else _kind_of_lines(lines)


def _is_search(head: str, lines: Sequence[str]) -> bool:
    """Tell whether these are hits in files, paths, or short texts with a link each."""
    links = len(_LINK.findall(head))
    return (
        _share(lines, lambda line: None if _LOG.match(line) else _HIT.match(line)) >= 0.6
        or _share(lines, _PATH.fullmatch) >= 0.8
        or (links >= _LINKS and len(head) <= _RESULT_CHARS * links)
    )


def _kind_of_lines(lines: Sequence[str]) -> Kind | None:
    if _share(lines, _NUMBER.match) >= 0.8:
        return Kind.CODE  # a file, shown with the numbers of its lines
    kind = kind_of(lines)
    if kind in {Kind.TABLE, Kind.LOG, Kind.CODE}:
        return kind
    return Kind.TABLE if _is_aligned(lines) else None


def _share(lines: Sequence[str], fits: Callable[[str], object]) -> float:
    return sum(fits(line) is not None for line in lines) / len(lines)


def _is_json(text: str) -> bool:
    """Tell whether a text is one JSON value that holds others, or one such value a line."""
    start = text.lstrip()[:1]
    if start not in {"{", "[", '"'}:
        return False
    if is_json(text):
        return start != '"'
    values = [line for line in text.split("\n") if line.strip()]
    return len(values) > 1 and all(v.lstrip()[0] in "{[" and is_json(v) for v in values)


def _is_aligned(lines: Sequence[str]) -> bool:
    """Tell whether lines are columns set apart by two blanks or more, under a heading."""
    cells = [len(_CELLS.findall(line.strip())) for line in lines]
    even = sum(abs(count - cells[0]) <= 1 for count in cells)
    return len(lines) >= 3 and cells[0] >= 3 and even >= 0.9 * len(cells)
