"""Static process configuration: command line > environment > default.

A setting says *where* and *how much* (ports, the upstream, the model, memory); what to do with a
request's text is a policy.  Nothing here reads the environment or the disk: both are passed in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    Field,
    ValidationError,
)

from proxy.errors import CallerError, PolicyError
from proxy.policy.explain import (
    NOT_SHOWN,
    explain,
    keys_table,
    model_schema,
    nearest,
)
from proxy.policy.schema import NAME, Name
from proxy.policy.upstreams import STRICT, BaseUrl, Seconds, SecretPlace

PREFIX: Final = "LACONIC_"

OTHER_VARIABLES: Final = frozenset({"LACONIC_DATA", "LACONIC_PEERS"})
"""Variables of that prefix that are not settings: where the benchmarks find their data."""

_SERVICE_LINK = re.compile(r".*_(SERVICE_(HOST|PORT)(_.*)?|PORT_\d+_(TCP|UDP|SCTP)(_.*)?)")
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DIGEST_WANTED = "sha256: and 64 hex digits, as `laconic keys` prints them"
_KEYS_WANTED = "name=sha256:... for each key, as `laconic keys new` prints them"
_SIZE_WANTED = "a number of bytes > 0, or a size such as 64MiB"
_MEMO_WANTED = "a number of bytes, or a size such as 64MiB"


class LogLevel(StrEnum):
    """The least severe log line that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How log lines look."""

    JSON = "json"
    CONSOLE = "console"


class Backend(StrEnum):
    """What models are computed in, and where."""

    AUTO = "auto"
    FP32 = "fp32"
    INT8 = "int8"
    CUDA = "cuda"


def _keys(value: object) -> object:
    """Read ``name=sha256:...`` pairs; never repeat one: it may hold the key itself."""
    if not isinstance(value, str):
        return value
    pairs = [pair.partition("=")[::2] for pair in value.replace(",", " ").split()]
    if not all(NAME.fullmatch(name) for name, _ in pairs):
        raise ValueError(f"found {NOT_SHOWN}, wanted {_KEYS_WANTED}")
    if len(dict(pairs)) < len(pairs):
        raise ValueError("found a name twice, wanted each key under a name of its own")
    return dict(pairs)


def _digest(text: str) -> str:
    """Take a whole SHA-256: of a key that opens the door, a part will not do."""
    if not _DIGEST.fullmatch(text.lower()):
        raise ValueError(f"found {NOT_SHOWN}, wanted {_DIGEST_WANTED}")
    return text.lower()


def _no_blank(text: str) -> str:
    if not text.strip():
        raise ValueError(f"found {text!r}, wanted text")
    return text


def _off(value: object) -> object:
    """Let ``none`` say that there shall be no such file."""
    return None if value == "none" else value


Text = Annotated[str, AfterValidator(_no_blank)]
Size = Annotated[ByteSize, Field(ge=1, json_schema_extra={"$comment": _SIZE_WANTED})]
Digest = Annotated[
    str,
    AfterValidator(_digest),
    Field(json_schema_extra={"$comment": _DIGEST_WANTED, "writeOnly": True}),
]
_A_PATH = Field(json_schema_extra={"$comment": "a path"})


class Settings(BaseModel):
    """Everything a process is told when it starts.  The string under a field documents it."""

    model_config = STRICT

    upstream: BaseUrl = "https://api.openai.com/v1"
    """The server that requests go to, with or without ``/v1``, where no route names another."""
    upstream_key: SecretPlace | None = None
    """Where the upstream's key is found, ``env:NAME`` or ``file:PATH``; it takes the place of the
    credential that the caller sent.  Without it, the caller's own passes."""
    host: Text = "127.0.0.1"
    """Address to listen on; ``0.0.0.0`` for every interface."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8790
    """Port to listen on."""
    keys: Annotated[
        dict[Name, Digest],
        BeforeValidator(_keys),
        Field(json_schema_extra={"$comment": _KEYS_WANTED, "writeOnly": True}),
    ] = {}
    """Who may use the proxy: names and hashes of keys, from ``laconic keys new``; anybody who
    reaches it, if empty."""
    admin_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Port of its own for ``/metrics``; on ``LACONIC_PORT`` if left out."""
    admin_host: Text = "127.0.0.1"
    """Address of that port."""
    admin_token: Digest | None = None
    """Hash of the token that ``/metrics`` asks for, from ``laconic keys admin``."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes that share the port; more than 1 where the system has ``SO_REUSEPORT``."""
    policies: Annotated[Path, _A_PATH] | None = None
    """Directory of policy files laid over the shipped ones."""
    policy: Name | None = None
    """Policy where no route matches, in place of the ``fallback`` in ``routes.yaml``."""
    ledger_path: Annotated[Path | None, BeforeValidator(_off), _A_PATH] = None
    """SQLite file of the ledger; ``none`` keeps the log lines only.  Default:
    ``$XDG_STATE_HOME/laconic/ledger.sqlite3``, else ``~/.local/state/laconic/ledger.sqlite3``."""
    ledger_disk_bytes: Size = ByteSize(4 * 2**30)
    """Size of that file, about, some six million exchanges; past it, the oldest go."""
    ledger_days: Annotated[int, Field(ge=1)] | None = None
    """Days that exchanges stay in the ledger; as long as there is room, if left out."""
    capture_disk_bytes: Size = ByteSize(256 * 2**20)
    """Size, about, of the file beside it with what callers say on routes with ``capture: true``;
    past it, the oldest goes."""
    capture_days: Annotated[int, Field(ge=1)] = 7
    """Days that such text stays."""
    otel: bool = False
    """Send spans and metrics by OpenTelemetry, where and how the ``OTEL_*`` variables say; wants
    the ``otel`` extra."""
    log_level: LogLevel = LogLevel.INFO
    """The least severe log line that is written."""
    log_format: LogFormat = LogFormat.JSON
    """``json`` for machines, ``console`` for people."""
    max_body_bytes: Size = ByteSize(64 * 2**20)
    """Largest body with text that is taken in; a larger one is answered 413."""
    max_header_bytes: Size = ByteSize(64 * 2**10)
    """Largest request or response header line, either way."""
    connect_timeout_s: Seconds = 10.0
    """Longest wait for a connection to the upstream."""
    read_timeout_s: Seconds = 600.0
    """Longest silence of the upstream, before its answer or within it."""
    model: Text = "embedded"
    """The encoder: ``embedded``, a Hugging Face name or a local folder."""
    language_model: Text = "embedded"
    """The causal LM of the methods that ask for one, likewise; loaded on first use."""
    classifier: Text | None = None
    """The token classifier of ``llmlingua2``: a Hugging Face name or a local folder."""
    backend: Backend = Backend.AUTO
    """What models compute in: ``int8`` or ``fp32`` on the processor, ``cuda`` on a GPU in bfloat16,
    or ``auto``: a GPU where there is one, int8 where the processor does it exactly and fast, else
    fp32.  ``laconic doctor`` measures them."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Threads that each process's model may use; an equal share of all cores if left out."""
    queue_entries: Annotated[int, Field(ge=1)] = 64
    """Score requests that may wait for the model; beyond them, requests pass uncompressed."""
    memo_bytes: Annotated[ByteSize, Field(ge=0, json_schema_extra={"$comment": _MEMO_WANTED})] = (
        ByteSize(128 * 2**20)
    )
    """Memory for vectors of documents seen before; 0 remembers none."""
    memo_path: Annotated[Path | None, BeforeValidator(_off), _A_PATH] = None
    """SQLite file behind that memory, for the next start and for other processes of this machine;
    ``none`` keeps no such file.  Default: ``$XDG_CACHE_HOME/laconic/memo.sqlite3``, else
    ``~/.cache/laconic/memo.sqlite3``."""
    memo_disk_bytes: Size = ByteSize(2**30)
    """Size of that file, about; past it, what was not read for longest goes."""


_FIELDS: Final = tuple(Settings.model_fields)


def load_settings(
    arguments: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Build settings from command-line ``arguments`` (by field name) over ``LACONIC_*`` variables.

    An argument that is ``None``, and a variable that is empty, counts as not given.
    Raises PolicyError listing all problems, one a line:
    ``LACONIC_PORT: found 'abc', wanted a whole number >= 1 and <= 65535``.
    """
    environ = environ or {}
    given = {name: value for name, value in (arguments or {}).items() if value is not None}
    variables = {name: value for name, value in environ.items() if _is_setting(name, value)}
    strangers = sorted(name for name in variables if _field(name) not in _FIELDS)
    values: dict[str, object] = {
        "ledger_path": default_ledger_path(environ),
        "memo_path": default_memo_path(environ),
    }
    values |= {
        _field(name): _at_home(value, environ)
        for name, value in variables.items()
        if name not in strangers
    }
    problems = [f"{name}: {_unknown(name)}" for name in strangers]
    try:
        settings = Settings.model_validate(values | given)
    except ValidationError as error:
        problems += _explained(error, given)
    if problems:
        raise PolicyError("\n".join(problems))
    return settings


def _is_setting(name: str, value: str) -> bool:
    """Tell our variables from those that Kubernetes sets beside a Service of our name."""
    linked = _SERVICE_LINK.fullmatch(name) or _SERVICE_ADDRESS.match(value)
    return name.startswith(PREFIX) and value != "" and not linked and name not in OTHER_VARIABLES


def _field(variable: str) -> str:
    return variable.removeprefix(PREFIX).lower()


def _variable(field: str) -> str:
    return PREFIX + field.upper()


def _unknown(name: str) -> str:
    known = [_variable(field) for field in _FIELDS]
    return f"found an unknown variable, wanted one of {', '.join(known)}{nearest(name, known)}"


def _explained(error: ValidationError, given: Mapping[str, object]) -> list[str]:
    """Name each wrong setting as the person wrote it: ``--port`` or ``LACONIC_PORT``."""
    return [
        f"{_option(str(path[0])) if path[0] in given else _variable(str(path[0]))}: {text}"
        for path, text in explain(error, model_schema(Settings))
    ]


def _option(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def _at_home(value: str, environ: Mapping[str, str]) -> str:
    """Expand a leading ``~/``, which no shell does in an environment file."""
    home = environ.get("HOME") or environ.get("USERPROFILE")
    return f"{home}/{value[2:]}" if home and value.startswith("~/") else value


def default_ledger_path(environ: Mapping[str, str]) -> Path:
    """Return the per-user place of the ledger; ``.laconic/`` here where there is no home."""
    return _of_user(environ, "XDG_STATE_HOME", ".local/state") / "ledger.sqlite3"


def default_memo_path(environ: Mapping[str, str]) -> Path:
    """Return the per-user place of the memo; ``.laconic/`` here where there is no home."""
    return _of_user(environ, "XDG_CACHE_HOME", ".cache") / "memo.sqlite3"


def _of_user(environ: Mapping[str, str], variable: str, at_home: str) -> Path:
    """Return our folder where ``variable`` says (XDG Base Directory), or at its place at home."""
    if base := environ.get(variable):
        return Path(base, "laconic")
    if home := environ.get("HOME") or environ.get("USERPROFILE"):
        return Path(home, at_home, "laconic")
    return Path(".laconic")


def upstream_url(upstream: str, raw_path_qs: str) -> str:
    """Join the caller's path and query, as sent, to the upstream's base (`Settings.upstream`).

    Nothing is decoded, encoded or normalised.  The base's path is ``rest``, then ``/openai`` or
    not, then ``/v1`` or not; the first rule that fits decides:

    1. the caller's path starts with the whole of a base path that ends so: it is not repeated;
    2. it starts with ``/openai``: it replaces the base's ``/openai`` and ``/v1``;
    3. it starts with ``/v1`` and the base ends in ``/v1``: one ``/v1`` is enough;
    4. else it is appended to the base.

    ======================================  =============================  ====================
    base                                    caller's path                  becomes
    ======================================  =============================  ====================
    ``https://h/v1``                        ``/v1/chat/completions``       ``/v1/chat/...``
    ``https://h``                           ``/v1/chat/completions``       ``/v1/chat/...``
    ``https://h/v1``                        ``/chat/completions``          ``/v1/chat/...``
    ``https://h``                           ``/openai/deployments/d/...``  the same
    ``https://h/openai``                    ``/openai/deployments/d/...``  the same
    ``https://h/openai/v1``                 ``/openai/deployments/d/...``  the same
    ``https://h/openai/v1``                 ``/openai/v1/responses``       the same
    ``https://h/openai/v1``                 ``/v1/responses``              ``/openai/v1/...``
    ``https://h/openai``                    ``/v1/responses``              ``/openai/v1/...``
    ``https://h/x/openai/v1``               ``/v1/responses``              ``/x/openai/v1/...``
    ``https://h/x/openai/v1``               ``/x/openai/v1/responses``     the same
    ``https://h/api/v1``                    ``/models``                    ``/api/v1/models``
    ``https://h/v1beta/openai``             ``/chat/completions``          ``/v1beta/openai/...``
    ======================================  =============================  ====================

    Raises CallerError (400) where the path does not start with ``/``: what follows the host could
    otherwise become part of it.
    """
    if not raw_path_qs.startswith("/"):
        raise CallerError("request target: found no path, wanted one that starts with /")
    parts = urlsplit(upstream)
    origin, base = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    head = base.removesuffix("/v1")
    rest = head.removesuffix("/openai")
    if rest != base and _under(raw_path_qs, base):
        return origin + raw_path_qs
    if _under(raw_path_qs, "/openai"):
        return origin + rest + raw_path_qs
    if head != base and _under(raw_path_qs, "/v1"):
        return origin + head + raw_path_qs
    return origin + base + raw_path_qs


def _under(path_qs: str, prefix: str) -> bool:
    """Whether the path is ``prefix`` or below it, at a segment's end."""
    return path_qs.startswith(prefix) and path_qs[len(prefix) : len(prefix) + 1] in {"", "/", "?"}


def settings_table() -> str:
    """Return the table of ``docs/settings.md``."""
    return keys_table(Settings, "Variable", _variable)
