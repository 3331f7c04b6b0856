"""A directory of policy files -> a :class:`PolicySet`, or every problem in them at once."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema

from proxy.errors import PolicyError
from proxy.policy.explain import explain, found, model_schema, nearest, one_of
from proxy.policy.routing import PolicySet
from proxy.policy.schema import Policy, Routes
from proxy.policy.source import Path, Problem, Source, Value, read_yaml

ROUTES_FILE = "routes.yaml"

_PACKAGE = pathlib.Path(__file__).parent.parent
_INSTALLED = _PACKAGE / "_policies"  # where the wheel puts them
_CHECKOUT = _PACKAGE.parent / "policies"

Model = TypeVar("Model", bound=BaseModel)


def read_policy_dir(path: pathlib.Path) -> dict[str, str]:
    """Return file name -> text of every ``*.yaml`` in a directory; hidden files are left out.

    Raises PolicyError where the directory or a file cannot be read, or a file ends in ``.yml``
    (it would be ignored in silence).
    """
    try:
        visible = [entry for entry in sorted(path.iterdir()) if not entry.name.startswith(".")]
        yml = [entry for entry in visible if entry.suffix == ".yml"]
        if yml:
            raise PolicyError("\n".join(f"{e}: found .yml, wanted the ending .yaml" for e in yml))
        chosen = [entry for entry in visible if entry.suffix == ".yaml" and entry.is_file()]
        return {entry.name: _read_text(entry) for entry in chosen}
    except OSError as error:
        where = error.filename or path
        raise PolicyError(f"{where}: found {error.strerror}, wanted *.yaml to read") from error


def _read_text(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path}: found bytes that are not UTF-8, wanted UTF-8 text") from error


def shipped_policies() -> dict[str, str]:
    """Return the files of the policies that come with Laconic."""
    return read_policy_dir(_INSTALLED if _INSTALLED.is_dir() else _CHECKOUT)


def layered(custom: Mapping[str, str]) -> dict[str, str]:
    """Lay files over the shipped ones: of two with the same name, ``custom`` wins."""
    return {**shipped_policies(), **custom}


def load_policies(
    files: Mapping[str, str], *, fallback: str | None = None, keys: Collection[str] | None = None
) -> PolicySet:
    """Read file name -> text: ``routes.yaml`` holds the routes, every other file one policy.

    A policy is called what its ``name:`` says, else what its file is called.  ``fallback``
    overrides the one in ``routes.yaml``.  ``keys`` are the names of the proxy keys, where they are
    known: a route for a key that nobody has is then a problem.  Raises PolicyError listing all
    problems, one a line, each ``file:line: key.path: found X, wanted Y``.
    """
    problems: list[Problem] = []
    sources = [read_yaml(name, text) for name, text in sorted(files.items()) if name != ROUTES_FILE]
    named = [_with_name(source) for source in sources]
    policies = [_validated(source, Policy, problems) for source in named]
    problems += _name_clashes(named)
    routes_source = read_yaml(ROUTES_FILE, files.get(ROUTES_FILE, ""))
    routes = _validated(routes_source, Routes, problems)
    problems += _unknown_policies(routes_source, [str(_name_in(source)) for source in named])
    problems += _unknown_upstreams(routes_source)
    problems += [] if keys is None else _unknown_keys(routes_source, sorted(keys))
    problems += _route_clashes(routes_source)
    if problems or routes is None:
        raise PolicyError("\n".join(str(problem) for problem in sorted(problems, key=_place)))
    by_name = {policy.name: policy for policy in policies if policy is not None}
    policy_set = PolicySet(
        MappingProxyType(by_name),
        routes.routes,
        routes.fallback,
        MappingProxyType(routes.upstreams),
        routes.upstream,
        routes.prices,
    )
    return policy_set if fallback is None else policy_set.with_fallback(fallback)


def _place(problem: Problem) -> tuple[str, int, str]:
    return problem.file, problem.line, str(problem)


def _with_name(source: Source) -> Source:
    """Let a policy file that gives no name be called what the file is called."""
    if not isinstance(source.value, dict) or "name" in source.value:
        return source
    value = {"name": pathlib.PurePath(source.file).stem, **source.value}
    return Source(source.file, value, source.lines, source.problems)


def _name_in(source: Source) -> object:
    return source.value.get("name") if isinstance(source.value, dict) else None


def _validated(source: Source, model: type[Model], problems: list[Problem]) -> Model | None:
    """Return the file as a model, or ``None`` having added what is wrong with it."""
    problems += source.problems
    told = {problem.path for problem in source.problems}
    try:
        # JSON, strictly: words become enums and lists become sets, but "0.5" is no number.
        return model.model_validate_json(json.dumps(source.value), strict=True)
    except ValidationError as error:
        explained = explain(error, model_schema(model))
        problems += [source.problem(path, text) for path, text in explained if path not in told]
        return None


def _name_clashes(sources: Iterable[Source]) -> list[Problem]:
    first: dict[object, str] = {}
    clashes = []
    for source in sources:
        name = _name_in(source)
        if name in first:
            text = f"found {found(name)}, which {first[name]} has too, wanted a name of its own"
            clashes.append(source.problem(("name",), text))
        elif isinstance(name, str):
            first[name] = source.file
    return clashes


def _unknown_policies(source: Source, known: Sequence[str]) -> list[Problem]:
    """List the routes, and the fallback, that name a policy that no file holds."""
    fallback = source.value.get("fallback", "default") if isinstance(source.value, dict) else None
    named: list[tuple[Path, Value]] = [(("fallback",), fallback)]
    named += [(("routes", i, "policy"), route.get("policy")) for i, route in _routes_in(source)]
    return _unknown(source, named, known, "a policy file")


def _unknown_upstreams(source: Source) -> list[Problem]:
    """List the routes, and the general upstream, that name one that is not there."""
    value = source.value if isinstance(source.value, dict) else {}
    upstreams = value.get("upstreams")
    known = list(upstreams) if isinstance(upstreams, dict) else []
    named: list[tuple[Path, Value]] = [(("upstream",), value.get("upstream"))]
    named += [(("routes", i, "upstream"), r.get("upstream")) for i, r in _routes_in(source)]
    return _unknown(source, named, known, "an entry under upstreams")


def _unknown(
    source: Source, named: Iterable[tuple[Path, Value]], known: Sequence[str], if_none: str
) -> list[Problem]:
    wanted = one_of(sorted(known)) if known else if_none
    return [
        source.problem(path, f"found {found(name)}, wanted {wanted}{nearest(name, known)}")
        for path, name in named
        if isinstance(name, str) and name not in known
    ]


def _unknown_keys(source: Source, known: Sequence[str]) -> list[Problem]:
    """List the routes for keys of which there is none."""
    wanted = one_of(known) if known else "a key in LACONIC_KEYS"
    return [
        source.problem(
            ("routes", i, "key"), f"found {found(glob)}, wanted {wanted}{nearest(glob, known)}"
        )
        for i, route in _routes_in(source)
        if isinstance(glob := route.get("key"), str)
        and not any(fnmatchcase(name, glob) for name in known)
    ]


def _route_clashes(source: Source) -> list[Problem]:
    names = [(i, route.get("name")) for i, route in _routes_in(source)]
    return [
        source.problem(("routes", i, "name"), f"found {found(name)} a second time, wanted it once")
        for position, (i, name) in enumerate(names)
        if isinstance(name, str) and name in [earlier for _, earlier in names[:position]]
    ]


def _routes_in(source: Source) -> Iterator[tuple[int, dict[str, Value]]]:
    """Yield what looks like a route, though the file may be wrong elsewhere."""
    routes = source.value.get("routes") if isinstance(source.value, dict) else None
    for index, route in enumerate(routes if isinstance(routes, list) else []):
        if isinstance(route, dict):
            yield index, route


def policy_yaml(policy: Policy) -> str:
    r"""Return a policy file that says the same as ``policy``, defaults left out.

    >>> policy_yaml(Policy(name="terse", min_tokens=50))
    'name: terse\nmin_tokens: 50\n'
    """
    fields = Policy.model_fields.items()
    same = {name for name, field in fields if getattr(policy, name) == field.default}
    # pydantic alone would compare what a field is written as with its default
    said = policy.model_dump(mode="json", exclude=same, exclude_defaults=True)
    text: str = yaml.safe_dump(said, sort_keys=False, allow_unicode=True)
    return text


def policy_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a policy file; that of ``routes.yaml`` is ``#/$defs/Routes``."""
    _, schema = models_json_schema([(Policy, "validation"), (Routes, "validation")])
    del schema["$defs"]["Policy"]["required"]  # the name alone: the file's own, if left out
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Laconic policy",
        "$ref": "#/$defs/Policy",
        "$defs": schema["$defs"],
    }
