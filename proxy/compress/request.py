"""A whole request, turn by turn: the driver between the gateway and a method.

Each turn's result is a pure function of the turn and those before it (law 5), so it is remembered
under a key that chains over them: turn t + 1 costs its own work only, and a turn that once passed
verbatim because a deadline was missed stays so (law 8).
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, TypeAlias

from proxy.compress.guarded import Past, Scene
from proxy.compress.layout import LONG_TOKEN, token_counts
from proxy.compress.methods import METHODS
from proxy.compress.ports import Encoding, ScoreRequest, Scores
from proxy.compress.recall import Archive
from proxy.compress.result import Compressed, SentTurn, Sized, TurnResult, verbatim
from proxy.compress.units import Cuts
from proxy.digests import digest_of, linked
from proxy.errors import CompressionError, DeadlineExceeded, Overloaded
from proxy.policy.schema import Policy
from proxy.types import (
    Component,
    Count,
    Kind,
    Leaf,
    LeafEdit,
    Memory,
    Message,
    Mode,
    Outcome,
    Reason,
    Turn,
)

Driven: TypeAlias = Generator[ScoreRequest, Scores, Compressed]


def compress(
    turns: Sequence[Turn],
    policy: Policy,
    encoding: Encoding,
    memory: Memory[TurnResult],
    revision: str = "",
    cuts: Cuts | None = None,
) -> Driven:
    """Compress a request's turns; yields what must be scored, returns edits and outcome.

    ``revision`` is the scorer's: with the policy and the encoding it opens the chain of keys.  A
    ``CompressionError`` thrown in makes the turn at hand pass verbatim, for good.  How texts were
    cut into units is remembered in ``cuts``.
    """
    done: list[_Done] = []
    breaks = _Breaks()
    scored = 0
    key = _opening(policy, encoding, revision)
    protected = _protected_turns(turns, policy)
    for turn in turns:
        own = _own(turn)
        key = opening = linked(key, own)
        if turn.index < protected:
            result = _uncompressed(turn, encoding, Reason.BREAKPOINT)
            key = linked(key, b"breakpoint")  # recall finds nothing missing in such a turn
        else:
            known = memory.get(key)
            if known is None:
                scene = Scene(turn, _past(done), policy, encoding, cuts=cuts)
                known, tokens = yield from _scored(scene)
                memory.put(key, known)
                scored += tokens
            result = known
        if result.restores:
            if turn is turns[-1]:  # later requests find the cache as this one left it
                breaks = _Breaks.of(done)
            for earlier in done:
                earlier.result = _restored(earlier.result)
        one = _Done(turn, opening, own, result)
        closing = _closing_messages(turn)
        if closing:
            one.said = linked(*(message.digest for message in closing))
            key = linked(key, one.said)
            one.closing = _closing(turn, closing, key, encoding, memory)
        done.append(one)
    return _compressed(done, policy, encoding, breaks=breaks, scored=scored)


def too_short(texts: Sequence[str], policy: Policy, encoding: Encoding) -> Outcome | None:
    """Return what a request of these texts comes to if it is too short as a whole; else None.

    No turn of it can have ``min_tokens`` of context then, so it need not even be tagged: small
    talk costs a count.  Its tokens are not split into components.
    """
    if sum(map(len, texts)) > LONG_TOKEN * policy.min_tokens:
        return None
    tokens = sum(map(encoding.count, texts))
    if tokens >= policy.min_tokens:
        return None
    return Outcome(
        policy=policy.name,
        mode=policy.mode,
        reason=Reason.AUDIT if policy.mode is Mode.AUDIT else Reason.TOO_SHORT,
        tokens_before=tokens,
        tokens_after=tokens,
        encoding=encoding.name,
        estimated=encoding.estimated,
    )


def _scored(scene: Scene) -> Generator[ScoreRequest, Scores, tuple[TurnResult, int]]:
    """Return a turn's result and the tokens that the model read for it."""
    scored = 0
    steps = METHODS[scene.policy.method.name](scene)
    try:
        ask = next(steps)
        while True:
            scores = yield replace(ask, turn=scene.turn.index)
            scored += scores.timings.scored_tokens
            ask = steps.send(scores)
    except StopIteration as done:
        result: TurnResult = done.value
    except CompressionError as error:
        result = _uncompressed(scene.turn, scene.encoding, _reason(error))
    return result, scored


def _uncompressed(turn: Turn, encoding: Encoding, reason: Reason) -> TurnResult:
    """Return the result of a turn that is not looked into, or could not be compressed."""
    before, sizes = token_counts(turn, encoding)
    return verbatim(before, reason, sizes)


def _reason(error: CompressionError) -> Reason:
    if isinstance(error, DeadlineExceeded):
        return Reason.DEADLINE
    return Reason.OVERLOADED if isinstance(error, Overloaded) else Reason.SCORER_FAILED


def _restored(result: TurnResult) -> TurnResult:
    """Return an earlier turn as it was sent: a later ask needs all of it (law 12)."""
    if not result.edits:
        return result
    return result.undone(Reason.RESTORED)


def keep_verbatim(
    compressed: Compressed, turns: Sequence[Turn], memory: Memory[TurnResult]
) -> None:
    """Make the turns that were edited pass verbatim from now on: the upstream refused them."""
    edited = {edit.address.message for edit in compressed.edits}
    for turn, key in zip(turns, compressed.turn_keys, strict=True):
        known = memory.get(key)
        if known is not None and edited & {message.index for message in turn.messages}:
            memory.put(key, known.undone(Reason.REFUSED_EDITED))


# -- keys ---------------------------------------------------------------------------------------


def _opening(policy: Policy, encoding: Encoding, revision: str) -> bytes:
    return digest_of([policy.fingerprint, encoding.name, revision])


def _own(turn: Turn) -> bytes:
    """Return the digest of what a turn's form depends on: not its closing assistant message.

    A question of its own is in its segments, whose digest it has.
    """
    if turn.own_question and not turn.hints:
        return turn.digest
    return digest_of([turn.digest.hex(), str(turn.question), str(turn.own_question), *turn.hints])


def _closing_messages(turn: Turn) -> list[Message]:
    return [m for m in turn.messages if m.role == "assistant" and m.leaves]


def _closing(
    turn: Turn,
    messages: Sequence[Message],
    key: bytes,
    encoding: Encoding,
    memory: Memory[TurnResult],
) -> TurnResult:
    """Count a turn's assistant messages: they stay whole.

    Their segments' ``sizes`` are by leaf, in order.
    """
    known = memory.get(key)
    if known is None:
        leaves = (leaf for message in messages for leaf in message.leaves)
        sizes = [size for leaf in leaves for size in _segment_sizes(turn, leaf, encoding)]
        before = dict.fromkeys(Component, 0)
        before[Component.CONTEXT] = sum(sizes)
        known = verbatim(before, None, sizes)
        memory.put(key, known)
    return known


def _segment_sizes(turn: Turn, leaf: Leaf, encoding: Encoding) -> list[int]:
    starts = [s.span.start for s in turn.segments if s.address == leaf.address]
    return encoding.count_by(leaf.text, [*starts, len(leaf.text)])


def _protected_turns(turns: Sequence[Turn], policy: Policy) -> int:
    """Return how many leading turns the caller's last cache breakpoint protects."""
    if not policy.respect_breakpoints:
        return 0
    marked = [t.index for t in turns if any(message.breakpoint for message in t.messages)]
    return max(marked, default=-1) + 1


# -- the outcome --------------------------------------------------------------------------------


_SILENT = verbatim(dict.fromkeys(Component, 0), None)


@dataclass(slots=True)
class _Done:
    """A turn that was led through, and the assistant messages that close it: these stay whole."""

    turn: Turn
    key: bytes
    own: bytes = field(repr=False)  # digest of what the turn's form depends on
    result: TurnResult
    said: bytes = field(default=b"", repr=False)  # digest of the closing messages
    closing: TurnResult = _SILENT

    def sent(self) -> SentTurn:
        """Return the turn as it is sent."""
        result, closing = self.result, self.closing
        tokens = Count(result.before, result.after)
        return SentTurn(self.own, self.said, result.edits, tokens, closing.after)

    def sized(self) -> Sized:
        """Put the sizes of the closing messages' segments where these stand: at the end."""
        result, closing, segments = self.result, self.closing.sizes, self.turn.segments
        sizes = (*result.sizes[: len(segments) - len(closing)], *closing)
        at = result.edits[0].address if result.recalled_tokens else None
        return Sized(segments, sizes, result.recalled_tokens, at, result.material, result.ratings)


def _past(done: Sequence[_Done]) -> Past:
    """Return what turns come to for the next one; of what was restored nothing is missing."""
    store = Archive.of((one.turn.index, one.result) for one in done)
    closing = sum([one.closing.after for one in done])
    before, sent = sum([one.result.before for one in done]), sum([one.result.after for one in done])
    return Past(store, closing + before, closing + sent)


@dataclass(frozen=True, slots=True)
class _Breaks:
    """What restoring earlier turns costs a cache: it holds nothing of what follows the first."""

    requests: int = 0
    tokens: int = 0

    @classmethod
    def of(cls, done: Sequence[_Done]) -> Self:
        """Tell what restoring these turns breaks."""
        edited = (number for number, one in enumerate(done) if one.result.edits)
        broken = done[next(edited, len(done)) :]
        return cls(1, sum(one.result.before + one.closing.before for one in broken))


def _compressed(
    done: Sequence[_Done], policy: Policy, encoding: Encoding, *, breaks: _Breaks, scored: int
) -> Compressed:
    results = [one.result for one in done]
    edits: tuple[LeafEdit, ...] = tuple(edit for result in results for edit in result.edits)
    counted = [result.components for one in done for result in (one.result, one.closing)]
    components = {c: _sum([counts[c] for counts in counted]) for c in Component}
    total = _sum(components.values())
    newest = results[-1] if results else None
    outcome = Outcome(
        policy=policy.name,
        mode=policy.mode,
        reason=_named(newest, edits, policy),
        detail=_left_out(newest),
        tokens_before=total.before,
        tokens_after=total.after,
        components=components,
        encoding=encoding.name,
        estimated=encoding.estimated,
        first_saved=newest.before - newest.after if newest else 0,
        repeat_saved=sum(result.before - result.after for result in results[:-1]),
        recalled_tokens=newest.recalled_tokens if newest else 0,
        cache_breaks=breaks.requests,
        busted_tokens=breaks.tokens,
        turn_reasons={t: r.reason for t, r in enumerate(results) if r.reason is not None},
        scored_tokens=scored,
    )
    return Compressed(
        edits,
        outcome,
        turn_keys=tuple(one.key for one in done),
        turns=tuple(one.sent() for one in done),
        sized=tuple(one.sized() for one in done),
    )


def _sum(counts: Collection[Count]) -> Count:
    return Count(sum([count.before for count in counts]), sum([count.after for count in counts]))


def _named(newest: TurnResult | None, edits: Sequence[LeafEdit], policy: Policy) -> Reason | None:
    """Name the request's reason: None where it was edited, and the newest turn as planned."""
    if policy.mode is Mode.AUDIT:
        return Reason.AUDIT
    if newest is None:
        return Reason.NO_CONTEXT
    quiet = newest.reason in (Reason.NO_CONTEXT, Reason.TOO_SHORT, Reason.NO_QUESTION)
    return None if edits and quiet else newest.reason


def _left_out(newest: TurnResult | None) -> str | None:
    """Tell how many rows of JSON the newest turn is sent without: no mark may stand in JSON."""
    if newest is None or newest.material is None:
        return None
    material = newest.material
    rows = [
        number
        for number, unit in enumerate(material.units)
        if material.turn.segments[unit.segment].kind is Kind.JSON
    ]
    gone = len(newest.dropped.intersection(rows))
    return f"{gone} of {len(rows)} rows of JSON left out" if gone else None
