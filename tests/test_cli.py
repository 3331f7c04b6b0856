"""The command line, as a person or a script meets it."""

import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pyarrow.parquet import read_table

import proxy
from proxy.cli.compressing import plan
from proxy.ledger import LedgerEntry, SqliteSink, outcome_fields
from proxy.settings import Settings
from proxy.types import Arm, Component, Count, Mode, Outcome, Reason

ENTRY = LedgerEntry(
    request_id="req_1",
    started_at="2026-03-01T10:00:00.000+00:00",
    method="POST",
    path="/v1/chat/completions",
    status=200,
    route="retrieval",
    model="gpt-5",
    prompt_tokens=410,
    **outcome_fields(
        Outcome(
            policy="rag",
            mode=Mode.ON,
            tokens_before=1000,
            tokens_after=400,
            components={Component.CONTEXT: Count(1000, 400)},
            encoding="o200k_base",
            first_saved=500,
            repeat_saved=100,
            recalled_tokens=20,
            cache_breaks=1,
        )
    ),
)


@pytest.fixture
def ledger(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    passed = replace(
        ENTRY,
        route=None,
        reason=Reason.TOO_SHORT,
        tokens_after=1000,
        tokens_saved=0,
        first_saved=0,
        repeat_saved=0,
        estimated=True,
        resent=True,
        started_at="2026-03-02T10:00:00.000+00:00",
    )
    sink = SqliteSink(path)
    sink.write(ENTRY)
    sink.write(passed)
    sink.close()
    return path


def test_version(laconic):
    done = laconic("version")
    assert (done.exit_code, done.stdout) == (0, f"{proxy.__version__}\n")


def test_help_names_every_command_and_loads_no_model_and_no_server():
    code = (
        "import sys\n"
        "from proxy.__main__ import main\n"
        "sys.argv = ['laconic', '--help']\n"
        "try:\n    main()\n"
        "finally:\n"
        "    heavy = {'torch', 'transformers', 'tiktoken', 'aiohttp', 'numpy', 'pydantic'}\n"
        "    print('loaded:', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    for command in ("serve", "check", "compress", "report", "demo", "doctor", "version"):
        assert f" {command} " in done.stdout
    assert done.stdout.endswith("loaded: []\n")


@pytest.mark.parametrize("arguments", [["--nonsense"], ["nonsense"], ["report", "--by", "moon"]])
def test_wrong_usage_exits_2(laconic, arguments):
    assert laconic(*arguments).exit_code == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_what_completes_a_command(shell):
    asked = {
        "bash": {"COMP_WORDS": "laconic re", "COMP_CWORD": "1"},
        "zsh": {"_TYPER_COMPLETE_ARGS": "laconic re"},
        "fish": {"_TYPER_COMPLETE_ARGS": "laconic re", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }
    told = subprocess.run(  # noqa: S603 - our own command
        [Path(sys.executable).with_name("laconic")],
        env={**os.environ, "_LACONIC_COMPLETE": f"complete_{shell}", **asked[shell]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "report" in told.stdout
    assert "serve" not in told.stdout


def test_python_m_proxy_is_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{proxy.__version__}\n"


# -- serve ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "abc"], "--port: found 'abc'"),
        (["--upstream", "ftp://x"], "--upstream: found"),
        (["--policy", "ragg"], "did you mean rag?"),
        (["--policies", "nowhere"], "nowhere"),
        (["--log-level", "loud"], "--log-level: found 'loud'"),
        (["--backend", "int4"], "--backend: found 'int4', wanted auto, fp32, int8 or cuda"),
    ],
)
def test_serve_says_what_is_wrong_and_exits_2(laconic, arguments, message):
    done = laconic("serve", "--ledger", "none", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_serve_refuses_a_ledger_that_is_none(laconic, tmp_path):
    (tmp_path / "diary").write_text("dear diary\n" * 100)
    done = laconic("serve", "--ledger", tmp_path / "diary")
    assert (done.exit_code, "wanted a Laconic ledger" in done.stderr) == (2, True)


# -- check ----------------------------------------------------------------------------------------


def test_check_finds_the_shipped_policies_right(laconic):
    done = laconic("check")
    assert (done.exit_code, done.stdout[:12]) == (0, "ok: policies")


def test_check_names_file_line_key_found_and_wanted(laconic, tmp_path):
    directory = tmp_path / "mine"
    directory.mkdir()
    (directory / "tight.yaml").write_text("mode: on\ncomponents:\n  context: {rat: 0.5}\n")
    done = laconic("check", directory)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"{directory}/tight.yaml:3: components.context.rat: found ")
    assert "did you mean rate?" in done.stderr
    assert done.stdout == ""


def test_check_takes_single_files(laconic, tmp_path):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("components: {context: {rate: 0.5}}\n")
    bad.write_text("mode: sideways\n")
    assert laconic("check", good).exit_code == 0
    assert laconic("check", good, bad).stderr.startswith(f"{bad}:1: mode: found 'sideways'")
    assert laconic("check", tmp_path / "none.yaml").exit_code == 2


def test_check_knows_the_keys_of_the_environment(laconic, monkeypatch, tmp_path):
    (tmp_path / "routes.yaml").write_text("routes:\n  - {key: alcie, policy: off}\n")
    monkeypatch.setenv("LACONIC_POLICIES", str(tmp_path))
    monkeypatch.setenv("LACONIC_KEYS", f"alice=sha256:{'0' * 64}")
    done = laconic("check")
    assert done.exit_code == 2
    assert "routes.yaml:2: routes[0].key: found 'alcie', wanted alice" in done.stderr
    assert laconic("check", tmp_path).exit_code == 0  # files alone say nothing of keys


def test_check_looks_at_the_environment_too(laconic, monkeypatch):
    monkeypatch.setenv("LACONIC_PORT", "abc")
    done = laconic("check")
    assert (done.exit_code, done.stderr[:26]) == (2, "LACONIC_PORT: found 'abc',")


def test_check_prints_the_schema(laconic):
    schema = json.loads(laconic("check", "--schema").stdout)
    assert {"Policy", "Routes"} <= set(schema["$defs"])


# -- report ---------------------------------------------------------------------------------------


def test_report_shows_what_was_saved_first_and_again_and_what_passed(laconic, ledger):
    done = laconic("report", "--ledger", ledger)
    assert done.exit_code == 0
    for text in ("retrieval", "500", "100", "too-short 1", "~", "guess", "sent again verbatim"):
        assert text in done.stdout


def test_report_as_json_is_whole(laconic, ledger):
    report = json.loads(laconic("report", "--ledger", ledger, "--by", "policy", "--json").stdout)
    (row,) = report["rows"]
    assert report["total"] == row | {"key": "total"}
    figures = {"key": "rag", "exchanges": 2, "tokens_saved": 600, "estimated": 1, "rate": 0.7}
    assert row | figures == row
    assert row["passes"] == {"too-short": 1}


def test_report_as_csv_has_a_row_per_day(laconic, ledger):
    text = laconic("report", "--ledger", ledger, "--by", "day", "--csv").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["key"], row["tokens_saved"], row["passes"]) for row in rows] == [
        ("2026-03-01", "600", ""),
        ("2026-03-02", "0", "too-short=1"),
    ]


def test_report_since_leaves_older_exchanges_out(laconic, ledger):
    report = laconic("report", "--ledger", ledger, "--json", "--since", "2026-03-02")
    assert json.loads(report.stdout)["total"]["exchanges"] == 1


def test_report_until_leaves_newer_exchanges_out(laconic, ledger):
    report = laconic("report", "--ledger", ledger, "--json", "--until", "2026-03-02T10:00")
    found = json.loads(report.stdout)
    assert (found["total"]["exchanges"], found["until"]) == (1, "2026-03-02T10:00:00")


def test_report_has_dollars_where_the_policies_say_prices(laconic, ledger, tmp_path):
    (tmp_path / "mine").mkdir()
    prices = "prices:\n  - {model: gpt-5, input: 10, cache_read: 1, output: 40}\n"
    (tmp_path / "mine" / "routes.yaml").write_text(prices)
    asked = ("report", "--ledger", ledger, "--policies", tmp_path / "mine")
    total = json.loads(laconic(*asked, "--json").stdout)["total"]
    assert total["value_usd"] == (500 * 10 + 100 * 1) / 1e6
    assert (total["priced"], total["unpriced"]) == (2, 0)
    assert "$0.005100" in laconic(*asked).stdout
    told = laconic("report", "--ledger", ledger).stdout
    assert "2 exchanges have no known price" in " ".join(told.split())
    assert "$" not in told.partition("Passed")[0]


def test_report_refuses_a_provider_that_there_is_not(laconic, ledger, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "routes.yaml").write_text("prices:\n  - {provider: opnai}\n")
    for command in (("report", "--ledger", ledger, "--policies"), ("check",)):
        done = laconic(*command, tmp_path / "mine")
        assert done.exit_code == 2
        assert "prices[0].provider: found 'opnai'" in done.stderr


def test_report_as_parquet_is_read_back(laconic, ledger, tmp_path):
    done = laconic("report", "--ledger", ledger, "--by", "day", "--parquet", tmp_path / "days")
    assert done.exit_code == 0
    rows = read_table(tmp_path / "days").to_pylist()
    as_json = json.loads(laconic("report", "--ledger", ledger, "--by", "day", "--json").stdout)
    assert [row["passes"] for row in rows] == ["", "too-short=1"]
    assert [{**row, "passes": {}} for row in rows] == [
        {**row, "passes": {}} for row in as_json["rows"]
    ]


def test_report_draws_a_line_of_what_was_saved(laconic, ledger):
    assert "█▁" in laconic("report", "--ledger", ledger, "--by", "model").stdout


def test_report_says_how_far_the_counts_are_apart(laconic, ledger):
    (drift,) = json.loads(laconic("report", "--ledger", ledger, "--json").stdout)["drift"]
    assert (drift["model"], drift["edited"]["median"], drift["untouched"]["median"]) == (
        "gpt-5",
        10.0,
        -590.0,
    )
    assert "+10.0 (10 to 10; 1)" in laconic("report", "--ledger", ledger).stdout


def test_report_compares_what_was_held_out(laconic, tmp_path):
    path = tmp_path / "arms.sqlite3"
    sink = SqliteSink(path)
    for arm in Arm:
        sink.write(replace(ENTRY, arm=arm, conversation=arm))
    sink.close()
    asked = ("report", "--ledger", path, "--by", "arm")
    comparison = json.loads(laconic(*asked, "--json").stdout)["comparison"]
    assert comparison["exchanges"] == {"compressed": 1, "held-out": 1}
    assert "second tries" in laconic(*asked).stdout


def test_report_by_arm_says_where_there_is_nothing_to_compare(laconic, ledger):
    assert "Nothing to compare" in laconic("report", "--ledger", ledger, "--by", "arm").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--since", "yesterday"],
        ["--until", "tomorrow"],
        ["--json", "--csv"],
        ["--csv", "--parquet", "x"],
        ["--ledger", "none"],
        ["--ledger", "nowhere"],
    ],
)
def test_report_refuses(laconic, arguments):
    done = laconic("report", *arguments)
    assert done.exit_code == 2
    assert "wanted" in done.stderr


# -- compress -------------------------------------------------------------------------------------

PASSAGES = [
    "The lighthouse at Rubha was lit for the first time in 1849. Its keeper kept bees.",
    "Oak bark was boiled to tan leather. The smell hung over the town for weeks.",
    "The railway reached the coast in 1901. Fish could then be sold inland on the same day.",
    "A clock needs winding once a week. Its weights hang in the stairwell.",
] * 4
TEXT = "\n\n".join(f"Passage {n}: {text}" for n, text in enumerate(PASSAGES, 1))
BODY = (
    json.dumps(
        {
            "temperature": 1.0,
            "messages": [
                {"role": "user", "content": f"{TEXT}\n\nQuestion: When was the lighthouse lit?"}
            ],
            "model": "gpt-4o",
        },
        ensure_ascii=False,
    )
    .replace("1.0", "1e0")
    .encode()
)


def compress(*arguments, given, environ=()):
    return subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "proxy", "compress", "--threads", "1", *map(str, arguments)],
        input=given,
        capture_output=True,
        check=False,
        env={**os.environ, **dict(environ)},
    )


@pytest.fixture(scope="module")
def compressed():
    return compress("--policy", "rag", "--rate", "0.3", given=BODY)


def test_compressed_body_is_the_callers_with_text_left_out(compressed):
    assert compressed.returncode == 0
    new, old = json.loads(compressed.stdout), json.loads(BODY)
    assert list(new) == list(old)
    assert b'"temperature": 1e0' in compressed.stdout
    assert not compressed.stdout.endswith(b"\n")
    kept = new["messages"][0]["content"]
    assert "lit for the first time in 1849" in kept
    assert kept.endswith("Question: When was the lighthouse lit?")
    assert len(kept) < len(old["messages"][0]["content"]) / 2


def test_statistics_are_one_json_line(compressed):
    stats = json.loads(compressed.stderr)
    for name in ("request_id", "encoding", "compress_ms", "rate"):
        assert stats[name]
    assert stats["tokens_saved"] == stats["tokens_before"] - stats["tokens_after"] > 0
    assert stats["components"]["context"]["after"] <= 0.3 * stats["components"]["context"]["before"]
    assert (stats["policy"], stats["reason"], stats["estimated"]) == ("rag", None, False)


def test_jsonl_keeps_order_bad_lines_and_line_endings(tmp_path, compressed):
    lines = [BODY, b"not json", b"", BODY]
    notes = tmp_path / "stats.jsonl"
    done = compress(
        "--jsonl", "--policy", "rag", "--rate", "0.3", "--stats", notes, given=b"\r\n".join(lines)
    )
    assert done.returncode == 0
    assert done.stdout == b"\r\n".join([compressed.stdout, *lines[1:3], compressed.stdout])
    stats = [json.loads(line) for line in notes.read_text().splitlines()]
    assert [(line["request_id"], line["reason"]) for line in stats] == [
        ("line-1", None),
        ("line-2", "unparsed"),
        ("line-3", "unparsed"),
        ("line-4", None),
    ]
    assert done.stderr == b""


@pytest.mark.parametrize(("text", "name"), [("name: quiet\nmode: off\n", "quiet"), ("{}", "mine")])
def test_policy_may_be_a_file(tmp_path, text, name):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    chosen = plan(Settings(), policy=str(path), rate=None).policies
    assert (chosen.fallback, chosen.routes) == (name, ())


def test_owner_is_bound_by_no_deadline_and_may_set_any_rate(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("allow: {rate: false}\ndeadline_s: 0.01\n")
    (mine,) = [
        p
        for p in plan(Settings(), policy=str(path), rate=0.2).policies.policies.values()
        if p.name == "mine"
    ]
    assert mine.allow.rate
    assert mine.deadline_s > 3600


@pytest.mark.parametrize(
    "arguments", [["--policy", "ragg"], ["--policy", "none.yaml"], ["--rate", "7"]]
)
def test_compress_refuses(laconic, arguments):
    done = laconic("compress", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "wanted" in done.stderr


def test_a_reader_that_leaves_ends_it_without_a_traceback(tmp_path):
    (tmp_path / "many.jsonl").write_bytes((BODY + b"\n") * 50)
    with (
        (tmp_path / "many.jsonl").open("rb") as many,
        subprocess.Popen(
            [sys.executable, "-m", "proxy", "compress", "--jsonl", "--policy", "off"],
            stdin=many,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        process.stdout.close()
        told = process.stderr.read()
    assert process.returncode == 1
    assert b"Traceback" not in told
    assert b"Exception ignored" not in told


# -- shell completion -----------------------------------------------------------------------------

AS_INSTALLED = "import sys; sys.argv[0] = 'laconic'; from proxy.__main__ import main; main()"


def completed(shell, **asked):
    """What the shell is told to offer."""
    environment = {**os.environ, "_LACONIC_COMPLETE": f"complete_{shell}", **asked}
    done = subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-c", AS_INSTALLED],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("laconic rep", {"report"}),
        ("laconic ledger ", {"export", "delete", "vacuum"}),
        ("laconic report --by ho", {"hour"}),
        ("laconic inspect --js", {"--json"}),
    ],
)
def test_the_shell_completes_commands_options_and_values(words, offered):
    place = str(len(words.split(" ")) - 1)
    assert set(completed("bash", COMP_WORDS=words, COMP_CWORD=place).split()) == offered
    assert offered <= set(
        completed("fish", _TYPER_COMPLETE_ARGS=words, _TYPER_COMPLETE_FISH_ACTION="get-args")
        .replace("\t", " ")
        .split()
    )
