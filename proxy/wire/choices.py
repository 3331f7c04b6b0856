"""An answer, or one event of it: where its texts are.

Of an answer as little is understood as recovery needs: the choices, and in each the strings of its
content; of a response the texts of its output, and which of its events carry them.  Whatever is not
shaped so has no texts; what could be read two ways is ``Unparsed``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from proxy.types import Reason, Span
from proxy.wire.errors import Unparsed
from proxy.wire.scan import Cursor, Json, decode_string

_CHOICE_KEYS = frozenset({"index", "logprobs", "finish_reason"})
_PART_KEYS = frozenset({"type", "text"})
_POINTERS = frozenset({"annotations", "logprobs"})
_EVENT_KEYS = frozenset(
    {
        "type",
        "output_index",
        "content_index",
        "delta",
        "text",
        "logprobs",
        "part",
        "item",
        "response",
    }
)
_DELTA, _DONE, _ANNOTATED = (
    f"response.output_text.{name}" for name in ("delta", "done", "annotation.added")
)
_OWN_TOOLS = frozenset({"function", "custom"})

Place: TypeAlias = tuple[int, int]
"""A text of a response: the number of its item in ``output``, and of its part in ``content``."""
_UNTOLD: Place = (-1, -1)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the answer's choices.  Spans are bytes; those of strings include the quotes.

    ``holder`` is its ``message`` or ``delta``, which a text completion has not; ``texts`` are the
    content's strings, in order, and ``in_parts`` says that they stand in a list.  ``measured`` is a
    choice with ``logprobs``, which speak of the text as it is.
    """

    index: int
    span: Span
    holder: Span | None = None
    texts: tuple[Span, ...] = ()
    in_parts: bool = False
    measured: bool = False
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Choices:
    """All choices, and the byte range of the list they stand in."""

    span: Span
    each: tuple[Choice, ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """A text of a response, or a piece of one; ``pointed`` says that something points into it."""

    place: Place
    text: Span
    pointed: bool = False


@dataclass(frozen=True, slots=True)
class ResponseEvent:
    """An event of a streamed response: the piece of text that it brings, or whole texts.

    ``annotated`` is the text that it points into; ``cites`` says that the response has tools of the
    provider's, whose finds are cited by their place in a text.
    """

    delta: Said | None = None
    wholes: tuple[Said, ...] = ()
    annotated: Place | None = None
    cites: bool = False


def read_choices(raw: bytes, holder: str) -> Choices:
    """Find the choices of an answer: what is said is in its ``holder``.

    That is ``message``, in an event of a stream ``delta``, and ``text`` in either of a completion.

    Raises :class:`Unparsed`: invalid JSON or UTF-8, or a key on the path to a text that occurs
    twice.
    """
    return _Reader(raw, holder).choices()


def texts_of_chat(raw: bytes) -> list[Span]:
    """Return the texts of a chat completion that speak for themselves.

    A choice with ``logprobs`` is left out: they speak of its tokens.  Raises as
    :func:`read_choices`.
    """
    return _unmeasured(read_choices(raw, "message"))


def texts_of_completion(raw: bytes) -> list[Span]:
    """Return those of a text completion."""
    return _unmeasured(read_choices(raw, "text"))


def texts_of_response(raw: bytes) -> list[Span]:
    """Return those of a response; ``annotations`` too point into a text as it is."""
    return [said.text for said in _Reader(raw, "").output() if not said.pointed]


def read_response_event(raw: bytes) -> ResponseEvent:
    """Find the texts in an event of a streamed response.  Raises as :func:`read_choices`."""
    return _Reader(raw, "").event()


def _unmeasured(choices: Choices) -> list[Span]:
    return [text for choice in choices.each if not choice.measured for text in choice.texts]


class _Reader:
    """One pass over one answer; each method consumes the value ahead of the cursor."""

    __slots__ = ("_cites", "_cursor", "_holder", "_raw")

    def __init__(self, raw: bytes, holder: str) -> None:
        self._raw = raw
        self._holder = holder
        self._cites = False
        self._cursor = Cursor(raw)

    def choices(self) -> Choices:
        found: Choices | None = None
        self._cursor.expect(Json.OBJECT, "answer")
        for key in self._cursor.members():
            if key == "choices" and found is not None:
                raise _twice("choices")
            if key == "choices":
                found = self._list()
        self._cursor.end()
        return found or Choices(Span(0, 0))

    def _list(self) -> Choices:
        start = self._cursor.position
        if self._cursor.peek() is not Json.LIST:
            return Choices(Span(start, start))
        each = [
            self._choice(number)
            for number in self._cursor.elements()
            if self._cursor.peek() is Json.OBJECT
        ]
        return Choices(Span(start, self._cursor.position), tuple(each))

    def _choice(self, number: int) -> Choice:
        """Read a choice; one without an index has its place in the list for one."""
        start = self._cursor.position
        index, content = number, _Content()
        holder: Span | None = None
        measured = ended = False
        for key in self._once(_CHOICE_KEYS | {self._holder}, "choice"):
            if key == "index":
                index = self._index()
            elif key == self._holder:
                holder, content = self._held()
            elif key == "logprobs":
                measured = self._cursor.peek() is not Json.NULL
            elif key == "finish_reason":
                ended = self._cursor.peek() is not Json.NULL
        span = Span(start, self._cursor.position)
        return Choice(index, span, holder, content.texts, content.in_parts, measured, ended)

    def _held(self) -> tuple[Span | None, _Content]:
        if self._cursor.peek() is Json.STRING and self._holder == "text":
            return None, _Content((self._cursor.string(),))
        if self._cursor.peek() is not Json.OBJECT:
            return None, _Content()
        start, content = self._cursor.position, _Content()
        for key in self._once(frozenset({"content"}), self._holder):
            if key == "content":
                content = self._content()
        return Span(start, self._cursor.position), content

    def _content(self) -> _Content:
        if self._cursor.peek() is Json.STRING:
            return _Content((self._cursor.string(),))
        if self._cursor.peek() is not Json.LIST:
            return _Content()
        texts = [
            text
            for _ in self._cursor.elements()
            if self._cursor.peek() is Json.OBJECT and (text := self._part()) is not None
        ]
        return _Content(tuple(texts), in_parts=True)

    def _part(self) -> Span | None:
        strings: dict[str, Span] = {}
        for key in self._once(_PART_KEYS, "part"):
            if key in _PART_KEYS and self._cursor.peek() is Json.STRING:
                strings[key] = self._cursor.string()
        kind = strings.get("type")
        if kind is None or self._decoded(kind) != "text":
            return None
        return strings.get("text")

    def output(self) -> list[Said]:
        self._cursor.expect(Json.OBJECT, "answer")
        found = self._response()
        self._cursor.end()
        return found

    def _response(self) -> list[Said]:
        """Return the texts of a response; note whether it has tools of the provider's."""
        found: list[Said] = []
        for key in self._once(frozenset({"output", "tools"}), "answer"):
            if self._cursor.peek() is not Json.LIST:
                continue
            if key == "output":
                items = self._cursor.elements()
                found = [said for number in items for said in self._item(number)]
            elif key == "tools":
                kinds = [self._type() for _ in self._cursor.elements()]
                self._cites = not _OWN_TOOLS.issuperset(kinds)
        return found

    def _type(self) -> str:
        """Return the ``type`` of an object; nothing where it says none."""
        found = ""
        for key in self._cursor.members() if self._cursor.peek() is Json.OBJECT else ():
            if key == "type" and self._cursor.peek() is Json.STRING:
                found = self._decoded(self._cursor.string())
        return found

    def _item(self, number: int) -> list[Said]:
        found: list[Said] = []
        for key in self._objects_keys(frozenset({"content"}), "item"):
            if key == "content" and self._cursor.peek() is Json.LIST:
                parts = self._cursor.elements()
                found = [said for part in parts for said in self._spoken((number, part))]
        return found

    def _spoken(self, place: Place) -> list[Said]:
        """Return the text of an ``output_text``; none of any other part."""
        strings: dict[str, Span] = {}
        pointed = False
        for key in self._objects_keys(_PART_KEYS | _POINTERS, "part"):
            if key in _PART_KEYS and self._cursor.peek() is Json.STRING:
                strings[key] = self._cursor.string()
            elif key in _POINTERS:
                pointed = self._is_filled() or pointed
        if "type" not in strings or self._decoded(strings["type"]) != "output_text":
            return []
        return [Said(place, strings["text"], pointed)] if "text" in strings else []

    def _is_filled(self) -> bool:
        """Tell whether the value ahead is a list of anything."""
        return self._cursor.peek() is Json.LIST and bool([*self._cursor.elements()])

    def event(self) -> ResponseEvent:
        """Read an event; where a text stands may be told after the text."""
        strings: dict[str, Span] = {}
        numbers = {"output_index": 0, "content_index": 0}
        within: list[Said] = []
        pointed = False
        self._cursor.expect(Json.OBJECT, "event")
        for key in self._once(_EVENT_KEYS, "event"):
            if key in {"type", "delta", "text"} and self._cursor.peek() is Json.STRING:
                strings[key] = self._cursor.string()
            elif key in numbers:
                numbers[key] = self._index()
            elif key == "logprobs":
                pointed = self._is_filled()
            else:
                within += self._within(key)
        self._cursor.end()
        place = numbers["output_index"], numbers["content_index"]
        kind = self._decoded(strings["type"]) if "type" in strings else ""
        if kind == _ANNOTATED:
            return ResponseEvent(annotated=place)
        if kind == _DELTA and "delta" in strings:
            return ResponseEvent(Said(place, strings["delta"], pointed))
        if kind == _DONE and "text" in strings:
            return ResponseEvent(wholes=(Said(place, strings["text"], pointed),))
        wholes = tuple(_placed(said, place) for said in within)
        return ResponseEvent(wholes=wholes, cites=self._cites)

    def _within(self, key: str) -> list[Said]:
        """Return the texts in what an event carries: a part, an item, or all of the response."""
        if key == "part":
            return self._spoken(_UNTOLD)
        if key == "item":
            return self._item(_UNTOLD[0])
        if key == "response" and self._cursor.peek() is Json.OBJECT:
            return self._response()
        return []

    def _objects_keys(self, known: frozenset[str], where: str) -> Iterator[str]:
        """Walk what is ahead if it is an object, as ``_once`` does."""
        return self._once(known, where) if self._cursor.peek() is Json.OBJECT else iter(())

    def _decoded(self, span: Span) -> str:
        return decode_string(self._raw[span.start : span.end])

    def _index(self) -> int:
        start = self._cursor.position
        self._cursor.skip()
        written = self._raw[start : self._cursor.position]
        if not written.isdigit() or len(written) > len("9999"):
            raise Unparsed(f"byte {start}: found another index, wanted a small whole number")
        return int(written)

    def _once(self, known: frozenset[str], where: str) -> Iterator[str]:
        """Walk the object ahead; raise where one of the known keys occurs twice."""
        seen = set[str]()
        for key in self._cursor.members():
            if key in seen and key in known:
                raise _twice(f"{where}.{key}")
            seen.add(key)
            yield key


@dataclass(frozen=True, slots=True)
class _Content:
    """What a message's or delta's ``content`` comes to."""

    texts: tuple[Span, ...] = ()
    in_parts: bool = False


def _placed(said: Said, place: Place) -> Said:
    """Put a text where its event says it is, as far as it stands in no list that tells."""
    told = zip(said.place, place, strict=True)
    item, part = (of_event if own < 0 else own for own, of_event in told)
    return replace(said, place=(item, part))


def _twice(where: str) -> Unparsed:
    return Unparsed(f"{where}: found twice, wanted once", Reason.DUPLICATE_KEY)
