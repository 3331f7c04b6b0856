"""What has both an opening and a closing: XML tags, fences, demonstrations."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from proxy.tagging.demos import Demos
from proxy.tagging.labels import tag_meaning
from proxy.tagging.words import Label
from proxy.types import Kind

_TOKEN = re.compile(
    r"^[ \t]{0,20}(?P<fence>`{3,80}|~{3,80})(?P<info>[^\n`]{0,60})$"
    r"|(?P<quote>\"\"\"|'''|<<<|>>>)"
    r"|<(?P<close>/)?(?P<name>[A-Za-z\u0080-\uffff][\w.:-]{0,60})(?:[ \t][^<>\n]{0,400})?>",
    re.MULTILINE,
)
_HTML = frozenset(
    [
        "html",
        "body",
        "div",
        "p",
        "ul",
        "ol",
        "section",
        "main",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "head",
        "script",
        "style",
        "nav",
        "header",
        "footer",
        "form",
        "table",
        "article",
        "svg",
        "span",
        "a",
        "b",
        "i",
        "em",
        "strong",
        "li",
        "td",
        "tr",
        "th",
        "tbody",
        "thead",
        "label",
        "button",
        "title",
        "br",
        "pre",
        "img",
        "code",
    ]
)
_HTML_BLOCK = frozenset(
    ["html", "body", "div", "p", "ul", "ol", "section", "main", "table", "head", "svg"]
)
_MOST = 20_000  # tags and fences that are looked at; a text with more is hostile, or data
_MENTION = 100  # a pair in mid-line with less than this inside is a mention of the tags


@dataclass(frozen=True, slots=True)
class Element:
    """A pair and what it encloses; all positions in characters of the text."""

    start: int
    inner_start: int
    inner_end: int
    end: int
    label: Label | None
    rule: str
    kind: Kind | None = None


def find_elements(text: str, tags: Mapping[str, Label], demos: Demos | None) -> list[Element]:
    """Return the pairs of a text by where they start; they nest, and never cross."""
    found: list[Element] = []
    if demos is not None:
        found.append(
            Element(
                demos.start,
                demos.start,
                demos.end,
                demos.end,
                Label.CONTEXT,
                "demonstration",
                Kind.DEMO,
            )
        )
    tokens = list(islice(_TOKEN.finditer(text), _MOST))
    if tokens:
        found += _fences_and_tags(text, tokens, tags)
    return sorted(found, key=lambda e: (e.start, -e.end))


def _fences_and_tags(
    text: str, tokens: list[re.Match[str]], tags: Mapping[str, Label]
) -> Iterator[Element]:
    closers = _closers(tokens)
    opened: dict[str, list[re.Match[str]]] = defaultdict(list)
    until = 0
    for index, token in enumerate(tokens):
        if token.start() < until:
            continue
        closer = closers.get(index)
        if closer is not None:
            end = tokens[closer]
            until = end.end()
            yield _fence(token, end)
        elif token["name"] and not token["close"]:
            opened[token["name"]].append(token)
        elif token["name"] and opened[token["name"]]:
            start = opened[token["name"]].pop()
            pair = _pair(text, start, token, tags)
            if pair is not None:
                yield pair


def _closers(tokens: list[re.Match[str]]) -> dict[int, int]:
    """Return, for each token that may open a fence, the index of the one that closes it."""
    following: dict[str, int] = {}
    closers: dict[int, int] = {}
    for index in range(len(tokens) - 1, -1, -1):
        token = tokens[index]
        sign = (token["fence"] or "")[:3] or token["quote"]
        if not sign:
            continue
        wanted = ">>>" if sign == "<<<" else sign
        if sign != ">>>" and wanted in following:
            closers[index] = following[wanted]
        if not (token["fence"] and token["info"].strip()):
            following[sign] = index
    return closers


def _fence(opening: re.Match[str], closing: re.Match[str]) -> Element:
    start = opening.start("fence") if opening["fence"] else opening.start()
    before = closing.start("fence") if closing["fence"] else closing.start()
    return Element(start, opening.end(), before, closing.end(), None, "fence")


def _pair(
    text: str, opening: re.Match[str], closing: re.Match[str], tags: Mapping[str, Label]
) -> Element | None:
    line = text[max(0, opening.start() - 80) : opening.start()].rpartition("\n")[2].rstrip()
    inner = text[opening.end() : min(closing.start(), opening.end() + 2 * _MENTION)].strip()
    if not inner:
        return None
    name = opening["name"].lower()
    at_start = not line or line.endswith((":", "：", ">"))
    if name in _HTML and name not in tags and not (name == "article" and at_start):
        page = name in _HTML_BLOCK and not line
        return _html(opening.start(), closing.end()) if page else None
    label = tag_meaning(opening["name"], tags)
    mention = not at_start and (len(inner) < _MENTION or label is None)
    if mention or label in {Label.ANSWER, Label.META}:
        return None
    kind = Kind.DEMO if label is Label.DEMO else None
    label = Label.CONTEXT if label is Label.DEMO else label
    places = (opening.start(), opening.end(), closing.start(), closing.end())
    return Element(*places, label, "tag", kind)


def _html(start: int, end: int) -> Element:
    """Return a stretch of HTML as one piece, its tags included."""
    return Element(start, start, end, end, None, "html", Kind.CODE)
