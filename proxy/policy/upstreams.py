"""Where requests may go: an upstream's address, and how to reach it.

``routes.yaml`` names upstreams, and the settings one more.  Nothing here holds a secret, only the
place where one is found.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Self, TypeAlias
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from proxy.policy.explain import NOT_SHOWN

STRICT: Final = ConfigDict(
    frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
)
"""Of all of our files: unknown keys are refused, the string under a field documents it."""

_URL_WANTED: Final = (
    "an http or https URL without user, query and fragment, such as https://host/v1"
)
_PROXY_WANTED: Final = "an http or https URL without user and path, such as http://proxy:3128"
_PLACE_WANTED: Final = "env:NAME or file:PATH, the place where the key is found"


def _base_url(text: str) -> str:
    """Normalise the base URL; never repeat it in the message: it may hold a password."""
    parts = _plain_url(text, _URL_WANTED)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _proxy_url(text: str) -> str:
    parts = _plain_url(text, _PROXY_WANTED)
    if parts.path not in {"", "/"}:
        raise ValueError(f"found {NOT_SHOWN}, wanted {_PROXY_WANTED}")
    return f"{parts.scheme}://{parts.netloc}"


def _plain_url(text: str, wanted: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        right = _is_plain(text, parts)
    except ValueError:  # an impossible port, a broken IPv6 address
        right = False
    if not right:
        raise ValueError(f"found {NOT_SHOWN}, wanted {wanted}")
    return parts


def _is_plain(text: str, parts: SplitResult) -> bool:
    return (
        parts.scheme in {"http", "https"}
        and bool(parts.hostname)
        and parts.port != 0
        and not any(mark in text for mark in "?#\\")
        and "@" not in parts.netloc
        and text.isascii()
        and text.isprintable()
        and " " not in text
    )


def _place(text: str) -> str:
    """Refuse what names no place; never repeat it: it may be the key itself."""
    kind, _, where = text.partition(":")
    if kind not in {"env", "file"} or not where.strip():
        raise ValueError(f"found {NOT_SHOWN}, wanted {_PLACE_WANTED}")
    return text


def _shown_never(wanted: str) -> dict[str, str | bool]:
    return {"$comment": wanted, "writeOnly": True}


BaseUrl: TypeAlias = Annotated[
    str, AfterValidator(_base_url), Field(json_schema_extra=_shown_never(_URL_WANTED))
]
ProxyUrl: TypeAlias = Annotated[
    str, AfterValidator(_proxy_url), Field(json_schema_extra=_shown_never(_PROXY_WANTED))
]
SecretPlace: TypeAlias = Annotated[
    str, AfterValidator(_place), Field(json_schema_extra=_shown_never(_PLACE_WANTED))
]
File: TypeAlias = Annotated[Path, Field(json_schema_extra={"$comment": "a path"})]
Seconds: TypeAlias = Annotated[float, Field(gt=0)]


class Tls(BaseModel):
    """How an ``https`` upstream is recognised, and how we show who we are."""

    model_config = STRICT

    verify: bool = True
    """Check the server's certificate; ``false`` trusts whoever answers."""
    ca_file: File | None = None
    """PEM file of the authorities to trust, in place of the system's."""
    cert_file: File | None = None
    """PEM file of our own certificate, where the upstream asks for one."""
    key_file: File | None = None
    """PEM file of its private key, where that is not in ``cert_file``."""

    @model_validator(mode="after")
    def _key_of_a_certificate(self) -> Self:
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("found key_file alone, wanted cert_file too")
        return self


class UpstreamSpec(BaseModel):
    """One upstream."""

    model_config = STRICT

    url: BaseUrl
    """Where its requests go, with or without ``/v1``."""
    key: SecretPlace | None = None
    """Where its key is found: ``env:NAME`` or ``file:PATH``.  It takes the place of whatever
    credential the caller sent; without it, the caller's own passes."""
    tls: Tls = Tls()
    """How to speak TLS with it."""
    proxy: ProxyUrl | None = None
    """HTTP proxy that leads there; none is taken from the environment."""
    connect_timeout_s: Seconds | None = None
    """Longest wait for a connection; ``LACONIC_CONNECT_TIMEOUT_S`` if left out."""
    read_timeout_s: Seconds | None = None
    """Longest silence; ``LACONIC_READ_TIMEOUT_S`` if left out."""
