"""Which component each block of a message belongs to, and by which rule.

Labels, tags and fences are believed first.  What stands open is decided by who speaks in it
(:mod:`proxy.tagging.voice`), and only as far as somebody asks for something: a run of paragraphs
that speak like a document, beside an ask, is context.  Whatever stays in doubt is kept: it becomes
instruction, or, in a message that holds no context at all, the question.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from proxy.tagging import words
from proxy.tagging.layout import OPEN, Block, Zone
from proxy.tagging.voice import Paragraph, Voice, hear, opens_with_command
from proxy.tagging.words import Label
from proxy.types import Component, Kind

RULES = {
    "assistant-history": "an assistant's message: history, which compression keeps whole",
    "tool-result": "what a tool returned",
    "example": "a message named example_user or example_assistant, or a leading pair",
    "label": "a label or heading, and what stands under it",
    "tag": "an XML tag, and what it encloses",
    "fence": "a fence of backticks or quotation marks, and what it encloses",
    "box": "what two equal rulers, or an unknown tag, enclose",
    "html": "a block of HTML",
    "ruler": "a line of one repeated sign between parts",
    "cue": "the label after which the model is to go on, such as Answer:",
    "document": "a numbered or titled document",
    "demonstration": "a repeated pattern of labels whose last item is unanswered",
    "introduction": "a sentence that announces what follows it, and what follows",
    "format": "a sample of how the answer should look",
    "data": "JSON, a table, a log or code beside an ask",
    "passage": "paragraphs that speak like a document, beside an ask",
    "ask": "a question or a task at either end, or between paragraphs",
    "command": "a short paragraph that tells the model what to do",
    "short": "the last or first short paragraph, where nothing else asks",
    "system": "a system or developer message",
    "whole": "a message in which no context was found",
    "kept": "in doubt, and therefore kept",
}
"""Every rule, with what it means; docs/tagging.md lists them all."""

_FACT = re.compile(r"\d|[a-zа-яё,;] [A-ZÀ-ÞА-ЯЁ][a-zà-ÿа-яё]|[\u0590-\u1fff\u2e80-\uffdc]")
_DATA = frozenset({Kind.JSON, Kind.TABLE, Kind.LOG, Kind.CODE})
_STRONG = frozenset({Voice.QUESTION, Voice.COMMAND})
_LEAST = 200  # characters of unannounced passages that count as context beside a question
_LEAST_LABELLED = 40  # what stands under a context label may be a mere placeholder below this
_LEAST_CUED = 60  # the same, where the ask points at a text
_LEAST_PERSONAL = 1200  # the same, where the caller asks about their own affairs
_LEAST_SYSTEM = 350  # the same, in a system message
_ORDERS = 0.3  # share of a message in orders from which it counts as orders throughout
_BURIED = 250  # a command between passages is at most this long
_INPUT_TEXT = 400  # an input longer than this is a text, not a question


def _imperative_items(text: str) -> bool:
    """Tell whether a list tells what to do: two of five items open with a command."""
    items = [line for line in text[:4000].split("\n") if line.strip()]
    return sum(opens_with_command(item) for item in items) >= 0.4 * len(items)


@dataclass(frozen=True, slots=True)
class Decision:
    """One block's component and the rule that decided."""

    component: Component
    rule: str


_INSTRUCTION = Component.INSTRUCTION
_CONTEXT = Component.CONTEXT
_QUESTION = Component.QUESTION
_COMPONENT = {
    Label.CONTEXT: _CONTEXT,
    Label.QUESTION: _QUESTION,
    Label.INSTRUCTION: _INSTRUCTION,
}


class Draft:
    """One message while it is being decided.

    ``system`` messages need more evidence before anything in them is context.
    """

    def __init__(self, text: str, blocks: list[Block], *, system: bool) -> None:
        self.text = text
        self.blocks = _boxes(text, blocks)
        self.system = system
        self.made: list[Decision | None] = [None] * len(blocks)
        self._instructs: bool | None = None
        self._heard: dict[int, Paragraph] = {}

    def heard(self, index: int) -> Paragraph:
        """Return what was heard in a block."""
        if index not in self._heard:
            block = self.blocks[index]
            self._heard[index] = hear(self.text[block.start : block.end])
        return self._heard[index]

    def prose(self) -> list[int]:
        """Return the blocks that are no marks."""
        return [i for i, block in enumerate(self.blocks) if block.mark is None]

    def open(self) -> list[int]:
        """Return the blocks that nothing announces or encloses."""
        return [i for i in self.prose() if self.blocks[i].zone.label is None and not self.closed(i)]

    def closed(self, index: int) -> bool:
        """Tell whether a block is enclosed."""
        return self.blocks[index].zone.closed

    def asks(self) -> bool:
        """Tell whether this message itself asks for something, as against holding documents."""
        prose = self.prose()
        if not prose:
            return False
        if any(self.blocks[i].zone.label is Label.QUESTION for i in prose):
            return True
        if sum(self.blocks[i].end - self.blocks[i].start for i in prose) < _LEAST:
            return True
        ends = [
            i for i in (*prose[:2], *prose[-2:]) if not self.closed(i) and not self.blocks[i].head
        ]
        return any(self._speaks(i) for i in ends) or not self._documents(prose)

    def _speaks(self, index: int) -> bool:
        if self.blocks[index].kind in _DATA:
            return False
        heard = self.heard(index)
        return heard.voice is Voice.QUESTION or (heard.voice is Voice.COMMAND and heard.comprehends)

    def _documents(self, prose: Sequence[int]) -> bool:
        """Tell whether most of the message reads like documents."""
        total = documents = 0.0
        for i in prose:
            block = self.blocks[i]
            length = block.end - block.start
            total += length
            told = block.zone.label is Label.CONTEXT or block.head or block.kind in _DATA
            if told or self.heard(i).voice is Voice.PASSAGE:
                documents += length
        return documents >= 0.6 * total

    def instructs(self) -> bool:
        """Tell whether the message is in large part orders, as a long system prompt is.

        Then what merely looks like data or a document is taken for part of the orders.
        """
        if self._instructs is None:
            total = told = 0.0
            for i in self.prose():
                size = self.blocks[i].end - self.blocks[i].start
                total += size
                told += size * self._orders(i)
            self._instructs = told >= _ORDERS * total
        return self._instructs

    def _orders(self, index: int) -> bool:
        block = self.blocks[index]
        zone = block.zone
        listed = zone.rule == "introduction" or block.kind is Kind.LIST
        if zone.label is Label.CONTEXT and not (zone.weak and listed):
            return False
        if block.zone.label is Label.INSTRUCTION:
            return True
        if block.kind in _DATA:
            return False
        heard = self.heard(index)
        told = heard.addressed and heard.directed and heard.size <= _LEAST_PERSONAL
        if heard.voice is Voice.COMMAND or told:
            return True
        return block.kind is Kind.LIST and _imperative_items(self.text[block.start : block.end])

    def tasks(self) -> bool:
        """Tell whether this message sets a task on a text that another message gives."""
        heard = (self.heard(i) for i in self.prose() if self.blocks[i].kind not in _DATA)
        return any(h.voice is Voice.COMMAND and h.points for h in heard)

    def set(self, index: int, component: Component, rule: str) -> None:
        """Decide one block."""
        self.made[index] = Decision(component, rule)


def decide(draft: Draft, *, asked_elsewhere: bool) -> list[Decision]:
    """Return a decision for every block of a message."""
    _declared(draft)
    asked = _ask_at_the_ends(draft, asked_elsewhere=asked_elsewhere)
    _labelled_contexts(draft, asked=asked)
    _enclosed(draft, asked=asked)
    _data(draft, asked=asked)
    _passages(draft, asked=asked)
    _rest(draft)
    _marks(draft)
    return [made or Decision(_INSTRUCTION, "kept") for made in draft.made]


def _boxes(text: str, blocks: list[Block]) -> list[Block]:
    """Close the zone of what stands between exactly two equal rulers."""
    rulers: dict[str, list[int]] = {}
    for i, block in enumerate(blocks):
        if block.mark == "ruler":
            rulers.setdefault(text[block.start], []).append(i)
    boxed = list(blocks)
    for places in rulers.values():
        if len(places) != 2:
            continue
        first, last = places
        inside = range(first + 1, last)
        if any(blocks[i].mark or blocks[i].zone.label not in {None, Label.CONTEXT} for i in inside):
            continue
        for i in inside:
            label = blocks[i].zone.label if not blocks[i].zone.weak else None
            boxed[i] = replace(blocks[i], zone=Zone(label, "box", closed=True))
    return boxed


def _declared(draft: Draft) -> None:
    """Believe labels and tags, as far as what stands under them does not contradict them."""
    previous: Block | None = None
    for i in draft.prose():
        block = draft.blocks[i]
        zone = block.zone
        rule = zone.rule
        first = previous is None or previous.zone != zone
        match zone.label:
            case Label.CONTEXT if zone.closed:
                draft.set(i, _CONTEXT, rule)
            case Label.QUESTION:
                document = not zone.closed and not first and _like_document(draft, i)
                draft.set(i, _CONTEXT if document else _QUESTION, "passage" if document else rule)
            case Label.INSTRUCTION:
                asks = zone.weak is False and not first and draft.heard(i).voice is Voice.QUESTION
                document = not zone.closed and not first and block.head
                component = _QUESTION if asks else _CONTEXT if document else _INSTRUCTION
                draft.set(i, component, "ask" if asks else rule)
            case Label.INPUT:
                _input(draft, i, rule)
        previous = block


def _input(draft: Draft, index: int, rule: str) -> None:
    """Take a long input that reads like a document as context, a short one as the question."""
    block, heard = draft.blocks[index], draft.heard(index)
    text = heard.size >= _INPUT_TEXT and not heard.asks and heard.voice is Voice.PASSAGE
    asked = draft.system or any(
        b.zone.label in {Label.INSTRUCTION, Label.QUESTION} for b in draft.blocks
    )
    data = block.kind in _DATA
    draft.set(index, _CONTEXT if (text or data) and asked else _QUESTION, rule)


def _like_document(draft: Draft, index: int) -> bool:
    block = draft.blocks[index]
    if block.head or block.kind in _DATA:
        return True
    heard = draft.heard(index)
    return heard.voice is Voice.PASSAGE and heard.size >= _LEAST and not heard.asks


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked for, in the whole message or beside it."""

    any: bool
    cue: bool  # it speaks of a text
    points: bool  # it points at one
    comprehends: bool  # it is done on a given text
    personal: bool


def _ask_at_the_ends(draft: Draft, *, asked_elsewhere: bool) -> _Asked:
    """Decide the asks that stand open, and say what they ask for."""
    asks = [i for i, made in enumerate(draft.made) if made and made.component is _QUESTION]
    loose = draft.open()
    ends = _ends(draft)
    for i in loose:
        found = _loose_ask(draft, i, ends)
        if found is not None:
            draft.made[i] = found
            asks.append(i)
    heard_asks = [draft.heard(i) for i in asks]
    declared = any(b.zone.label is Label.INSTRUCTION and b.mark is None for b in draft.blocks)
    comprehends = any(h.comprehends for h in heard_asks)
    at_an_end = any(
        draft.blocks[i].zone.label is Label.QUESTION or (i in ends and draft.heard(i).comprehends)
        for i in asks
    )
    if not at_an_end and not asked_elsewhere and not draft.system:
        comprehends = _short_ask(draft, loose) or comprehends
    return _Asked(
        any=bool(asks) or comprehends or asked_elsewhere or declared,
        cue=any(h.cue for h in heard_asks) or (asked_elsewhere and not draft.system),
        points=any(h.points for h in heard_asks),
        comprehends=comprehends or asked_elsewhere,
        personal=any(h.personal for h in heard_asks) and not asked_elsewhere,
    )


def _loose_ask(draft: Draft, index: int, ends: frozenset[int]) -> Decision | None:
    """Decide a block that nothing announces, if it asks or commands."""
    block, heard = draft.blocks[index], draft.heard(index)
    if block.kind in _DATA or block.head or block.heading:
        return None
    if block.intro:
        return Decision(_INSTRUCTION, "introduction")
    under_heading = index > 0 and draft.blocks[index - 1].heading
    if under_heading and heard.size > _BURIED / 2 and not heard.asks:
        return None  # the text of a titled section
    if heard.voice is Voice.QUESTION and (index in ends or heard.asks):
        return Decision(_QUESTION, "ask")
    if heard.voice is Voice.COMMAND and (index in ends or _told_between(draft, index)):
        return Decision(_INSTRUCTION, "command")
    return None


def _told_between(draft: Draft, index: int) -> bool:
    """Tell whether a paragraph among others is a command, not a document that opens like one."""
    block, heard = draft.blocks[index], draft.heard(index)
    text = draft.text[block.start : block.end][: _BURIED + 50]
    titled = "\n" in text and not text.partition("\n")[0].rstrip().endswith((".", "!", ":", "。"))
    brief = heard.size <= (_BURIED if heard.directed else _BURIED / 2)
    return heard.imperative and brief and not titled and not text.startswith(('"', "“", "«", "…"))


def _ends(draft: Draft) -> frozenset[int]:
    """Return the blocks at either end of a message, and the asks that continue them inwards."""
    prose = draft.prose()
    ends = {*prose[:1], *prose[-1:]}
    for order in (prose, prose[::-1]):
        for i in order:
            if draft.blocks[i].kind in _DATA or draft.heard(i).voice not in _STRONG:
                break
            ends.add(i)
    return frozenset(ends)


def _short_ask(draft: Draft, loose: Sequence[int]) -> bool:
    """Where nothing else asks: take the last, or else the first, short paragraph for the ask."""
    prose = draft.prose()
    if len(prose) < 2:
        return False
    ends = [i for i in (prose[-1], prose[0]) if _may_ask(draft, i, loose)]
    short = [i for i in ends if draft.heard(i).voice in {Voice.SHORT, Voice.QUESTION}]
    brief = [i for i in ends if draft.heard(i).size <= _BURIED / 2]
    for i in short + brief[:1]:
        draft.set(i, _QUESTION, "short")
        return True
    return False


def _may_ask(draft: Draft, index: int, loose: Sequence[int]) -> bool:
    block = draft.blocks[index]
    last = index == draft.prose()[-1]
    zone = block.zone
    unclosed = zone.label is Label.CONTEXT and not zone.closed and zone.rule != "introduction"
    if index not in loose and not (last and unclosed):
        return False
    titled = index > 0 and draft.blocks[index - 1].heading
    taken = draft.made[index] is not None
    return not (block.head or block.heading or titled or taken or block.kind in _DATA)


def _labelled_contexts(draft: Draft, *, asked: _Asked) -> None:
    """Decide what stands under a context label that nothing closes."""
    zones = [
        i
        for i in draft.prose()
        if draft.blocks[i].zone.label is Label.CONTEXT and not draft.closed(i)
    ]
    runs: list[list[int]] = []
    for i in zones:
        if (
            runs
            and runs[-1][-1] == _before(draft, i)
            and draft.blocks[i].zone == draft.blocks[runs[-1][-1]].zone
        ):
            runs[-1].append(i)
        else:
            runs.append([i])
    last = draft.prose()[-1] if draft.prose() else -1
    for run in runs:
        if draft.blocks[run[0]].zone.weak and not _worth(draft, run, asked):
            for i in run:
                if draft.made[i] is None:
                    draft.set(i, _INSTRUCTION, "kept")
            continue
        _one_context(draft, run, at_end=run[-1] == last)


def _before(draft: Draft, index: int) -> int:
    """Return the block before this one, rulers passed over."""
    index -= 1
    while index >= 0 and draft.blocks[index].mark == "ruler":
        index -= 1
    return index


def _worth(draft: Draft, run: Sequence[int], asked: _Asked) -> bool:
    """Tell whether what a sentence announced is a text: long enough, not a list of wishes."""
    size = sum(draft.blocks[i].end - draft.blocks[i].start for i in run)
    speaks = sum(draft.heard(i).voice in _STRONG for i in run)
    told = draft.blocks[run[0]].zone.rule == "introduction"
    listed = draft.blocks[run[0]].kind is Kind.LIST
    if draft.instructs() and (listed or draft.system or not (told and asked.points)):
        return False
    if draft.system or not asked.any:
        return size >= _LEAST_SYSTEM and speaks * 2 <= len(run)
    return size >= (
        _LEAST_CUED if told and (asked.comprehends or asked.points) else _LEAST
    ) and speaks * 2 <= len(run)


def _one_context(draft: Draft, run: list[int], *, at_end: bool) -> None:
    """Take a labelled context, less the asks at its end and short commands inside."""
    rule = draft.blocks[run[0]].zone.rule
    size = sum(draft.blocks[i].end - draft.blocks[i].start for i in run)
    if rule == "label" and size < _LEAST_LABELLED:
        for i in run:
            draft.set(i, _INSTRUCTION, "kept")
        return
    if draft.instructs():
        run = _before_orders(draft, run)
    end = len(run)
    while end > 1 and _ask_after_context(draft, run[end - 1], at_end=at_end):
        end -= 1
        if draft.made[run[end]] is not None:
            continue
        asks = draft.heard(run[end]).voice is Voice.QUESTION
        draft.set(run[end], _QUESTION if asks else _INSTRUCTION, "ask" if asks else "command")
    for i in run[:end]:
        if draft.made[i] is None:
            buried = not draft.blocks[i].head and _buried(draft, i)
            draft.set(i, _INSTRUCTION if buried else _CONTEXT, "command" if buried else rule)


def _before_orders(draft: Draft, run: list[int]) -> list[int]:
    """Return a context up to where orders, or another section, go on; keep the rest."""
    for place, i in enumerate(run):
        heard, block = draft.heard(i), draft.blocks[i]
        items = draft.text[block.start : block.end]
        listed = block.kind is Kind.LIST and _imperative_items(items)
        if listed or (place and block.heading) or (heard.voice is Voice.COMMAND and not block.head):
            for j in run[place:]:
                draft.made[j] = draft.made[j] or _after_orders(draft, j)
            return run[:place]
    return run


def _after_orders(draft: Draft, index: int) -> Decision:
    """Keep what orders go on with; a question that ends the caller's message is the question."""
    last = not draft.system and index == draft.prose()[-1]
    if last and draft.heard(index).voice is Voice.QUESTION:
        return Decision(_QUESTION, "ask")
    return Decision(_INSTRUCTION, "kept")


def _ask_after_context(draft: Draft, index: int, *, at_end: bool) -> bool:
    block = draft.blocks[index]
    if block.head or block.heading or block.kind in _DATA:
        return False
    if draft.made[index] is not None:
        return True
    heard = draft.heard(index)
    if heard.voice is Voice.QUESTION:
        return at_end or heard.cue or heard.directed
    if heard.voice is Voice.COMMAND:
        return heard.directed or heard.cue or (at_end and heard.size <= _BURIED)
    return False


def _buried(draft: Draft, index: int) -> bool:
    heard = draft.heard(index)
    return (
        heard.voice is Voice.COMMAND
        and heard.imperative
        and heard.directed
        and heard.size <= _BURIED
    )


def _enclosed(draft: Draft, *, asked: _Asked) -> None:
    """Decide what a fence, a box or HTML encloses without saying what it is."""
    for i in draft.prose():
        block = draft.blocks[i]
        if draft.made[i] is not None or not block.zone.closed:
            continue
        if _shows_format(draft, i):
            draft.set(i, _INSTRUCTION, "format")
            continue
        if block.kind not in _DATA and draft.heard(i).voice is Voice.QUESTION:
            draft.set(i, _QUESTION, "ask")
            continue
        before = draft.blocks[_before_mark(draft, i)].zone if i else OPEN
        told = before.label is Label.CONTEXT or (asked.cue and not draft.system)
        if draft.instructs() and before.label is not Label.CONTEXT:
            draft.set(i, _INSTRUCTION, "kept")
            continue
        speaks = draft.heard(i).voice in _STRONG and block.kind not in _DATA and not told
        if speaks or not asked.any or (draft.system and not told):
            draft.set(i, _INSTRUCTION if asked.any or draft.system else _QUESTION, "kept")
        else:
            draft.set(i, _CONTEXT, block.zone.rule)


def _before_mark(draft: Draft, index: int) -> int:
    index -= 1
    while (
        index > 0 and draft.blocks[index].mark is not None and draft.blocks[index].mark != "label"
    ):
        index -= 1
    return max(0, index)


def _shows_format(draft: Draft, index: int) -> bool:
    """Tell whether a block is a sample of the answer: what precedes it speaks of format."""
    block = draft.blocks[index]
    if block.end - block.start > 2000 or index == 0:
        return False
    before = draft.blocks[_before_prose(draft, index)]
    if before.start >= block.start or before.mark is not None:
        return (
            before.mark == "label"
            and words.FORMAT.search(draft.text[before.start : before.end]) is not None
        )
    said = draft.text[before.start : before.end][-200:].rstrip()
    last = said.rpartition("\n")[2]
    shows = words.FORMAT.search(last) is not None
    return shows and (
        said.endswith((":", "："))
        or (block.kind is Kind.JSON and draft.made[_before_prose(draft, index)] is not None)
    )


def _before_prose(draft: Draft, index: int) -> int:
    index -= 1
    while index > 0 and draft.blocks[index].mark in {"fence", "ruler", "tag"}:
        index -= 1
    return max(0, index)


def _data(draft: Draft, *, asked: _Asked) -> None:
    """Take JSON, tables, logs and code that stand open for context where somebody asks."""
    for i in draft.open():
        block = draft.blocks[i]
        if draft.made[i] is not None or block.kind not in _DATA:
            continue
        orders = draft.instructs() and not asked.points
        if draft.system or orders or not asked.any or _shows_format(draft, i):
            draft.set(i, _INSTRUCTION if asked.any or draft.system else _QUESTION, "format")
        else:
            draft.set(i, _CONTEXT, "data")


def _passages(draft: Draft, *, asked: _Asked) -> None:
    """Take runs of paragraphs that speak like a document for context."""
    runs: list[list[int]] = []
    previous = -2
    prose = draft.prose()
    for place, i in enumerate(prose):
        if draft.made[i] is None:
            if previous == place - 1:
                runs[-1].append(i)
            else:
                runs.append([i])
            previous = place
    loose = [i for run in runs for i in run]
    if not loose or not asked.any or not _is_document(draft, loose, asked):
        return
    for run in runs:
        inside = run[0] != prose[0] and run[-1] != prose[-1]
        told = any(draft.heard(i).voice in {Voice.PASSAGE, Voice.PERSONAL} for i in run)
        if inside or told:
            for i in run:
                edge = i in (prose[0], prose[-1]) and draft.heard(i).voice is Voice.SHORT
                if not edge or draft.blocks[i].heading:
                    draft.set(i, _CONTEXT, "passage")


def _is_document(draft: Draft, run: Sequence[int], asked: _Asked) -> bool:
    sizes = {i: draft.heard(i).size for i in run}
    total = sum(sizes.values())
    of = {
        voice: sum(sizes[i] for i in run if draft.heard(i).voice is voice)
        for voice in (Voice.PASSAGE, Voice.PERSONAL)
    }
    listed = sum(sizes[i] for i in run if draft.blocks[i].kind is Kind.LIST)
    addressed = sum(
        sizes[i]
        for i in run
        if draft.heard(i).addressed and draft.heard(i).directed and sizes[i] <= _LEAST_PERSONAL
    )
    if addressed > 0.5 * total:
        return False
    if draft.instructs() and (draft.system or of[Voice.PASSAGE] - listed < 0.8 * total):
        return False
    if draft.system:
        passages = of[Voice.PASSAGE] - listed
        facts = sum(sizes[i] for i in run if _names_facts(draft, i))
        told = min(passages - 0.6 * total, facts - 0.5 * total)  # how things are, not are to be
        return asked.any and total >= _LEAST_SYSTEM and told >= 0
    spoken = of[Voice.PASSAGE] + of[Voice.PERSONAL]
    if (asked.points and spoken >= 0.4 * total) or (
        asked.cue and of[Voice.PASSAGE] - listed >= 0.6 * total
    ):
        return total >= _LEAST_CUED
    personal = asked.personal or draft.heard(run[0]).voice is Voice.PERSONAL
    least = 0.6 if personal else 0.4  # a document may quote, or speak for itself
    if not asked.comprehends or of[Voice.PASSAGE] - listed < least * total:
        return False
    return total >= (_LEAST_PERSONAL if personal else _LEAST)


def _names_facts(draft: Draft, index: int) -> bool:
    """Tell whether a paragraph holds a number or a name, as far as its script shows names."""
    block = draft.blocks[index]
    return _FACT.search(draft.text, block.start, min(block.end, block.start + 2000)) is not None


def _rest(draft: Draft) -> None:
    """Keep what is left: as the question where no context was found, else as instruction."""
    found = any(made and made.component is _CONTEXT for made in draft.made)
    declared = any(b.zone.label is not None or b.mark for b in draft.blocks)
    for i in draft.prose():
        if draft.system:
            if draft.made[i] is None:
                draft.set(i, _INSTRUCTION, "system")
        elif not found and not declared:
            draft.set(i, _QUESTION, "whole")
        elif draft.made[i] is None:
            draft.set(i, _INSTRUCTION, "kept")


def _marks(draft: Draft) -> None:
    """Keep labels, tags and cues; a ruler between two documents belongs to them."""
    for i, block in enumerate(draft.blocks):
        if block.mark is None:
            continue
        sides = [
            draft.made[j]
            for j in (i - 1, i + 1)
            if 0 <= j < len(draft.blocks) and draft.blocks[j].mark is None
        ]
        if block.mark == "fence" and _beside_code(draft, i):
            draft.set(i, _CONTEXT, "fence")
            draft.blocks[i] = replace(block, kind=Kind.CODE)
            continue
        between = len(sides) == 2 and all(s is not None and s.component is _CONTEXT for s in sides)
        if block.mark == "ruler" and between and not block.zone.closed:
            draft.set(i, _CONTEXT, "ruler")
        else:
            draft.set(i, _INSTRUCTION, block.mark)


def _beside_code(draft: Draft, index: int) -> bool:
    """Tell whether a fence mark belongs to code that is context: they go or stay together."""
    for j in (index - 1, index + 1):
        if 0 <= j < len(draft.blocks) and draft.blocks[j].zone.rule == "fence":
            made = draft.made[j]
            if draft.blocks[j].kind is Kind.CODE and made and made.component is _CONTEXT:
                return True
    return False
