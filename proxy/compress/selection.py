"""Stage 4 of the cascade: which units to keep, by budget or by threshold.

By budget: highest score first until the plan is full, skipping what does not fit, then counted in
the upstream's encoding and repaired (law 7).  By threshold: what is relevant enough.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from proxy.compress.layout import Material
from proxy.compress.relevance import Scores1D
from proxy.types import Component, Reason

MAX_RECOUNTS = 4
"""Exact counts per budget; the last may only remove (docs/compression.md)."""

Measure = Callable[[Collection[int]], int]
"""Tokens of the component with a selection in place, counted by the upstream's encoding."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The units kept, and the reason where the target could not be met."""

    kept: frozenset[int]
    reason: Reason | None = None


@dataclass(slots=True)
class Basket:
    """Units taken so far, and what they cost by estimate.

    Taking a unit takes its document's frame too; dropping a document's last unit drops it.
    """

    material: Material
    frames: bool = True
    order: list[int] = field(default_factory=list)  # as taken: best first
    cost: int = 0
    _members: dict[int, int] = field(default_factory=dict)  # document -> units taken
    _frame_costs: dict[int, int] = field(default_factory=dict)  # document -> tokens

    def price(self, number: int) -> int:
        """Return what taking a unit would add, its document's frame included."""
        document = self.material.units[number].document
        if not self.frames or self._members.get(document):
            return self.material.costs[number]
        if document not in self._frame_costs:
            frames = self.material.frames(document)
            self._frame_costs[document] = sum(self.material.costs[i] for i in frames)
        return self.material.costs[number] + self._frame_costs[document]

    def take(self, number: int) -> None:
        """Take a unit."""
        self.cost += self.price(number)
        document = self.material.units[number].document
        self._members[document] = self._members.get(document, 0) + 1
        self.order.append(number)

    def drop_last(self) -> None:
        """Give back the unit taken last."""
        number = self.order.pop()
        self._members[self.material.units[number].document] -= 1
        self.cost -= self.price(number)

    def kept(self) -> frozenset[int]:
        """Return the units taken with the frames of their documents."""
        kept = set(self.order)
        if self.frames:
            for document, members in self._members.items():
                if members:
                    kept.update(self.material.frames(document))
        return frozenset(kept)


def best_first(scores: Scores1D, candidates: Sequence[int]) -> list[int]:
    """Order candidates by score, ties by position."""
    return sorted(candidates, key=lambda i: (-scores[i], i))


def with_neighbours(order: Sequence[int], material: Material, reach: int) -> Iterator[int]:
    """Follow each unit by up to ``reach`` units on either side, within its document."""
    seen: set[int] = set()
    for number in order:
        near = [i for i in _within(material, number, reach) if not material.units[i].frame]
        for i in (number, *near):
            if i not in seen:
                seen.add(i)
                yield i


def _within(material: Material, number: int, reach: int) -> Iterator[int]:
    """Yield the other units of a document that are at most ``reach`` away."""
    for i in range(max(0, number - reach), min(len(material.units), number + reach + 1)):
        if i != number and material.units[i].document == material.units[number].document:
            yield i


def by_budget(
    basket: Basket, order: Sequence[int], measure: Measure, target: int, least: int = 0
) -> Selection:
    """Keep the best units that fit ``target`` tokens.

    ``least`` tokens are reached first even where that overruns the target (a provider's cache
    floor).  Ends in ``budget-infeasible`` where no unit fits, and in ``forced-over-budget`` where
    what cannot be dropped is already over.
    """
    target = max(target, least)
    fixed = measure(())
    if fixed > target:
        return Selection(frozenset(), Reason.FORCED_OVER_BUDGET)
    _fill(basket, order, target - fixed)
    _repair(basket, order, measure, target)
    kept = basket.kept()
    return Selection(kept, None if kept else Reason.BUDGET_INFEASIBLE)


def _fill(basket: Basket, order: Sequence[int], room: int, barred: Collection[int] = ()) -> bool:
    """Take what fits by estimate, best first; return whether anything did."""
    out = {*basket.order, *barred}
    before = len(basket.order)
    for number in order:
        if number not in out and basket.cost + basket.price(number) <= room:
            basket.take(number)
    return len(basket.order) > before


def _repair(basket: Basket, order: Sequence[int], measure: Measure, target: int) -> None:
    """Count exactly; drop the lowest while over, add the next that fits while under."""
    barred: set[int] = set()
    for _ in range(MAX_RECOUNTS - 1):
        over = measure(basket.kept()) - target
        room = basket.cost - over
        barred |= _shrink(basket, room)
        if not _fill(basket, order, room, barred) and over <= 0:
            return
    while basket.order and (over := measure(basket.kept()) - target) > 0:
        _shrink(basket, basket.cost - over)


def _shrink(basket: Basket, room: int) -> set[int]:
    """Drop the units taken last until the estimate fits ``room``; return them."""
    dropped: set[int] = set()
    while basket.order and basket.cost > room:
        dropped.add(basket.order[-1])
        basket.drop_last()
    return dropped


def by_threshold(
    basket: Basket, order: Sequence[int], standing: Scores1D, least_standing: float, reach: int
) -> Selection:
    """Keep the units that stand at ``least_standing`` or above, and their neighbours."""
    relevant = [i for i in order if standing[i] >= least_standing]
    for number in with_neighbours(relevant, basket.material, reach):
        basket.take(number)
    return Selection(basket.kept())


def candidates(material: Material, component: Component) -> list[int]:
    """Return the units that compete for a component's budget: all but frames."""
    return [i for i in material.selectable(component) if not material.units[i].frame]
