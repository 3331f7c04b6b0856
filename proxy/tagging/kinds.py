"""What a stretch of text is made of: prose, list, table, JSON, code, log."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from proxy.types import Kind

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
