"""What holds for every test."""

import os

import pytest
import structlog
from typer.testing import CliRunner

from proxy.cli.commands import app

# OpenMP's threads wait for each other by spinning: where test workers share the cores, a model of
# a few kilobytes then trains for minutes.  Set before torch is imported; workers inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test leaves anything in the home of whoever runs it.
os.environ.setdefault("LACONIC_MEMO_PATH", "none")

# What runs in an environment of its own is imported nowhere here.
collect_ignore = ["clients/scripts", "mutate", "schema"]


@pytest.fixture
def laconic(tmp_path, monkeypatch):
    """Runs the command line in an environment of its own."""
    for name in [name for name in os.environ if name.startswith("LACONIC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    yield lambda *arguments: runner.invoke(app, [str(argument) for argument in arguments])
    structlog.reset_defaults()  # `serve` had logs written to a stream that is closed by now
