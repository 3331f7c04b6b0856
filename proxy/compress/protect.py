"""Protected spans (law 4): stretches that no method may cut inside.

A whole unit may be dropped; a kept one is intact.  Unit boundaries and word deletion both ask here.
The patterns are linear: no nested quantifiers, bounded look-arounds.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from functools import cache

from proxy.types import Span

PATTERNS = (
    ("```", r"```.*?(?:```|\Z)"),  # fenced code
    ("`", r"`[^`\n]{1,400}`"),  # inline code
    ("://", r"\b[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s<>\"']+"),  # URLs
    ("@", r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"),  # e-mail
    ("/", r"(?<![\w.])(?:~|\.{1,2})?/[\w.-]+(?:/[\w.-]+)+/?"),  # POSIX paths
    (r":\\", r"\b[A-Za-z]:\\[^\s\"'<>|]+"),  # Windows paths
    ("-[0-9a-fA-F]{4}-", r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"),  # UUID
    (r"[<{\[]", r"[<{\[][A-Za-z/!][^<>{}\[\]\n]{0,200}[>}\]]"),  # tags, placeholders
    (r"\[", r"\[\d{1,4}(?:[-,] ?\d{1,4})*\]"),  # citations
    # numbers, dates, with a unit
    (r"\d", r"(?:[$€£¥₹] ?)?\d(?:[\d.,:/]*\d)?(?: ?(?:%|[^\W\d_]{1,12}\b))?"),
    ("“", r"“[^“”\n]{1,300}”"),
    ("«", r"«[^«»\n]{1,300}»"),
    ("「", r"「[^「」\n]{1,300}」"),
    ('"', r"(?<!\w)\"[^\"\n]{1,300}\"(?!\w)"),  # quotations
)
"""What every match holds, and what it is.  A text without the one is not searched for the other."""
_SIGNS = tuple(re.compile(sign) for sign, _ in PATTERNS)


@cache
def _searched(numbers: tuple[int, ...]) -> re.Pattern[str]:
    return re.compile("|".join(PATTERNS[number][1] for number in numbers), re.DOTALL)


def protected_spans(text: str) -> tuple[Span, ...]:
    """Return the protected stretches of ``text``, in order and disjoint.

    >>> text = "see https://a.b/c. It is 3.5 kg"
    >>> [span.of(text) for span in protected_spans(text)]
    ['https://a.b/c', '3.5 kg']
    """
    signs = tuple(number for number, sign in enumerate(_SIGNS) if sign.search(text))
    found = _searched(signs).finditer(text) if signs else ()
    return tuple(_trimmed(text, match.start(), match.end()) for match in found)


def _trimmed(text: str, start: int, end: int) -> Span:
    """Give a sentence's own full stop or comma, and the white space after, back to it.

    No span is made of these alone: each has a sign, a letter or a digit.
    """
    while text[end - 1] in ".,;:!?" or text[end - 1].isspace():
        end -= 1
    return Span(start, end)


class Protection:
    """Answers whether a position lies strictly inside a protected span, in O(log n)."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, spans: Iterable[Span]) -> None:
        """Take disjoint spans in order."""
        ordered = list(spans)
        self._starts = [span.start for span in ordered]
        self._ends = [span.end for span in ordered]

    def cuts(self, position: int) -> bool:
        """Return whether a cut before character ``position`` would split a protected span."""
        i = bisect_right(self._starts, position) - 1
        return i >= 0 and self._starts[i] < position < self._ends[i]
