"""Prompts that came together and are answered apart: what compressing each of them comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from proxy.compress.result import Compressed
from proxy.types import Component, Count, Outcome, Reason

_QUIET = frozenset({None, Reason.NO_CONTEXT, Reason.TOO_SHORT, Reason.NO_QUESTION})


def together(made: Sequence[Compressed]) -> Compressed:
    """Return what was made of one or more prompts as one, turn n being prompt n's.

    No prompt is another's history, so what was saved in any of them was saved for the first time.
    """
    first, *_ = outcomes = [compressed.outcome for compressed in made]
    edits = tuple(edit for compressed in made for edit in compressed.edits)
    return Compressed(
        edits,
        replace(
            first,
            reason=_reason(outcomes, edited=bool(edits)),
            tokens_before=sum(outcome.tokens_before or 0 for outcome in outcomes),
            tokens_after=sum(outcome.tokens_after or 0 for outcome in outcomes),
            components={
                component: sum((o.components[component] for o in outcomes), Count())
                for component in Component
            },
            first_saved=sum(outcome.first_saved for outcome in outcomes),
            turn_reasons={
                number: reason
                for number, outcome in enumerate(outcomes)
                for reason in outcome.turn_reasons.values()
            },
            scored_tokens=sum(outcome.scored_tokens for outcome in outcomes),
        ),
        tuple(key for compressed in made for key in compressed.turn_keys),
        sized=tuple(sized for compressed in made for sized in compressed.sized),
    )


def _reason(outcomes: Sequence[Outcome], *, edited: bool) -> Reason | None:
    """Name the first reason that tells something; None where the prompts went as planned."""
    reasons = [outcome.reason for outcome in outcomes]
    told = [reason for reason in reasons if reason not in _QUIET]
    return next(iter([*told, *([] if edited else reasons)]), None)
