"""The docs say what the code says."""

import inspect
import re
import shlex
from pathlib import Path

import pytest
import typer

from proxy import errors
from proxy.cli.commands import app
from proxy.ledger.entry import field_table
from proxy.policy import Policy, Routes, layered, load_policies
from proxy.policy.explain import keys, model_schema
from proxy.settings import PREFIX, Settings
from proxy.types import Component, Kind, Mode, Reason

ROOT = Path(__file__).parent.parent
DOCS = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])
TEXTS = {path: path.read_text("utf-8") for path in DOCS}
EVERYTHING = "\n".join(TEXTS.values())

COMMANDS = typer.main.get_command(app).commands
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CITED = re.compile(r"\[`(test_\w+)`\]\((tests/\w+\.py)\)")
FENCE = re.compile(r"```(?:sh|shell|console|bash)\n(.*?)```", re.DOTALL)


def doc(name):
    return TEXTS[ROOT / "docs" / name]


def options(command):
    return {o for p in command.params for o in (*p.opts, *p.secondary_opts) if o[:2] == "--"}


def shell_lines():
    """Every command line that the README shows."""
    for block in FENCE.findall(TEXTS[ROOT / "README.md"]):
        for line in block.splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                yield line.partition("#")[0].strip()


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_relative_links_resolve(path):
    for target in LINK.findall(TEXTS[path]):
        if not re.match(r"[a-z]+:|#", target):
            assert (path.parent / target.partition("#")[0]).exists(), target


def test_the_threat_model_names_tests_that_exist():
    cited = CITED.findall(TEXTS[ROOT / "THREAT_MODEL.md"])
    assert len(cited) > 20
    for name, file in cited:
        assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE), name


def test_ledger_table_is_made_from_the_entry():
    assert field_table() in doc("ledger.md")


@pytest.mark.parametrize("word", [*Reason, *Mode, *Component, *Kind])
def test_every_word_of_the_records_appears(word):
    assert f"`{word}`" in EVERYTHING or f" {word}" in EVERYTHING


def test_every_reason_is_listed_with_the_ledger():
    assert [reason for reason in Reason if f"`{reason}`" not in doc("ledger.md")] == []


@pytest.mark.parametrize("model", [Policy, Routes])
def test_every_policy_key_appears(model):
    schema = model_schema(model)
    assert [k.path for k in keys(schema, schema) if f"`{k.path}`" not in doc("policies.md")] == []


def test_every_setting_appears():
    names = [f"`{PREFIX}{name.upper()}`" for name in Settings.model_fields]
    assert [name for name in names if name not in doc("settings.md")] == []


def test_every_error_type_appears():
    types = [name for name, _ in inspect.getmembers(errors, inspect.isclass)]
    assert [name for name in types if f"`{name}`" not in EVERYTHING] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_appears(name):
    section = doc("cli.md").partition(f"## laconic {name}\n")[2].partition("\n## ")[0]
    assert section
    missing = options(COMMANDS[name]) - set(re.findall(r"--[a-z-]+", section)) - {"--help"}
    assert missing == set()


def test_readme_names_only_make_targets_that_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = {line.split()[1] for line in shell_lines() if line.startswith("make ")}
    assert {"demo", "test"} <= named <= targets


def test_readme_uses_only_commands_and_options_that_exist():
    lines = [shlex.split(line) for line in shell_lines()]
    ours = [words[words.index("laconic") + 1 :] for words in lines if words[0] == "laconic"]
    assert ours
    for name, *arguments in ours:
        given = {word.partition("=")[0] for word in arguments if word.startswith("--")}
        assert given <= options(COMMANDS[name]), name


def test_readme_policy_is_a_right_one():

    blocks = re.findall(r"```yaml\n(.*?)```", TEXTS[ROOT / "README.md"], re.DOTALL)
    assert blocks
    for block in blocks:
        assert "readme" in load_policies(layered({"readme.yaml": block})).policies


def test_docs_keep_one_sentence_per_line():
    """Prose lines: a full stop followed by a capital letter starts a new line."""
    for name in ("ledger.md", "cli.md", "glossary.md"):
        for line in doc(name).splitlines():
            if not line.startswith(("|", "-", "#", "`")):
                assert not re.search(r"[a-z0-9)]\. [A-Z]", line), line
