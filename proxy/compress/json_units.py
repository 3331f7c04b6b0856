r"""Units of a JSON value: the rows of its arrays.

Nothing is decoded or re-serialised: spans are the caller's own characters, and any subset of the
rows of an array, joined by the commas between them, is still valid JSON.

Theory of operation
-------------------
One pass over the tokens; when a container closes, it says which rows it holds, from what the
containers in it said:

- an array: its own items, or, where these are pages (long, and little but arrays of rows), theirs;
- an object: its arrays' rows.  Short arrays beside long ones stay whole, and so do arrays of plain
  values beside others: lists of columns, or columns themselves, of which no row could be dropped;
- an object of many keys without arrays to speak of: its fields, a key with its value each.

What stands between two arrays of rows is structure, and stays.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from proxy.types import Span
from proxy.wire.scan import is_json

MIN_KEYS = 8
"""Objects with fewer keys are one record."""
PAGE_CHARS = 1_000
"""An item shorter than this, on average, is a row, whatever arrays it holds."""
PAGE_SHARE = 0.9
"""An item of which less than this is rows of its own is a row."""
MINOR_SHARE = 0.1
"""An array of less than this share of the longest beside it is no array of rows."""

# A string that never ends runs to the end of the text: it is not tried again from each quote in it.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[\]{},]', re.DOTALL)
_ESCAPE = re.compile(r'\\(?:u[0-9a-fA-F]{4}|["\\/bfnrt])')
_ANY_ESCAPE = re.compile(  # within a string within a string, too
    r'\\+(?:u(d[89ab][0-9a-f]{2})\\+u(d[c-f][0-9a-f]{2})|u([0-9a-f]{4})|(["/bfnrt]))', re.IGNORECASE
)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}

Rows = tuple[Span, ...]
"""The items of one container."""


@dataclass(frozen=True, slots=True)
class _Found:
    """Rows found in a container, ``covered`` characters of them; ``parts`` where in several."""

    covered: int
    rows: Rows = ()
    parts: tuple[_Found, ...] = ()
    plain: bool = False  # an array of which some items are no containers
    fields: bool = False  # of an object


@dataclass(slots=True)
class _Open:
    """A container that has not closed yet."""

    start: int
    commas: list[int]
    found: list[_Found]
    containers: int = 0


def json_items(text: str) -> tuple[Span, ...]:
    """Return all rows, of whatever array.

    >>> text = '{"n": 1, "rows": [{"a": 1}, {"a": 2}]}'
    >>> [span.of(text) for span in json_items(text)]
    ['{"a": 1}', '{"a": 2}']
    """
    return tuple(span for rows in json_rows(text) for span in rows)


def json_rows(text: str) -> tuple[Rows, ...]:
    """Return the rows of each array that they are chosen from, in order.

    They hold at least half of the text; empty where there are no such.  Values one after the other
    (JSON lines) are rows.  Where a string holds most of the text, JSON is looked for in it.

    >>> text = '{"open": [{"a": 1}, {"a": 2}], "closed": [{"a": 3}, {"a": 4}]}'
    >>> [[span.of(text) for span in rows] for rows in json_rows(text)]
    [['{"a": 1}', '{"a": 2}'], ['{"a": 3}', '{"a": 4}']]
    """
    roots, longest = _scan(text)
    if len(roots) > 1:
        return _lines(text, [span for span, _ in roots])
    found = roots[0][1] if roots else None
    if found is not None and 2 * found.covered >= len(text):
        return tuple(_flattened(found))
    inside = Span(longest.start + 1, longest.end - 1)
    if 2 * (inside.end - inside.start) < len(text) or text[inside.start] not in "[{":
        return ()
    return _within_string(text, inside)


def readable(row: str) -> str:
    r"""Return what a row of JSON says, for whoever reads words: without its escapes.

    >>> print(readable(r'{"city": "C\u00e1diz", "note": "a\nb \\\"c\\\""}'))
    {"city": "Cádiz", "note": "a b "c""}
    """
    return _ANY_ESCAPE.sub(_said, row) if "\\" in row else row


def _said(escape: re.Match[str]) -> str:
    high, low, other, sign = escape.groups()
    if high:
        return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00)
    if other:
        return chr(int(other, 16))
    return sign if sign in '"/' else " "


def _scan(text: str) -> tuple[list[tuple[Span, _Found | None]], Span]:
    """Return the values that stand in a text, with what was found in each; the longest string."""
    roots: list[tuple[Span, _Found | None]] = []
    longest = Span(0, 0)
    open_: list[_Open] = []
    for match in _TOKEN.finditer(text):
        mark, at = match.group(), match.start()
        if mark[0] == '"':
            if len(mark) > longest.end - longest.start:
                longest = Span(at, match.end())
        elif mark in "[{":
            open_.append(_Open(at, [], []))
        elif mark == ",":
            if open_:
                open_[-1].commas.append(at)
        elif not open_:
            return [], Span(0, 0)
        else:
            closed = open_.pop()
            close = _close_array if mark == "]" else _close_object
            found = close(text, closed, at)
            if not open_:
                roots.append((Span(closed.start, at + 1), found))
                continue
            open_[-1].containers += 1
            if found is not None:
                open_[-1].found.append(found)
    return ([], Span(0, 0)) if open_ else (roots, longest)


def _close_array(text: str, closed: _Open, end: int) -> _Found | None:
    size, count = end - closed.start, len(closed.commas) + 1
    if count == 1:
        return closed.found[0] if closed.found else None
    pages = _of_length([found for found in closed.found if not found.fields])
    covered = sum(found.covered for found in pages)
    if size >= PAGE_CHARS * count and covered >= PAGE_SHARE * size:
        return _Found(covered, parts=tuple(pages))
    plain = closed.containers < count
    return _Found(size, _items(text, closed, end), plain=plain)


def _close_object(text: str, closed: _Open, end: int) -> _Found | None:
    size = end - closed.start
    arrays = _beside([found for found in closed.found if not found.fields])
    covered = sum(found.covered for found in arrays)
    if len(closed.commas) >= MIN_KEYS - 1 and 2 * covered < size:
        return _Found(size, _items(text, closed, end), fields=True)
    parts = arrays or [found for found in closed.found if found.fields]
    if len(parts) == 1:
        return parts[0]
    fields = any(found.fields for found in parts)
    covered = sum(found.covered for found in parts)
    return _Found(covered, parts=tuple(parts), fields=fields) if parts else None


def _beside(found: Sequence[_Found]) -> list[_Found]:
    """Return which arrays of an object hold rows."""
    sizes = [len(one.rows) for one in found if one.rows]
    if any(one.plain for one in found) and len(set(sizes)) < len(sizes):
        return []  # columns: what is dropped of one would have to go from all
    long = _of_length(found)
    rows = [one for one in long if not one.plain]
    return rows if len(long) > 1 else long


def _of_length(found: Sequence[_Found]) -> list[_Found]:
    longest = max((one.covered for one in found), default=0)
    return [one for one in found if one.covered >= MINOR_SHARE * longest]


def _flattened(found: _Found) -> Iterator[Rows]:
    waiting = [found]
    while waiting:
        one = waiting.pop()
        if one.rows:
            yield one.rows
        waiting += reversed(one.parts)


def _lines(text: str, roots: Sequence[Span]) -> tuple[Rows, ...]:
    between = (text[a.end : b.start] for a, b in pairwise(roots))
    apart = len(roots) > 1 and all("\n" in gap and not gap.strip() for gap in between)
    return (tuple(roots),) if apart else ()


def _items(text: str, closed: _Open, end: int) -> Rows:
    starts = [closed.start + 1, *(comma + 1 for comma in closed.commas)]
    return tuple(_strip(text, a, b) for a, b in zip(starts, [*closed.commas, end], strict=True))


def _strip(text: str, start: int, end: int) -> Span:
    """Leave out the white space around an item; an item of nothing else is its end."""
    start = end - len(text[start:end].lstrip())
    return Span(start, start + len(text[start:end].rstrip()))


def _within_string(text: str, inside: Span) -> tuple[Rows, ...]:
    r"""Return the rows of JSON that is written within a string, as spans of what is written.

    >>> text = r'{"text": "[{\"a\": 1}, {\"a\": 2}]"}'
    >>> [span.of(text) for span in json_items(text)]
    ['{\\"a\\": 1}', '{\\"a\\": 2}']
    """
    decoded: list[str] = []
    places, ahead = [0], [inside.start]  # a character from places[i] on is written ahead[i] later
    length, last = 0, inside.start
    for escape in _ESCAPE.finditer(text, *inside):
        before = text[last : escape.start()]
        decoded.append(before)
        decoded.append(_meant(escape.group()))
        length += len(before) + 1
        last = escape.end()
        places.append(length)
        ahead.append(last - length)
    decoded.append(text[last : inside.end])
    meant = "".join(decoded)
    roots, _ = _scan(meant) if is_json(meant) else ([], None)

    def written(position: int) -> int:
        return position + ahead[bisect_right(places, position) - 1]

    found = roots[0][1] if len(roots) == 1 else None
    if found is None or 2 * found.covered < len(meant):
        return ()
    return tuple(
        tuple(Span(written(start), written(end)) for start, end in rows)
        for rows in _flattened(found)
    )


def _meant(escape: str) -> str:
    """Return the character of an escape; half a surrogate pair is as good as any other."""
    if escape[1] == "u":
        return chr(int(escape.removeprefix("\\u"), base=16))
    return _ESCAPED.get(escape[1], escape[1])
