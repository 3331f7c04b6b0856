"""The one canonical record of an exchange.

Every field says in its annotation what it means; ``docs/ledger.md`` is made from these words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Any, Self, get_args, get_type_hints

from proxy.types import Arm, Component, Count, Mode, Outcome, Reason

_HASH_LENGTH = 12
_LONGEST_TEXT = 200
_LARGEST = 2**63 - 1
_DIGITS = 4


class Ended(StrEnum):
    """How an exchange came to its end."""

    COMPLETE = "complete"  # the whole answer reached the caller
    CALLER_GONE = "caller-gone"  # the caller hung up first
    UPSTREAM_LOST = "upstream-lost"  # the upstream never answered, or stopped half-way
    ERROR = "error"  # a fault of ours, or a request that we refused


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """What happened in one exchange: no credential and, but for ``captured``, no prompt text.

    Without slots, so that the record, which every sink wants, is made once.

    ``None`` means that a figure was not taken, never zero.
    """

    request_id: Annotated[str, "Identifies the exchange; also the header `x-laconic-request-id`."]
    started_at: Annotated[str, "When the request arrived: ISO 8601, UTC."]
    method: Annotated[str, "The HTTP method."]
    path: Annotated[str, "The path as requested; the query string is left out."]
    status: Annotated[int | None, "The HTTP status that the caller was sent; null if none was."] = (
        None
    )
    route: Annotated[str | None, "The route of the policy file that matched."] = None
    policy: Annotated[str | None, "The policy in force."] = None
    mode: Annotated[Mode | None, "Its mode: on, off or audit (measured, original forwarded)."] = (
        None
    )
    model: Annotated[str | None, "The model that the caller asked for."] = None
    stream: Annotated[bool, "Whether the caller asked for a stream."] = False
    reason: Annotated[
        Reason | None,
        "Why the newest turn passed through; null where it was compressed as planned.",
    ] = None
    detail: Annotated[str | None, "More about the reason, such as the type of an error."] = None
    tokens_before: Annotated[int | None, "Prompt tokens as the caller sent them."] = None
    tokens_after: Annotated[
        int | None, "Prompt tokens of the compressed form, whether or not it was what was sent."
    ] = None
    tokens_saved: Annotated[int | None, "tokens_before - tokens_after."] = None
    rate: Annotated[float | None, "tokens_after / tokens_before."] = None
    encoding: Annotated[str | None, "The encoding that tokens were counted in."] = None
    estimated: Annotated[
        bool, "Whether the count is an estimate: the model's own encoding is not known."
    ] = False
    components: Annotated[Mapping[Component, Count], "Tokens before and after, per component."] = (
        field(default_factory=dict)
    )
    first_saved: Annotated[
        int, "Tokens saved in the newest turn, which is sent for the first time."
    ] = 0
    repeat_saved: Annotated[
        int, "Tokens saved again in earlier turns: worth only the provider's price of a cache read."
    ] = 0
    recalled_tokens: Annotated[int, "Tokens of earlier turns that recall brought back."] = 0
    cache_breaks: Annotated[
        int, "1 where this request restored earlier turns, at a cache's expense."
    ] = 0
    unchanged_tokens: Annotated[
        int | None,
        "Of the tokens sent, those that opened an earlier request in the same form: what the "
        "provider's cache may hold; null where that is not known.",
    ] = None
    busted_tokens: Annotated[
        int,
        "Tokens that opened an earlier request in another form: the provider's cache misses them.",
    ] = 0
    prompt_tokens: Annotated[int | None, "Prompt tokens as the upstream counted them."] = None
    completion_tokens: Annotated[int | None, "Completion tokens as the upstream counted them."] = (
        None
    )
    cached_tokens: Annotated[int | None, "Of the prompt tokens, those read from its cache."] = None
    cache_write_tokens: Annotated[
        int | None, "Of the prompt tokens, those written to its cache."
    ] = None
    compress_ms: Annotated[float, "Time from the whole body to the compressed body."] = 0.0
    queue_ms: Annotated[float, "Of it, time spent waiting for the model."] = 0.0
    model_ms: Annotated[float, "Of it, time spent in the model."] = 0.0
    scored_tokens: Annotated[int, "Tokens that the model read; what the memo knew costs none."] = 0
    upstream_ttfb_ms: Annotated[
        float | None, "Time from sending to the upstream's status line."
    ] = None
    duration_ms: Annotated[float, "Time from arrival to the last byte, however it ended."] = 0.0
    bytes_in: Annotated[int, "Bytes of the request body, as received."] = 0
    bytes_out: Annotated[int, "Bytes of the response body, as relayed."] = 0
    ended: Annotated[Ended, "How it ended: complete, caller-gone, upstream-lost or error."] = (
        Ended.COMPLETE
    )
    resent: Annotated[
        bool, "Whether the upstream refused the edited body and it was sent again verbatim."
    ] = False
    recovered: Annotated[
        bool, "Whether the caller's wording was put back into the answer, where a policy asks."
    ] = False
    api_key_hash: Annotated[str | None, "First 12 hex digits of the API key's SHA-256."] = None
    key_name: Annotated[str | None, "The name of the proxy key; null where none is asked for."] = (
        None
    )
    upstream: Annotated[
        str | None, "The upstream of `routes.yaml`; null for that of the settings."
    ] = None
    traceparent: Annotated[
        str | None, "The caller's span, of W3C Trace Context; null where it named none."
    ] = None
    upstream_host: Annotated[
        str | None, "The host that the request went to: whose prices hold."
    ] = None
    conversation: Annotated[
        str | None,
        "Sixteen hex digits that the requests of one conversation share: a digest of its start "
        "under the caller's key; null where the start was not read.",
    ] = None
    arm: Annotated[
        Arm | None, "Where the policy holds some out: whether it was compressed or held-out."
    ] = None
    segments: Annotated[
        bytes | None,
        "What the request was taken apart into: of each segment its place, labels, rule and "
        "tokens, no text; null where it was not looked into.  Not in the log.",
    ] = field(default=None, repr=False)
    captured: Annotated[
        bytes | None,
        "Where capture is on for the route: the request's text, kept and dropped marked.  In a "
        "file of its own, never in the log.",
    ] = field(default=None, repr=False)

    @classmethod
    def made_of(cls, values: Mapping[str, Any]) -> Self:
        """Make an entry as the constructor does, sooner: it guards each of so many fields.

        Raises TypeError for a name that is no field, and for a field that is missing.
        """
        found = {**_BLANK, **values}
        if len(found) != len(_ALL) or not values.keys() >= _REQUIRED:
            raise TypeError(f"ledger entry: found {sorted(values)}, wanted its fields")
        entry = cls.__new__(cls)
        entry.__dict__.update(found)
        return entry

    def record(self) -> dict[str, Any]:
        """Return the entry as JSON values, in the order of the fields; not to be changed.

        It is what the log has: ``segments`` and ``captured`` are left out.

        >>> entry = LedgerEntry(request_id="r", started_at="t", method="POST", path="/v1/x?key=s")
        >>> entry.record()["path"]
        '/v1/x'
        """
        return self._record

    @cached_property
    def _record(self) -> dict[str, Any]:
        values = vars(self).copy()  # as they were set: in the order of the fields
        for name in _APART:
            del values[name]
        for name in _TEXTS:
            text = values[name]
            if text is not None and not (text.isascii() and len(text) <= _LONGEST_TEXT):
                values[name] = _plain_text(text)
        for name in _FLOATS:
            if (number := values[name]) is not None:
                values[name] = round(number, _DIGITS)
        for name in _INTS:
            if (count := values[name]) is not None and not -_LARGEST <= count <= _LARGEST:
                values[name] = None
        values["path"] = _plain_text(self.path.partition("?")[0])
        values["components"] = component_fields(self.components)
        return values


_ALL = tuple(f.name for f in fields(LedgerEntry))
_APART = ("segments", "captured")  # not in the log
_NAMES = tuple(name for name in _ALL if name not in _APART)
_REQUIRED = frozenset(
    f.name for f in fields(LedgerEntry) if f.default is MISSING and f.default_factory is MISSING
)
_BLANK: dict[str, Any] = {
    f.name: None if f.default is MISSING else f.default for f in fields(LedgerEntry)
} | {"components": MappingProxyType({})}


def _of_type(*types: object) -> tuple[str, ...]:
    hints = get_type_hints(LedgerEntry)
    return tuple(name for name in _NAMES if hints[name] in types)


_TEXTS = _of_type(str, str | None)
_FLOATS = _of_type(float, float | None)
_INTS = _of_type(int, int | None)


def _plain_text(text: str) -> str:
    """Return what JSON and SQLite can hold: callers may name a model as they please."""
    text = text[:_LONGEST_TEXT]
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


_COMPONENTS = tuple((component, component.value) for component in Component)
_NOTHING = Count()


def component_fields(components: Mapping[Component, Count]) -> dict[str, dict[str, int]]:
    """Return ``{instruction: {before, after}, context: ..., question: ...}``, all three always."""
    counts = ((name, components.get(component, _NOTHING)) for component, name in _COMPONENTS)
    return {name: {"before": count.before, "after": count.after} for name, count in counts}


def outcome_fields(outcome: Outcome) -> dict[str, Any]:
    """Return the fields of a :class:`LedgerEntry` that an outcome decides.

    ``LedgerEntry(request_id=..., **outcome_fields(outcome))`` is how one becomes the other.
    """
    before, after = outcome.tokens_before, outcome.tokens_after
    counted = before is not None and after is not None
    return {
        "policy": outcome.policy,
        "mode": outcome.mode,
        "reason": outcome.reason,
        "detail": outcome.detail,
        "tokens_before": before,
        "tokens_after": after,
        "tokens_saved": before - after if counted else None,  # type: ignore[operator]
        "rate": rate_of(before, after) if counted else None,  # type: ignore[arg-type]
        "encoding": outcome.encoding,
        "estimated": outcome.estimated,
        "components": outcome.components,
        "first_saved": outcome.first_saved,
        "repeat_saved": outcome.repeat_saved,
        "recalled_tokens": outcome.recalled_tokens,
        "cache_breaks": outcome.cache_breaks,
        "busted_tokens": outcome.busted_tokens,
        "scored_tokens": outcome.scored_tokens,
        "compress_ms": outcome.compress_ms,
    }


def rate_of(before: int, after: int) -> float | None:
    """Return tokens after / before as it is told; None where there were none."""
    return round(after / before, _DIGITS) if before else None


def stats(request_id: str, outcome: Outcome) -> dict[str, Any]:
    """Return the part of a record that ``laconic compress`` prints: same names, same meaning."""
    known = {"request_id": request_id, **outcome_fields(outcome)}
    known["components"] = component_fields(outcome.components)
    for name in _FLOATS:
        if known.get(name) is not None:
            known[name] = round(known[name], _DIGITS)
    return {name: known[name] for name in _STATS}


_STATS = (
    "request_id",
    "policy",
    "reason",
    "detail",
    "tokens_before",
    "tokens_after",
    "tokens_saved",
    "rate",
    "encoding",
    "estimated",
    "components",
    "first_saved",
    "repeat_saved",
    "recalled_tokens",
    "scored_tokens",
    "compress_ms",
)


def spelt(at: datetime) -> str:
    """Return a time as entries spell it: ISO 8601, UTC, so that times compare as text.

    Raises ValueError where it names no time zone.
    """
    if at.tzinfo is None:
        raise ValueError(f"{at}: wanted a time with its zone")
    return at.astimezone(UTC).isoformat(timespec="milliseconds")


def hash_api_key(authorization: str | None) -> str | None:
    """Return the first 12 hex digits of the key's SHA-256; the scheme word is not part of it.

    >>> hash_api_key("Bearer sk-1") == hash_api_key("sk-1")
    True
    >>> hash_api_key(None) is None
    True
    """
    key = (authorization or "").split()[-1:]
    if not key:
        return None
    return hashlib.sha256(key[0].encode("utf-8", "surrogateescape")).hexdigest()[:_HASH_LENGTH]


def field_docs() -> dict[str, str]:
    """Return what each field means, in the order of the fields."""
    hints = get_type_hints(LedgerEntry, include_extras=True)
    return {f.name: get_args(hints[f.name])[1] for f in fields(LedgerEntry)}


def field_table() -> str:
    """Return the fields as a Markdown table: the middle of ``docs/ledger.md``."""
    rows = (f"| `{name}` | {text} |\n" for name, text in field_docs().items())
    return "| field | meaning |\n|---|---|\n" + "".join(rows)
