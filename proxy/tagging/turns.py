"""Turns: the messages of a request, grouped and tagged.

A turn is the run of messages between two assistant messages; an assistant message belongs to the
turn that it closes.  The tags of a turn are made from its own messages alone, and its question,
hints and instructions from those up to its end, so that a request and the longer one that follows
it agree on everything they share (law 5).

So a turn is read once: callers resend their history with every request, and what a memory was
given for the same messages is taken from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from proxy.digests import digest_of, linked
from proxy.policy.schema import Tagging
from proxy.tagging.decide import Draft, decide
from proxy.tagging.kinds import result_kind
from proxy.tagging.layout import Block, read
from proxy.tagging.words import Label
from proxy.types import (
    Address,
    Component,
    Kind,
    Leaf,
    Memory,
    Message,
    Request,
    Segment,
    Span,
    ToolCall,
    Turn,
)

_JOINT = "\n\n"  # what stands between the parts of a message while it is read
_INSTRUCTING = frozenset({"system", "developer"})
_RESULTS = frozenset({"tool", "function"})
_EXAMPLES = frozenset({"example_user", "example_assistant"})
_MARK_RULES = frozenset({"label", "tag", "fence", "box", "html", "ruler", "cue", "demonstration"})
_MOST_INSTRUCTIONS = 256  # the newest distinct ones that a turn carries
_TASK_RULES = frozenset({"command", "introduction", "label", "tag", "kept"})


@dataclass(frozen=True, slots=True)
class Tagged:
    """What the messages of one turn say by themselves: its own question, what it instructs.

    ``digest`` is that of the segments which do not close the turn.
    """

    segments: tuple[Segment, ...]
    digest: bytes = field(repr=False)
    question: str | None = field(default=None, repr=False)
    instructions: tuple[str, ...] = field(default=(), repr=False)

    @property
    def weight_bytes(self) -> int:
        """About how many bytes this keeps alive: segments hold copies of their text."""
        return 500 + sum(300 + 2 * len(segment.text) for segment in self.segments)


def turns(
    request: Request, options: Tagging, memory: Memory[Tagged] | None = None
) -> tuple[Turn, ...]:
    """Group and tag the messages of a request, oldest turn first.

    With ``options.leading_pairs`` every user-assistant pair before the last user message is a
    demonstration; such a turn's tags then depend on a later message being there.  What ``memory``
    knows is not read again.
    """
    tags = {name.lower(): Label(component) for name, component in options.tags.items()}
    read_as = digest_of(f"{name}:{label}" for name, label in sorted(tags.items()))
    runs = _runs(request.messages)
    made: list[Turn] = []
    calls: dict[str, ToolCall] = {}
    question: str | None = None
    instructions: dict[str, None] = {}
    leading = _live(runs) if options.leading_pairs else 0
    for index, run in enumerate(runs):
        tagged = _remembered(run, tags, memory, read_as, demonstration=index < leading)
        question = tagged.question or question
        known = len(instructions)
        instructions.update(dict.fromkeys(tagged.instructions))
        grown = len(instructions) > known
        kept = (
            tuple(instructions)[-_MOST_INSTRUCTIONS:]
            if grown or not made
            else made[-1].instructions
        )
        made.append(
            Turn(
                index=index,
                messages=run,
                segments=tagged.segments,
                digest=tagged.digest,
                question=question,
                own_question=tagged.question is not None,
                hints=_hints(run, calls),
                instructions=kept,
            )
        )
        calls.update({call.id: call for message in run for call in message.tool_calls})
    return tuple(made)


def _remembered(
    run: tuple[Message, ...],
    tags: Mapping[str, Label],
    memory: Memory[Tagged] | None,
    read_as: bytes,
    *,
    demonstration: bool,
) -> Tagged:
    if memory is None:
        return _tagged(run, tags, demonstration=demonstration)
    messages = (message.digest for message in run)
    key = linked(read_as, b"demonstration" if demonstration else b"", *messages)
    found = memory.get(key)
    if found is None:
        found = _tagged(run, tags, demonstration=demonstration)
        memory.put(key, found)
    return found


def _tagged(run: tuple[Message, ...], tags: Mapping[str, Label], *, demonstration: bool) -> Tagged:
    segments = _segments(run, tags, demonstration=demonstration)
    digest = _digest(run, segments)
    return Tagged(segments, digest, _question(run, segments), _instructions(segments))


def _digest(run: Sequence[Message], segments: Sequence[Segment]) -> bytes:
    """Hash what a turn is made of but for its closing message, which was not there at first."""
    closing = {m.index for m in run if m.role == "assistant"}
    roles = [m.role for m in run if m.index not in closing]
    own = [s for s in segments if s.address.message not in closing]
    return digest_of([*roles, *(f"{s.address}:{s.component}:{s.kind}:{s.text}" for s in own)])


def _runs(messages: Sequence[Message]) -> list[tuple[Message, ...]]:
    runs: list[tuple[Message, ...]] = []
    run: list[Message] = []
    for message in messages:
        run.append(message)
        if message.role == "assistant":
            runs.append(tuple(run))
            run = []
    return [*runs, tuple(run)] if run else runs


def _live(runs: Sequence[tuple[Message, ...]]) -> int:
    """Return the index of the turn that holds the last user message."""
    holding = (i for i in range(len(runs) - 1, -1, -1) if any(m.role == "user" for m in runs[i]))
    return next(holding, 0)


def _hints(run: Sequence[Message], calls: Mapping[str, ToolCall]) -> tuple[str, ...]:
    """Return the calls that the run's tool results answer: name and arguments."""
    answered = (m.tool_call_id for m in run if m.role in _RESULTS and m.tool_call_id)
    return tuple(f"{calls[i].name} {calls[i].arguments}" for i in answered if i in calls)


def _question(run: Sequence[Message], segments: Sequence[Segment]) -> str | None:
    """Return the turn's last question or, where it only commands, its last command.

    A question with context on both sides of it may be one that the text asks: a command at either
    end is then part of the ask.
    """
    asks = list(_asks(segments))
    outer = [text for text, inner in asks if not inner]
    if outer:
        return outer[-1]
    tasks = _tasks(run, segments)
    if not asks:
        return tasks[-1].text.strip() if tasks else None
    ends = [task.text.strip() for task in tasks if _is_at_an_end(task, segments)]
    return "\n".join([asks[-1][0], *ends])


def _asks(segments: Sequence[Segment]) -> Iterator[tuple[str, bool]]:
    """Yield the questions, adjacent segments as one, and whether each stands within context."""
    for place, run in groupby(enumerate(segments), lambda it: _is_question(it[1])):
        found = list(run)
        text = "".join(segment.text for _, segment in found).strip()
        if place and text:
            before, after = segments[: found[0][0]], segments[found[-1][0] + 1 :]
            leaf, rule = found[0][1].address, found[0][1].rule
            yield text, rule == "ask" and _has_context(before, leaf) and _has_context(after, leaf)


def _is_question(segment: Segment) -> bool:
    return segment.component is Component.QUESTION


def _has_context(segments: Sequence[Segment], leaf: Address) -> bool:
    return any(s.component is Component.CONTEXT and s.address == leaf for s in segments)


def _tasks(run: Sequence[Message], segments: Sequence[Segment]) -> list[Segment]:
    """Return what the user's messages command."""
    users = {message.index for message in run if message.role == "user"}
    return [
        segment
        for segment in segments
        if segment.component is Component.INSTRUCTION
        and segment.address.message in users
        and segment.rule in _TASK_RULES
        and len(segment.text.split()) > 2
    ]


def _is_at_an_end(task: Segment, segments: Sequence[Segment]) -> bool:
    leaf = [s for s in segments if s.address == task.address and s.text.strip()]
    return task in (leaf[0], leaf[-1])


def _instructions(segments: Sequence[Segment]) -> tuple[str, ...]:
    """Return a turn's distinct instructions, first ones first; marks are none."""
    told = ((segment, segment.text.strip()) for segment in segments if _instructs(segment))
    return tuple(dict.fromkeys(text for segment, text in told if _says_something(segment, text)))


def _instructs(segment: Segment) -> bool:
    return segment.component is Component.INSTRUCTION


def _says_something(segment: Segment, text: str) -> bool:
    return (
        segment.rule not in {"ruler", "cue"}
        and any(ch.isalnum() for ch in text)
        and (segment.rule not in _MARK_RULES or len(text.split()) > 2)
    )


def _segments(
    run: Sequence[Message], tags: Mapping[str, Label], *, demonstration: bool
) -> tuple[Segment, ...]:
    """Tag the messages of one turn.  The closing assistant message plays no part in the others'."""
    drafts = {m.index: _draft(m, tags) for m in run if _is_asking(m) and not demonstration}
    asking = {i for i, draft in drafts.items() if not draft.system and draft.asks()}
    tasking = any(draft.system and draft.tasks() for draft in drafts.values())
    made: list[Segment] = []
    for message in run:
        draft = drafts.get(message.index)
        if draft is not None:
            elsewhere = bool(asking - {message.index}) or (
                tasking and not draft.system and message.index not in asking
            )
            made += _place(message, list(_spans(draft, asked_elsewhere=elsewhere)))
        elif message.role in _INSTRUCTING and message.name not in _EXAMPLES:
            made += _place(message, list(_spans(_draft(message, tags), asked_elsewhere=False)))
        else:
            made += _place(message, list(_history(message, demonstration=demonstration)))
    return tuple(made)


def _is_asking(message: Message) -> bool:
    """Tell whether a message is to be read: neither history, nor results, nor an example."""
    return (
        message.role != "assistant"
        and message.role not in _RESULTS
        and (message.name not in _EXAMPLES)
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """A stretch of a message's joined text, and what it was taken for."""

    start: int
    end: int
    component: Component
    kind: Kind
    rule: str


def _draft(message: Message, tags: Mapping[str, Label]) -> Draft:
    text = _joined(message)
    return Draft(text, read(text, tags), system=message.role in _INSTRUCTING)


def _joined(message: Message) -> str:
    return _JOINT.join(leaf.text for leaf in message.leaves)


def _spans(draft: Draft, *, asked_elsewhere: bool) -> Iterator[_Part]:
    """Yield the stretches of a message: neighbours that agree are one; white space goes ahead."""
    made = decide(draft, asked_elsewhere=asked_elsewhere)
    current: _Part | None = None
    for block, decision in zip(draft.blocks, made, strict=True):
        if current is not None and _same(current, block, decision.component, decision.rule):
            current = _Part(current.start, block.end, current.component, current.kind, current.rule)
            continue
        if current is not None:
            yield _Part(current.start, block.start, current.component, current.kind, current.rule)
        start = 0 if current is None else block.start
        current = _Part(start, block.end, decision.component, block.kind, decision.rule)
    empty = _Part(0, 0, Component.QUESTION, Kind.PROSE, "whole")
    last = current or empty
    if draft.text:
        yield _Part(last.start, len(draft.text), last.component, last.kind, last.rule)


def _same(part: _Part, block: Block, component: Component, rule: str) -> bool:
    if part.component is not component:
        return False
    if component is Component.CONTEXT:
        return part.kind is block.kind
    return part.rule == rule


def _history(message: Message, *, demonstration: bool) -> Iterator[_Part]:
    """Yield a message that is context as a whole, cut by kind."""
    if demonstration or message.name in _EXAMPLES:
        if text := _joined(message):
            yield _Part(0, len(text), Component.CONTEXT, Kind.DEMO, "example")
    elif message.role == "assistant":
        yield from _by_kind(_joined(message), 0, "assistant-history")
    else:
        offset = 0
        for leaf in message.leaves:
            yield from _result(leaf.text, offset)
            offset += len(leaf.text) + len(_JOINT)


def _result(text: str, offset: int) -> Iterator[_Part]:
    """Yield what a tool returned: of one kind or, where it is none of them, cut by kind."""
    kind = result_kind(text)
    if kind is None:
        yield from _by_kind(text, offset, "tool-result")
    else:
        yield _Part(offset, offset + len(text), Component.CONTEXT, kind, "tool-result")


def _by_kind(text: str, offset: int, rule: str) -> Iterator[_Part]:
    start = 0
    kind: Kind | None = None
    for block in read(text, {}):
        if kind is not None and block.kind is not kind and block.mark is None:
            yield _Part(offset + start, offset + block.start, Component.CONTEXT, kind, rule)
            start = block.start
        kind = kind if block.mark is not None else block.kind
    if text:
        kind = kind or Kind.PROSE
        yield _Part(offset + start, offset + len(text), Component.CONTEXT, kind, rule)


def _place(message: Message, parts: Sequence[_Part]) -> Iterator[Segment]:
    """Cut stretches of the joined text at the leaves of a message."""
    offset = number = 0
    for leaf in message.leaves:
        end = offset + len(leaf.text)
        while number < len(parts):
            part = parts[number]
            start, stop = max(part.start, offset), min(part.end, end)
            if start < stop:
                yield _segment(leaf, Span(start - offset, stop - offset), part)
            if part.end > end:
                break
            number += 1
        offset = end + len(_JOINT)


def _segment(leaf: Leaf, span: Span, part: _Part) -> Segment:
    return Segment(leaf.address, span, span.of(leaf.text), part.component, part.kind, part.rule)
