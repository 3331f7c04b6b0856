"""What is left of a text after compression, measured on the text alone.

Theory of operation.  An *item* is something that must not be altered: a number with its currency or
percent sign, a URL, an e-mail address, an identifier, a negation, a name of several words.  An item
of the input is *retained* where the output has it in the same form; an item of the output is
*corrupt* where the input has it less often in that form: "$1" that became "1", two numbers that
stand together as one, half a URL.  Characters are measured the same way: a grapheme of the output
that the input has less often is *broken*.  No pattern here is shared with the code under test.

A worked example: "Pay $1 or 1,000 € to a_b" -> "Pay 1 or 1,000 € to" retains one number of two and
no identifier of one, and has one corrupt number, "1".
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import chain
from typing import Final

import regex

from common import normalised
from proxy.types import Span

NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.])[$€£¥]?(?:\d{1,3}(?:[ \u00a0\u202f]\d{3})+(?!\d)|\d+(?:[.,:]\d+)*)%?"
)
URL = re.compile(r"(?:https?://|www\.)[^\s<>\"'()\[\]]*[^\s<>\"'()\[\].,;:!?]")
EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
IDENTIFIER = re.compile(
    r"(?<![A-Za-z0-9_-])(?:"
    r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"  # UUID
    r"|0x[0-9a-fA-F]+|(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{8,}"  # hexadecimal
    r"|[A-Za-z0-9]+(?:_[A-Za-z0-9]+)+"  # snake_case
    r"|[a-z]+[A-Z][A-Za-z0-9]*"  # camelCase
    r")(?![A-Za-z0-9_-])"
)
_NEGATIONS = (
    "no|not|nor|never|none|neither|nothing|nobody|nowhere|without|cannot"
    "|nunca|jamás|sin|ni|nada|nadie|ningún|ninguna|ninguno|नहीं|मत|बिना"
    "|لا|لم|لن|ليس|ليست|بدون|не|нет|без|nicht|kein|keine|nie|ohne|ไม่"
)
NEGATION = re.compile(
    rf"(?<![\w'’])(?:(?:{_NEGATIONS})(?![\w'’])|\w+n['’]t(?!\w))|[不没沒無无]", re.IGNORECASE
)
_CAPITALISED = r"[A-Z][a-z'’-]+"
NAME = re.compile(
    rf"(?<![\w'’-]){_CAPITALISED}(?: (?:(?:of|the|of the|de|la|van|von) )?{_CAPITALISED})+"
)

EXACT: Final[Mapping[str, re.Pattern[str]]] = {
    "number": NUMBER,
    "url": URL,
    "email": EMAIL,
    "identifier": IDENTIFIER,
    "negation": NEGATION,
}
"""Kinds of item that may be dropped, and may never be altered."""

KINDS: Final = (*EXACT, "name")


@lru_cache(maxsize=4)  # many outputs are measured against one input
def items(text: str) -> dict[str, Counter[str]]:
    """Count the items of a text by kind, names left out.

    >>> {kind: list(found) for kind, found in items("Don't pay $1 000 to a_b.").items() if found}
    {'number': ['$1 000'], 'identifier': ['a_b'], 'negation': ["Don't"]}
    """
    return {kind: Counter(pattern.findall(text)) for kind, pattern in EXACT.items()}


@lru_cache(maxsize=4)
def names(text: str) -> frozenset[str]:
    """Return the capitalised names of several words.

    >>> sorted(names("In Kiel, Anna Maria Lund and the Bank of England met K. Holm."))
    ['Anna Maria Lund', 'Bank of England', 'In Kiel']
    """
    return frozenset(NAME.findall(text))


def retained(before: str, after: str) -> dict[str, float | None]:
    """Return, per kind, the share of the input's distinct items that the output has.

    None where the input has no such item.
    """
    had, has = items(before), items(after)
    shares: dict[str, float | None] = {
        kind: _share(len(had[kind].keys() & has[kind].keys()), len(had[kind])) for kind in EXACT
    }
    named = names(before)
    shares["name"] = _share(sum(_stands(name, after) for name in named), len(named))
    return shares


def corrupt(before: str, after: str) -> dict[str, list[str]]:
    """Return, per kind, the items of the output that the input has less often in that form.

    >>> corrupt("from 12 of the 345 to $7", "from 12 345 to 7")["number"]
    ['12 345', '7']
    """
    had, has = items(before), items(after)
    return {kind: sorted((has[kind] - had[kind]).elements()) for kind in EXACT}


def joined_names(before: str, after: str) -> list[str]:
    """Return the names of the output that do not stand in the input: what lay between is gone.

    >>> joined_names("Anna Lund met Karl Holm.", "Anna Lund Karl Holm.")
    ['Anna Lund Karl Holm']
    """
    return sorted(name for name in names(after) if not _stands(name, before))


def broken(before: str, after: str, marks: str = "…") -> int:
    """Count the graphemes of the output that the input has less often; blanks do not count.

    ``marks`` are characters that may be inserted.

    >>> broken("नहीं 🏳️‍🌈", "नही 🏳️")
    2
    """
    return sum((_graphemes(after, marks) - _graphemes(before, "")).values())


@lru_cache(maxsize=4)
def _graphemes(text: str, leave_out: str) -> Counter[str]:
    found = regex.findall(r"\X", text)
    return Counter(one for one in found if not one.isspace() and one not in leave_out)


def _stands(name: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


# -- answers and evidence -----------------------------------------------------------------------


def answer_kept(text: str, answers: Iterable[str]) -> bool:
    """Whether an answer stands in the text, contiguous; both normalised as SQuAD does."""
    found = normalised(text)
    return any(wanted in found for wanted in map(normalised, answers) if wanted)


_WORD = re.compile(r"\S+")
_END = re.compile(r"(?<=[.!?؟।])[\"”’)\]]*\s+|(?<=[。！？])|\n+")


def sentence_at(text: str, start: int, end: int) -> str:
    """Return the sentence, or the sentences, that ``text[start:end]`` lies in.

    >>> sentence_at("It is old. It opened in 1895. It is 98 km long.", 23, 27)
    'It opened in 1895.'
    """
    edges = [0, *(match.end() for match in _END.finditer(text)), len(text)]
    first = max(edge for edge in edges if edge <= start)
    last = edges[bisect_left(edges, end)]
    return text[first:last].strip()


def stands_verbatim(passage: str, text: str) -> bool:
    """Whether a passage stands in the text, white space aside."""
    return " ".join(passage.split()) in " ".join(text.split())


def words_kept(text: str, relevant: Sequence[Span], kept: Sequence[Span]) -> float:
    """Return the share of the words of some stretches that lie in what was kept, whole.

    >>> words_kept("one two three four", [Span(4, 18)], [Span(0, 8), Span(14, 18)])
    0.6666666666666666
    """
    inside = bytearray(len(text))
    for span in kept:
        inside[span.start : span.end] = b"\1" * (span.end - span.start)
    words = [word.span() for span in relevant for word in _WORD.finditer(text, *span)]
    return sum(all(inside[slice(*word)]) for word in words) / max(1, len(words))


def aligned(before: str, after: str) -> list[Span]:
    """Return where the words of a shortened text stood, by the longest matching runs of words."""
    old = [Span(*match.span()) for match in _WORD.finditer(before)]
    matcher = SequenceMatcher(
        None, [span.of(before) for span in old], after.split(), autojunk=False
    )
    runs = (range(a, a + size) for a, _, size in matcher.get_matching_blocks())
    return [old[i] for i in chain.from_iterable(runs)]


def demonstrations_whole(demonstrations: Sequence[str], text: str) -> float:
    """Return the share of the demonstrations that stand in the text verbatim."""
    whole = sum(stands_verbatim(one, text) for one in demonstrations)
    return whole / len(demonstrations)


def parses(text: str) -> bool:
    """Whether what stands between the first brace and the last is JSON."""
    begins, ends = text.find("{"), text.rfind("}")
    try:
        json.loads(text[begins : ends + 1])
    except ValueError:
        return False
    return True
