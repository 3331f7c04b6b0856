"""What a policy file and ``routes.yaml`` may say.

Frozen pydantic models; unknown keys are refused.  A policy names *what* to do, never *how fast*:
process-wide settings (ports, the upstream, the model) are in :mod:`proxy.settings`.  The string
under a field is its documentation: ``docs/policies.md`` and the JSON Schema are made from it.
"""

from __future__ import annotations

import hashlib
import json
import re
from enum import StrEnum
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, Field, field_serializer, model_validator

from proxy.policy.explain import NOT_SHOWN
from proxy.policy.prices import PriceSpec
from proxy.policy.upstreams import STRICT, UpstreamSpec
from proxy.types import Component, Kind, Mode

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
TAG = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
KEY_HASH = re.compile(r"sha256:[0-9a-f]{16,64}")
SECRET_HEADERS = frozenset(
    {"authorization", "api-key", "x-api-key", "proxy-authorization", "cookie"}
)

_NAME_WANTED = "up to 64 letters, digits, dots, dashes and underscores"
_HASH_WANTED = "sha256: and at least 16 hex digits of the key's SHA-256"


def _name(text: str) -> str:
    """Refuse what could not travel in a header, a metric label and a file name."""
    if not NAME.fullmatch(text):
        raise ValueError(f"found {text[:80]!r}, wanted {_NAME_WANTED}")
    return text


def _key_hash(text: str) -> str:
    """Lower-case the hash; never repeat the text, which may be the key itself."""
    if not KEY_HASH.fullmatch(text.lower()):
        raise ValueError(f"found {NOT_SHOWN}, wanted {_HASH_WANTED}")
    return text.lower()


def _tags(tags: dict[str, Component]) -> dict[str, Component]:
    """Refuse what could not be the name of an XML tag."""
    for tag in tags:
        if not TAG.fullmatch(tag):
            raise ValueError(f"found tag name {tag[:80]!r}, wanted letters, digits, dots, dashes")
    return tags


def _header_globs(globs: dict[str, str]) -> dict[str, str]:
    """Lower-case header names; credentials are matched by ``api_key``, as a hash."""
    for header in globs:
        if header.lower() in SECRET_HEADERS:
            raise ValueError(f"found {header}, wanted credentials as a hash under api_key")
        if not HEADER.fullmatch(header):
            raise ValueError(f"found {header[:80]!r}, wanted the name of a request header")
    return {header.lower(): glob for header, glob in globs.items()}


Name: TypeAlias = Annotated[
    str, AfterValidator(_name), Field(json_schema_extra={"$comment": _NAME_WANTED})
]
KeyHash: TypeAlias = Annotated[
    str,
    AfterValidator(_key_hash),
    Field(json_schema_extra={"$comment": _HASH_WANTED, "writeOnly": True}),
]


class _Strict(BaseModel):
    model_config = STRICT


class WholeText(StrEnum):
    """What to do when the ask seems to need all of the text (translate, proofread, count ...)."""

    SAFE = "safe"  # pass through; find about nine in ten such asks, at some false alarms
    SURE = "sure"  # pass through only where it is nearly certain
    IGNORE = "ignore"  # select anyway


class FlatRelevance(StrEnum):
    """What to do when no unit stands out from the others."""

    PASS = "pass"  # noqa: S105 - pass through
    SPREAD = "spread"  # keep a spread of central units at ``overview_rate``
    IGNORE = "ignore"  # select as usual


class Target(_Strict):
    """How much of a component's tokens, within a turn, to keep: at most one key; none keeps all."""

    rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """Tokens kept / tokens before: the highest-scoring units up to this share."""
    target_tokens: Annotated[int, Field(ge=1)] | None = None
    """The same, as a number of tokens."""
    min_relevance: Annotated[float, Field(ge=0, le=1)] | None = None
    """Keep units whose calibrated relevance reaches this, however many they are."""

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        keys = ("rate", "target_tokens", "min_relevance")
        given = [key for key in keys if getattr(self, key) is not None]
        if len(given) > 1:
            found = f"{', '.join(given[:-1])} and {given[-1]}"
            raise ValueError(f"found {found}, wanted at most one of {', '.join(keys)}")
        return self

    @property
    def keeps_all(self) -> bool:
        """Whether this target leaves its component alone."""
        return self.target_tokens is None and self.min_relevance is None and self.rate in (None, 1)

    def tokens(self, before: int) -> int:
        """Return what a budget comes to, of so many tokens."""
        return min(self.target_tokens or int((self.rate or 1.0) * before), before)


class Components(_Strict):
    """A target per component.  What is not named is kept whole."""

    instruction: Target = Target()
    """What the model is told to do; kept whole by every shipped policy."""
    context: Target = Target()
    """Documents, tool results, demonstrations, history: where savings come from."""
    question: Target = Target()
    """What is asked; kept whole by every shipped policy."""


class Recall(_Strict):
    """Bringing back, in the newest turn, what earlier turns dropped and the new question needs."""

    share: Annotated[float, Field(ge=0, le=1)] = 0.15
    """At most this share of the earlier documents' tokens per turn; 0 turns recall off."""
    min_relevance: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Only units that stand this high among all earlier ones: 0 the middle one, 1 the best."""


class Allow(_Strict):
    """Which request headers the caller may use.  One that is not allowed is ignored."""

    policy: bool = True
    """``x-laconic-policy: NAME``"""
    rate: bool = True
    """``x-laconic-rate: 0.4``"""
    bypass: bool = True
    """``x-laconic-bypass: true``"""


class Tagging(_Strict):
    """Hints for tagging that the caller's prompts cannot carry themselves."""

    leading_pairs: bool = False
    """Take user-assistant pairs before the last user message as few-shot demonstrations."""
    tags: Annotated[dict[str, Component], AfterValidator(_tags)] = {}
    """Further XML tag names and the component each one marks: ``{evidence: context}``."""


class ToolResults(_Strict):
    """What tools returned, beside what users and the system say."""

    only: bool = False
    """Select from what tools returned alone; what anyone says stays verbatim."""
    min_tokens: Annotated[int, Field(ge=0)] = 0
    """A result of fewer tokens is left alone."""


# -- methods ------------------------------------------------------------------------------------


class Budget(StrEnum):
    """What a paper method's rate is a share of."""

    CONTEXT = "context"  # each component's target is its own, as under the cascade
    PROMPT = "prompt"  # the context's target is for the turn's instruction, context and question


class Variant(StrEnum):
    """What the causal LM has read when it rates a window (ITPC)."""

    GATHER = "gather"  # states of the raw text, gathered at the kept words: one read a token
    EXACT = "exact"  # the kept words only: what was kept is read again


class Shorten(StrEnum):
    """Which of the documents that were chosen lose words."""

    ALL = "all"  # every one, at one rate (the paper)
    LAST = "last"  # whole documents first; the last one is shortened to fit


class SelfInformationUnit(StrEnum):
    """What Selective Context drops whole."""

    TOKEN = "token"  # noqa: S105 - a word: a token of it is never dropped by itself
    PHRASE = "phrase"
    SENTENCE = "sentence"


class _Method(_Strict):
    @property
    def rewrites(self) -> bool:
        """Whether it does more than leave out: the words, or their order, are not the caller's."""
        return False


class Fine(_Strict):
    """The cascade's fine stage: lesser units lose light words, so that more of them fit."""

    rate: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """A unit that loses words keeps at least this share of its tokens."""
    whole: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The best units, up to this share of the budget, lose none."""


class Cascade(_Method):
    """Units by relevance to the question: Laconic's own method."""

    name: Literal["cascade"] = "cascade"
    """This method's name."""
    fine: Fine | None = None
    """Let lesser units lose words, so that more of them fit a budget; ``{}`` for the defaults."""


class LLMLingua(_Method):
    """Whole documents by perplexity, then words by surprisal, window by window (2310.05736)."""

    name: Literal["llmlingua"]
    """This method's name."""
    budget: Budget = Budget.CONTEXT
    """``context``: each component's target is its own; ``prompt``: the context's is for all."""
    instruction_rate: Annotated[float, Field(ge=0, le=1)] = 0.85
    """tau_ins: share of the instruction kept, under ``budget: prompt``."""
    question_rate: Annotated[float, Field(ge=0, le=1)] = 0.9
    """tau_que: share of the question kept, under ``budget: prompt``."""
    context_floor: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The context keeps at least this part of its rate, however long the instruction is."""
    k: Annotated[float, Field(ge=1)] = 2.0
    """Documents are chosen for k times the budget, and then shortened to it."""
    shorten: Shorten = Shorten.ALL
    """``all``: every chosen document, at one rate; ``last``: only the one that does not fit."""
    window: Annotated[int, Field(ge=8, le=2000)] = 100
    """Upstream tokens per window of the iterative compression (ITPC)."""
    variant: Variant = Variant.GATHER
    """``gather`` reads each token once; ``exact`` reads the kept words again: slower, truer."""
    keep_protected: bool = False
    """Keep numbers, URLs, quotations and the like always; else each may be dropped whole."""


class SelectiveContext(_Method):
    """The units of least self-information are dropped (2310.06201)."""

    name: Literal["selective_context"]
    """This method's name."""
    unit: SelfInformationUnit = SelfInformationUnit.PHRASE
    """``token`` (a whole word), ``phrase`` or ``sentence``."""
    keep_protected: bool = False
    """Keep numbers, URLs, quotations and the like always; else each may be dropped whole."""


class Lexical(_Method):
    """Stop words and white space; no model.  Letters and abbreviations rewrite the text."""

    name: Literal["lexical"]
    """This method's name."""
    stop_words: bool = True
    """Drop words that carry little by themselves, by the lists of ``languages``."""
    languages: Annotated[tuple[Literal["en", "de", "es", "fr"], ...], Field(min_length=1)] = (
        "en",
        "de",
        "es",
        "fr",
    )
    """Whose stop words to use, if the text is in that language."""
    white_space: bool = True
    """Shorten runs of blanks to one, and runs of blank lines to one."""
    letters: bool = False
    """Drop vowels inside long words.  Rewrites: words are no longer the caller's."""
    abbreviations: bool = False
    """Write a repeated name by its initials, after a legend at its first place.  Rewrites."""

    @property
    def rewrites(self) -> bool:
        """Whether words lose letters, or names become initials."""
        return self.letters or self.abbreviations


class LongLLMLingua(_Method):
    """Documents by how well they foretell the question, then words by contrast (2310.06839)."""

    name: Literal["longllmlingua"]
    """This method's name."""
    k: Annotated[float, Field(ge=1)] = 1.2
    """Documents are chosen for k times the budget, and then shortened to it."""
    delta: Annotated[float, Field(ge=0, le=1)] = 0.3
    """How much more the best document keeps than the middle one, and the worst less."""
    window: Annotated[int, Field(ge=8, le=2000)] = 200
    """Upstream tokens per window of the iterative compression (ITPC)."""
    variant: Variant = Variant.GATHER
    """``gather`` reads each token once; ``exact`` reads the kept words again: slower, truer."""
    reorder: bool = False
    """Put the most relevant documents first.  Rewrites: their order is no longer the caller's."""
    keep_protected: bool = False
    """Keep numbers, URLs, quotations and the like always; else each may be dropped whole."""

    @property
    def rewrites(self) -> bool:
        """Whether documents change places."""
        return self.reorder


class LLMLingua2(_Method):
    """Words by a token classifier, one threshold a turn (2403.12968)."""

    name: Literal["llmlingua2"]
    """This method's name."""
    force_words: tuple[str, ...] = ()
    """Words that are always kept, beside negations."""
    keep_digits: bool = True
    """Keep every word that holds a digit."""
    question_weight: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How much of a word's score is its sentence's relevance to the question; 0: none."""
    keep_protected: bool = False
    """Keep numbers, URLs, quotations and the like always; else each may be dropped whole."""


Method: TypeAlias = Annotated[
    Cascade | LLMLingua | SelectiveContext | Lexical | LongLLMLingua | LLMLingua2,
    Field(discriminator="name"),
]

_NOT_OF_THE_FORM = {"name", "description", "holdout", "recover", "allow"}

METHOD_NAMES = (
    "cascade",
    "llmlingua",
    "selective_context",
    "lexical",
    "longllmlingua",
    "llmlingua2",
)
_METHOD_WANTED = f"a mapping with `name`, one of {', '.join(METHOD_NAMES)}, and its parameters"


class Policy(_Strict):
    """One named set of compression choices."""

    name: Name
    """What routes, headers and the ledger call it.  In a file, the file's own name if left out."""
    description: str = ""
    """Who it is for and what it risks."""
    mode: Mode = Mode.ON
    """``on`` compresses; ``off`` forwards untouched; ``audit`` measures and forwards untouched."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """A share of the conversations that is left alone, to compare with: [ledger.md](ledger.md)."""
    method: Annotated[Method, Field(json_schema_extra={"$comment": _METHOD_WANTED})] = Cascade()
    """How to compress; each method and its parameters are in [methods.md](methods.md)."""
    components: Components = Components()
    """A target per component."""
    min_tokens: Annotated[int, Field(ge=0)] = 200
    """Below this many context tokens a turn is left alone."""
    protect_kinds: frozenset[Kind] = frozenset({Kind.CODE, Kind.DIFF})
    """Kinds of segment that are never selected from."""
    tool_results: ToolResults = ToolResults()
    """What is selected from, where tools are called."""
    titles: bool = True
    """A kept unit pulls in its document's title or heading."""
    neighbours: Annotated[int, Field(ge=0, le=5)] = 0
    """Sentences kept on either side of a relevant one, where the budget allows."""
    recall: Recall = Recall()
    """Bringing back what earlier turns dropped and the newest question needs."""
    whole_text: WholeText = WholeText.SAFE
    """When to pass through an ask that seems to need all of the text (translate, count)."""
    flat_relevance: FlatRelevance = FlatRelevance.PASS
    """What to do where no unit stands out (summarise)."""
    overview_rate: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Share kept where relevance is flat and ``flat_relevance`` is ``spread``."""
    cache_floor_tokens: Annotated[int, Field(ge=0)] = 0
    """Do not shrink a prompt that is above this (a provider's cache minimum) to below it."""
    respect_breakpoints: bool = True
    """Leave turns up to the caller's last cache breakpoint as they are."""
    deadline_s: Annotated[float, Field(gt=0)] = 2.0
    """Longest wait for scores; a turn that would take longer passes verbatim."""
    recover: bool = False
    """Put the caller's wording back into answers, which is an edit: [recovery.md](recovery.md)."""
    allow: Allow = Allow()
    """Which request headers the caller may use."""
    tagging: Tagging = Tagging()
    """Hints for tagging that the caller's prompts cannot carry themselves."""

    @model_validator(mode="after")
    def _rated_by_the_cascade(self) -> Self:
        """Refuse a target by relevance where the method knows none."""
        targets = (getattr(self.components, component.value) for component in Component)
        if self.method.name != "cascade" and any(t.min_relevance is not None for t in targets):
            raise ValueError(
                f"found min_relevance under method {self.method.name}, "
                "wanted rate or target_tokens (or method cascade)"
            )
        return self

    @model_validator(mode="after")
    def _held_out_of_something(self) -> Self:
        """Refuse a comparison in which nothing is compressed."""
        if self.holdout and self.mode is not Mode.ON:
            raise ValueError(f"found holdout under mode {self.mode}, wanted mode on")
        return self

    @field_serializer("protect_kinds")
    def _sorted_kinds(self, kinds: frozenset[Kind]) -> list[Kind]:
        return sorted(kinds)  # set order differs from process to process

    def with_context(self, target: Target) -> Policy:
        """Return this policy with another target for the context."""
        components = self.components.model_copy(update={"context": target})
        return self.model_copy(update={"components": components})

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that name the choices: same choices, same digits, in any process.

        The name, the description, who is held out, what callers are allowed to ask for and what is
        done to answers do not take part: they do not change the compressed form, nor does naming
        the default method, or the default for tool results.  Meant for memo keys.
        """
        choices = self.model_dump(mode="json", exclude=_NOT_OF_THE_FORM)
        if self.method == Cascade():
            del choices["method"]
        if self.tool_results == ToolResults():
            del choices["tool_results"]
        return hashlib.sha256(json.dumps(choices, sort_keys=True).encode()).hexdigest()[:16]


class Route(_Strict):
    """Sends requests to a policy.  Every condition given must hold; ``*`` also matches ``/``."""

    name: Name | None = None
    """What the ledger calls the route; ``route-1`` and so on, by position, if left out."""
    path: str | None = None
    """Glob over the request path, without the query: ``/v1/chat/*``."""
    model: str | None = None
    """Glob over the request's ``model``: ``gpt-4o*``."""
    header: Annotated[dict[str, str], AfterValidator(_header_globs)] = {}
    """Globs over request headers, names in any case: ``{x-team: research*}``."""
    api_key: KeyHash | None = None
    """The caller's key (Bearer token, ``api-key`` or ``x-api-key``), hashed: ``sha256:3f7a...``."""
    key: str | None = None
    """Glob over the name of the proxy key that the caller showed: ``team-*``."""
    policy: Name
    """The policy that requests matching this route get."""
    upstream: Name | None = None
    """The upstream that they go to, one of ``upstreams``; the general one if left out."""
    capture: bool = False
    """Keep what callers say on this route, on the disk, to be looked at: [ledger.md](ledger.md)."""

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        if not (self.header or self.path or self.model or self.api_key or self.key):
            raise ValueError(
                "found no condition, wanted path, model, header, api_key or key "
                "(the policy for everything else is `fallback`)"
            )
        return self


class Routes(_Strict):
    """``routes.yaml``: tried in order, the first match wins."""

    fallback: Name = "default"
    """The policy where no route matches; ``laconic serve --policy NAME`` overrides it."""
    upstream: Name | None = None
    """The upstream where no route says another; ``LACONIC_UPSTREAM`` if left out."""
    upstreams: dict[Name, UpstreamSpec] = {}
    """Upstreams by name, beside ``LACONIC_UPSTREAM``."""
    prices: tuple[PriceSpec, ...] = ()
    """What tokens cost where the list prices do not say, tried in order: [ledger.md](ledger.md)."""
    routes: tuple[Route, ...] = ()
    """The routes, in order."""
