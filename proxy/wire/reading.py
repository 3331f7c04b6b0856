"""What the readers of request bodies have in common.

Keys come in any order, unknown ones are stepped over, and of two equal keys the last one counts,
as ``json`` has it; except on the path that leads to a text we might edit: there, which of the two
the upstream reads is its own affair, and the request goes through untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from proxy.types import Address, Leaf, Message, Reason, Span, Spellings
from proxy.wire.beginnings import Beginning, Beginnings, Place, key_of
from proxy.wire.errors import Unparsed
from proxy.wire.scan import Cursor, Json

BREAKPOINTS: Final = frozenset({"cache_control", "prompt_cache_breakpoint"})

_GLIMPSED_BYTES = 64 * 1024  # parsing lets nobody else run: 64 KiB take it 0.2 ms


@dataclass(frozen=True, slots=True)
class Content:
    """What a message's ``content``, or one part of it, comes to."""

    leaves: tuple[Leaf, ...] = ()
    breakpoint: bool = False


class Reader:
    """One pass over one body; each method consumes the value ahead of the cursor."""

    __slots__ = ("_key", "_memory", "_places", "cursor", "raw", "spellings")

    part_types: Collection[str] = ()
    """The types of content parts whose ``text`` is a leaf."""

    def __init__(self, raw: bytes, memory: Beginnings | None = None) -> None:
        """Stand before the body's first value.  Raises :class:`Unparsed`, as every method does.

        What ``memory`` knows of a conversation is not read again.
        """
        self.raw = raw
        self.cursor = Cursor(raw)
        self.spellings: Spellings = {}
        self._memory = memory
        self._key: bytes | None = None
        self._places: list[Place] = []

    def body(self, *once: str) -> Iterator[str]:
        """Walk the body, all of it; ``once`` are keys on the path of an edit."""
        self.cursor.expect(Json.OBJECT, "body")
        yield from self.members("", once)
        self.cursor.end()

    def members(self, where: str, once: Collection[str]) -> Iterator[str]:
        """Walk the object ahead: yield each key; raise where one of ``once`` occurs twice."""
        seen = set[str]()
        for key in self.cursor.members():
            if key in seen and key in once:
                raise Unparsed(f"{where}{key}: found twice, wanted once", Reason.DUPLICATE_KEY)
            seen.add(key)
            yield key

    def conversation(
        self, read: Callable[[int, Sequence[Message]], Message | None]
    ) -> tuple[Message, ...]:
        """Read the list of messages ahead.

        ``read`` reads the item of a number, given the messages before it; None where it is none.
        """
        messages: list[Message] = []
        for _ in self.cursor.elements():
            message = read(len(self._places), messages)
            if message is not None:
                messages.append(message)
            self._places.append(Place(self.cursor.position, self.cursor.steps, len(messages)))
            if self._memory is not None and self._key is None and _is_user(message):
                self._key = key_of(self.raw[: self.cursor.position])
                self._go_on(self._memory.get(self._key), messages)
        return tuple(messages)

    def _go_on(self, known: Beginning | None, messages: list[Message]) -> None:
        """Go on behind what an earlier body has, too, that opens as this one does so far."""
        if known is None:
            return
        self._places[:] = known.shared_with(self.raw)
        position, steps, count = self._places[-1]
        messages[:] = known.messages[:count]
        self.cursor.go(position, steps)
        self.spellings = known.spellings

    def remember(self, messages: tuple[Message, ...]) -> None:
        """Remember the ``conversation``, now that all of the body was read."""
        if self._memory is not None and self._key is not None:
            places = tuple(self._places)
            self._memory.put(self._key, Beginning(self.raw, messages, places, self.spellings))

    def parts(self, message: int, where: str) -> Content:
        """Read a list of content parts."""
        parts = [
            self._part(Address(message, part), f"{where}[{part}]")
            for part in self.cursor.elements()
        ]
        leaves = tuple(leaf for part in parts for leaf in part.leaves)
        return Content(leaves, any(part.breakpoint for part in parts))

    def _part(self, address: Address, where: str) -> Content:
        self.cursor.expect(Json.OBJECT, where)
        kind: str | None = None
        leaf: Leaf | None = None
        marked = False
        for key in self.members(f"{where}.", ("type", "text")):
            if key in {"type", "text"} and self.cursor.peek() is Json.STRING:
                if key == "type":
                    kind = self.cursor.text()
                else:
                    leaf = self.leaf(address)
            elif key in BREAKPOINTS:
                marked = marked or self.given()
        if leaf is None or kind not in self.part_types:
            return Content((), marked)
        return Content((leaf,), marked)

    def leaf(self, address: Address) -> Leaf:
        """Read the string ahead as a leaf."""
        start = self.cursor.position
        text = self.cursor.text()
        return Leaf(address, text, Span(start, self.cursor.position))

    def given(self) -> bool:
        """Tell whether the value ahead is anything but null."""
        return self.cursor.peek() is not Json.NULL

    def string(self, where: str) -> str:
        """Read a string; raise where there is something else."""
        self.cursor.expect(Json.STRING, where)
        return self.cursor.text()

    def nullable_string(self, where: str) -> str | None:
        """Read a string or null."""
        if self.given():
            return self.string(where)
        self.cursor.skip()
        return None

    def boolean(self, where: str) -> bool:
        """Read a boolean; null stands for false."""
        true = self.raw.startswith(b"true", self.cursor.position)
        if self.given():
            self.cursor.expect(Json.BOOLEAN, where)
        self.cursor.skip()
        return true

    def model(self) -> str | None:
        """Read the model's name, which goes on to headers and tables that know no surrogates."""
        name = self.nullable_string("model")
        if name is not None and _has_surrogate(name):
            raise Unparsed("model: found a lone surrogate, wanted a name")
        return name

    def asks_for_json(self) -> bool:
        """Read a format for the answer's text; what has no type asks for nothing."""
        wanted = False
        for key in self.cursor.members() if self.cursor.peek() is Json.OBJECT else ():
            if key == "type" and self.cursor.peek() is Json.STRING:
                wanted = self.cursor.text() != "text"
        return wanted


def _is_user(message: Message | None) -> bool:
    return message is not None and message.role == "user"


# -- at a glimpse ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Glimpse:
    """What decides how a request is treated; ``texts`` are those of its leaves, unplaced."""

    model: str | None
    stream: bool
    texts: tuple[str, ...] = field(default=(), repr=False)


def glimpse(raw: bytes, texts: Callable[[dict[str, Any]], Iterator[str]]) -> Glimpse | None:
    """Read no more than that, quickly, of a small body; None where it takes a proper reading.

    Two microseconds, where a reader takes fifty: much, if nothing is to be compressed.  ``texts``
    finds the texts in the parsed body; what it stumbles over takes a proper reading.
    """
    if len(raw) > _GLIMPSED_BYTES:
        return None
    try:
        body = orjson.loads(raw)
        found = Glimpse(body.get("model"), body.get("stream") is True, tuple(texts(body)))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    if not isinstance(found.model, str | None) or not isinstance(body.get("stream"), bool | None):
        return None
    return None if found.model is not None and _has_surrogate(found.model) else found


def texts_of_content(content: Any, part_types: Collection[str]) -> Iterator[str]:
    """Yield a message's texts; raises TypeError for what is no content."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        parts = (part["text"] for part in content if part["type"] in part_types)
        yield from (part for part in parts if isinstance(part, str))
    elif content is not None:
        raise TypeError


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)
