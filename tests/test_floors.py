"""Imports point down only, and foreign libraries stay in their homes."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "proxy"

FLOORS = [
    {"types", "errors", "digests"},
    {"wire", "policy", "tokens", "settings"},
    {"tagging", "compress"},
    {"upstream", "engine", "scorers", "ledger", "memo", "writing"},
    {"gateway", "telemetry"},
    {"app", "admin", "dashboard", "workers"},
    {"cli", "__main__"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}

HOMES = {
    "aiohttp": {"admin", "app", "dashboard", "gateway", "upstream", "cli"},
    "torch": {"scorers"},
    "transformers": {"scorers"},
    "tokenizers": {"scorers"},
    "tiktoken": {"tokens"},
    "opentelemetry": {"telemetry"},
    "genai_prices": {"ledger"},
    "structlog": {"app", "workers", "gateway", "ledger"},
}
HEAVY = ("torch", "transformers", "genai_prices")
IMPURE = {"socket", "time", "datetime", "os", "logging", "random", "asyncio", "threading"}


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def room(path):
    """The first-level name a file belongs to: proxy/wire/scan.py -> wire."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    here = room(path)
    if here == "__init__":
        assert not [name for name in imports(path) if name.startswith("proxy")]
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "proxy" and parts[1] != "__version__":
            there = parts[1]
            assert there in FLOOR, f"{path}: proxy.{there} has no floor"
            below = FLOOR[there] < FLOOR[here] or there == here
            same = FLOOR[there] == FLOOR[here] == 3 and {here, there} <= {
                "engine",
                "scorers",
                "memo",
            }
            writes = there == "writing" and FLOOR[here] == 3  # what the records are written by
            beside = FLOOR[there] == FLOOR[here] and FLOOR[here] in {0, 1, 2, 5, 6}
            reachable = below or same or writes or beside
            assert reachable, f"{path}: imports {name}, which is not below it"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_foreign_libraries_stay_in_their_homes(path):
    here = room(path)
    for name in imports(path):
        library = name.split(".")[0]
        if library in HOMES:
            assert here in HOMES[library], f"{path}: {library} belongs in {HOMES[library]}"


@pytest.mark.parametrize(
    "path",
    [p for p in modules() if FLOOR.get(room(p), 9) <= 2],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_lower_floors_are_pure(path):
    assert not {name.split(".")[0] for name in imports(path)} & IMPURE


@pytest.mark.parametrize("statement", ["import proxy", "import proxy.__main__"])
def test_importing_loads_no_torch(statement):
    assert loaded(statement, HEAVY) == "[]"


def test_looking_into_the_ledger_loads_neither_a_server_nor_what_compresses():
    statement = "import proxy.cli.looking, proxy.cli.reporting, proxy.cli.keeping"
    assert loaded(statement, ("proxy.app", "proxy.compress", "aiohttp")) == "[]"


def loaded(statement, names):
    """Which of these a statement loads, in a process of its own."""
    code = f"{statement}; import sys; print([m for m in {names} if m in sys.modules])"
    done = subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
