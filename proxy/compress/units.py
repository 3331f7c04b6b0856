"""From a tagged segment to documents and the units that selection keeps or drops whole.

Theory of operation
-------------------
A segment's text is cut into *documents* (numbered passages, ``<document>`` blocks, headings,
blank-line blocks) and each document into *units*: sentences of prose, lines of lists, logs and
tables, items of JSON arrays, demonstrations.  Every character of the segment belongs to exactly one
of: the head (before the first unit), a unit, the gap after a unit, so a selection of units renders
back to the caller's own characters:

    head  unit gap  unit gap  unit gap(=tail)

A document's *frame* (its label, title or heading, its tags and rulers) is kept when, and only when,
another unit of the document is.  Boundaries never fall inside a protected span (law 4).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import TypeAlias

from proxy.compress.json_units import json_rows, readable
from proxy.compress.lexical import Terms, read_terms
from proxy.compress.line_units import (
    Part,
    Parts,
    are_hits,
    code_documents,
    diff_documents,
    log_entries,
    search_documents,
    table_rows,
)
from proxy.compress.protect import Protection, protected_spans
from proxy.types import Kind, Memory, Segment, Span

MAX_DOCUMENT_CHARS = 2_000
"""Longer blocks are divided at unit ends, so that a vector speaks of one stretch of text."""

_NUMBERED = (
    r"(?:(?:document|passage|doc|source|chunk|excerpt|context|result|snippet|paragraph|article|"
    r"documento|pasaje|dokument|absatz|passage|quelle|文档|段落|دستاویز|فقرة|وثيقة|दस्तावेज़)"
    r"[ \t]*)?(?:[\[(#]{0,2}\d{1,4}[\])]|[#№]?\d{1,4}[.:)])"
)
_LABELLED = (
    r"(?:document|passage|doc|source|chunk|excerpt|result|snippet|title|article|url|file)"
    r"[ \t]*+#?\d{0,4}[ \t]*+[:：]"
)
_HEADING = r"#{1,6}[ \t]+\S|={2,6}[ \t]*\S"
_START = re.compile(rf"(?:\*\*)?(?:{_NUMBERED}|{_LABELLED}|{_HEADING})", re.IGNORECASE)
_OPEN_TAG = re.compile(
    r"<(?:document|doc|passage|item|result|source|chunk|article|page|snippet|entry|row|li|p|tr|"
    r"section|text|context|content)\b[^<>\n]{0,200}>",
    re.IGNORECASE,
)
_CLOSING = re.compile(r"(?:</[A-Za-z][^<>\n]{0,200}>\s*)+|[-=*_~#+]{3,}")
_FRAME = re.compile(r"(?:</?[A-Za-z][^<>\n]{0,200}>\s*)+|[-=*_~#+]{3,}")
_LABEL_WORD = r"(?:document|passage|doc|source|chunk|excerpt|context|result|snippet|article)"
_LABEL_NUMBER = r"(?:[\[(#]{0,2}\d{1,4}[\])]|#?\d{1,4}[.:)])"
_LABEL_TITLE = r"\(title:[^()\n]{0,200}(?:\([^()\n]{0,100}\)[^()\n]{0,100})?\)"
_TITLE_LABEL = re.compile(
    rf"(?:\*\*)?(?:(?:{_LABEL_WORD}[ \t]*)?{_LABEL_NUMBER}[ \t]*(?:{_LABEL_TITLE})?"
    rf"|{_LABEL_WORD}[ \t]*(?:{_LABEL_TITLE}|[:：]))[:：]?[ \t]*",
    re.IGNORECASE,
)
_NUMBER_OF_LABEL = re.compile(rf"(?:\*\*)?(?:{_LABEL_WORD}[ \t]*)?({_LABEL_NUMBER})", re.IGNORECASE)
_BLANK = re.compile(r"\n[ \t\r]*\n\s*")
_LINE = re.compile(r"[^\n]*\n?")
_SENTENCE_END = re.compile(
    r"""(?<![.!?…])[.!?…]++["'”’»)\]]*+(?=\s)|[。！？｡؟।॥۔]+["'”’»」』）)\]]*|\n""",
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[\"“'])(?:[A-Z]|[Mm]rs?|Ms|Dr|Drs|Prof|Sr|Jr|St|Mt|Ft|Gen|Col|Capt|Lt|Sgt|Rev|Hon|"
    r"Gov|Sen|Rep|Pres|vs|etc|cf|al|approx|ca|c|No|Nos|Vol|pp?|Fig|Eq|Sec|Ch|Inc|Ltd|Co|Corp|Bros|"
    r"Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec|i\.e|e\.g|a\.m|p\.m|z\.B|d\.h|bzw|bspw|ggf|"
    r"Nr|Abs|Art|Str|Hr|Fr|Sra?|Dña?|Ud|pág|núm|ed|(?:[A-Z]\.){1,5}[A-Z])\.$"
)


@dataclass(frozen=True, slots=True)
class Unit:
    """What selection keeps or drops whole.  Spans are characters of the leaf.

    ``gap`` is what stands between this unit and the next of its segment (for the last: the rest of
    the segment); ``document`` numbers the documents of the turn, ``stretch`` the runs of at most
    MAX_DOCUMENT_CHARS that they are divided into.  ``head`` is structure that stays whatever is
    kept around it: what stands between two arrays of JSON, before the first row of the second.
    """

    segment: int
    document: int
    stretch: int
    span: Span
    gap: Span
    frame: bool = False
    head: Span | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """One segment, laid out: ``head`` is what precedes its first unit."""

    segment: int
    head: Span
    units: tuple[Unit, ...]


def number_of(title: str) -> Span:
    """Return where a document's label has its number, which says only where it stands.

    >>> [number_of(title) for title in ("Document [3](Title: X)", "[12]", "1984 was a year")]
    [Span(start=9, end=12), Span(start=0, end=4), Span(start=0, end=0)]
    """
    found = _NUMBER_OF_LABEL.match(title)
    return Span(*found.span(1)) if found else Span(0, 0)


@dataclass(frozen=True)
class Cut:
    """A text cut into pieces, wherever it stands; without slots: its index is made once."""

    text: str = field(repr=False)
    kind: Kind
    pieces: tuple[_Piece, ...]

    @cached_property
    def terms(self) -> tuple[Terms, ...]:
        """The pieces' words and character n-grams, for BM25."""
        written = (piece.span.of(self.text) for piece in self.pieces)
        return read_terms([*map(readable, written)] if self.kind is Kind.JSON else [*written])

    @property
    def weight_bytes(self) -> int:
        """About how many bytes this keeps alive: the text, its n-grams, its pieces."""
        return 500 + 22 * len(self.text) + 300 * len(self.pieces)


Cuts: TypeAlias = Memory[Cut]
"""Cuts by text and kind."""


def cut(text: str, kind: Kind, memory: Cuts | None = None) -> Cut:
    """Cut a text of a kind into pieces; what ``memory`` knows is not cut again."""
    if memory is None:
        return Cut(text, kind, tuple(_pieces(text, kind)))
    key = blake2b(f"{kind}:{text}".encode("utf-8", "surrogatepass"), digest_size=32).digest()
    found = memory.get(key)
    if found is None:
        found = cut(text, kind)
        memory.put(key, found)
    return found


def lay_out(segment: Segment, index: int, first_document: int, first_stretch: int = 0) -> Layout:
    r"""Cut one segment into units; documents and stretches are numbered from the given figures.

    >>> from proxy.types import Address, Component
    >>> text = "[1] Ada wrote it. It ran.\n[2] Bob read it."
    >>> s = Segment(Address(0, 0), Span(0, len(text)), text, Component.CONTEXT, Kind.PROSE, "x")
    >>> [(u.document, u.frame, u.span.of(text)) for u in lay_out(s, 0, 0).units][:3]
    [(0, True, '[1]'), (0, False, 'Ada wrote it.'), (0, False, 'It ran.')]
    """
    made = cut(segment.text, segment.kind)
    return place(made, segment, index, first_document, first_stretch)


def place(
    made: Cut, segment: Segment, index: int, first_document: int, first_stretch: int
) -> Layout:
    """Return the units of a segment whose text was cut."""
    pieces, offset = made.pieces, segment.span.start
    if not pieces:
        return Layout(index, segment.span, ())
    ends = [(p.head or p.span).start for p in pieces[1:]] + [len(segment.text)]
    units = tuple(
        Unit(
            segment=index,
            document=first_document + piece.document,
            stretch=first_stretch + piece.stretch,
            span=_moved(piece.span, offset),
            gap=Span(offset + piece.span.end, offset + end),
            frame=piece.frame,
            head=_moved(piece.head, offset) if piece.head else None,
        )
        for piece, end in zip(pieces, ends, strict=True)
    )
    return Layout(index, Span(offset, units[0].span.start), units)


def _moved(span: Span, offset: int) -> Span:
    return Span(offset + span.start, offset + span.end)


@dataclass(frozen=True, slots=True)
class _Piece:
    document: int
    stretch: int
    span: Span
    frame: bool = False
    head: Span | None = None


def _pieces(text: str, kind: Kind) -> Iterator[_Piece]:
    match kind:
        case Kind.JSON:
            yield from _rows(text)
        case Kind.TABLE:
            yield from _of_parts([_unfenced(text, list(table_rows(text)))])
        case Kind.LOG:
            entries = [Part(entry) for entry in log_entries(text)]
            yield from _of_parts([_unfenced(text, entries)])
        case Kind.DIFF:
            yield from _of_parts(diff_documents(text))
        case Kind.CODE:
            yield from _of_parts(code_documents(text))
        case Kind.SEARCH:
            yield from _of_parts(search_documents(text) if are_hits(text) else _results(text))
        case _:
            yield from _passages_in(text, kind)


def _rows(text: str) -> Iterator[_Piece]:
    """Rows of JSON, each a document.

    A record without rows has no units: it is kept, since half a record is none.
    """
    number, end = 0, 0
    for rows in json_rows(text):
        for place, span in enumerate(rows):
            head = Span(end, span.start) if number and not place else None
            yield _Piece(number, number, span, head=head)
            number, end = number + 1, span.end


def _results(text: str) -> Iterator[Parts]:
    """Results of a search, each whole: a title, a link, a snippet."""
    yield from ([Part(block)] for block in _documents(text, Protection(())))


def _unfenced(text: str, parts: Parts) -> Parts:
    """Join the lines of a fence, in which nothing is cut."""
    if "```" not in text:
        return parts
    protection = Protection(protected_spans(text))
    joined: Parts = []
    for part in parts:
        if joined and (protection.cuts(part.span.start) or protection.cuts(joined[-1].span.end)):
            joined[-1] = Part(Span(joined[-1].span.start, part.span.end))
        else:
            joined.append(part)
    return joined


def _of_parts(documents: Iterable[Parts]) -> Iterator[_Piece]:
    """Pieces of documents whose parts are whole lines."""
    stretch = 0
    for number, parts in enumerate(documents):
        frames = iter(parts)
        for group in _by_size([part.span for part in parts]):
            yield from (_Piece(number, stretch, span, next(frames).frame) for span in group)
            stretch += 1


def _passages_in(text: str, kind: Kind) -> Iterator[_Piece]:
    protection = Protection(protected_spans(text))
    blocks = (_demonstrations if kind is Kind.DEMO else _documents)(text, protection)
    stretch = 0
    for number, block in enumerate(blocks):
        title, units = _block_units(text, block, kind, protection)
        if title:
            yield _Piece(number, stretch, title, frame=True)
        for group in _by_size(units):
            frames = (_is_frame(s.of(text)) for s in group)
            yield from (_Piece(number, stretch, s, f) for s, f in zip(group, frames, strict=True))
            stretch += 1


def _block_units(
    text: str, block: Span, kind: Kind, protection: Protection
) -> tuple[Span | None, list[Span]]:
    """Return the title of one document, if it has one, and its units."""
    if kind is Kind.DEMO:
        return None, [block]
    lines = kind is Kind.LIST
    title = _title(text, block, protection, announced=lines)
    body = Span(title.end, block.end) if title else block
    units = _lines(text, body, protection) if lines else [*_sentences(text, body, protection)]
    return _strip(text, title) if title else None, units


def _is_frame(unit: str) -> bool:
    """Whether a unit is structure only: a tag, or a ruler."""
    return _FRAME.fullmatch(unit) is not None


def _by_size(spans: Sequence[Span]) -> Iterator[Sequence[Span]]:
    """Divide a document's units into runs of at most MAX_DOCUMENT_CHARS."""
    start = 0
    for i in range(1, len(spans) + 1):
        if i == len(spans) or spans[i].end - spans[start].start > MAX_DOCUMENT_CHARS:
            yield spans[start:i]
            start = i


# -- documents ----------------------------------------------------------------------------------


def _documents(text: str, protection: Protection) -> Iterator[Span]:
    """Blank-line blocks, divided again where a line opens a numbered or labelled passage.

    A bare heading joins the block after it, a closing tag or ruler the one before it, and blocks
    within one element (``<document>`` to ``</document>``) stay together.
    """
    current: Span | None = None
    joins, until = False, 0
    for block in _blocks(text, protection):
        for part in _passages(text, block, protection):
            if current is not None and (
                joins or part.start < until or _CLOSING.fullmatch(text, *part)
            ):
                current = Span(current.start, part.end)
            else:
                if current is not None:
                    yield current
                current = part
            joins = _is_bare_heading(part.of(text))
            until = max(until, _element_end(text, part.start))
    if current is not None:
        yield current


def _element_end(text: str, start: int) -> int:
    """Return where the element that opens at ``start`` closes; 0 where none does before another.

    The search for the next one bounds the search for the end, so that it all stays linear.
    """
    opening = _OPEN_TAG.match(text, start)
    if opening is None:
        return 0
    name = re.split(r"[\s>/]", opening.group()[1:], maxsplit=1)[0]
    following = text.find(f"<{name}", opening.end())
    return text.find(f"</{name}>", opening.end(), len(text) if following < 0 else following) + 1


def _blocks(text: str, protection: Protection) -> Iterator[Span]:
    start = 0
    for blank in _BLANK.finditer(text):
        if protection.cuts(blank.start()):
            continue
        block = _strip(text, Span(start, blank.start()))
        if block.end > block.start:
            yield block
        start = blank.end()
    block = _strip(text, Span(start, len(text)))
    if block.end > block.start:
        yield block


def _passages(text: str, block: Span, protection: Protection) -> Iterator[Span]:
    starts = [block.start]
    for line in _line_spans(text, block, protection):
        opens = _START.match(text, line.start) or _OPEN_TAG.match(text, line.start)
        if (
            opens
            and line.start > block.start
            and not _is_bare_heading(text[starts[-1] : line.start])
        ):
            starts.append(line.start)
    for start, end in zip(starts, [*starts[1:], block.end], strict=True):
        yield _strip(text, Span(start, end))


def _is_bare_heading(block: str) -> bool:
    """Whether a block only announces what follows: a heading, a label, an opening tag."""
    stripped = block.strip()
    if not stripped or len(stripped) > 160 or stripped.count("\n") > 3:
        return False
    last = stripped.rsplit("\n", 1)[-1].strip()
    if last[0] in "#<" and last[-1] not in ".!?。":
        return last[0] == "#" or not last.startswith("</")
    return (
        last[-1] in ":："
        or re.fullmatch(r"\*\*[^*]+\*\*|[\[(#]{0,2}\d{1,4}[\])]?[.:]?", last) is not None
    )


def _title(text: str, block: Span, protection: Protection, *, announced: bool) -> Span | None:
    """Return what opens a document: ``[3]``, ``Document [1](Title: X)``, a heading line.

    Where only what is ``announced`` as a heading is one, a short line is not: it is an item.
    """
    end = text.find("\n", block.start, block.end)
    is_title = _is_announced if announced else _is_title_line
    if end >= 0 and is_title(text[block.start : end].strip()):
        title = _extend_title(text, Span(block.start, end), block)
        wrapped = not _line_breaks(text, block.start, end, end + 1)
        if not wrapped and not protection.cuts(title.end):
            return title
    if announced:
        return None
    label = _TITLE_LABEL.match(text, block.start, block.end if end < 0 else end)
    if label and label.end() < block.end and not protection.cuts(label.end()):
        return Span(block.start, label.end())
    return None


def _is_announced(line: str) -> bool:
    if len(line) > 160:
        return False
    return line[0] in "#<" or line[-1] in ":：" or line.startswith("**")


def _is_title_line(line: str) -> bool:
    if _is_announced(line):
        return True
    if _START.match(line):
        return len(line) <= 160 and line[-1] not in ".!?。；;,"
    return len(line) <= 100 and line[-1] not in ".!?…。！？।؟,;:\"')”"


def _extend_title(text: str, title: Span, block: Span) -> Span:
    """Take further heading lines (``<document>`` then ``<source>X</source>``), up to three."""
    for _ in range(3):
        end = text.find("\n", title.end + 1, block.end)
        if end < 0:
            return title
        line = text[title.end + 1 : end].strip()
        if not (line.startswith("<") and len(line) <= 160):
            return title
        title = Span(title.start, end)
    return title


# -- units --------------------------------------------------------------------------------------


def _sentences(text: str, body: Span, protection: Protection) -> Iterator[Span]:
    start = body.start
    for match in _SENTENCE_END.finditer(text, body.start, body.end):
        end = match.end()
        if end >= body.end:
            break
        if protection.cuts(end) or not _ends_sentence(text, start, match):
            continue
        yield _strip(text, Span(start, end))
        start = end
    yield _strip(text, Span(start, body.end))


def _ends_sentence(text: str, start: int, match: re.Match[str]) -> bool:
    mark, end = match.group(), match.end()
    if mark == "\n":
        return _line_breaks(text, start, match.start(), end)
    if mark[0] == ".":
        if _ABBREVIATION.search(text, max(start, match.start() - 12), match.start() + 1):
            return False
        following = text[end : end + 40].lstrip()
        return not following or not following[0].islower()
    return True


def _line_breaks(text: str, start: int, newline: int, following: int) -> bool:
    """Whether a single newline parts units: not where a line was only wrapped."""
    line_start = max(text.rfind("\n", start, newline) + 1, start)
    before = text[line_start:newline].rstrip()
    after = text[following : following + 40].lstrip(" \t")
    if not before or not after:
        return False
    wrapped = len(before) >= 40 and before[-1] not in ".!?:;。！？" and after[0].islower()
    return not wrapped


def _line_spans(text: str, body: Span, protection: Protection) -> Iterator[Span]:
    """Lines with their ends; those that a protected span joins are one."""
    start = body.start
    for match in _LINE.finditer(text, body.start, body.end):
        if match.end() > start and not (match.end() < body.end and protection.cuts(match.end())):
            yield Span(start, match.end())
            start = match.end()


def _lines(text: str, body: Span, protection: Protection) -> list[Span]:
    """One unit a line; an indented line continues the one above it."""
    units: list[Span] = []
    for line in _line_spans(text, body, protection):
        span = _strip(text, line)
        if span.end == span.start:
            continue
        if units and text[line.start] in " \t":
            units[-1] = Span(units[-1].start, span.end)
        else:
            units.append(span)
    return units


_DEMO_START = re.compile(
    r"(?:q|question|input|problem|example|user|text|sentence|review)[ \t]*+\d*+[ \t]*+[:：.]",
    re.IGNORECASE,
)


def _demonstrations(text: str, protection: Protection) -> Iterator[Span]:
    """Question-answer blocks: each opens with the label that opens the first."""
    whole = _line_spans(text, Span(0, len(text)), protection)
    lines = [line for line in whole if line.of(text).strip()]
    label = next(
        (m.group().lower() for m in (_DEMO_START.match(text, s.start) for s in lines) if m), None
    )
    if label is None:
        yield from _blocks(text, protection)
        return
    word = re.sub(r"[\d\s]+", "", label)
    starts = [
        line.start
        for line in lines
        if (m := _DEMO_START.match(text, line.start))
        and re.sub(r"[\d\s]+", "", m.group().lower()) == word
    ]
    if text[: starts[0]].strip():
        yield _strip(text, Span(0, starts[0]))
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        yield _strip(text, Span(start, end))


def _strip(text: str, span: Span) -> Span:
    start, end = span
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return Span(start, end)
