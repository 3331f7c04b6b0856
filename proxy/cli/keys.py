"""``laconic keys``: makes keys, of which the settings hold hashes alone."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from proxy.errors import PolicyError
from proxy.policy import key_hash
from proxy.policy.schema import NAME

_BYTES = 32  # of randomness: so many that a plain hash cannot be searched for what it is of


def new_key() -> str:
    """Make a key."""
    return f"lk-{secrets.token_urlsafe(_BYTES)}"


def told(name: str, key: str, keys: Mapping[str, str]) -> str:
    """Say the key, once, and the setting that knows it and ``keys``, those there are already.

    Raises PolicyError where ``name`` is taken or is none.
    """
    if not NAME.fullmatch(name):
        raise PolicyError(
            f"NAME: found {name[:80]!r}, wanted up to 64 letters, digits, dots, dashes and "
            "underscores"
        )
    if name in keys:
        raise PolicyError(f"NAME: found {name}, which LACONIC_KEYS has already, wanted another")
    pairs = [f"{known}={digest}" for known, digest in {**keys, name: key_hash(key)}.items()]
    return _lines(key, f"LACONIC_KEYS={','.join(pairs)}")


def told_admin(key: str) -> str:
    """Say the admin token, once, and the setting that knows it."""
    return _lines(key, f"LACONIC_ADMIN_TOKEN={key_hash(key)}")


def _lines(key: str, setting: str) -> str:
    return f"key, shown this once: {key}\nsetting: {setting}"
