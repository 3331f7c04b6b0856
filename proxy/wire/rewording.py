r"""An answer's texts, put through a rewording; every other byte stays as the upstream sent it.

Theory of operation
-------------------
A whole body is easy: each text is replaced where it stands (law 2).  A stream brings a text in
pieces, and a rewording may hold the end of a piece back until it has seen more.  So an event's
content becomes what is settled by then, maybe nothing, and what is held comes with a later event:

    {"delta":{"content":"Wilhelm Rö"}}   ->   {"delta":{"content":"Wilhelm"}}
    {"delta":{"content":"ntgen."}}       ->   {"delta":{"content":" Conrad Röntgen."}}

The last of it goes into the event that ends the choice or, where that has no content, into an event
of its own before it, made like the choice's last one.  Events without content, comments and framing
pass at once, in order, byte for byte.

The stream of a response says each text again as a whole, three times over: there it gets what its
pieces came to, so that all of them agree.

Where anything goes wrong (law 8) what is held goes out as the upstream wrote it, and the rest of
the stream as it comes: nothing is lost, nothing said twice.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, Self, TypeAlias

from proxy.types import Span
from proxy.wire.choices import (
    Choice,
    Choices,
    Place,
    ResponseEvent,
    Said,
    read_choices,
    read_response_event,
    texts_of_chat,
)
from proxy.wire.errors import Unparsed
from proxy.wire.scan import decode_string
from proxy.wire.splice import replaced_in
from proxy.wire.sse import (
    MAX_EVENT_BYTES,
    SseSplitter,
    payload_of,
    with_other_payload,
    with_payload,
)

_DONE: Final = b"[DONE]"
_HINT: Final = b'"choices"'  # an event without it is not parsed
_RESPONSE_HINTS: Final = (b"output_text", b'"response"')  # likewise, without either

Key: TypeAlias = int | Place
"""Which text: the index of its choice, or its place in a response."""


class Rewording(Protocol):
    """Rewords one text that comes in pieces; what it returns, joined, is the text reworded."""

    @property
    def held(self) -> str:
        """What was fed and has not come back yet, as it was fed."""

    def feed(self, text: str, /) -> str:
        """Take the next piece and return what is settled."""

    def close(self) -> str:
        """Return the rest; the next piece begins another text."""


def reword_body(
    body: bytes,
    reword: Callable[[str], str],
    texts_of: Callable[[bytes], Sequence[Span]] = texts_of_chat,
) -> bytes:
    """Return an answer with each of its texts reworded, every other byte as it was.

    ``texts_of`` finds them.  Raises :class:`Unparsed` where the body is no answer that we
    understand.
    """
    replaced: dict[Span, bytes] = {}
    for place in texts_of(body):
        written = body[place.start : place.end]
        said = decode_string(written)
        reworded = reword(said)
        if reworded != said:
            replaced[place] = _spelt(reworded, in_ascii=written.isascii())
    return replaced_in(body, replaced)


def _spelt(text: str, *, in_ascii: bool) -> bytes:
    """Write a JSON string, in ASCII where the sender does; lone surrogates are escaped."""
    return json.dumps(text, ensure_ascii=in_ascii).encode(errors="backslashreplace")


@dataclass(frozen=True, slots=True)
class _Event:
    """An event that carried text, as the pattern of one that carries that text alone.

    Of several choices the pattern's payload has this one, and in it nothing but the content: what
    else the event brought (a role, another choice's words) was said already.
    """

    lines: list[bytes]
    before: bytes
    after: bytes

    @classmethod
    def of(cls, lines: list[bytes], payload: bytes, choices: Span, choice: Choice) -> Self:
        """Take the event for a pattern."""
        (start, end), place = choice.span, choice.holder or choice.texts[0]
        opening, closing = (b'{"content":', b"}") if choice.holder else (b"", b"")
        before = payload[: choices.start] + b"[" + payload[start : place.start]
        after = payload[place.end : end] + b"]" + payload[choices.end :]
        return cls(lines, before + opening, closing + after)

    def saying(self, text: str, *, in_ascii: bool) -> bytes:
        """Return an event with this text."""
        payload = self.before + _spelt(text, in_ascii=in_ascii) + self.after
        return with_other_payload(self.lines, payload)


@dataclass(slots=True)
class _Voice:
    """A text that comes in pieces: its rewording, and the last event that carried some of it."""

    rewording: Rewording
    last: _Event


class RewordedStream(ABC):
    """Rewords the texts of an event stream, each by a rewording of its own.

    ``changed`` tells whether any text came out other than it went in; ``failure`` is what went
    wrong, if anything did, after which the stream passes as it comes.
    """

    def __init__(
        self, begin: Callable[[], Rewording], max_event_bytes: int = MAX_EVENT_BYTES
    ) -> None:
        """Begin a stream; ``begin`` makes a rewording for each text.

        A stream with an event larger than ``max_event_bytes`` passes as it comes from there on.
        """
        self.changed = False
        self.failure: Exception | None = None
        self._begin = begin
        self._limit = max_event_bytes
        self._events = SseSplitter()
        self._voices: dict[Key, _Voice] = {}
        self._left_alone: set[Key] = set()
        self._in_ascii = True  # until the sender writes something else
        self._passing = False

    def feed(self, piece: bytes) -> bytes:
        """Take the next bytes and return what can go on."""
        if self._passing:
            return piece
        out = [self._block(lines) for lines in self._events.feed(piece)]
        if not self._passing and self._events.held_bytes > self._limit:
            out.append(self._give_up(self._held()))
        if self._passing:
            out += self._events.take()
        return b"".join(out)

    def close(self) -> bytes:
        """Return what is left at the end; the last event may lack its blank line."""
        return self._block(self._events.take(), last=True)

    def _block(self, lines: list[bytes], *, last: bool = False) -> bytes:
        """Return an event reworded; from a fault on, as it came, behind what was held (law 8)."""
        payload = payload_of(lines)
        if self._passing or (payload is None and not last):
            return b"".join(lines)
        held = self._held()
        try:
            return self._event(lines, payload or b"", last=last)
        except Unparsed:
            pass
        except Exception as error:  # noqa: BLE001 - no fault of ours may cost the caller the answer
            self.failure = error
        return b"".join([self._give_up(held), *lines])

    def _event(self, lines: list[bytes], payload: bytes, *, last: bool) -> bytes:
        """Return an event reworded, after what must come before it; ``last`` ends all texts."""
        self._in_ascii = self._in_ascii and payload.isascii()
        ahead: list[bytes] = []
        replaced = self._replaced(lines, payload, ahead, last=last)
        if last or payload.strip() == _DONE:
            ahead += map(self._rest, self._voices)
        return b"".join([*ahead, with_payload(lines, replaced)])

    @abstractmethod
    def _replaced(
        self, lines: list[bytes], payload: bytes, ahead: list[bytes], *, last: bool
    ) -> dict[Span, bytes]:
        """Return what stands for which strings of an event; what comes before it goes ``ahead``."""

    def _say(self, index: Key, said: str, event: _Event, *, ended: bool) -> str:
        """Return what is settled of a text, all of it where it has ended."""
        voice = self._voices.get(index)
        if voice is None:
            voice = self._voices[index] = _Voice(self._begin(), event)
        voice.last = event
        before = voice.rewording.held + said
        out = voice.rewording.feed(said)
        if ended:
            out += voice.rewording.close()
        self.changed = self.changed or before != out + voice.rewording.held
        return out

    def _rest(self, index: Key) -> bytes:
        """Return an event with what is held of a text; none where nothing is."""
        rest = self._ended(index)
        return self._voices[index].last.saying(rest, in_ascii=self._in_ascii) if rest else b""

    def _ended(self, index: Key) -> str:
        """Return what is held of a text, reworded: it has ended."""
        voice = self._voices.get(index)
        held = voice.rewording.held if voice else ""
        if voice is None or not held:
            return ""
        rest = voice.rewording.close()
        self.changed = self.changed or rest != held
        return rest

    def _held(self) -> dict[Key, str]:
        return {index: voice.rewording.held for index, voice in self._voices.items()}

    def _give_up(self, held: Mapping[Key, str]) -> bytes:
        """Let the stream pass from here on; return events with what was held, as it was said."""
        self._passing = True
        return b"".join(
            self._voices[index].last.saying(text, in_ascii=self._in_ascii)
            for index, text in held.items()
            if text
        )


class RewordedChoices(RewordedStream):
    """Rewords a stream of choices; ``holder`` is where they have their text."""

    def __init__(
        self,
        begin: Callable[[], Rewording],
        holder: str = "delta",
        max_event_bytes: int = MAX_EVENT_BYTES,
    ) -> None:
        """Begin a stream, as ``RewordedStream`` does."""
        super().__init__(begin, max_event_bytes)
        self._holder = holder

    def _replaced(
        self, lines: list[bytes], payload: bytes, ahead: list[bytes], *, last: bool
    ) -> dict[Span, bytes]:
        replaced: dict[Span, bytes] = {}
        found = read_choices(payload, self._holder) if _HINT in payload else Choices(Span(0, 0))
        for choice in found.each:
            ended = choice.ended or last
            if self._leaves_alone(choice):
                ahead.append(self._rest(choice.index))
            elif choice.texts:
                place = choice.texts[0]
                said = decode_string(payload[place.start : place.end])
                event = _Event.of(lines, payload, found.span, choice)
                reworded = self._say(choice.index, said, event, ended=ended)
                if reworded != said:
                    replaced[place] = _spelt(reworded, in_ascii=self._in_ascii)
            elif ended:
                ahead.append(self._rest(choice.index))
        return replaced

    def _leaves_alone(self, choice: Choice) -> bool:
        """Tell whether a choice stays as it is: it is measured, or its text is in parts."""
        if choice.measured or choice.in_parts:
            self._left_alone.add(choice.index)
        return choice.index in self._left_alone


class RewordedResponse(RewordedStream):
    """Rewords a streamed response: its texts piece by piece, and alike where they stand whole.

    What points into a text (``logprobs``, annotations) speaks of it as it is, so the text stays so
    from there on; a response with tools whose finds are cited passes as it comes.
    """

    def __init__(
        self, begin: Callable[[], Rewording], max_event_bytes: int = MAX_EVENT_BYTES
    ) -> None:
        """Begin a stream, as ``RewordedStream`` does."""
        super().__init__(begin, max_event_bytes)
        self._said: dict[Key, list[str]] = {}  # the pieces of each text
        self._told: dict[Key, list[str]] = {}  # what they came to

    def _replaced(
        self, lines: list[bytes], payload: bytes, ahead: list[bytes], *, last: bool
    ) -> dict[Span, bytes]:
        if not any(hint in payload for hint in _RESPONSE_HINTS):
            return {}
        event = read_response_event(payload)
        self._passing = event.cites and not self._voices
        alone = [said.place for said in _of(event) if said.pointed]
        self._left_alone.update([*alone, *([event.annotated] if event.annotated else [])])
        ended = [event.annotated, *alone, *(whole.place for whole in event.wholes)]
        ahead += [self._rest(place) for place in dict.fromkeys(ended) if place is not None]
        texts = {whole.text: self._whole(payload, whole) for whole in event.wholes}
        if event.delta is not None:
            texts[event.delta.text] = self._piece(lines, payload, event.delta, ended=last)
        return {
            place: _spelt(text, in_ascii=self._in_ascii)
            for place, text in texts.items()
            if text != _text_at(payload, place)
        }

    def _piece(self, lines: list[bytes], payload: bytes, piece: Said, *, ended: bool) -> str:
        """Return what a piece of a text becomes."""
        said, place = _text_at(payload, piece.text), piece.place
        out = said
        if place not in self._left_alone:
            event = _Event(lines, payload[: piece.text.start], payload[piece.text.end :])
            out = self._say(place, said, event, ended=ended)
        self._said.setdefault(place, []).append(said)
        self._told.setdefault(place, []).append(out)
        return out

    def _whole(self, payload: bytes, whole: Said) -> str:
        """Return what the pieces of a text came to, where they were pieces of this one."""
        said = _text_at(payload, whole.text)
        if "".join(self._said.get(whole.place, ())) != said:
            return said
        return "".join(self._told.get(whole.place, ()))

    def _ended(self, index: Key) -> str:
        rest = super()._ended(index)
        if rest:
            self._told[index].append(rest)
        return rest


def _of(event: ResponseEvent) -> Sequence[Said]:
    return event.wholes if event.delta is None else (event.delta,)


def _text_at(payload: bytes, place: Span) -> str:
    return decode_string(payload[place.start : place.end])
