"""From the caller's body to what is sent upstream: the part of the story that may fail.

Whatever goes wrong in here, the original goes through (law 8): the worst that compression can do
to a request is nothing.  Work on the text runs in a few threads of its own, so that a large prompt
does not hold up the others' streams; small ones are quicker done in place.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import structlog

from proxy.compress.recovery import Alignment, align_edits
from proxy.compress.result import Compressed
from proxy.errors import (
    CompressionError,
    DeadlineExceeded,
    LaconicError,
    Overloaded,
    ScorerFailed,
)
from proxy.gateway.breaker import Admission, Breaker
from proxy.gateway.conversation import arm_of
from proxy.gateway.drive import Drive, Fault, Steps
from proxy.gateway.ports import Engine, Method
from proxy.policy import Overrides, Policy, PolicySet, RouteQuery, Selection
from proxy.types import Arm, Mode, Outcome, Reason, Request
from proxy.wire import (
    Beginnings,
    BodyTooLarge,
    Endpoint,
    Glimpse,
    Unparsed,
    decode_body,
    leaves_of,
    splice,
    value_of,
)

_SWITCH_S = 0.001
_INLINE_BYTES = 2 * 1024  # below, handing the work to a thread costs more than it saves

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request with text as it came: all that decides how it is treated."""

    endpoint: Endpoint
    path: str
    headers: Mapping[str, str] = field(repr=False)
    overrides: Overrides
    body: bytes = field(repr=False)
    api_key: str | None = field(default=None, repr=False)
    key: str | None = None  # the name of the proxy key


@dataclass(frozen=True, slots=True)
class Prepared:
    """What to send, and what there is to tell.

    ``edited`` is None where the body goes as it came; ``compressed`` is what it was made of.
    ``source`` is there where the answer's wording is to be recovered, and could be; ``capture``
    says that the request's text may be written to the disk; where that passed unread, ``unread``
    reads it, which nobody needs to wait for.
    """

    outcome: Outcome
    route: str
    upstream: str | None = None
    model: str | None = None
    stream: bool = False
    request: Request | None = None
    policy: Policy | None = None
    edited: bytes | None = field(default=None, repr=False)
    compressed: Compressed | None = None
    source: Alignment | None = field(default=None, repr=False)
    capture: bool = False
    unread: Callable[[], Request | None] | None = field(default=None, repr=False)
    admission: Admission = Admission.EDIT
    arm: Arm | None = None
    queue_ms: float = 0.0
    model_ms: float = 0.0


class Compression:
    """Prepares requests, many at a time."""

    def __init__(
        self,
        method: Method,
        engine: Engine,
        *,
        limit_bytes: int,
        threads: int = 2,
        breaker: Breaker | None = None,
        beginnings: Beginnings | None = None,
    ) -> None:
        """Use ``method`` against ``engine``, with ``threads`` for the work on text.

        A body that unpacks to more than ``limit_bytes`` is not looked into.  ``breaker`` knows on
        which routes edits are refused by the upstream, ``beginnings`` what conversations were so
        far.
        """
        self._method = method
        self._engine = engine
        self._limit_bytes = limit_bytes
        self._breaker = breaker or Breaker()
        self._beginnings = beginnings
        self._threads = ThreadPoolExecutor(threads, "laconic-text")
        self._giving_way = _GivingWay()
        self._log = structlog.get_logger("laconic")

    def close(self) -> None:
        """Drop what waits for a thread; does not wait for what is running."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def prepare(self, incoming: Incoming, policies: PolicySet) -> Prepared:
        """Decide, and compress.

        Raises CallerError where what the caller asked for is impossible; every other fault ends
        in the original body and its reason.
        """
        started_s = time.perf_counter()
        seen = _glimpse(incoming)
        if seen is not None:
            selection = _selection(incoming, seen.model, policies)
            reason = _reason_to_pass(selection)
            if reason is not None:  # most of what passes gets no further
                return self._unread(_untouched(selection, started_s, seen, reason), incoming)
            short = self._too_short(len(incoming.body), seen, selection.policy)
            if short is not None:
                outcome = _finished(short, selection, started_s)
                return self._unread(_passing(selection, seen, outcome), incoming)
        parsed = await self._read(incoming)
        selection = _selection(incoming, _model_of(parsed), policies)
        reason = _reason_to_pass(selection)
        if isinstance(parsed, Unparsed):
            reason = reason or parsed.reason
        elif reason is None:
            prepared = await self._compared(parsed, selection, started_s)
            return await self._with_source(prepared)
        return _untouched(selection, started_s, parsed, reason)

    async def _compared(self, request: Request, selection: Selection, started_s: float) -> Prepared:
        """Compress, unless the policy leaves this conversation alone, to compare with."""
        arm = arm_of(request, selection.policy.holdout)
        if arm is Arm.HELD_OUT:
            prepared = _untouched(selection, started_s, request, Reason.HELD_OUT)
        else:
            prepared = await self._admitted(request, selection, started_s)
        return prepared if arm is None else replace(prepared, arm=arm)

    async def _admitted(self, request: Request, selection: Selection, started_s: float) -> Prepared:
        """Compress, unless the upstream refuses what is edited on this route."""
        if selection.policy.mode is Mode.AUDIT:  # nothing is edited
            return await self._compress(request, selection, started_s)
        admission = self._breaker.admit(selection.route, time.monotonic())
        if admission is Admission.PASS:
            return _untouched(selection, started_s, request, Reason.BREAKER_OPEN)
        prepared = await self._compress(request, selection, started_s)
        if admission is Admission.TRIAL and prepared.edited is None:
            self._breaker.withdraw(selection.route, time.monotonic())
        return replace(prepared, admission=admission)

    def accepted(self, prepared: Prepared) -> None:
        """Note that the upstream took the edits of this request."""
        self._tell(prepared, refused=False)

    async def refused(self, prepared: Prepared) -> None:
        """Note that the upstream would not have the edits, and took the original (law 8)."""
        self._tell(prepared, refused=True)
        request, policy, compressed = prepared.request, prepared.policy, prepared.compressed
        if request is None or policy is None or compressed is None:
            return
        job = partial(self._method.keep_verbatim, request, policy, compressed)
        try:
            await self.work(len(request.raw), job)
        except Fault as fault:
            self._report(fault)

    def _tell(self, prepared: Prepared, *, refused: bool) -> None:
        self._breaker.report(prepared.route, prepared.admission, time.monotonic(), refused=refused)

    async def _read(self, incoming: Incoming) -> Request | Unparsed:
        """Look inside the body; what cannot be read is a result like any other."""
        try:
            job = partial(self._parsed, incoming)
            return await self.work(len(incoming.body), job)
        except Fault as fault:
            self._report(fault)
            return Unparsed(str(fault), Reason.FAILED)

    def _parsed(self, incoming: Incoming) -> Request | Unparsed:
        """Read a body; what unpacks to more than the limit is the upstream's to judge (law 1)."""
        limit_bytes = self._limit_bytes
        try:
            body = decode_body(incoming.body, _encoding(incoming), limit_bytes=limit_bytes)
            return incoming.endpoint.parse(body, self._beginnings)
        except Unparsed as unparsed:
            return unparsed
        except BodyTooLarge:
            return Unparsed(f"body: found over {limit_bytes} bytes unpacked, gave up")

    def _unread(self, prepared: Prepared, incoming: Incoming) -> Prepared:
        """Add how to read the text that passes unread, where the route has capture on."""
        if not prepared.capture:
            return prepared
        return replace(prepared, unread=partial(self._read_later, incoming))

    def _read_later(self, incoming: Incoming) -> Request | None:
        """Look inside a body that went as it came; None where it cannot be read."""
        try:
            parsed = _guarded(partial(self._parsed, incoming))
        except Fault as fault:
            self._report(fault)
            return None
        return parsed if isinstance(parsed, Request) else None

    def _too_short(self, size: int, seen: Glimpse, policy: Policy) -> Outcome | None:
        """Tell whether there is too little to compress; a fault here is met again on the way."""
        if size >= _INLINE_BYTES:
            return None
        try:
            return _guarded(partial(self._method.too_short, seen.model, seen.texts, policy))
        except (CompressionError, Fault):
            return None

    async def _compress(self, request: Request, selection: Selection, started_s: float) -> Prepared:
        work = partial(self.work, len(request.raw))
        drive = Drive(self._engine, work)
        policy = selection.policy
        try:
            compressed = await drive.to_end(self._start(request, policy), policy.deadline_s)
            body = await work(partial(splice, request, compressed.edits))
        except CompressionError as error:
            return _untouched(selection, started_s, request, _reason_of(error))
        except Fault as fault:
            self._report(fault)
            return _untouched(selection, started_s, request, Reason.FAILED, str(fault))
        audit = policy.mode is Mode.AUDIT
        outcome = compressed.outcome
        if drive.failure is not None:
            outcome = replace(outcome, detail=_told(drive.failure))
            self._log.warning("scorer-failed", policy=policy.name, detail=outcome.detail)
        outcome = replace(outcome, reason=Reason.AUDIT) if audit else outcome
        return Prepared(
            outcome=_finished(outcome, selection, started_s),
            route=selection.route,
            upstream=selection.upstream,
            model=request.model,
            stream=request.stream,
            request=request,
            policy=policy,
            edited=None if audit or body == request.raw else body,
            compressed=compressed,
            capture=selection.capture,
            queue_ms=drive.queue_ms,
            model_ms=drive.model_ms,
        )

    async def _with_source(self, prepared: Prepared) -> Prepared:
        """Add what recovery needs, where the policy asks for it and the request was edited.

        A caller that asked for JSON gets the upstream's: its values are data, not wording.
        """
        request, policy, compressed = prepared.request, prepared.policy, prepared.compressed
        if request is None or policy is None or compressed is None:
            return prepared
        if prepared.edited is None or not policy.recover or request.wants_json:
            return prepared
        try:
            source = await self.work(len(request.raw), partial(_source, request, compressed))
        except Fault as fault:
            self._report(fault)
            return prepared
        return replace(prepared, source=source)

    def _start(self, request: Request, policy: Policy) -> Steps:
        """Begin the method inside its first step: nothing of it runs on the event loop."""
        return (yield from self._method.compress(request, policy))

    async def work(self, size: int, job: Callable[[], Result]) -> Result:
        """Do a job on ``size`` bytes of text, in a thread where it might take long.

        Raises what Laconic raises on purpose, and Fault for anything else.
        """
        if size < _INLINE_BYTES:
            return _guarded(job)
        loop = asyncio.get_running_loop()
        with self._giving_way:
            return await loop.run_in_executor(self._threads, _guarded, job)

    def _report(self, fault: Fault) -> None:
        self._log.error("compression-fault", type=str(fault), at=fault.at)


class _GivingWay:
    """While anything is in here, threads give way to the event loop's sooner than Python has it.

    The interpreter lets a waiting thread in after 5 ms: with two texts being worked on, a stream's
    chunk may wait for 10.  All the time the shorter interval would cost relaying a seventh.
    """

    def __init__(self) -> None:
        self._inside = 0
        self._usual_s = sys.getswitchinterval()

    def __enter__(self) -> None:
        if self._inside == 0:
            sys.setswitchinterval(_SWITCH_S)
        self._inside += 1

    def __exit__(self, *_: object) -> None:
        self._inside -= 1
        if self._inside == 0:
            sys.setswitchinterval(self._usual_s)


def _guarded(job: Callable[[], Result]) -> Result:
    try:
        return job()
    except (LaconicError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise Fault(error) from error


def _source(request: Request, compressed: Compressed) -> Alignment | None:
    """Return what an answer's wording can be recovered from; None where nothing could come back."""
    leaves = {address: leaf.text for address, leaf in leaves_of(request).items()}
    alignment = align_edits(compressed.edits, leaves)
    return alignment if alignment.bridged else None


def _glimpse(incoming: Incoming) -> Glimpse | None:
    return None if _encoding(incoming) else incoming.endpoint.glimpse(incoming.body)


def _encoding(incoming: Incoming) -> str:
    return value_of(incoming.headers.items(), "content-encoding")


def _model_of(parsed: Request | Unparsed) -> str | None:
    return parsed.model if isinstance(parsed, Request) else None


def _selection(incoming: Incoming, model: str | None, policies: PolicySet) -> Selection:
    query = RouteQuery(
        path=incoming.path,
        model=model,
        headers=incoming.headers,
        api_key=incoming.api_key,
        key=incoming.key,
    )
    return policies.select(policies.match(query), incoming.overrides)


def _reason_to_pass(selection: Selection) -> Reason | None:
    if selection.bypassed:
        return Reason.BYPASSED
    return Reason.OFF if selection.policy.mode is Mode.OFF else None


def _untouched(
    selection: Selection,
    started_s: float,
    read: Request | Glimpse | Unparsed,
    reason: Reason | None,
    detail: str | None = None,
) -> Prepared:
    policy = selection.policy
    detail = read.detail if isinstance(read, Unparsed) else detail
    outcome = Outcome(
        policy.name,
        policy.mode,
        reason,
        _noted(detail, selection),
        compress_ms=_since_ms(started_s),
    )
    return _passing(selection, read, outcome)


def _passing(
    selection: Selection, read: Request | Glimpse | Unparsed, outcome: Outcome
) -> Prepared:
    model, stream = (None, False) if isinstance(read, Unparsed) else (read.model, read.stream)
    return Prepared(
        outcome=outcome,
        route=selection.route,
        upstream=selection.upstream,
        model=model,
        stream=stream,
        request=read if isinstance(read, Request) else None,
        policy=selection.policy,
        capture=selection.capture,
    )


def _finished(outcome: Outcome, selection: Selection, started_s: float) -> Outcome:
    detail = _noted(outcome.detail, selection)
    return replace(outcome, detail=detail, compress_ms=_since_ms(started_s))


def _noted(detail: str | None, selection: Selection) -> str | None:
    """Add which of the caller's headers were ignored."""
    if not selection.notes:
        return detail
    return "; ".join([*filter(None, [detail]), *selection.notes]) or None


def _since_ms(started_s: float) -> float:
    return (time.perf_counter() - started_s) * 1000


def _told(failure: ScorerFailed) -> str:
    """Say why a model failed: in our own words, or by the type alone (law 11)."""
    cause = failure.__cause__
    if isinstance(cause, LaconicError):
        return str(cause)
    return str(failure) if cause is None else type(cause).__name__


def _reason_of(error: CompressionError) -> Reason:
    match error:
        case Overloaded():
            return Reason.OVERLOADED
        case DeadlineExceeded():
            return Reason.DEADLINE
        case ScorerFailed():
            return Reason.SCORER_FAILED
        case _:
            return Reason.FAILED
