"""The cascade: Laconic's own method, one turn at a time.

A generator, because it must ask for scores midway (is the ask a whole-text task? then: how
relevant is each unit?), and pure: it puts the question, the engine answers, tests answer with a
fake.  A ``CompressionError`` thrown into it ends it; the driver in ``request`` names the reason.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias

from proxy.compress import flat, recall
from proxy.compress.asks import is_overview, needs_whole_text, whole_text_score
from proxy.compress.layout import Material, Rendered, read_material, render, totals
from proxy.compress.ports import DocumentVectors, Encoding, QuestionVectors, ScoreRequest, Scores
from proxy.compress.relevance import Relevance, lifted, rate_units
from proxy.compress.result import TurnResult, verbatim
from proxy.compress.selection import (
    Basket,
    Selection,
    best_first,
    by_budget,
    by_threshold,
    candidates,
    with_neighbours,
)
from proxy.policy.schema import FlatRelevance, Policy, Target, WholeText
from proxy.types import Component, Count, Kind, LeafEdit, Piece, Reason, Span, Turn

INSTRUCTION_CHARS = 1_000
"""Characters of an instruction's head, and of its tail, that are embedded."""

_MISSED = (Reason.BUDGET_INFEASIBLE, Reason.FORCED_OVER_BUDGET)
"""A target that was not met is told, whatever else happened to the turn (law 7)."""

ALARM = re.compile(
    r"\b(?:ERROR|FATAL|CRITICAL|PANIC|SEVERE|WARN(?:ING)?|[A-Z]\w*(?:Error|Exception)|Traceback)\b"
)
"""Marks a log line that is kept before all others."""

Steps: TypeAlias = Generator[ScoreRequest, Scores, TurnResult]


@dataclass(frozen=True, slots=True)
class Past:
    """The turns before one: what they dropped, and their tokens as sent by the caller and by us."""

    store: recall.Archive = recall.EMPTY
    before: int = 0
    sent: int = 0

    def then(self, turn: int, result: TurnResult) -> Past:
        """Return the past after one more turn."""
        store = self.store.then(turn, result)
        return Past(store, self.before + result.before, self.sent + result.after)


@dataclass(frozen=True, slots=True)
class Scene:
    """A turn and what surrounds it: everything that its compressed form may depend on."""

    turn: Turn
    past: Past
    policy: Policy
    encoding: Encoding

    @property
    def recalls(self) -> bool:
        """Whether this turn may bring back what earlier ones dropped."""
        missing = bool(self.past.store.missing)
        return missing and self.turn.own_question and self.policy.recall.share > 0


def compress_turn(scene: Scene) -> Steps:
    """Compress one turn: select from its own text, and recall from the turns before it."""
    material = read_material(scene.turn, scene.policy, scene.encoding)
    store = scene.past.store
    idle = nothing_to_select(material, scene.policy)
    question = scene.turn.question
    if question is None:
        return verbatim(material.before, Reason.NO_QUESTION if idle is None else idle)
    if idle is not None and not (store.missing and scene.turn.own_question):
        return verbatim(material.before, idle)

    has_text = idle is None
    asked, whole = yield from hear(scene, question, has_text=has_text)
    if whole:
        return replace(verbatim(material.before, Reason.WHOLE_TEXT), restores=not has_text)

    recalling = scene.recalls
    own = material.embeddable() if has_text else ()
    earlier = store.documents() if recalling else ()
    scores = yield ScoreRequest(documents=(*own, *earlier))
    result = verbatim(material.before, idle)
    if has_text:
        result = _select(scene, material, asked, scores.documents[: len(own)])
    if recalling:
        chosen = recall.wanted(
            store, question, asked, scores.documents[len(own) :], scene.policy.recall
        )
        result = with_recall(scene, result, store, chosen)
    return result


def nothing_to_select(material: Material, policy: Policy) -> Reason | None:
    """Return why nothing in this turn is to be selected from, or None."""
    if not any(not unit.frame for unit in material.units):
        return Reason.NO_CONTEXT
    if material.before[Component.CONTEXT] < policy.min_tokens:
        return Reason.TOO_SHORT
    return None


def hear(
    scene: Scene, question: str, *, has_text: bool
) -> Generator[ScoreRequest, Scores, tuple[QuestionVectors, bool]]:
    """Embed what steers relevance, and tell whether the ask needs the whole text.

    An ask without text of its own would restore every turn before it, for good, so it must be
    sure: "thanks" is no look-up either.
    """
    choice, steer = scene.policy.whole_text, steering(scene.turn)
    if choice is WholeText.IGNORE:
        scores = yield ScoreRequest(questions=(steer,))
        return scores.questions[0], False
    instructions = tuple(_clipped(text) for text in scene.turn.instructions)
    asks = (question, *instructions) if steer == question else (question, *instructions, steer)
    scores = yield ScoreRequest(questions=asks)
    asked, *instructed = scores.questions
    ask = whole_text_score(question, asked, instructions, instructed[: len(instructions)])
    asked = asked if steer == question else instructed[-1]
    if choice is WholeText.SAFE and not has_text:
        choice = WholeText.SURE
    return asked, needs_whole_text(ask, choice)


def steering(turn: Turn) -> str:
    """Return what units are rated against: the question and, for tool results, their calls."""
    if turn.own_question:
        return turn.question or ""
    return _clipped(" ".join([turn.question or "", *turn.hints]))


def _clipped(instruction: str) -> str:
    """Keep the head and the tail of a long instruction, where the task is named."""
    if len(instruction) <= 2 * INSTRUCTION_CHARS:
        return instruction
    return f"{instruction[:INSTRUCTION_CHARS]}\n{instruction[-INSTRUCTION_CHARS:]}"


# -- selection ----------------------------------------------------------------------------------


def _select(
    scene: Scene,
    material: Material,
    asked: QuestionVectors,
    documents: Sequence[DocumentVectors],
) -> TurnResult:
    texts = [material.text(i) for i in range(len(material.units))]
    policy = scene.policy
    relevance = rate_units(steering(scene.turn), asked, texts, documents)
    is_flat = flat.is_flat(relevance) or is_overview(scene.turn.question or "")
    if policy.flat_relevance is not FlatRelevance.IGNORE and is_flat:
        if policy.flat_relevance is FlatRelevance.PASS:
            return verbatim(material.before, Reason.FLAT_RELEVANCE)
        relevance = flat.central(documents)
        policy = flat.overview_policy(policy)
    relevance = lifted(relevance, _alarms(material))
    kept, reason = keep_units(replace(scene, policy=policy), material, relevance)
    rendered = render(material, kept, scene.encoding)
    return units_result(material, kept, rendered, reason)


def _alarms(material: Material) -> list[int]:
    """Return the log lines that tell of trouble: who asks about a log asks about these."""
    return [
        number
        for number, unit in enumerate(material.units)
        if material.turn.segments[unit.segment].kind is Kind.LOG
        and ALARM.search(material.text(number))
    ]


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
    order = best_first(relevance.scores, candidates(material, component))
    basket = Basket(material, frames=policy.titles)
    least = _cache_floor(scene, material, component)

    def measure(kept: Collection[int]) -> int:
        return render(material, {*others, *kept}, scene.encoding).after[component]

    if target.min_relevance is not None:
        selection = by_threshold(
            basket, order, relevance.standing, target.min_relevance, policy.neighbours
        )
        if not least or measure(selection.kept) >= least:
            return selection
        basket = Basket(material, frames=policy.titles)
        return by_budget(basket, order, measure, least)
    before = material.before[component]
    tokens = min(target.target_tokens or int((target.rate or 1.0) * before), before)
    nearby = list(with_neighbours(order, material, policy.neighbours))
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


def units_result(
    material: Material, kept: frozenset[int], rendered: Rendered, reason: Reason | None
) -> TurnResult:
    """Return the result of keeping these units whole, as rendered."""
    if not rendered.edits:
        return verbatim(material.before, reason or Reason.NEVER_LONGER)
    edited = {edit.address for edit in rendered.edits}
    dropped = frozenset(
        i for i in range(len(material.units)) if i not in kept and material.address(i) in edited
    )
    counts = MappingProxyType(totals(material.before, rendered.after))
    return TurnResult(counts, rendered.edits, reason, dropped, material=material)


# -- recall -------------------------------------------------------------------------------------


def with_recall(
    scene: Scene, result: TurnResult, store: recall.Archive, chosen: frozenset[recall.UnitOf]
) -> TurnResult:
    """Put the recalled block at the head of the turn's first user text."""
    address = recall.landing(scene.turn)
    if not chosen or address is None:
        return result
    pieces = recall.block(store, chosen)
    texts = {a: text for m in store.materials.values() for a, text in m.texts.items()}
    tokens = scene.encoding.count(recall.text_of(pieces, texts))
    context = result.components[Component.CONTEXT]
    counts: Mapping[Component, Count] = MappingProxyType(
        {**result.components, Component.CONTEXT: Count(context.before, context.after + tokens)}
    )
    return replace(
        result,
        components=counts,
        edits=_placed(scene.turn, result.edits, address, pieces),
        reason=result.reason if result.reason in _MISSED else None,
        recalled=chosen,
        recalled_tokens=tokens,
    )


def _placed(
    turn: Turn, edits: Sequence[LeafEdit], address: object, pieces: Sequence[Piece]
) -> tuple[LeafEdit, ...]:
    placed = [e for e in edits if e.address != address]
    leaf = next(leaf for m in turn.messages for leaf in m.leaves if leaf.address == address)
    own = next((e.pieces for e in edits if e.address == address), (Span(0, len(leaf.text)),))
    return (LeafEdit(leaf.address, (*pieces, *own)), *placed)
