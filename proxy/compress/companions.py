"""One component's words under a budget: which compete, which must stay, and which go with others.

A negation or a word of scope is kept when, and only when, another word of its unit is: alone it
would negate what follows, and without it the rest would say the opposite.  A document's frame (its
title or label) likewise goes with the words of its document.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from proxy.compress.guarded import Scene
from proxy.compress.layout import Rendered
from proxy.compress.ports import Encoding
from proxy.compress.words import MARK_TOKENS, Scores1D, Wording, is_rigid, render_words
from proxy.policy.schema import Target
from proxy.types import Component, Mark, Reason

MAX_RECOUNTS = 4
"""Exact counts per budget before the last ones, which only give back."""

Render: TypeAlias = Callable[[Wording, Collection[int], Encoding], Rendered]
"""Makes edits of a selection of words."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The words kept of a component, and the reason where its target could not be met."""

    words: frozenset[int]
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Company:
    """The words of one component of a turn.

    ``free`` compete for the budget; ``forced`` stay whatever their scores; ``others`` are the kept
    words of the other components; ``render`` is how a selection becomes edits.
    """

    scene: Scene
    wording: Wording
    component: Component
    free: tuple[int, ...]
    forced: frozenset[int]
    others: frozenset[int]
    render: Render = render_words

    def complete(self, kept: Collection[int]) -> frozenset[int]:
        """Add to kept words what goes with them, and what is forced."""
        chosen = self.forced.union(kept)
        words, material = self.wording, self.wording.material
        units = {words.unit[i] for i in chosen}
        scope = {i for unit in units for i in words.of_unit(unit) if words.words[i].scope}
        if not self.scene.policy.titles:
            return chosen | scope
        documents = {material.units[unit].document for unit in units}
        frames = [unit for document in documents for unit in material.frames(document)]
        return chosen | scope | set(words.of_units(frames))

    def freed(self, words: Collection[int]) -> Company:
        """Let some of what is forced compete, too."""
        more = self.forced.intersection(words)
        free = tuple(sorted(more.union(self.free)))
        return replace(self, free=free, forced=self.forced - more)

    def measure(self, kept: Collection[int]) -> int:
        """Count the component's upstream tokens with these words, and what goes with them."""
        chosen = self.others | self.complete(kept)
        return self.render(self.wording, chosen, self.scene.encoding).after[self.component]

    def mark(self) -> int:
        """Return the tokens of the mark that stands where nothing is kept, if one does."""
        nothing = self.render(self.wording, self.others | self.complete(()), self.scene.encoding)
        marked = any(Mark.ELISION in edit.pieces for edit in nothing.edits)
        return MARK_TOKENS if marked else 0

    def target(self) -> int:
        """Return the tokens that the policy gives the component."""
        asked: Target = getattr(self.scene.policy.components, self.component.value)
        before = self.wording.material.before[self.component]
        return min(asked.target_tokens or int((asked.rate or 1.0) * before), before)

    def fit(
        self,
        ranked: Sequence[int],
        first: Collection[int] = (),
        groups: Sequence[Sequence[int]] | None = None,
    ) -> Kept:
        """Bring ``first`` to the target: drop the worst of ``ranked`` while over, add the best.

        With ``groups``, words that stand or fall together, ``ranked`` and ``first`` number these.
        Where what must stay is over the target alone, what may be dropped still meets the rate.
        """
        target, fixed = self.target(), self.measure(())
        reason = None
        if fixed > target:
            before = self.wording.material.before[self.component]
            reason = Reason.FORCED_OVER_BUDGET
            target = fixed + target * (before - fixed) // before
        complete = self.complete(_fitted(Basket(self, first, groups), ranked, target))
        return Kept(complete, reason) if complete else self.all(Reason.BUDGET_INFEASIBLE)

    def all(self, reason: Reason | None) -> Kept:
        """Keep everything: a budget that no word fits is named, not met with nothing (law 7)."""
        return Kept(frozenset(words_of(self.wording, self.component)), reason)


class Basket:
    """Words taken, and what each would cost by estimate: with what goes with it, when it is first.

    The first word of a unit brings the unit's words of scope, the first of a document its frame.
    With ``groups`` what is taken is a group of words of one unit, by its number.
    """

    def __init__(
        self,
        company: Company,
        first: Collection[int] = (),
        groups: Sequence[Sequence[int]] | None = None,
    ) -> None:
        """Begin with what is forced, and with ``first``."""
        self.company = company
        self.kept: set[int] = set()
        self._groups = groups
        self._units: Counter[int] = Counter()  # unit -> words taken
        self._documents: Counter[int] = Counter()
        self._count(company.forced, 1)
        for i in first:
            self.take(i)

    def members(self, number: int) -> Sequence[int]:
        """Return the words that a number stands for."""
        return (number,) if self._groups is None else self._groups[number]

    def measure(self, more: Collection[int] = ()) -> int:
        """Count exactly what is taken, with ``more`` beside it."""
        return self.company.measure(self.words({*self.kept, *more}))

    def words(self, numbers: Collection[int]) -> list[int]:
        """Return the words of these numbers."""
        return [i for number in numbers for i in self.members(number)]

    def price(self, number: int) -> int:
        """Return what taking a word would cost, or what giving it back would save."""
        words, material = self.company.wording, self.company.wording.material
        members = self.members(number)
        unit = words.unit[members[0]]
        own = len(members) if number in self.kept else 0
        cost = sum(words.costs[i] for i in members)
        if self._units[unit] == own:
            scope = (i for i in words.of_unit(unit) if words.words[i].scope and i not in members)
            cost += sum(words.costs[i] for i in scope)
        document = material.units[unit].document
        if self._documents[document] == own and self.company.scene.policy.titles:
            cost += sum(words.costs[i] for i in words.of_units(material.frames(document)))
        return cost

    def take(self, number: int) -> None:
        """Take a word."""
        self.kept.add(number)
        self._count(self.members(number), 1)

    def give_back(self, number: int) -> None:
        """Give a word back."""
        self.kept.remove(number)
        self._count(self.members(number), -1)

    def fill(self, ranked: Sequence[int], room: int, barred: Collection[int]) -> bool:
        """Take what fits, best first; return whether anything did."""
        before = len(self.kept)
        for i in ranked:
            if i not in self.kept and i not in barred and (price := self.price(i)) <= room:
                self.take(i)
                room -= price
        return len(self.kept) > before

    def shrink(self, ranked: Sequence[int], need: int) -> set[int]:
        """Give back the worst words until ``need`` tokens are free; return them."""
        gone: set[int] = set()
        for i in reversed(ranked):
            if need <= 0:
                break
            if i in self.kept:
                need -= self.price(i)
                self.give_back(i)
                gone.add(i)
        return gone

    def _count(self, words: Collection[int], step: int) -> None:
        for i in words:
            unit = self.company.wording.unit[i]
            self._units[unit] += step
            self._documents[self.company.wording.material.units[unit].document] += step


def _fitted(basket: Basket, ranked: Sequence[int], target: int) -> list[int]:
    """Count exactly; give back the worst while over, take the best that fit while under.

    The last recounts only give back, and at the end the next word is tried as it is.
    """
    barred, mark = set[int](), basket.company.mark()
    for _ in range(MAX_RECOUNTS):
        room = target - basket.measure() + (0 if basket.kept else mark)
        if room < 0:
            barred |= basket.shrink(ranked, -room)
        elif not basket.fill(ranked, room, barred):
            break
    while basket.kept and (over := basket.measure() - target) > 0:
        basket.shrink(ranked, over)
    for i in ranked:
        if i not in basket.kept:
            if basket.measure((i,)) <= target:
                basket.take(i)
            break
    return basket.words(basket.kept)


def keep_components(
    scene: Scene,
    wording: Wording,
    forced: Collection[int],
    fit: Callable[[Company], Kept],
    render: Render = render_words,
) -> Kept:
    """Fit every component that has a target, one after the other."""
    kept = Kept(frozenset(range(len(wording.words))))
    for component in targeted(scene, wording):
        company = company_of(scene, wording, component, forced, kept.words)
        found = fit(replace(company, render=render))
        kept = Kept(company.others | found.words, kept.reason or found.reason)
    return kept


def targeted(scene: Scene, wording: Wording) -> list[Component]:
    """Return the components that have a target, and words."""
    return [
        component
        for component in Component
        if not getattr(scene.policy.components, component.value).keeps_all
        and words_of(wording, component)
    ]


def company_of(
    scene: Scene,
    wording: Wording,
    component: Component,
    forced: Collection[int],
    kept: frozenset[int],
) -> Company:
    """Gather a component's words; ``kept`` are those of the whole turn."""
    ours = words_of(wording, component)
    stays = frozenset(forced).intersection(ours)
    free = tuple(i for i in ours if i not in stays and _competes(wording, i))
    return Company(scene, wording, component, free, stays, kept.difference(ours))


def words_of(wording: Wording, component: Component) -> list[int]:
    """Return the words of a component, in order."""
    return wording.of_units(wording.material.selectable(component))


def forced_words(wording: Wording, stays: Callable[[int], bool]) -> frozenset[int]:
    """Return the words for which ``stays`` holds, where words are dropped one by one at all."""
    material = wording.material
    soft = {unit for unit in range(len(material.units)) if not is_rigid(material, unit)}
    return frozenset(i for i in range(len(wording.words)) if wording.unit[i] in soft and stays(i))


def best_first(scores: Scores1D, words: Collection[int]) -> list[int]:
    """Order words by score, ties by position."""
    return sorted(words, key=lambda i: (-scores[i], i))


def _competes(wording: Wording, number: int) -> bool:
    """Whether a word is kept for its own sake; in "No, never." the words of scope are."""
    words = wording.words
    if wording.is_frame(number):
        return False
    return not words[number].scope or all(
        words[i].scope for i in wording.of_unit(wording.unit[number])
    )
