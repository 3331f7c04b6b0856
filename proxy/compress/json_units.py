"""Units of a JSON value: the items of its largest container.

Nothing is decoded or re-serialised: spans are the caller's own characters, and any subset of the
items, joined by the commas between them, is still valid JSON.
"""

from __future__ import annotations

import re
from itertools import pairwise

from proxy.types import Span

MIN_KEYS = 8
"""Objects with fewer keys are one record."""

# A string that never ends runs to the end of the text: it is not tried again from each quote in it.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[\]{},]', re.DOTALL)


def json_items(text: str) -> tuple[Span, ...]:
    """Return the items of the array, or else of the object, that holds most of ``text``.

    An object's item is its key with its value; objects count only from ``MIN_KEYS`` keys, since a
    small record's fields belong together.  Where there is no such container, values one after the
    other (JSON lines) are the items; empty where there is but one.

    >>> text = '{"n": 1, "rows": [{"a": 1}, {"a": 2}]}'
    >>> [span.of(text) for span in json_items(text)]
    ['{"a": 1}', '{"a": 2}']
    """
    arrays: tuple[int, tuple[Span, ...]] = (len(text) // 2, ())
    objects: tuple[int, tuple[Span, ...]] = (len(text) // 2, ())
    roots: list[Span] = []
    open_containers: list[tuple[int, list[int]]] = []  # (start, commas)
    for match in _TOKEN.finditer(text):
        mark, at = match.group(), match.start()
        if mark in "[{":
            open_containers.append((at, []))
        elif mark == "," and open_containers:
            open_containers[-1][1].append(at)
        elif mark in "]}":
            if not open_containers:
                return ()
            start, commas = open_containers.pop()
            if mark == "]" and commas and at - start >= arrays[0]:
                arrays = (at - start, _items(text, start + 1, commas, at))
            elif mark == "}" and len(commas) >= MIN_KEYS - 1 and at - start >= objects[0]:
                objects = (at - start, _items(text, start + 1, commas, at))
            if not open_containers:
                roots.append(Span(start, at + 1))
    return () if open_containers else arrays[1] or objects[1] or _lines(text, roots)


def _lines(text: str, roots: list[Span]) -> tuple[Span, ...]:
    between = (text[a.end : b.start] for a, b in pairwise(roots))
    apart = len(roots) > 1 and all("\n" in gap and not gap.strip() for gap in between)
    return tuple(roots) if apart else ()


def _items(text: str, start: int, commas: list[int], end: int) -> tuple[Span, ...]:
    starts = [start, *(comma + 1 for comma in commas)]
    return tuple(_strip(text, a, b) for a, b in zip(starts, [*commas, end], strict=True))


def _strip(text: str, start: int, end: int) -> Span:
    """Leave out the white space around an item; an item of nothing else is its end."""
    start = end - len(text[start:end].lstrip())
    return Span(start, start + len(text[start:end].rstrip()))
