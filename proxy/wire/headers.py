"""Headers as pairs, in order and with repeats: what goes on, what stays, and ours.

Pairs in, pairs out (``CIMultiDict.items()`` gives them); never a dict, which would fold the second
``Set-Cookie`` into the first.  Nothing is added and nothing is let through by list: what we do not
know goes on as it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Self

from proxy.errors import CallerError
from proxy.policy import CREDENTIALS

OWN_PREFIX = "x-laconic-"

_PER_CONNECTION = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_ANSWERED_HERE = frozenset({"host", "expect"})
_OF_THE_OLD_BYTES = frozenset(
    {
        "content-length",
        "content-encoding",
        "content-md5",
        "digest",
        "content-digest",
        "repr-digest",
    }
)
_NOT_FOR_THE_UPSTREAM = _PER_CONNECTION | _ANSWERED_HERE
_NOT_WITH_NEW_BYTES = _NOT_FOR_THE_UPSTREAM | _OF_THE_OLD_BYTES
_NOT_WITH_A_NEW_ANSWER = _PER_CONNECTION | _OF_THE_OLD_BYTES | {"accept-ranges", "etag"}


def end_to_end(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Drop what concerns one connection only (RFC 9110, 7.6.1), and keep the rest as it is.

    Connection and every field it names, and ``Proxy-Auth*``, go.  Where a transfer coding came
    with a Content-Length, the length goes too: the coding overrides it (RFC 9112, 6.3), and passing
    it on is how requests are smuggled.
    """
    return _without(headers, _PER_CONNECTION, "proxy-auth")


def _without(
    headers: Iterable[tuple[str, str]], names: AbstractSet[str], *prefixes: str
) -> list[tuple[str, str]]:
    """Drop these, and what they name as concerning one connection only."""
    pairs = tuple(headers)
    lowers = [name.lower() for name, _ in pairs]
    if "connection" in lowers:
        names = names | tokens_of(pairs, "connection")
    if "transfer-encoding" in lowers:
        names = names | {"content-length"}
    return [
        pair
        for lower, pair in zip(lowers, pairs, strict=True)
        if lower not in names and not lower.startswith(prefixes)
    ]


def forwarded_request(
    headers: Iterable[tuple[str, str]], *, body_changed: bool
) -> list[tuple[str, str]]:
    """Return the headers for the upstream.

    Host and Expect are answered per connection, ``x-laconic-*`` is for us.  An unchanged body keeps
    its Content-Length (one that came chunked has none, and is sent chunked); of a changed one,
    which goes out unencoded, length, encoding and digests are dropped, and the sender states the
    new length.
    """
    dropped = _NOT_WITH_NEW_BYTES if body_changed else _NOT_FOR_THE_UPSTREAM
    return _without(headers, dropped, "proxy-auth", OWN_PREFIX)


def with_credential(headers: Iterable[tuple[str, str]], key: str) -> list[tuple[str, str]]:
    """Return the headers with ``key`` in place of the credential that the caller sent.

    It stands where and how the caller's SDK put its own, so each upstream is spoken to as it is
    used to; any further credential goes.

    >>> with_credential([("api-key", "mine"), ("Authorization", "Bearer mine")], "k")
    [('api-key', 'k')]
    >>> with_credential([], "k")
    [('Authorization', 'Bearer k')]
    """
    put: list[tuple[str, str]] = []
    placed = False
    for name, value in headers:
        if name.lower() not in CREDENTIALS:
            put.append((name, value))
        elif not placed:
            placed = True
            put.append(_credential(name, key))
    return put if placed else [*put, _credential("Authorization", key)]


def _credential(name: str, key: str) -> tuple[str, str]:
    return name, f"Bearer {key}" if name.lower() == "authorization" else key


def forwarded_response(
    headers: Iterable[tuple[str, str]], *, own: Iterable[tuple[str, str]] = ()
) -> list[tuple[str, str]]:
    """Return the headers for the caller: the upstream's end-to-end ones, then ``own``.

    Content-Encoding and Content-Length stay, for the body passes undecoded.  A name in ``own``
    replaces the upstream's header of that name (another Laconic further on), lest it come twice.
    """
    ours = list(own)
    replaced = {name.lower() for name, _ in ours}
    return _without(headers, _PER_CONNECTION | replaced, "proxy-auth") + ours


def changed_response(
    headers: Iterable[tuple[str, str]], *, length: int | None
) -> list[tuple[str, str]]:
    """Return the headers of an answer whose body we changed: end-to-end ones, still true.

    It goes out unencoded, so length, encoding, digests and validators of the old bytes are dropped;
    the new ``length`` is stated, where it is known.
    """
    kept = _without(headers, _NOT_WITH_A_NEW_ANSWER, "proxy-auth")
    return kept if length is None else [*kept, ("Content-Length", str(length))]


def value_of(headers: Iterable[tuple[str, str]], name: str) -> str:
    """Return a field's value, its lines joined as a list (RFC 9110, 5.3); empty where it is absent.

    >>> value_of([("Content-Encoding", "gzip"), ("content-encoding", "br")], "content-encoding")
    'gzip, br'
    """
    return ", ".join([value for found, value in headers if found.lower() == name])


def tokens_of(headers: Iterable[tuple[str, str]], name: str) -> set[str]:
    """Return the tokens of a field that is a list of them, in lower case."""
    return {token.strip().lower() for token in value_of(headers, name).split(",")}


@dataclass(frozen=True, slots=True)
class LaconicHeaders:
    """What the caller asked of us, as far as the policy allows it.

    ``rate`` is tokens kept / tokens before, in (0, 1].
    """

    policy: str | None = None
    rate: float | None = None
    bypass: bool = False

    @classmethod
    def read(cls, headers: Iterable[tuple[str, str]]) -> Self:
        """Read ``x-laconic-policy``, ``-rate`` and ``-bypass``; raise :class:`CallerError`, 400."""
        given = _given(headers)
        if not given:
            return cls()
        policy = given.get("policy")
        if policy == "":
            raise _wrong("policy", policy, "a policy's name")
        return cls(policy, _rate(given.get("rate")), _bypass(given.get("bypass")))


def _given(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return our headers by what follows the prefix; the same one twice must say the same."""
    given: dict[str, str] = {}
    for name, value in headers:
        if name[:1] in "xX" and name.lower().startswith(OWN_PREFIX):
            key = name.lower().removeprefix(OWN_PREFIX)
            if given.setdefault(key, value.strip()) != value.strip():
                raise CallerError(f"{OWN_PREFIX}{key}: found two values, wanted one")
    return given


def _rate(text: str | None) -> float | None:
    if text is None:
        return None
    plain = re.fullmatch(r"[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20}", text)
    if plain is None or not 0 < float(text) <= 1:
        raise _wrong("rate", text, "a number above 0 and up to 1")
    return float(text)


def _bypass(text: str | None) -> bool:
    if text is None or text.lower() in {"false", "0"}:
        return False
    if text.lower() in {"true", "1"}:
        return True
    raise _wrong("bypass", text, "true, false, 1 or 0")


def _wrong(name: str, found: str, wanted: str) -> CallerError:
    return CallerError(f"{OWN_PREFIX}{name}: found {found[:40]!r}, wanted {wanted}")
