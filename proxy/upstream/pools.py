"""All upstreams that requests may go to: each with its address, its key and connections of its own.

What an upstream is, the policy files say (:class:`~proxy.policy.UpstreamSpec`); they are read again
while the proxy runs.  What a spec points to (a key's place, certificates) is read when policies are
taken over, in any thread; connections are opened when a request first goes there, in the loop's.
A pool whose spec is gone serves what is in flight, lets its idle connections run out, and is closed
with the rest.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from proxy.errors import PolicyError
from proxy.policy import Tls, UpstreamSpec
from proxy.upstream.client import Address, Limits, Upstream


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a request goes; ``key`` replaces the caller's credential, where there is one."""

    base: str
    host: str | None  # of the base, without a port
    key: str | None = field(repr=False)
    pool: Upstream


@dataclass(frozen=True, slots=True)
class _Material:
    """What a spec points to, as it was read: as long as it is the same, so are the connections."""

    key: str | None = field(default=None, repr=False)
    files: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(slots=True)
class _Opened:
    material: _Material
    tls: ssl.SSLContext | None
    destination: Destination | None = None


class Upstreams:
    """Every upstream by its spec, and the one of the settings."""

    def __init__(
        self, general: UpstreamSpec, environ: Mapping[str, str], limits: Limits | None = None
    ) -> None:
        """Read what ``general`` points to; ``limits`` are those of a spec that names none.

        Raises PolicyError.
        """
        self._general = general
        self._environ = environ
        self._limits = limits or Limits()
        self._opened: dict[UpstreamSpec, _Opened] = {}
        self._pools: list[Upstream] = []
        self._own: tuple[Address, ...] = ()
        self._read("upstream", general)
        self._first = self._opened[general]  # found without comparing specs

    async def __aenter__(self) -> Self:
        """Give the upstreams themselves."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        for pool in self._pools:
            await pool.__aexit__()

    def prepare(self, specs: Mapping[str, UpstreamSpec]) -> None:
        """Read what these point to, before a request needs it; the general one's anew as well.

        Any thread may.  Raises PolicyError, all problems at once, where something is not there.
        """
        problems = []
        named = [(f"upstreams.{name}", spec) for name, spec in specs.items()]
        for where, spec in [("upstream", self._general), *named]:
            try:
                self._read(where, spec)
            except PolicyError as error:
                problems.append(str(error))
        self._first = self._opened[self._general]
        if problems:
            raise PolicyError("\n".join(problems))

    def _read(self, name: str, spec: UpstreamSpec) -> None:
        material = _Material(
            None if spec.key is None else _secret(f"{name}.key", spec.key, self._environ),
            tuple(_bytes(f"{name}.tls.{key}", path) for key, path in _files(spec.tls)),
        )
        known = self._opened.get(spec)
        if known is None or known.material != material:
            self._opened[spec] = _Opened(material, tls_context(f"{name}.tls", spec.tls))

    def of(self, spec: UpstreamSpec | None) -> Destination:
        """Return where requests for ``spec`` go; the general upstream's, where there is none."""
        opened = self._first if spec is None else self._opened[spec]
        if opened.destination is None:
            spec = spec or self._general
            pool = Upstream(_limits(spec, self._limits), tls=opened.tls, proxy=spec.proxy)
            pool.refuse(self._own)
            self._pools.append(pool)
            host = urlsplit(spec.url).hostname
            opened.destination = Destination(spec.url, host, opened.material.key, pool)
        return opened.destination

    def refuse(self, own: Iterable[Address]) -> None:
        """Never connect to these addresses: they are our own, and the request would loop."""
        self._own = (*self._own, *own)
        for pool in self._pools:
            pool.refuse(self._own)


def _limits(spec: UpstreamSpec, general: Limits) -> Limits:
    return Limits(
        spec.connect_timeout_s or general.connect_s,
        spec.read_timeout_s or general.read_s,
        general.header_bytes,
    )


def _secret(where: str, place: str, environ: Mapping[str, str]) -> str:
    """Read a key from its place; it must fit in a header."""
    kind, _, name = place.partition(":")
    if kind == "env":
        found = environ.get(name, "").strip()
    else:
        found = _bytes(where, Path(name)).decode("utf-8", "replace").strip()
    if not found:
        raise PolicyError(f"{where}: found nothing in {place}, wanted a key")
    if not (found.isascii() and found.isprintable()):
        raise PolicyError(f"{where}: found more than one line of ASCII in {place}, wanted a key")
    return found


def _files(tls: Tls) -> list[tuple[str, Path]]:
    paths = {"ca_file": tls.ca_file, "cert_file": tls.cert_file, "key_file": tls.key_file}
    return [(key, path) for key, path in paths.items() if path is not None]


def _bytes(where: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PolicyError(f"{where}: found {error.strerror} at {path}, wanted a file") from error


def tls_context(where: str, tls: Tls) -> ssl.SSLContext | None:
    """Return what TLS is spoken by; None where that is as usual.  Raises PolicyError."""
    if tls == Tls():
        return None
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except ssl.SSLError as error:
        raise PolicyError(
            f"{where}.ca_file: found no certificate in {tls.ca_file}, wanted one in PEM"
        ) from error
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert_file is not None:
        try:
            # A key under a passphrase is refused: nobody is there to be asked.
            context.load_cert_chain(tls.cert_file, tls.key_file, password=lambda: "")
        except (ssl.SSLError, OSError) as error:
            raise PolicyError(
                f"{where}.cert_file: found no certificate with its key in {tls.cert_file} and "
                f"{tls.key_file or 'nothing else'}, wanted both, in PEM, without a passphrase"
            ) from error
    return context
