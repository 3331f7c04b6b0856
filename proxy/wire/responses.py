"""The body of ``POST /v1/responses``: the same messages as a chat's, out of items.

``instructions`` is message 0, the system's; item n of ``input`` is message n + 1.  What the model
made is an assistant message and closes its turn, whether it said something, thought or called a
tool; what a tool returned is a tool message, with the id of the call that it answers.

    input                                                    messages
    {"role": "user", "content": "Is it late?"}               1 user
    {"type": "reasoning", ...}                               2 assistant, without text
    {"type": "function_call", "call_id": "c", ...}           3 assistant, with a tool call
    {"type": "function_call_output", "call_id": "c", ...}    4 tool

Items that we do not know are stepped over.  They count as the model's, unless their type says that
they answer a call: to take an item of the caller's for the model's ends a turn early, which costs
savings; the other way round, later words would change what earlier ones become (law 5).

With ``previous_response_id`` or ``conversation`` the history lies with the provider: what is here
is treated as if it were all, so that tool results without a question pass as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from proxy.types import Address, Message, Request, ToolCall
from proxy.wire.beginnings import Beginnings
from proxy.wire.errors import Unparsed
from proxy.wire.reading import BREAKPOINTS, Content, Glimpse, Reader, glimpse, texts_of_content
from proxy.wire.scan import Json

_TEXTS: Final = frozenset({"input_text", "output_text"})
_OUTPUTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})
_CALLS: Final = {"function_call": "arguments", "custom_tool_call": "input"}
"""The calls that we know, and the key under which each has its arguments."""

_ANSWERS: Final = ("_output", "_response")  # how the types of the caller's other items end
_ON_THE_PATH: Final = ("type", "role", "content", "output", "call_id")
_ELSEWHERE: Final = frozenset({"previous_response_id", "conversation"})
_STRINGS: Final = frozenset({"type", "role", "call_id", "name", *_CALLS.values()})


def parse_responses(raw: bytes, memory: Beginnings | None = None) -> Request:
    """Read a responses body; what ``memory`` knows of it is not read again.

    Raises :class:`Unparsed`: invalid JSON or UTF-8, a known key of the body of the wrong type, or
    (``DUPLICATE_KEY``) a key on the path of an edit that occurs twice.
    """
    return _ResponsesReader(raw, memory).request()


def glimpse_responses(raw: bytes) -> Glimpse | None:
    """Read of a small body what decides how it is treated; None where it takes a proper reading."""
    return glimpse(raw, _texts)


def _texts(body: dict[str, Any]) -> Iterator[str]:
    instructions, given = body.get("instructions"), body.get("input")
    if not isinstance(instructions, str | None) or not isinstance(given, str | list | None):
        raise TypeError
    yield from texts_of_content(instructions, _TEXTS)
    if isinstance(given, str):
        yield given
        return
    for item in given or ():
        if not isinstance(item.get("type", item.get("role")), str):
            raise TypeError
        kind = item.get("type", "message")
        if kind == "message" and isinstance(item["role"], str):
            yield from texts_of_content(item.get("content"), _TEXTS)
        elif kind in _OUTPUTS:
            yield from texts_of_content(item.get("output"), _TEXTS)


class _ResponsesReader(Reader):
    """Reads a responses body."""

    __slots__ = ()

    part_types = _TEXTS

    def request(self) -> Request:
        model: str | None = None
        stream = wants_json = continues = False
        instructions: tuple[Message, ...] = ()
        messages: tuple[Message, ...] = ()
        for key in self.body("instructions", "input"):
            if key == "model":
                model = self.model()
            elif key == "stream":
                stream = self.boolean("stream")
            elif key == "text":
                wants_json = self._wants_json()
            elif key in _ELSEWHERE:
                continues = continues or self.given()
            elif key == "instructions":
                instructions = self._instructions()
            elif key == "input":
                messages = self._input()
        self.remember(messages)
        return Request(
            self.raw,
            model,
            stream,
            instructions + messages,
            wants_json,
            continues=continues,
            spellings=self.spellings,
        )

    def _wants_json(self) -> bool:
        wanted = False
        for key in self.cursor.members() if self.cursor.peek() is Json.OBJECT else ():
            if key == "format":
                wanted = self.asks_for_json()
        return wanted

    def _instructions(self) -> tuple[Message, ...]:
        if not self.given():
            return ()
        self.cursor.expect(Json.STRING, "instructions")
        return (Message(0, "system", self._whole(0).leaves),)

    def _input(self) -> tuple[Message, ...]:
        kind = self.cursor.peek()
        if kind is Json.NULL:
            return ()
        if kind is Json.STRING:
            return (Message(1, "user", self._whole(1).leaves),)
        if kind is not Json.LIST:
            raise Unparsed(f"input: found {kind}, wanted {Json.STRING}, {Json.LIST} or null")
        return self.conversation(self._unless_silent)

    def _unless_silent(self, number: int, before: Sequence[Message]) -> Message | None:
        """Read an item; None, too, for one that only says again that a turn is closed."""
        message = self._item(number)
        closed = before and before[-1].role == "assistant"
        return None if closed and message == _silent(number + 1) else message

    def _item(self, number: int) -> Message | None:
        """Read an item; None for one of the caller's that has no text of ours."""
        where, index = f"input[{number}]", number + 1
        self.cursor.expect(Json.OBJECT, where)
        strings: dict[str, str] = {}
        texts: dict[str, Content] = {}
        marked = False
        for key in self.members(f"{where}.", _ON_THE_PATH):
            if key in _STRINGS and self.cursor.peek() is Json.STRING:
                strings[key] = self.cursor.text()
            elif key in {"content", "output"}:
                texts[key] = self._content(index, f"{where}.{key}")
            elif key in BREAKPOINTS:
                marked = marked or self.given()
        kind = strings.get("type", "message" if "role" in strings else "")
        if kind == "message" and "role" in strings:
            said = texts.get("content", Content())
            marked = marked or said.breakpoint
            return Message(index, strings["role"], said.leaves, breakpoint=marked)
        if kind in _OUTPUTS:
            said, call = texts.get("output", Content()), strings.get("call_id")
            marked = marked or said.breakpoint
            return Message(index, "tool", said.leaves, tool_call_id=call, breakpoint=marked)
        if kind in _CALLS:
            return Message(index, "assistant", tool_calls=_calls(strings, _CALLS[kind]))
        return None if kind.endswith(_ANSWERS) else _silent(index)

    def _content(self, index: int, where: str) -> Content:
        """Read texts; what is no string and no list of parts has none."""
        kind = self.cursor.peek()
        if kind is Json.STRING:
            return self._whole(index)
        return self.parts(index, where) if kind is Json.LIST else Content()

    def _whole(self, index: int) -> Content:
        return Content((self.leaf(Address(index, 0)),))


def _silent(index: int) -> Message:
    """Return what the model made without a word that concerns us: it closes a turn."""
    return Message(index, "assistant")


def _calls(strings: dict[str, str], arguments: str) -> tuple[ToolCall, ...]:
    if not {"call_id", "name", arguments} <= strings.keys():
        return ()
    return (ToolCall(strings["call_id"], strings["name"], strings[arguments]),)
