"""What a policy file may say.

Frozen pydantic models; unknown keys are refused.  A policy names *what* to do, never *how fast*:
process-wide settings (ports, the upstream, the model) are in :mod:`proxy.settings`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from proxy.types import Kind, Mode


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


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
    """How much of a component's tokens, within a turn, to keep.  At most one key; none keeps all."""

    rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """Tokens kept / tokens before: the highest-scoring units up to this share."""
    target_tokens: Annotated[int, Field(ge=1)] | None = None
    """The same, as a number of tokens."""
    min_relevance: Annotated[float, Field(ge=0, le=1)] | None = None
    """Keep units whose calibrated relevance reaches this, however many they are."""

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        given = [k for k in ("rate", "target_tokens", "min_relevance") if getattr(self, k) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} given, wanted at most one of them")
        return self

    @property
    def keeps_all(self) -> bool:
        """Whether this target leaves its component alone."""
        return self.target_tokens is None and self.min_relevance is None and self.rate in (None, 1)


class Components(_Strict):
    """A target per component.  What is not named is kept whole."""

    instruction: Target = Target()
    context: Target = Target()
    question: Target = Target()


class Recall(_Strict):
    """Bringing back, in the newest turn, what earlier turns dropped and the new question needs."""

    share: Annotated[float, Field(ge=0, le=1)] = 0.15
    """At most this share of the earlier documents' tokens per turn; 0 turns recall off."""


class Allow(_Strict):
    """Which request headers the caller may use."""

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
    tags: dict[str, str] = {}
    """Further XML tag names and the component each one marks: ``{evidence: context}``."""


class Policy(_Strict):
    """One named set of compression choices."""

    name: str
    description: str = ""
    """Who it is for and what it risks."""
    mode: Mode = Mode.ON
    components: Components = Components()
    min_tokens: Annotated[int, Field(ge=0)] = 200
    """Below this many context tokens a turn is left alone."""
    protect_kinds: frozenset[Kind] = frozenset({Kind.CODE})
    """Kinds of segment that are never selected from."""
    titles: bool = True
    """A kept unit pulls in its document's title or heading."""
    neighbours: Annotated[int, Field(ge=0, le=5)] = 0
    """Sentences kept on either side of a relevant one, where the budget allows."""
    recall: Recall = Recall()
    whole_text: WholeText = WholeText.SAFE
    flat_relevance: FlatRelevance = FlatRelevance.PASS
    overview_rate: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Share kept where relevance is flat and ``flat_relevance`` is ``spread``."""
    cache_floor_tokens: Annotated[int, Field(ge=0)] = 0
    """Do not shrink a prompt that is above this (a provider's cache minimum) to below it."""
    respect_breakpoints: bool = True
    """Leave turns up to the caller's last cache breakpoint as they are."""
    deadline_s: Annotated[float, Field(gt=0)] = 2.0
    """Longest wait for scores; a turn that would take longer passes verbatim."""
    allow: Allow = Allow()
    tagging: Tagging = Tagging()
