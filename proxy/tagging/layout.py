"""The layout of a prompt: its paragraphs, and what announces or encloses each.

Theory of operation.  A first pass finds what has both an opening and a closing: XML tags, fences,
demonstrations.  What lies between is read line by line: blank lines end paragraphs; a label or
heading that the vocabulary knows opens a *zone* that lasts until the next one; a paragraph is cut
where its kind changes, and where its first or last line is an ask of its own.  Nothing is decided
here: :mod:`proxy.tagging.decide` does that.  Linear in the text.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from proxy.tagging import demos, words
from proxy.tagging.elements import Element, find_elements
from proxy.tagging.kinds import JsonFinder, is_csv, kind_of, line_kind
from proxy.tagging.labels import Announcement, announce, meaning, numbered_head
from proxy.tagging.voice import Voice, hear
from proxy.tagging.words import Label
from proxy.types import Kind, Span

_LINE = re.compile(r"\S[^\n]*")
_WORD = re.compile(r"[^\W\d_]+(?:[\u0900-\u0dff]+[^\W\d_]*)*")
_RULERS = frozenset("-=*_~#+•·—")
_ITEM = re.compile(r"\d{1,3}[.)][ \t]")
_WRAPPED = 110  # a line longer than this was not wrapped by an editor
_PEEL = 6  # lines at most that are taken from one end of a paragraph
_NUMBERED_DOC = 120  # characters that make "1. ..." a document rather than a list item
_DEEPEST = 8  # nested tags that are looked into
_ONE_LINE = 100  # characters after a label in which another label of the same line is looked for
_INNER = re.compile(r"[ \t](question|query|context|passage|document|answer)[ \t]?:", re.IGNORECASE)
_MOST_LINES = 20_000  # of a text with more, the middle is one paragraph: time is bounded
_EITHER_END = 2_000  # lines at either end that are then still read one by one
_STRUCTURED = frozenset({Kind.TABLE, Kind.LOG, Kind.CODE})


@dataclass(frozen=True, slots=True)
class Zone:
    """What a paragraph stands under: a label, or an enclosing pair."""

    label: Label | None
    rule: str
    closed: bool = False  # has an explicit end
    weak: bool = False  # announced by a sentence, not by a label
    once: bool = False  # covers one paragraph


OPEN = Zone(None, "open")
_DOCUMENT = Zone(Label.CONTEXT, "document")


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, or a mark (label, tag, ruler, cue) between paragraphs."""

    start: int
    end: int
    kind: Kind
    zone: Zone
    mark: str | None = None  # the rule's name, where this is a mark
    head: bool = False  # starts a numbered or titled document
    heading: bool = False  # a heading that announces nothing known
    intro: bool = False  # announces what follows


def read(text: str, tags: Mapping[str, Label]) -> list[Block]:
    """Return the blocks of ``text`` in order; what lies between two blocks is white space."""
    reader = _Reader(text, demos.find(text))
    reader.elements = find_elements(text, tags, reader.demos)
    reader.starts = [element.start for element in reader.elements]
    reader.region(0, len(text), OPEN, 0)
    return reader.blocks


class _Reader:
    """Reads one text, once."""

    def __init__(self, text: str, found: demos.Demos | None) -> None:
        self.text = text
        self.demos = found
        self.elements: list[Element] = []
        self.starts: list[int] = []
        self.blocks: list[Block] = []
        self.json = JsonFinder(text)

    def region(self, start: int, end: int, zone: Zone, depth: int) -> None:
        """Read ``[start, end)``: elements as wholes, what lies between them by lines."""
        at = start
        index = bisect_left(self.starts, start)
        while index < len(self.elements) and self.elements[index].start < end:
            element = self.elements[index]
            if element.start >= at and element.end <= end:
                zone = _Lines(self, at, element.start, zone).read()
                self._element(element, depth)
                at = element.end
            index += 1
        _Lines(self, at, end, zone).read()

    def _element(self, element: Element, depth: int) -> None:
        self._mark(element.start, element.inner_start, element.rule)
        inner = Zone(element.label, element.rule, closed=True)
        if element.kind is not None or (
            element.label in {Label.CONTEXT, None} and element.rule == "fence"
        ):
            self._plain(element, inner)
        elif element.label is Label.CONTEXT or depth >= _DEEPEST:
            _Lines(self, element.inner_start, element.inner_end, inner).read()
        else:
            self.region(element.inner_start, element.inner_end, inner, depth + 1)
        self._mark(element.inner_end, element.end, element.rule)

    def _plain(self, element: Element, zone: Zone) -> None:
        """Add what a fence or demonstrations enclose as one block."""
        inner = self.text[element.inner_start : element.inner_end]
        start = element.inner_start + len(inner) - len(inner.lstrip())
        end = element.inner_start + len(inner.rstrip())
        if start >= end:
            return
        kind = element.kind or self._fenced_kind(start, end, element)
        self.blocks.append(Block(start, end, kind, zone))

    def _fenced_kind(self, start: int, end: int, element: Element) -> Kind:
        if self.text[start] in "{[" and self.json.end_of_value(start) is not None:
            return Kind.JSON
        kind = kind_of(self.text[start:end][:20_000].split("\n"))
        info = self.text[element.start : element.inner_start].strip(" \t\r\n`~\"'<").lower()
        if info and info not in {"text", "txt", "markdown", "md", "plain", "plaintext"}:
            named = {"json": Kind.JSON, "csv": Kind.TABLE, "tsv": Kind.TABLE, "log": Kind.LOG}
            return named.get(info, Kind.CODE)
        return kind

    def _mark(self, start: int, end: int, rule: str) -> None:
        if self.text[start:end].strip():
            self.blocks.append(Block(start, end, Kind.PROSE, OPEN, mark=rule))


class _Lines:
    """Reads a stretch without elements, line by line."""

    def __init__(self, reader: _Reader, start: int, end: int, zone: Zone) -> None:
        self.reader = reader
        self.text = reader.text
        self.start, self.end = start, end
        self.zone = self.base = zone
        self.after = zone  # what a zone of one paragraph gives way to
        self.paragraph: list[Span] = []
        self.head = False
        self.last = start + len(self.text[start:end].rstrip())

    def read(self) -> Zone:
        """Add the stretch's blocks; return the zone that holds at its end."""
        if self.text.count("\n", self.start, self.end) > _MOST_LINES:
            first, last = self._middle()
            first = max(first, self._stretch(self.start, first))
            last = max(first, last)
            self._flush(fresh=True)
            self._whole(first, last)
            self._stretch(last, self.end)
        else:
            self._stretch(self.start, self.end)
        self._flush()
        return self.zone

    def _whole(self, start: int, end: int) -> None:
        """Take a stretch for one paragraph."""
        inner = self.text[start:end]
        if inner.strip():
            span = Span(start + len(inner) - len(inner.lstrip()), start + len(inner.rstrip()))
            self._add(*span, kind_of(self.text[span.start : span.end][:20_000].split("\n")))

    def _middle(self) -> Span:
        """Return what lies between the lines at either end."""
        first, last = self.start, self.end
        for _ in range(_EITHER_END):
            first = self.text.find("\n", first, self.end) + 1
            last = self.text.rfind("\n", self.start, last)
        return Span(first, last)

    def _stretch(self, start: int, end: int) -> int:
        """Read line by line; return the position up to which the text is used."""
        skip = before = start
        for found in _LINE.finditer(self.text, start, end):
            if found.start() < skip:
                continue
            line = found.group().rstrip()
            span = Span(found.start(), found.start() + len(line))
            fresh = self.text.count("\n", before, span.start) >= 2 or before == start
            if fresh:
                self._flush(fresh=True)
            skip = self._line(span, line, fresh=fresh)
            before = max(span.end, skip)
        return before

    def _line(self, span: Span, line: str, *, fresh: bool) -> int:
        """Take one line in; return the position up to which the text is used."""
        if line[0] in "{[" and not self.paragraph:
            end = self.reader.json.end_of_value(span.start)
            if end is not None:
                self._add(span.start, end, Kind.JSON)
                return end
        if self.zone.closed and self.zone.label is Label.CONTEXT:
            self.paragraph.append(span)
        elif not self._structure(span, line, fresh=fresh):
            self.paragraph.append(span)
            if line[-1] in ":：*" and line.rstrip("*_ ")[-1:] in {":", "："}:
                self._introduction(line)
        return span.end

    def _structure(self, span: Span, line: str, *, fresh: bool) -> bool:
        """Take in a line that is a mark, a head or a label; tell whether it was one."""
        if self._expected(span):
            return True
        if line[0] in _RULERS and len(line) >= 3 and not line.strip(line[0]):
            self._flush()
            self._mark(span, "ruler")
            return True
        if self._numbered(span, line):
            return True
        found = announce(line, fresh=fresh)
        if found is not None and self._announced(found, span, line, fresh=fresh):
            return True
        if line[0] == "#" and line.lstrip("#")[:1] in {" ", "\t"} and len(line) <= 200:
            self._flush()
            self._add(span.start, span.end, Kind.PROSE, heading=True)
            return True
        return False

    def _expected(self, span: Span) -> bool:
        """Take in the open item's label, and the label left open, that demonstrations promise."""
        found = self.reader.demos
        if found is None:
            return False
        for place, rule in ((found.item, "label"), (found.closer, "cue")):
            if place is not None and place[0] == span.start:
                self._flush()
                self._mark(Span(*place), rule)
                self.zone = Zone(Label.QUESTION, "demonstration") if rule == "label" else OPEN
                self._rest(span, place[1])
                return True
        return False

    def _numbered(self, span: Span, line: str) -> bool:
        if self.zone.label in {Label.QUESTION, Label.INSTRUCTION} and self.zone.closed:
            return False
        number = numbered_head(line)
        listed = False
        if number is None:
            if len(line) < _NUMBERED_DOC or not _ITEM.match(line):
                return False
            speaks = hear(line).voice in {Voice.COMMAND, Voice.QUESTION}
            if speaks and self.zone.rule != "document":
                return False
            listed = True
        elif line[0] in "[(【" and line[1:2].isdigit() and 8 < len(line) < 60:
            return False  # a footnote, an option, a reference
        elif line[0] not in "[(【" and len(line) - number > 0 and not _parted(line, number):
            return False  # "Section 3 applies to ..." is a sentence
        self._flush()
        if self.zone.label is not Label.CONTEXT:
            self.zone = self.after = replace(_DOCUMENT, weak=listed)
        self.head = True
        self.paragraph.append(span)
        return True

    def _announced(self, found: Announcement, span: Span, line: str, *, fresh: bool) -> bool:
        """Open the zone that a label announces; tell whether the label counts here."""
        within = self.zone.label is Label.CONTEXT
        match found.label:
            case Label.META:
                return self._meta(span, within=within)
            case Label.CONTEXT if within and (not found.alone or not fresh):
                return False
            case Label.INPUT | Label.DEMO if within:
                return False
            case Label.INSTRUCTION | Label.DEMO if not found.alone:
                self._flush()
                # A note inside a document does not end it; a thought or a rule under a label does.
                self.after = self.zone if self.zone.rule == "document" else OPEN
                self.zone = Zone(Label.INSTRUCTION, "label", once=True)
                self.paragraph.append(span)
                return True
            case Label.ANSWER:
                return self._answer(found, span, line, within=within)
            case _:
                self._flush()
                self._mark(Span(span.start, span.start + found.end), "label")
                label = Label.INSTRUCTION if found.label is Label.DEMO else found.label
                self.zone = self.after = Zone(label, "label")
                self._rest(span, span.start + found.end)
                return True

    def _meta(self, span: Span, *, within: bool) -> bool:
        if self.zone.label not in {None, Label.CONTEXT} or self.paragraph:
            return False
        self.head = True
        if not within and not self.zone.closed:
            self.zone = self.after = replace(_DOCUMENT, weak=True)
        self.paragraph.append(span)
        return True

    def _answer(self, found: Announcement, span: Span, line: str, *, within: bool) -> bool:
        last = len(self.text) - span.end <= 100 and not self.text[span.end :].strip()
        if last and len(line) - found.end <= 60 and not line.endswith(("?", "？", "؟")):
            self._flush()
            self._mark(span, "cue")
            return True
        if within or not found.alone:
            return False
        self._flush()
        self._mark(span, "cue")
        self.zone = self.after = OPEN
        return True

    def _rest(self, span: Span, at: int) -> None:
        """Go on with what follows a label on its line, up to further labels of the same line."""
        while at < span.end:
            inner = self._inner_label(at, span.end)
            end = inner[0].start if inner else span.end
            rest = self.text[at:end]
            if rest.strip():
                self.paragraph.append(Span(at + len(rest) - len(rest.lstrip()), end))
            if inner is None:
                return
            mark, label = inner
            self._flush()
            self._mark(mark, "cue" if label is Label.ANSWER else "label")
            self.zone = self.after = OPEN if label is Label.ANSWER else Zone(label, "label")
            at = mark.end

    def _inner_label(self, start: int, end: int) -> tuple[Span, Label] | None:
        """Return a line's next label that opens another zone: ``question: ... context: ...``."""
        if end - start < _ONE_LINE:
            return None
        for inner in _INNER.finditer(self.text, start, end):
            label = meaning(inner.group(1))
            if label is not None and label is not self.zone.label:
                return Span(inner.start(1), inner.end()), label
        return None

    def _introduction(self, line: str) -> None:
        """Let a sentence that ends in a colon announce what follows it."""
        if self.zone.closed or len(line) > 300 or line_kind(line) in _STRUCTURED:
            return
        label = _introduced(line)
        if label is None:
            return
        heard = hear(line)
        if heard.voice is Voice.PASSAGE and heard.size > 120:
            return  # a document that goes on to quote
        if self.zone.label is Label.CONTEXT and not (
            heard.directed and heard.voice in {Voice.COMMAND, Voice.QUESTION}
        ):
            return
        self._flush(intro=True)
        self.zone = self.after = Zone(label, "introduction", weak=True)

    def _flush(self, *, intro: bool = False, fresh: bool = False) -> None:
        """End the paragraph: cut it into blocks and add them."""
        if self.paragraph:
            spans, self.paragraph = self.paragraph, []
            head, self.head = self.head, False
            # A blank line inside leaves only what speaks to the model to be cut off.
            opens = not self.reader.blocks or self.reader.blocks[-1].mark is not None
            ends = not fresh or spans[-1].end >= self.last
            pieces = (
                [spans]
                if self.zone.closed
                else list(_cut(self.text, spans, opens=opens, ends=ends))
            )
            for number, piece in enumerate(pieces):
                lines = [self.text[s.start : s.end] for s in piece[:200]]
                self._add(
                    piece[0].start,
                    piece[-1].end,
                    kind_of(lines) if len(lines) > 1 else line_kind_alone(lines[0]),
                    head=head and number == 0,
                    intro=intro and number == len(pieces) - 1,
                )
        if self.zone.once:
            self.zone = self.after

    def _add(
        self,
        start: int,
        end: int,
        kind: Kind,
        *,
        head: bool = False,
        heading: bool = False,
        intro: bool = False,
    ) -> None:
        self.reader.blocks.append(
            Block(start, end, kind, self.zone, head=head, heading=heading, intro=intro)
        )

    def _mark(self, span: Span, rule: str) -> None:
        self.reader.blocks.append(Block(span.start, span.end, Kind.PROSE, self.zone, mark=rule))


def line_kind_alone(line: str) -> Kind:
    """Judge a block of one line: only a log line, a list item or a table row shows it alone."""
    kind = line_kind(line)
    return kind if kind in {Kind.LOG, Kind.LIST} and len(line) < 600 else Kind.PROSE


def _parted(line: str, number: int) -> bool:
    """Tell whether a document's number is set off from what follows: ``Passage 3: ...``."""
    return line[number - 1] in ":：.)-–—|(]" or line[number : number + 1] in "(:["


def _introduced(line: str) -> Label | None:
    """Return what a sentence that ends in a colon announces: its last telling noun."""
    if words.ABOVE.search(line):
        return Label.QUESTION
    pointed = words.THIS.search(line)
    if pointed and words.LABELS.get(pointed.group(1).lower()) in {Label.CONTEXT, Label.QUESTION}:
        return words.LABELS[pointed.group(1).lower()]
    if words.FORMAT.search(line):
        return Label.INSTRUCTION
    found = [w.lower() for w in _WORD.findall(line)]
    generates = found and found[0] in words.GENERATE
    for place in range(len(found) - 1, -1, -1):
        label = words.LABELS.get(found[place])
        if label is Label.CONTEXT:
            # "tell me a story in which:" has no story to give.
            before = found[max(0, place - 2) : place]
            new = not words.INDEFINITE.isdisjoint(before) and found[0] not in words.PRESENTING
            wishes = generates or new or not _presents(line, found)
            return Label.INSTRUCTION if wishes else label
        if label in {Label.INPUT, Label.QUESTION, Label.INSTRUCTION}:
            return label
    return None


def _presents(line: str, found: list[str]) -> bool:
    """Tell whether a sentence hands over a text, as against speaking of one."""
    hands = words.COMPREHEND | words.PRESENTING
    return found[0] in hands or len(found) <= 4 or words.POINT.search(line) is not None


def _cut(text: str, spans: list[Span], *, opens: bool, ends: bool) -> Iterator[list[Span]]:
    """Cut a paragraph where its kind changes and where its first or last lines are asks."""
    first, last = 0, len(spans)
    lines = [text[s.start : s.end] for s in spans[:400]]
    if len(spans) < 2:
        yield spans
        return
    if len(spans) <= 400:
        prose = _prose_before(lines)
        if prose:
            yield from ([span] for span in spans[:prose])
            yield spans[prose:]
            return
    while first < min(_PEEL, len(lines) - 1) and _asks_alone(
        lines[first], lines[first + 1], opens=opens
    ):
        yield [spans[first]]
        first += 1
    tail: list[list[Span]] = []
    while last - first > 1 and len(tail) < _PEEL:
        line = text[spans[last - 1].start : spans[last - 1].end]
        above = text[spans[last - 2].start : spans[last - 2].end]
        if not _asks_after(line, above, ends=ends):
            break
        tail.append([spans[last - 1]])
        last -= 1
    yield spans[first:last]
    yield from reversed(tail)


def _prose_before(lines: list[str]) -> int:
    """Return how many lines of prose come before a table, log or code in one paragraph."""
    for count in range(1, min(4, len(lines) - 1)):
        rest = [line.strip() for line in lines[count:]]
        if line_kind(lines[count - 1]) is not Kind.PROSE:
            return 0
        if is_csv(rest) and not is_csv(lines):
            return count
        if line_kind(rest[0]) in _STRUCTURED and kind_of(rest) in _STRUCTURED:
            return count
    return 0


def _asks_alone(line: str, below: str, *, opens: bool) -> bool:
    """Tell whether a paragraph's first line is an ask that ends on its line."""
    heard = hear(line)
    if len(line) > 400 or heard.voice not in {Voice.QUESTION, Voice.COMMAND}:
        return False
    if not opens and not heard.directed:
        return False
    if line.rstrip(_QUOTES).endswith(_STOPS):
        return True
    starts = below[:1].isupper() or not below[:1].isalpha()
    return starts and len(line) <= 160 and len(below) > _WRAPPED


def _asks_after(line: str, above: str, *, ends: bool) -> bool:
    """Tell whether a paragraph's last line is an ask that does not continue the line above."""
    ended = above.rstrip(_QUOTES).endswith(_STOPS)
    if not ended and len(above) <= _WRAPPED and not _LISTED.match(above):
        return False
    heard = hear(line)
    asks = len(line) <= 400 and heard.voice in {Voice.QUESTION, Voice.COMMAND}
    return asks and (ends or heard.directed)


_QUOTES = "*_ \"'”)"
_STOPS = (".", "?", "!", ":", "。", "？", "！", "：", "؟", "।", ";", "…")
_LISTED = re.compile(r"(?:[-*•]|\d{1,3}[.)]|\[\d)")
