"""``laconic check``: whether policy files are right, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from proxy.errors import PolicyError
from proxy.ledger import Prices
from proxy.policy import layered, load_policies, policy_json_schema, read_policy_dir


def schema() -> str:
    """Return the JSON Schema of policy files."""
    return json.dumps(policy_json_schema(), indent=2)


def check(places: Sequence[Path], keys: Collection[str] | None = None) -> str:
    """Return what is known of the policy files in ``places``, laid over the shipped ones.

    ``keys`` are the names of the proxy keys, where they are known.  Raises PolicyError listing
    every problem, each with the path as given.
    """
    where = dict(_files(places))
    files = {path.name: text for path, text in where.items()}
    if len(files) < len(where):
        raise PolicyError("found two files of one name, wanted one directory at a time")
    try:
        policies = load_policies(layered(files), keys=keys)
        Prices(policies.prices)
    except PolicyError as error:
        paths = {path.name: str(path) for path in where}
        raise PolicyError("\n".join(_located(str(error).splitlines(), paths))) from error
    names = ", ".join(sorted(policies.policies))
    return f"ok: policies {names}; {len(policies.routes)} routes, then {policies.fallback}"


def _files(places: Iterable[Path]) -> Iterable[tuple[Path, str]]:
    """Yield path and text of each file given, and of each file in a directory given."""
    for place in places:
        if place.is_dir():
            yield from ((place / name, text) for name, text in read_policy_dir(place).items())
        else:
            yield place, read_file(place)


def read_file(path: Path) -> str:
    """Return a file's text.  Raises PolicyError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise PolicyError(f"{path}: found {error.strerror}, wanted a file to read") from error
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path}: found bytes that are not UTF-8, wanted UTF-8 text") from error


def _located(lines: Iterable[str], paths: dict[str, str]) -> Iterable[str]:
    """Replace the bare file name at a problem's head by the path, for editors to follow."""
    for line in lines:
        name, colon, rest = line.partition(":")
        yield f"{paths.get(name, name)}{colon}{rest}"
