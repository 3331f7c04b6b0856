"""Who may use the proxy: keys of its own, of which only hashes are known here.

A caller shows its key in ``x-laconic-key``, which never goes further, and its credential for the
upstream beside it as ever.  Where the upstream's key is the proxy's to add, the caller has none of
its own: there the proxy's key may stand where SDKs put one, and is replaced on the way.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from proxy.errors import CallerError
from proxy.policy import api_key_of, key_hash

KEY_HEADER = "x-laconic-key"


@dataclass(frozen=True, slots=True)
class Guest:
    """A caller who may come in: by which key, where keys are asked for.

    ``as_credential``: the key stands where the upstream's would.
    """

    key: str | None = None
    as_credential: bool = False


ANYBODY: Final = Guest()
"""Who comes where no keys are asked for."""


class Access:
    """The keys, by name."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        """Take hashes as ``key_hash`` makes them; without any, everybody may come in."""
        self._keys = dict(keys)

    def admit(self, headers: Mapping[str, str]) -> Guest:
        """Tell whose request this is.  Raises CallerError (401)."""
        if not self._keys:
            return ANYBODY
        shown = headers.get(KEY_HEADER)
        offered = api_key_of(headers) if shown is None else shown.strip()
        name = self._name(offered) if offered else None
        if name is None:
            found = "no key" if not offered else "a key that is not one of this proxy's"
            raise _refused(f"found {found}, wanted one that `laconic keys new` made")
        return Guest(name, as_credential=shown is None)

    def _name(self, key: str) -> str | None:
        """Look at every key, however early one fits: time tells nothing of the others."""
        shown, found = key_hash(key), None
        for name, known in self._keys.items():
            if hmac.compare_digest(shown, known):
                found = name
        return found


def check_credential(guest: Guest, key: str | None) -> None:
    """Refuse to pass the proxy's own key on to an upstream, as its credential (401)."""
    if guest.as_credential and key is None:
        raise _refused(
            "found the proxy's key as the upstream's credential, wanted it in this header and "
            "the upstream's own beside it"
        )


def _refused(told: str) -> CallerError:
    return CallerError(
        f"{KEY_HEADER}: {told}", status=HTTPStatus.UNAUTHORIZED, code="invalid_api_key"
    )
