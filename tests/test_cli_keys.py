"""``laconic keys``: a key is shown once, and the settings know it by its hash."""

import re

import pytest
from typer.testing import CliRunner

from proxy.cli import keys
from proxy.cli.commands import app
from proxy.errors import PolicyError
from proxy.gateway.access import Access, Guest
from proxy.policy import key_hash
from proxy.settings import load_settings


def run(*arguments, **environ):
    return CliRunner(env={"LACONIC_KEYS": "", **environ}).invoke(app, ["keys", *arguments])


def made(output):
    """The key and the setting, as printed."""
    key, setting = re.fullmatch(
        r"key, shown this once: (\S+)\nsetting: LACONIC_KEYS=(\S+)\n", output
    ).groups()
    return key, load_settings(environ={"LACONIC_KEYS": setting}).keys


def test_the_setting_that_is_printed_lets_the_key_in():
    key, known = made(run("new", "alice").output)
    assert key not in str(known)
    assert Access(known).admit({"x-laconic-key": key}) == Guest("alice")


def test_the_admins_token_has_a_setting_of_its_own():
    key, setting = re.fullmatch(
        r"key, shown this once: (\S+)\nsetting: LACONIC_ADMIN_TOKEN=(\S+)\n", run("admin").output
    ).groups()
    assert load_settings(environ={"LACONIC_ADMIN_TOKEN": setting}).admin_token == key_hash(key)


def test_keys_that_are_there_stay():
    there = f"bob={key_hash('lk-bob')}"
    key, known = made(run("new", "alice", LACONIC_KEYS=there).output)
    assert known == {"bob": key_hash("lk-bob"), "alice": key_hash(key)}


def test_no_two_keys_are_alike_and_each_is_long():
    made_keys = {keys.new_key() for _ in range(100)}
    assert len(made_keys) == 100
    assert all(len(key) >= 43 for key in made_keys)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a b", "NAME: found 'a b', wanted up to 64 letters"),
        ("bob", "NAME: found bob, which LACONIC_KEYS has already, wanted another"),
    ],
)
def test_a_name_that_is_none_or_is_taken_is_refused(name, told):
    with pytest.raises(PolicyError) as caught:
        keys.told(name, "lk-x", {"bob": key_hash("lk-bob")})
    assert str(caught.value).startswith(told)


def test_wrong_usage_is_exit_code_2():
    assert run("new", "a b").exit_code == 2
    assert run("new").exit_code == 2
