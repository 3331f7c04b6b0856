"""What a model accepts, in words: for error messages and for the tables in the docs.

Everything is read from the model's JSON Schema, so that messages, docs and the published schema
cannot disagree.  A validator function says what it accepts under the schema's ``$comment``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeAlias

from pydantic import BaseModel, ValidationError

from proxy.policy.source import Path, dotted

Schema: TypeAlias = Mapping[str, Any]

NOT_SHOWN = "a value that is not shown"
"""Stands for what a field marked ``writeOnly`` holds: it may be a credential (law 11)."""

_PLAIN = {"string": "text", "boolean": "true or false", "object": "a mapping"}
_BOUNDS = {
    "exclusiveMinimum": ">",
    "minimum": ">=",
    "exclusiveMaximum": "<",
    "maximum": "<=",
}


class Key(NamedTuple):
    """One key that a model knows, for a table: ``(path, wanted, default, meaning)``."""

    path: str
    wanted: str
    default: str
    meaning: str


def one_of(words: Iterable[str]) -> str:
    """Join as a choice: ``a, b or c``."""
    *first, last = list(words)
    return f"{', '.join(first)} or {last}" if first else last


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean x?`` for the nearest known word, or nothing where none is near."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower()[:80], by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""


def found(value: object) -> str:
    """Name a value as its file spells it, in at most some 60 characters."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def resolve(schema: Schema, node: Schema) -> Schema:
    """Follow ``$ref``, and the first branch of an optional value that is not null."""
    if "anyOf" in node:
        branches = [branch for branch in node["anyOf"] if branch.get("type") != "null"]
        rest = {key: value for key, value in node.items() if key != "anyOf"}
        return resolve(schema, {**branches[0], **rest})
    if "$ref" in node:
        return resolve(schema, schema["$defs"][node["$ref"].rsplit("/", 1)[1]])
    return node


def node_at(schema: Schema, path: Path) -> Schema:
    """Return the schema of the value at ``path``; empty where no key of that name is known."""
    node = resolve(schema, schema)
    for step in path:
        if isinstance(step, int):
            below = node.get("items")
        elif "discriminator" in node:
            below = {"$ref": node["discriminator"]["mapping"].get(step, step)}
        else:
            below = node.get("properties", {}).get(step) or node.get("additionalProperties")
        node = resolve(schema, below or {})
    return node


def _written(schema: Schema, path: Path) -> Path:
    """Return a complaint's path as the file has it: without the names of chosen variants."""
    tags = {n for n in range(len(path)) if "discriminator" in node_at(schema, path[:n])}
    return tuple(step for n, step in enumerate(path) if n not in tags)


def wanted(schema: Schema, node: Schema) -> str:
    """Say what a value of this schema is: ``a number > 0 and <= 1``."""
    node = resolve(schema, node)
    said = node.get("$comment") or node.get("const")
    if said:
        return str(said)
    if "enum" in node:
        return one_of(node["enum"])
    kind = node.get("type")
    if kind in {"number", "integer"}:
        bounds = [f"{sign} {node[key]}" for key, sign in _BOUNDS.items() if key in node]
        noun = "a number" if kind == "number" else "a whole number"
        return " ".join([noun, " and ".join(bounds)]).rstrip()
    if kind == "array":
        return f"a list of {wanted(schema, node['items']).replace('a mapping', 'mappings')}"
    if kind == "object" and isinstance(node.get("additionalProperties"), Mapping):
        return f"a mapping of name to {wanted(schema, node['additionalProperties'])}"
    return _PLAIN[str(kind)]


def keys(schema: Schema, node: Schema, path: Path = ()) -> Iterator[Key]:
    """Yield every leaf key below ``node``, in the order of the model; lists are not entered."""
    for name, child in node.get("properties", {}).items():
        here = (*path, name)
        inner = resolve(schema, child)
        if "properties" in inner:
            yield from keys(schema, inner, here)
        else:
            told = child.get("description") or inner.get("description", "")
            meaning = " ".join(told.replace("``", "`").split())
            yield Key(dotted(here), wanted(schema, child), _default(child), meaning)


def _default(node: Schema) -> str:
    value = node.get("default")
    if value is None or value in ("", [], {}):
        return ""
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, Mapping):
        return f"{{name: {value['name']}}}"  # a variant, of which one key says which
    return found(value).strip("'")


def unknown_key(schema: Schema, path: Path) -> str:
    """Explain a key that is not known where it stands: where it belongs, or the nearest one."""
    siblings = node_at(schema, path[:-1]).get("properties", {})
    name = str(path[-1])
    homes = [key.path for key in keys(schema, resolve(schema, schema))]
    homes = [home for home in homes if home.rsplit(".", 1)[-1] == name]
    hint = f"; did you mean {one_of(homes)}?" if homes else nearest(name, siblings)
    return f"found an unknown key, wanted one of {', '.join(siblings)}{hint}"


def explain(error: ValidationError, schema: Schema) -> list[tuple[Path, str]]:
    """Turn pydantic's complaints into ``(path, "found X, wanted Y")``."""
    complaints = error.errors(include_url=False)
    return [(_written(schema, one["loc"]), _explain_one(schema, one)) for one in complaints]


def _explain_one(schema: Schema, error: Any) -> str:
    path: Path = error["loc"]
    if error["type"] == "extra_forbidden":
        return unknown_key(schema, path)
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])  # our own validators speak this language already
    value = None if error["type"] == "missing" else error["input"]
    node = node_at(schema, path)
    if error["type"] == "union_tag_invalid":
        tag = error["ctx"]["tag"]
        known = node["discriminator"]["mapping"]
        return f"found {found(tag)}, wanted {wanted(schema, node)}{nearest(tag, known)}"
    hint = nearest(value, node.get("enum", ())) if isinstance(value, str) else ""
    said = NOT_SHOWN if node.get("writeOnly") and value is not None else found(value)
    return f"found {said}, wanted {wanted(schema, node)}{hint}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Render a table for the docs."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in lines
    )


def keys_table(
    model: type[BaseModel], header: str = "Key", spell: Callable[[str], str] = str
) -> str:
    """Render every key of a model for the docs; ``spell`` turns its path into what one writes."""
    schema = model_schema(model)
    rows = [
        (f"`{spell(key.path)}`", key.wanted, f"`{key.default}`" if key.default else "", key.meaning)
        for key in keys(schema, schema)
    ]
    return markdown_table((header, "Wanted", "Default", "Meaning"), rows)


@cache
def model_schema(model: type[BaseModel]) -> Schema:
    """Return the model's JSON Schema, as what may be written (not what is read back)."""
    return model.model_json_schema(mode="validation")
