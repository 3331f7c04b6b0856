"""YAML text -> plain values, with the line that each one stands on.

YAML 1.2's core types, not 1.1's: ``mode: on`` and ``mode: off`` are words, not booleans.  A key
given twice, an alias or a tag of one's own is a problem: a policy file should read as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

import yaml

Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"
Path: TypeAlias = tuple[str | int, ...]

_PREFIX: Final = "tag:yaml.org,2002:"
_BOOLEANS: Final = {"true": True, "True": True, "false": False, "False": False}
_SCALARS: Final[Mapping[str, Callable[[str], Value]]] = {
    "null": lambda _: None,
    "bool": lambda text: _BOOLEANS[text],
    "int": int,
    "float": float,
    "str": str,
}


def dotted(path: Path) -> str:
    """Write a path as one reads it: ``routes[0].header.x-team``."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{_printable(step)}" for step in path)
    return "".join(steps).removeprefix(".")


def _printable(key: str) -> str:
    """Keep a message on one line, whatever a quoted key holds."""
    return key if key.isprintable() else repr(key)


class Problem(NamedTuple):
    """Something wrong in a file; sorts by file and line, and reads as one line."""

    file: str
    line: int
    path: Path
    text: str

    def __str__(self) -> str:
        """Render as ``file:line: key.path: found, wanted``."""
        where = dotted(self.path)
        return f"{self.file}:{self.line}: {where + ': ' if where else ''}{self.text}"


@dataclass(frozen=True, slots=True)
class Source:
    """A file's value; ``lines`` holds the line (from 1) of every key and list item by its path."""

    file: str
    value: Value
    lines: Mapping[Path, int]
    problems: tuple[Problem, ...] = ()

    def problem(self, path: Path, text: str) -> Problem:
        """Place ``text`` at ``path``, or at the nearest key above it that the file holds."""
        known = next(path[:n] for n in range(len(path), -1, -1) if path[:n] in self.lines)
        return Problem(self.file, self.lines[known], path, text)


class _Loader(yaml.SafeLoader):
    """Resolves YAML 1.2's core types, decimal numbers only."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own registry, filled below


for _tag, _pattern in (
    ("null", r"~|null|Null|NULL|"),
    ("bool", r"true|True|false|False"),
    ("int", r"[-+]?[0-9]{1,18}"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"),
):
    _Loader.add_implicit_resolver(_PREFIX + _tag, re.compile(f"(?:{_pattern})$"), None)


@dataclass(slots=True)
class _Reading:
    """What is gathered while walking one file's nodes."""

    file: str
    lines: dict[Path, int] = field(default_factory=lambda: {(): 1})
    problems: list[Problem] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)

    def refuse(self, node: yaml.Node, path: Path, text: str) -> None:
        self.problems.append(Problem(self.file, node.start_mark.line + 1, path, text))

    def value(self, node: yaml.Node, path: Path) -> Value:
        if id(node) in self.seen:
            self.refuse(node, path, "found an alias (*), wanted the value itself")
            return None
        self.seen.add(id(node))
        if isinstance(node, yaml.MappingNode) and node.tag == _PREFIX + "map":
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _PREFIX + "seq":
            return self.items(node, path)
        return self.scalar(node, path)

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.refuse(key, path, "found a list or mapping as a key, wanted a word")
                continue
            here = (*path, str(key.value))
            if here in self.lines:
                first = self.lines[here]
                self.refuse(key, here, f"found a second time (first on line {first}), wanted once")
                continue
            self.lines[here] = key.start_mark.line + 1
            values[str(key.value)] = self.value(value, here)
        return values

    def items(self, node: yaml.SequenceNode, path: Path) -> list[Value]:
        for index, item in enumerate(node.value):
            self.lines[*path, index] = item.start_mark.line + 1
        return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]

    def scalar(self, node: yaml.Node, path: Path) -> Value:
        convert = _SCALARS.get(node.tag.removeprefix(_PREFIX))
        try:
            if convert is not None and isinstance(node, yaml.ScalarNode):
                str(node.value).encode()  # YAML's "\ud800" escape makes a lone surrogate
                return convert(node.value)
        except (ValueError, KeyError):
            pass
        tag = node.tag.removeprefix(_PREFIX)
        self.refuse(node, path, f"found a value that cannot be read as {tag!r}, wanted plain YAML")
        return None


def _syntax_problem(file: str, error: Exception) -> Problem:
    """Say in one line what PyYAML found; never quote the file, which may hold a secret."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    said = getattr(error, "problem", None) or getattr(error, "reason", None) or "too deep"
    line = 1 if mark is None else mark.line + 1
    wanted = "quotes around a value that starts with *" if "alias" in said else "`key: value`"
    return Problem(file, line, (), f"found text that is not YAML ({said}), wanted {wanted}")


def read_yaml(file: str, text: str) -> Source:
    """Parse the one YAML document in ``text``; ``file`` is for messages.

    Never raises: what is wrong is in ``problems``, and the value holds what could be read.
    An empty file is an empty mapping.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        return Source(file, {}, {(): 1}, (_syntax_problem(file, error),))
    if node is None:
        return Source(file, {}, {(): 1})
    reading = _Reading(file)
    value = reading.value(node, ())
    return Source(file, value, reading.lines, tuple(reading.problems))
