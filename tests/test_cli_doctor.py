"""The doctor: what it says of a machine and of settings, and what it leaves alone."""

import json
import os
import socket
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch
from typer.testing import CliRunner

from proxy.cli import doctor
from proxy.cli.commands import app
from proxy.cli.doctor import Finding, Speed, Verdict
from proxy.ledger import SqliteSink
from proxy.scorers.arithmetic import best, int8_is_exact
from proxy.settings import Backend, Settings

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def environ(tmp_path):
    return {"XDG_STATE_HOME": str(tmp_path / "state"), "XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.fixture
def examine(environ):
    """Examines this machine as the command does, with a shorter look at its speed."""
    return lambda **arguments: doctor.run(arguments, environ, measure_s=0.02)


@pytest.fixture
def laconic(environ):
    """Runs the command in an environment of its own."""
    cleared = dict.fromkeys(n for n in os.environ if n.startswith("LACONIC_"))
    runner = CliRunner(env={**cleared, **environ, "NO_COLOR": "1"})
    return lambda *arguments: runner.invoke(app, ["doctor", *map(str, arguments)])


@pytest.fixture
def asked():
    """An upstream that answers 401; holds the requests it saw."""
    seen = []

    class Models(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.path, dict(self.headers)))
            self.send_response(401)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Models)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def nobody():
    """An address where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


def verdicts(findings):
    return {finding.check: str(finding.verdict) for finding in findings}


def test_a_healthy_machine_passes_every_check(examine, asked):
    findings = examine(upstream=asked[0])
    found = verdicts(findings)
    assert not doctor.failed(findings)
    assert list(found)[:6] == [
        "python", "packages", "encodings", "settings", "policies", "processor",
    ]  # fmt: skip
    assert list(found)[-6:] == ["ledger", "capture", "memo", "prices", "upstream", "clock"]
    assert found["upstream"] == found["model"] == found["backend fp32"] == "ok"


def test_a_warning_fails_nothing_and_nothing_is_written(examine, nobody, tmp_path):
    findings = examine(upstream=nobody)
    assert (verdicts(findings)["upstream"], doctor.failed(findings)) == ("warn", False)
    assert list(tmp_path.iterdir()) == []


def test_each_finding_is_a_line_with_what_to_do(laconic, nobody, tmp_path):
    done = laconic("--upstream", nobody, "--ledger", "none", "--model", tmp_path)
    assert f"warn upstream     {nobody}: not reached (ConnectError) -> look at" in done.stdout
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"ok", "warn", "fail"}


def test_a_model_that_is_none_fails(laconic, nobody, tmp_path):
    done = laconic("--upstream", nobody, "--model", tmp_path, "--json")
    told = json.loads(done.stdout)
    found = {finding["check"]: finding["verdict"] for finding in told["findings"]}
    assert (done.exit_code, told["ok"], found["model"]) == (1, False, "fail")


def test_wrong_settings_fail_and_reach_nobody(laconic, asked):
    done = laconic("--upstream", asked[0], "--backend", "int4")
    assert (done.exit_code, asked[1]) == (1, [])
    assert "found 'int4', wanted auto, fp32, int8 or cuda" in done.stdout


def test_wrong_policies_fail(tmp_path):
    (tmp_path / "mine.yaml").write_text("name: mine\ncolour: red\n")
    finding = doctor.policies(tmp_path)
    assert finding.verdict is Verdict.FAIL
    assert "mine.yaml:2: colour" in finding.found


def test_the_upstream_is_asked_once_without_a_key(asked, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    address, seen = asked
    finding, date = doctor.upstream(f"{address}/v1")
    assert finding == Finding("upstream", Verdict.OK, f"{address}/v1 answers, 401 without a key")
    assert date is not None
    assert [path for path, _ in seen] == ["/v1/models"]
    assert not {name.lower() for name in seen[0][1]} & {"authorization", "api-key", "cookie"}


def test_every_upstream_of_the_routes_is_asked(asked, nobody, tmp_path):
    (tmp_path / "routes.yaml").write_text(
        f"upstreams:\n  near: {{url: {asked[0]}/v1}}\n  far: {{url: {nobody}}}\n"
        "  locked: {url: https://127.0.0.1:1, tls: {ca_file: /nowhere.pem}}\n"
    )
    near, far, locked = doctor.upstreams(tmp_path)
    assert near == Finding("upstream near", Verdict.OK, f"{asked[0]}/v1 answers, 401 without a key")
    assert (far.check, far.verdict, far.todo) == (
        "upstream far",
        Verdict.WARN,
        "look at the address and the network",
    )
    assert (locked.check, locked.verdict) == ("upstream locked", Verdict.FAIL)
    assert list(doctor.upstreams(None)) == []


def test_old_python_fails():
    assert doctor.python((3, 10, 4)) == Finding(
        "python", Verdict.FAIL, "3.10.4", "install Python 3.11 or newer"
    )


def test_a_missing_package_fails():
    finding = doctor.packages(["pytest", "no-such-package"])
    assert finding.verdict is Verdict.FAIL
    assert finding.todo == "pip install no-such-package"


@pytest.mark.parametrize(
    ("asked", "speeds", "verdict", "words"),
    [
        (Backend.AUTO, (1000, 3000), Verdict.OK, "auto computes in int8: keep it"),
        (Backend.INT8, (1000, 3000), Verdict.OK, "int8 computes in int8: keep it"),
        (Backend.FP32, (1000, 3000), Verdict.WARN, "LACONIC_BACKEND=auto"),
        (Backend.INT8, (3000, 1000), Verdict.WARN, "LACONIC_BACKEND=fp32"),
        (Backend.AUTO, (3000, 1000), Verdict.WARN, "LACONIC_BACKEND=fp32"),
        (Backend.FP32, (1000, 1050), Verdict.OK, "fp32 computes in fp32: keep it"),
    ],
)
def test_the_fastest_backend_is_advised(asked, speeds, verdict, words):
    measured = [Speed(Backend.FP32, 1, speeds[0]), Speed(Backend.INT8, 1, speeds[1])]
    finding = doctor.advice(asked, Backend.INT8, measured)
    assert finding.verdict is verdict
    assert words in f"{finding.found} {finding.todo}"


def test_the_backend_of_a_machine_without_int8_is_fp32():
    finding = doctor.advice(Backend.AUTO, Backend.FP32, [Speed(Backend.FP32, 1, 1)])
    assert finding == Finding("backend", Verdict.OK, "auto computes in fp32: keep it")


@pytest.mark.skipif(not int8_is_exact(), reason="this processor saturates int8 sums")
def test_auto_is_what_the_processor_does_best(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert doctor._automatic() == best().arithmetic


def test_a_gpu_is_measured_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert Backend.CUDA in doctor._offered()
    assert doctor._automatic() is Backend.CUDA
    measured = [Speed(Backend.INT8, 1, 9), Speed(Backend.CUDA, 100, 900)]
    finding = doctor.advice(Backend.AUTO, Backend.CUDA, measured)
    assert finding == Finding("backend", Verdict.OK, "auto computes in cuda: keep it")


def test_a_ledger_that_is_none_fails(tmp_path):
    (tmp_path / "diary").write_text("dear diary\n" * 100)
    finding = doctor.ledger(tmp_path / "diary")
    assert (finding.verdict, "LACONIC_LEDGER_PATH" in finding.todo) == (Verdict.FAIL, True)


def test_a_ledger_is_found_right(tmp_path):
    SqliteSink(tmp_path / "ledger.sqlite3").close()
    assert doctor.ledger(tmp_path / "ledger.sqlite3").verdict is Verdict.OK


def test_a_place_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "deeper" / "ledger.sqlite3"
    assert doctor.ledger(path).verdict is Verdict.FAIL
    assert doctor.memo(path, 1).verdict is Verdict.WARN


def test_a_folder_in_a_files_place_cannot_be_written(tmp_path):
    assert doctor.memo(tmp_path, 1).verdict is Verdict.WARN


def test_a_disk_without_room_is_told(tmp_path):
    finding = doctor.memo(tmp_path / "memo.sqlite3", 2**60)
    assert (finding.verdict, "make room" in finding.todo) == (Verdict.WARN, True)


def test_without_files_there_is_nothing_to_look_at():
    assert doctor.ledger(None).verdict is doctor.memo(None, 1).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("now", "upstreams", "verdict"),
    [
        (NOW, None, Verdict.OK),
        (NOW, NOW + timedelta(seconds=90), Verdict.OK),
        (NOW, NOW - timedelta(minutes=3), Verdict.WARN),
        (datetime(1970, 1, 2, tzinfo=UTC), None, Verdict.FAIL),
    ],
)
def test_the_clock_is_held_against_the_upstreams(now, upstreams, verdict):
    assert doctor.clock(now, upstreams).verdict is verdict


# -- capture --------------------------------------------------------------------------------------

ROUTES = "routes: [{name: watched, path: /v1/*, policy: rag, capture: %s}]\n"


def captures(tmp_path, on, ledger="ledger.sqlite3"):
    (tmp_path / "routes.yaml").write_text(ROUTES % on)
    path = None if ledger is None else tmp_path / ledger
    return list(doctor.capture(Settings(policies=tmp_path, ledger_path=path)))


def test_capture_is_told_of_with_its_file(tmp_path):
    file = tmp_path / "ledger.captured.sqlite3"
    assert captures(tmp_path, "false") == [Finding("capture", Verdict.OK, "off")]
    (on,) = captures(tmp_path, "true")
    assert (on.verdict, on.found) == (Verdict.WARN, f"on for watched: {file}, nothing yet")
    file.write_bytes(b"x" * 2**20)
    assert [one.found for one in captures(tmp_path, "true")] == [f"on for watched: {file}, 1.0 MiB"]
    assert [one.found for one in captures(tmp_path, "false")] == [
        f"off, but {file} still holds 1.0 MiB"
    ]


def test_capture_without_a_ledger_is_told(tmp_path):
    assert captures(tmp_path, "false", ledger=None) == []
    (on,) = captures(tmp_path, "true", ledger=None)
    assert (on.verdict, on.found) == (Verdict.WARN, "on for watched, but there is no ledger")
