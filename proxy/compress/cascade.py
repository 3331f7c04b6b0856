"""The cascade: Laconic's own method, one turn at a time.

A worked example.  Two passages, each a title of 1 token and two sentences of 10, at rate .5: 42
tokens, room for 21.  By relevance the sentences are 1b, 2a, 1a, 2b.  1b is taken with its title,
11; 2a with its own would make 22 and is skipped; 1a makes 21.  Passage 1 is sent, and the other is
there for recall.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import cast

from proxy.compress import flat
from proxy.compress.asks import is_overview
from proxy.compress.fine import Plan, plan, shorten, worth_asking
from proxy.compress.forced import identifiers, named, repeats, striking
from proxy.compress.guarded import (
    Scene,
    Steps,
    guarded,
    result_of,
    steering,
    unit_ratings,
    units_result,
)
from proxy.compress.layout import Material, render
from proxy.compress.ports import QuestionVectors, ScoreRequest
from proxy.compress.reading import filled, shortlist
from proxy.compress.relevance import Relevance, Stack, lifted, lowered, rate_units
from proxy.compress.result import untouched
from proxy.compress.selection import (
    Basket,
    Selection,
    best_first,
    by_budget,
    by_threshold,
    candidates,
    with_neighbours,
)
from proxy.policy.schema import Cascade, Fine, FlatRelevance, Target
from proxy.types import Component, Reason

STRIKING_SHARE = 0.75
"""At most this share of a budget goes to what stands out by itself."""


def compress_turn(scene: Scene) -> Steps:
    """Compress one turn by the relevance of its units."""
    return guarded(scene, _compress, steered=True)


def _compress(scene: Scene, material: Material) -> Steps:
    question, documents = steering(scene.turn), material.embeddable
    chosen = shortlist(question, material.terms, documents, material.data)
    scores = yield ScoreRequest(documents=tuple(documents[i] for i in chosen))
    asked = cast("QuestionVectors", scene.asked)  # heard: the cascade is steered
    vectors = filled(documents, chosen, scores.documents, len(asked.final))
    stack = Stack.of(vectors)
    relevance = rate_units(question, asked, material.terms, [stack])
    is_flat = bool(chosen) and flat.is_flat(relevance)  # of rows too long to read, words decide
    if is_flat or is_overview(scene.turn.question or ""):
        if scene.policy.flat_relevance is FlatRelevance.PASS:
            return untouched(material, Reason.FLAT_RELEVANCE)
        if scene.policy.flat_relevance is FlatRelevance.SPREAD:
            relevance = flat.central(vectors)
            scene = replace(scene, policy=flat.overview_policy(scene.policy))
    result = yield from _select(scene, material, _forced(scene, material, relevance))
    if not result.dropped or len(chosen) < len(documents):
        return result
    return replace(result, vectors=stack)


def _select(scene: Scene, material: Material, relevance: Relevance) -> Steps:
    """Keep what the budgets allow, best first, and shorten at the margin."""
    kept, reason = keep_units(scene, material, relevance)
    ratings = unit_ratings(relevance.scores)
    fine = cast("Cascade", scene.policy.method).fine
    if fine is not None and reason is None:
        plans = _plans(scene, material, relevance, kept, fine)
        if worth_asking(material, plans):
            wording, words = yield from shorten(scene, material, kept, plans, fine)
            return result_of(wording, words, scene, ratings=ratings)
    rendered = render(material, kept, scene.encoding)
    return units_result(material, kept, rendered, reason, ratings)


def _plans(
    scene: Scene, material: Material, relevance: Relevance, kept: frozenset[int], fine: Fine
) -> list[Plan]:
    """Plan the fine stage of every component that has a budget."""
    found: list[Plan] = []
    for component in Component:
        target: Target = getattr(scene.policy.components, component.value)
        if target.keeps_all or target.min_relevance is not None:
            continue
        nearby = _nearby(scene, material, relevance, component)
        least = _cache_floor(scene, material, component)
        tokens = max(target.tokens(material.before[component]), least)
        found.append(plan(material, component, nearby, kept, tokens, fine))
    return found


def _nearby(
    scene: Scene, material: Material, relevance: Relevance, component: Component
) -> list[int]:
    """Return what may be kept of a component, best first, each with its neighbours."""
    order = best_first(relevance.scores, candidates(material, component))
    return list(with_neighbours(order, material, scene.policy.neighbours))


def _forced(scene: Scene, material: Material, relevance: Relevance) -> Relevance:
    """Put what the ask names before all else, then what stands out; what repeats comes last."""
    relevance = lowered(relevance, repeats(material))
    standing_out = _within(scene, material, striking(material, relevance.scores))
    relevance = lifted(relevance, standing_out)
    return lifted(relevance, named(material, identifiers(scene.turn)))


def _within(scene: Scene, material: Material, numbers: Sequence[int]) -> dict[int, float]:
    """Return the first of these units that fit STRIKING_SHARE of the context's budget."""
    target = scene.policy.components.context
    room = STRIKING_SHARE * target.tokens(material.before[Component.CONTEXT])
    if target.min_relevance is not None:
        return dict.fromkeys(numbers, 0.0)
    spent = accumulate(material.costs[number] for number in numbers)
    return {number: 0.0 for number, tokens in zip(numbers, spent, strict=True) if tokens <= room}


def keep_units(
    scene: Scene, material: Material, relevance: Relevance
) -> tuple[frozenset[int], Reason | None]:
    """Select within each component; return the units kept, and why a target was missed."""
    kept = frozenset(range(len(material.units)))
    missed: Reason | None = None
    for component in Component:
        target: Target = getattr(scene.policy.components, component.value)
        if target.keeps_all or not candidates(material, component):
            continue
        others = kept - set(material.selectable(component))
        selection = _keep_component(scene, material, relevance, component, others)
        kept = others | selection.kept
        missed = missed or selection.reason
    return kept, missed


def _keep_component(
    scene: Scene,
    material: Material,
    relevance: Relevance,
    component: Component,
    others: Collection[int],
) -> Selection:
    policy, target = scene.policy, getattr(scene.policy.components, component.value)
    basket = Basket(material, frames=policy.titles)
    least = _cache_floor(scene, material, component)

    def measure(kept: Collection[int]) -> int:
        return render(material, {*others, *kept}, scene.encoding).after[component]

    if target.min_relevance is not None:
        order = best_first(relevance.scores, candidates(material, component))
        selection = by_threshold(
            basket, order, relevance.standing, target.min_relevance, policy.neighbours
        )
        if not least or measure(selection.kept) >= least:
            return selection
        basket = Basket(material, frames=policy.titles)
        return by_budget(basket, order, measure, least)
    before = material.before[component]
    tokens = target.tokens(before)
    nearby = _nearby(scene, material, relevance, component)
    selection = by_budget(basket, nearby, measure, tokens, least)
    if selection.reason is Reason.FORCED_OVER_BUDGET:
        # What must stay is over the target alone; what may be dropped still meets the rate.
        fixed = measure(())
        target_tokens = fixed + tokens * (before - fixed) // before
        basket = Basket(material, frames=policy.titles)
        met = by_budget(basket, nearby, measure, target_tokens, least)
        selection = replace(met, reason=selection.reason)
    return selection if selection.kept else _all_of(material, component, selection.reason)


def _all_of(material: Material, component: Component, reason: Reason | None) -> Selection:
    """Keep everything: a budget that no unit fits is named, not met with nothing (law 7)."""
    return Selection(frozenset(material.selectable(component)), reason)


def _cache_floor(scene: Scene, material: Material, component: Component) -> int:
    """Return the tokens of a component that keep the prompt so far at the cache minimum.

    A prefix that was long enough for the provider's prompt cache should stay so.
    """
    floor, before = scene.policy.cache_floor_tokens, material.before
    if not floor or component is not Component.CONTEXT:
        return 0
    if scene.past.before + sum(before.values()) < floor:
        return 0
    rest = sum(before.values()) - before[component]
    return min(max(0, floor - scene.past.sent - rest), before[component])
