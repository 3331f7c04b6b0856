"""The words of the trade, as values: frozen, slotted, standard library only.

Positions are half-open ``[start, end)``: characters (code points of the decoded string) unless a
name says bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

from proxy.digests import digest_of

Result = TypeVar("Result")


class Memory(Protocol[Result]):
    """Remembers results by key; ``proxy.memo`` has the real one."""

    def get(self, key: bytes) -> Result | None:
        """Return what was put under ``key``, or None."""

    def put(self, key: bytes, result: Result) -> None:
        """Remember a result, in place of one before."""


class Component(StrEnum):
    """The label of a segment (``role`` is OpenAI's word and means something else)."""

    INSTRUCTION = "instruction"
    CONTEXT = "context"
    QUESTION = "question"


class Kind(StrEnum):
    """What a segment is made of; decides how it is split into units."""

    PROSE = "prose"
    LIST = "list"
    TABLE = "table"
    JSON = "json"
    CODE = "code"
    LOG = "log"
    DIFF = "diff"
    SEARCH = "search"
    DEMO = "demo"


class Mode(StrEnum):
    """What a policy does with the compressed form."""

    ON = "on"
    OFF = "off"
    AUDIT = "audit"


class Arm(StrEnum):
    """Which side of a comparison a conversation is on, where a policy holds some out."""

    COMPRESSED = "compressed"
    HELD_OUT = "held-out"


class Reason(StrEnum):
    """Why a request, or a turn of it, passed through or ended otherwise than planned."""

    OFF = "off"  # the policy's mode
    AUDIT = "audit"  # measured, but the original was forwarded
    BYPASSED = "bypassed"  # x-laconic-bypass
    HELD_OUT = "held-out"  # the policy leaves this conversation alone, to compare with
    UNPARSED = "unparsed"  # the body is not a request that we understand
    DUPLICATE_KEY = "duplicate-key"  # a key on the path we would edit occurs twice
    NO_CONTEXT = "no-context"  # nothing in it is tagged context
    TOO_SHORT = "too-short"  # below the policy's min_tokens
    NO_QUESTION = "no-question"  # nothing to steer by
    WHOLE_TEXT = "whole-text-task"  # the answer needs all of the text
    FLAT_RELEVANCE = "flat-relevance"  # no unit stands out
    RESTORED = "restored"  # a later whole-text ask brought this turn back whole (law 12)
    CACHE_FLOOR = "cache-floor"  # would shrink below the provider's cache minimum
    BREAKPOINT = "breakpoint"  # a caller's cache breakpoint protects it
    NEVER_LONGER = "never-longer"  # compressing would not have saved a token (law 6)
    BUDGET_INFEASIBLE = "budget-infeasible"  # no unit fits the target
    FORCED_OVER_BUDGET = "forced-over-budget"  # what must be kept exceeds the target
    OVERLOADED = "overloaded"
    DEADLINE = "deadline"
    SCORER_FAILED = "scorer-failed"
    FAILED = "failed"  # a fault of ours: logged with its type, and the original went through
    REFUSED_EDITED = "refused-edited"  # upstream refused the edited body; resent verbatim (law 8)
    BREAKER_OPEN = "breaker-open"  # it refused so many on this route that none are edited for now


class Span(NamedTuple):
    """``[start, end)`` in characters of the original text, unless a name says bytes."""

    start: int
    end: int

    def of(self, text: str) -> str:
        """Return the characters of ``text`` that this span covers."""
        return text[self.start : self.end]


class Address(NamedTuple):
    """Where a leaf lives: message index, and content part index (0 when content is a string).

    In a responses body message 0 is ``instructions``, message n + 1 item n; in a completions body
    message n is prompt n.
    """

    message: int
    part: int


@dataclass(frozen=True, slots=True)
class Leaf:
    """One JSON string of the request that may be edited.

    ``text`` is decoded and may hold lone surrogates; ``raw`` is the byte range of the JSON string
    in the body, quotes included.
    """

    address: Address
    text: str = field(repr=False)
    raw: Span


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that an assistant message made; ``arguments`` is the JSON text as sent."""

    id: str
    name: str
    arguments: str = field(repr=False)


@dataclass(frozen=True)
class Message:
    """One message, as far as compression needs it.

    Without slots, so that its digest is kept: a conversation's messages are known from before.
    """

    index: int
    role: str
    leaves: tuple[Leaf, ...] = ()
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    breakpoint: bool = False  # carries cache_control or prompt_cache_breakpoint, itself or a part

    @cached_property
    def digest(self) -> bytes:
        """Hash who says what, and where."""
        words = [str(self.index), self.role, repr(self.name)]
        for leaf in self.leaves:
            words += str(leaf.address.part), leaf.text
        return digest_of(words)


@dataclass(frozen=True, slots=True)
class Request:
    """A request with text: the caller's bytes, and what was understood of them.

    ``wants_json`` says that the answer's text is to be JSON (``response_format``, ``text.format``);
    ``separate`` that each message is a prompt of its own, answered as if it had come alone;
    ``continues`` that what went before lies with the provider (``previous_response_id``).
    ``spellings`` are those of a whole conversation, as far as it was edited before.
    """

    raw: bytes = field(repr=False)
    model: str | None
    stream: bool
    messages: tuple[Message, ...]
    wants_json: bool = False
    separate: bool = False
    continues: bool = False
    spellings: Spellings = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Segment:
    """A labelled stretch of one leaf; ``text`` is ``leaf.text[span]``, ``rule`` is what decided.

    The segments of a leaf are in order, do not overlap, and together cover the leaf.
    """

    address: Address
    span: Span
    text: str = field(repr=False)
    component: Component
    kind: Kind
    rule: str


@dataclass(frozen=True, slots=True)
class Turn:
    """The run of messages between two assistant messages, tagged.

    An assistant message belongs to the turn that it closes.  ``question`` steers relevance: the
    last question in the turn itself or, where the turn has none (tool results), the latest
    earlier turn's.  ``hints`` are the tool calls that the turn's results answer: name, arguments.
    ``instructions`` are those in force: every instruction segment up to the end of this turn,
    oldest first.  ``digest`` is that of the segments which do not close the turn.  Nothing in here
    depends on later turns (law 5).
    """

    index: int
    messages: tuple[Message, ...]
    segments: tuple[Segment, ...]
    question: str | None = field(default=None, repr=False)
    own_question: bool = False
    hints: tuple[str, ...] = field(default=(), repr=False)
    instructions: tuple[str, ...] = field(default=(), repr=False)
    digest: bytes = field(default=b"", repr=False)


class Mark(StrEnum):
    """With Fold and LeftOut, the only text that Laconic ever inserts (law 3)."""

    ELISION = "…"  # stands for a leaf of which nothing is kept: some providers refuse blank text
    RECALL_HEADING = "[From above]\n"
    RECALL_END = "\n\n"
    GAP = " "
    NEWLINE = "\n"
    LEGEND_OPEN = " ("  # an abbreviation's legend (`lexical`, where it may rewrite)
    LEGEND_CLOSE = ")"


class Quote(NamedTuple):
    """Text of another leaf, inserted verbatim: what recall brings back."""

    address: Address
    span: Span


@dataclass(frozen=True, slots=True)
class Fold:
    """How often a log says what the entry before this says, but for numbers: most are left out."""

    times: int

    def __str__(self) -> str:
        """Return the mark as it is written."""
        return f" (×{self.times})"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How many of a result's rows, entries, hunks or hits are left out: told under the last."""

    units: int
    all_units: int

    def __str__(self) -> str:
        """Return the mark as it is written."""
        return f"\n… {self.units} of {self.all_units} left out"


Piece: TypeAlias = Span | Mark | Quote | Fold | LeftOut


@dataclass(frozen=True, slots=True)
class LeafEdit:
    """The compressed form of one leaf: pieces whose texts, joined, replace it."""

    address: Address
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Spelling:
    """The JSON string that an edit made of its leaf, out of the characters of ``sources``."""

    edit: LeafEdit
    sources: tuple[Leaf, ...]
    written: bytes = field(repr=False)


Spellings: TypeAlias = dict[Address, Spelling]


@dataclass(frozen=True, slots=True)
class Count:
    """Tokens before and after, in the upstream's encoding."""

    before: int = 0
    after: int = 0

    @property
    def saved(self) -> int:
        """Tokens that were not sent."""
        return self.before - self.after

    def __add__(self, other: Count) -> Count:
        """Add figure by figure."""
        return Count(self.before + other.before, self.after + other.after)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What compression did to one request; written once, where the body is spliced.

    Token figures are ``None`` where nothing was counted (policy off, unparsed).  ``reason`` is the
    newest turn's, or the request's: ``None`` where it was compressed as planned.
    """

    policy: str
    mode: Mode
    reason: Reason | None = None
    detail: str | None = None  # never prompt text
    tokens_before: int | None = None
    tokens_after: int | None = None
    components: Mapping[Component, Count] = field(default_factory=dict)
    encoding: str | None = None
    estimated: bool = False
    first_saved: int = 0  # saved in the newest turn: tokens that never reach the upstream at all
    repeat_saved: int = 0  # saved again in earlier turns: priced at the provider's cache rate
    recalled_tokens: int = 0  # brought back into the newest turn by recall
    cache_breaks: int = 0  # whether the newest turn restored earlier ones, at a cache's expense
    busted_tokens: int = 0  # tokens that follow the first of them: a cache held them, shorter
    turn_reasons: Mapping[int, Reason] = field(default_factory=dict)
    scored_tokens: int = 0  # tokens the model read for this request (memo hits cost none)
    compress_ms: float = 0.0
