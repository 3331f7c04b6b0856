"""A JSON scanner that says where things are and leaves them as they are.

``json`` turns ``1e2`` into ``100.0`` and forgets which of two equal keys came first; nothing that
is read so can be written back unchanged.  This scanner walks the bytes once, checks every one of
them against RFC 8259, and yields keys and byte ranges.  Numbers are never decoded, so that
``1e400`` and thirty-digit integers are as good as any other.

How it stays fast: the texts that we want are read by orjson, which checks them as it goes (what it
does not know, half a surrogate pair, is left to ``json``).  Regular expressions step over other
strings and over whole values up to ``_DEPTH`` levels deep in one match, so that Python runs once
per key on the path we care about.  Every quantifier is possessive: no backtracking, hence linear
time and constant memory.  What is nested deeper is walked with a stack of our own, so that no depth
overflows the interpreter's; and a body made to cost (a million tiny nested values) runs into
``MAX_STEPS`` instead of holding up the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from enum import StrEnum

import orjson

from proxy.types import Span
from proxy.wire.errors import Unparsed

MAX_STEPS = 1_000_000
"""Matches spent on one body: about a second.  10,000 chat messages take some 100,000."""

_ESCAPED_QUOTES = 40  # where a text has more of them, the regular expression is as quick
_DEPTH = 3  # levels of nesting that one match swallows; the pattern doubles with each

WS = rb"[ \t\n\r]*+"
_STRING = rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"'
_NUMBER = rb"-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]++)?+"
_KEY = _STRING + WS + rb":" + WS


def _value(depth: int) -> bytes:
    """Return the pattern of any value nested at most ``depth`` levels deep."""
    if depth == 0:
        return rb"(?:" + _STRING + rb"|" + _NUMBER + rb"|true|false|null)"
    inner = _value(depth - 1) + WS
    # A comma must not be followed by the closing bracket; without one, the bracket must follow.
    items = rb"\[" + WS + rb"(?:" + inner + rb"(?:," + WS + rb"(?!\])|(?=\])))*+\]"
    members = rb"\{" + WS + rb"(?:" + _KEY + inner + rb"(?:," + WS + rb"(?!\})|(?=\})))*+\}"
    return rb"(?:" + _value(0) + rb"|" + items + rb"|" + members + rb")"


_ITEMS = rb"(?:" + _value(_DEPTH) + WS + rb"," + WS + rb")*+"
_MEMBERS = rb"(?:" + _KEY + _value(_DEPTH) + WS + rb"," + WS + rb")*+"

_SPACE = re.compile(WS)
_TEXT = re.compile(_STRING)
_VALUE = re.compile(_value(_DEPTH))
_END = re.compile(WS + rb"\Z")

# Group 1 is the closing bracket or, walking an object, the key: what the caller must know.
_FIRST_KEY = re.compile(rb"\{" + WS + rb"(?:\}|(" + _STRING + rb")" + WS + rb":" + WS + rb")")
_NEXT_KEY = re.compile(WS + rb"(?:\}|," + WS + rb"(" + _STRING + rb")" + WS + rb":" + WS + rb")")
_FIRST_ITEM = re.compile(rb"\[" + WS + rb"(\])?+")
_NEXT_ITEM = re.compile(WS + rb"(?:(\])|," + WS + rb")")

_OPEN_LIST, _OPEN_OBJECT = b"[{"
_ENTER = {
    _OPEN_LIST: re.compile(rb"\[" + WS + _ITEMS),
    _OPEN_OBJECT: re.compile(rb"\{" + WS + _MEMBERS + _KEY),
}
_AFTER = {
    _OPEN_LIST: re.compile(WS + rb"(?:(\])|," + WS + _ITEMS + rb")"),
    _OPEN_OBJECT: re.compile(WS + rb"(?:(\})|," + WS + _MEMBERS + _KEY + rb")"),
}

# Where a match that should have ended in a key broke off: only errors need to know.
_BROKE_OFF = re.compile(WS + rb"(?:[{,]" + WS + _MEMBERS + rb"(?:" + _STRING + WS + rb")?+)?+")
_KEYED = frozenset({_FIRST_KEY, _NEXT_KEY, _ENTER[_OPEN_OBJECT], _AFTER[_OPEN_OBJECT]})

_IN_LIST = "',' or ']'"
_IN_OBJECT = "a key, ':', ',' or '}'"
_WANTED = {_OPEN_LIST: _IN_LIST, _OPEN_OBJECT: _IN_OBJECT}


class Json(StrEnum):
    """The kind of a value, in the words of an error message."""

    OBJECT = "an object"
    LIST = "a list"
    STRING = "a string"
    NUMBER = "a number"
    BOOLEAN = "a boolean"
    NULL = "null"
    NOTHING = "nothing"


_KINDS = {ord("{"): Json.OBJECT, ord("["): Json.LIST, ord('"'): Json.STRING}
_KINDS |= {ord("t"): Json.BOOLEAN, ord("f"): Json.BOOLEAN, ord("n"): Json.NULL}
_KINDS |= dict.fromkeys(b"-0123456789", Json.NUMBER)


class Cursor:
    """A position in a JSON body, always at the first byte of the next value.

    ``members`` and ``elements`` walk a container; whoever walks may consume each value with
    ``string``, ``skip`` or another walk, and what it leaves is skipped.  Every byte is checked
    once, when it is passed.  All methods raise :class:`Unparsed`.
    """

    __slots__ = ("_pos", "_raw", "_steps")

    def __init__(self, raw: bytes) -> None:
        """Check that ``raw`` is UTF-8 and stand before its first value."""
        broken = _first_broken_byte(raw)
        if broken is not None:
            raise Unparsed(f"byte {broken}: found invalid UTF-8, wanted UTF-8")
        self._raw = raw
        self._steps = 0
        self._pos = 0
        self.take(_SPACE)

    @property
    def position(self) -> int:
        """The byte where the value ahead begins."""
        return self._pos

    @property
    def steps(self) -> int:
        """The matches spent so far."""
        return self._steps

    def go(self, position: int, steps: int) -> None:
        """Go to where a cursor stood, at another time, in a body that is the same up to there."""
        self._pos, self._steps = position, steps

    def peek(self) -> Json:
        """Return the kind of the value ahead, told by its first byte; consuming checks the rest."""
        return _KINDS.get(self._raw[self._pos], Json.NOTHING) if self._more else Json.NOTHING

    def expect(self, wanted: Json, where: str) -> None:
        """Raise unless the value ahead is of the kind ``wanted``."""
        if self.peek() is not wanted:
            if self.peek() is Json.NOTHING:
                raise self._error("a value")
            raise Unparsed(f"{where}: found {self.peek()}, wanted {wanted}")

    def string(self) -> Span:
        """Consume a string; return its byte range, quotes included."""
        found = self._match(_TEXT, "a string")
        return Span(found.start(), found.end())

    def text(self) -> str:
        """Consume a string; return its text, as ``decode_string`` does."""
        after = self._guessed_end()
        text = _decoded(self._raw[self._pos : after])
        if text is None:  # broken, or the guess was
            place = self.string()
            return decode_string(self._raw[place.start : place.end])
        self._step()
        self._pos = after
        return text

    def _guessed_end(self) -> int:
        """Guess where the string ahead ends: what is no string does not end there."""
        quote = self._raw.find(b'"', self._pos + 1)
        for _ in range(_ESCAPED_QUOTES):
            if self._raw[quote - 1 : quote] != b"\\":
                break
            quote = self._raw.find(b'"', quote + 1)
        return quote + 1

    def take(self, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
        """Move over ``pattern``, if it is what comes next."""
        self._step()
        found = pattern.match(self._raw, self._pos)
        if found is not None:
            self._pos = found.end()
        return found

    def _step(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise Unparsed(f"byte {self._pos}: found over {MAX_STEPS} steps of structure, gave up")

    def back(self, position: int) -> None:
        """Return to where a value begins that was passed."""
        self._pos = position

    def members(self) -> Iterator[str]:
        """Walk the object ahead: yield each decoded key, standing at its value."""
        pattern = _FIRST_KEY
        while key := self._match(pattern, _IN_OBJECT)[1]:
            value = self._pos
            yield decode_string(key)
            if self._pos == value:
                self.skip()
            pattern = _NEXT_KEY

    def elements(self) -> Iterator[int]:
        """Walk the list ahead: yield each index, standing at its value."""
        pattern, index = _FIRST_ITEM, 0
        while not self._match(pattern, _IN_LIST)[1]:
            value = self._pos
            yield index
            if self._pos == value:
                self.skip()
            pattern, index = _NEXT_ITEM, index + 1

    def skip(self) -> None:
        """Consume a value of any kind and depth."""
        opened = bytearray()  # brackets not closed yet, outermost first
        while True:
            if self.take(_VALUE) is None:
                if not self._more or (bracket := self._raw[self._pos]) not in _ENTER:
                    raise self._error("a value")
                opened.append(bracket)
                self._match(_ENTER[bracket], _WANTED[bracket])
                continue
            while opened and self._match(_AFTER[opened[-1]], _WANTED[opened[-1]])[1]:
                opened.pop()
            if not opened:
                return

    def end(self) -> None:
        """Check that nothing but white space is left."""
        self._match(_END, "the end of the body")

    @property
    def _more(self) -> bool:
        return self._pos < len(self._raw)

    def _match(self, pattern: re.Pattern[bytes], wanted: str) -> re.Match[bytes]:
        found = self.take(pattern)
        if found is None:
            raise self._error(wanted, _BROKE_OFF if pattern in _KEYED else _SPACE)
        return found

    def _error(self, wanted: str, passed: re.Pattern[bytes] = _SPACE) -> Unparsed:
        """Name what stands after ``passed`` by its sort: no byte of a prompt is quoted."""
        before = passed.match(self._raw, self._pos)
        at = before.end() if before else self._pos
        here = self._raw[at : at + 1]
        if not here:
            found = "the end of the body"
        elif here in b'{}[]:,"':
            found = f"'{here.decode()}'"
        else:
            found = "a digit" if here.isdigit() else "something else"
        return Unparsed(f"byte {at}: found {found}, wanted {wanted}")


def decode_string(quoted: bytes) -> str:
    r"""Return the text of a JSON string that a cursor has passed, quotes included.

    >>> decode_string(rb'"caf\u00e9"')
    'café'

    A lone surrogate escape stays a lone surrogate.
    """
    text = quoted.decode()
    return str(json.loads(text)) if "\\" in text else text[1:-1]


def _decoded(quoted: bytes) -> str | None:
    """Return the text of a JSON string; None where it is none, or holds a lone surrogate.

    Outside of who raises, lest the body travel with the error.
    """
    try:
        return str(orjson.loads(quoted))
    except orjson.JSONDecodeError:
        return None


def is_json(text: str) -> bool:
    """Tell whether a text is JSON, numbers of any size in it; ``NaN`` and its like pass, too.

    >>> is_json('{"n": 1e999}'), is_json("{n: 1}")
    (True, False)
    """
    try:
        json.loads(text, parse_int=str)
    except (ValueError, RecursionError):
        return False
    return True


def _first_broken_byte(raw: bytes) -> int | None:
    """Return where UTF-8 ends; outside of who raises, lest the body travel with the error."""
    if raw.isascii():
        return None
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return error.start
    return None
