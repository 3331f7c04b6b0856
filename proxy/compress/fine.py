"""Stage 5 of the cascade: more units for the same tokens, the lesser ones without light words.

A budget of B tokens keeps the best units that fit.  Here the best of them, up to ``whole`` of B,
stay whole; the others, and as many of the next best as then fit, lose *light* words: articles,
auxiliaries, pronouns and adverbs of the document's language, those first that the causal LM
foretells best, and of no unit more than 1 - ``rate`` of its tokens.  No unit is passed over for a
shorter one: what words are given up for is the best of what was left out.  Words that join what
they stand between ("of", "and", "in") stay, since an answer runs across them.

A worked example, ``whole`` .5 and ``rate`` .75.  Units of 10, 8, 8 and 6 tokens, best first, and B
= 22: the first two are kept, the first stays whole.  The 12 tokens that are left are, at .75, those
of units of 16: the second and the third.  Each may lose 2 tokens of light words; of those four
words the ones that tell least go, as many as are over.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from proxy.compress.bands import strange_units
from proxy.compress.guarded import Scene, measure_of
from proxy.compress.layout import Material, document_texts
from proxy.compress.ports import Passage, ScoreRequest, Scores, SelfInformation
from proxy.compress.selection import Basket
from proxy.compress.stop_words import light_words_of
from proxy.compress.words import Scores1D, Wording, fit_words, nats_of, read_wording
from proxy.policy.schema import Fine
from proxy.types import Component, Kind

EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Plan:
    """A component's budget, and its units, best first.

    ``whole`` stay whole, ``kept`` fit the budget with them, ``following`` may come in if those lose
    words.
    """

    component: Component
    tokens: int
    whole: tuple[int, ...]
    kept: tuple[int, ...]
    following: tuple[int, ...]

    @property
    def short(self) -> tuple[int, ...]:
        """The units that may lose words."""
        return (*self.kept, *self.following)


def plan(
    material: Material,
    component: Component,
    order: Sequence[int],
    kept: Collection[int],
    tokens: int,
    fine: Fine,
) -> Plan:
    """Divide the units of a component, best first in ``order``; ``kept`` fit in ``tokens``."""
    taken = [number for number in order if number in kept]
    costs = np.cumsum([0, *(material.costs[number] for number in taken)])
    first = int(np.searchsorted(costs, fine.whole * tokens + EPSILON, side="right")) - 1
    room = (tokens - int(costs[first])) / fine.rate - int(costs[-1] - costs[first])
    following: list[int] = []
    for number in (number for number in order if number not in kept):
        room -= material.costs[number]
        if room < -EPSILON:
            break
        following.append(number)
    return Plan(component, tokens, tuple(taken[:first]), tuple(taken[first:]), tuple(following))


def worth_asking(material: Material, plans: Sequence[Plan]) -> bool:
    """Whether any unit may come in, for words of prose."""
    return any(one.following and any(is_prose(material, u) for u in one.short) for one in plans)


def is_prose(material: Material, number: int) -> bool:
    """Whether a unit is of the kind that loses words."""
    unit = material.units[number]
    return not unit.frame and material.turn.segments[unit.segment].kind is Kind.PROSE


def shorten(
    scene: Scene, material: Material, kept: Collection[int], plans: Sequence[Plan], fine: Fine
) -> Generator[ScoreRequest, Scores, tuple[Wording, frozenset[int]]]:
    """Refine a selection of units; return the turn in words, and the words that are kept."""
    short = {number for one in plans for number in one.short if is_prose(material, number)}
    wanted = [d for d, numbers in enumerate(material.documents) if not short.isdisjoint(numbers)]
    texts = document_texts(material)
    scores = yield ScoreRequest(passages=tuple(Passage(texts[d]) for d in wanted))
    rated = dict(zip(wanted, scores.passages, strict=True))
    wording = read_wording(material, scene.encoding)
    nats, light = nats_of(wording, rated), frozenset(_light(wording, rated))
    words = frozenset(wording.of_units(sorted(kept)))
    for one in plans:
        words = refined(scene, wording, words, one, _spare(wording, one, light, nats, fine), nats)
    return wording, words


# -- which words may go -------------------------------------------------------------------------


def _light(wording: Wording, rated: Mapping[int, SelfInformation]) -> Iterator[int]:
    """Yield the light words of the documents that were rated, where the LM can judge them."""
    material, strange = wording.material, strange_units(wording.material, rated)
    texts = document_texts(material)
    for document in rated:
        listed = light_words_of(texts[document])
        for unit in material.documents[document]:
            if unit in strange or not is_prose(material, unit):
                continue
            for i in wording.of_unit(unit):
                word = wording.words[i]
                stays = word.scope or word.protected
                if not stays and wording.text(i).casefold() in listed:
                    yield i


def _spare(
    wording: Wording, plan: Plan, light: Collection[int], nats: Scores1D, fine: Fine
) -> dict[int, list[int]]:
    """Return, per unit that may lose words, which."""
    return {
        unit: spared(
            [i for i in wording.of_unit(unit) if i in light],
            wording.costs,
            nats,
            (1 - fine.rate) * sum(wording.costs[i] for i in wording.of_unit(unit)),
        )
        for unit in plan.short
    }


def spared(light: Sequence[int], costs: Sequence[int], nats: Scores1D, most: float) -> list[int]:
    """Return the light words of a unit that may go, least telling first, up to ``most`` tokens.

    >>> spared([0, 1, 3], [1, 1, 1, 1], np.array([2.0, 1.0, 0.5, 1.5]), most=2)
    [1, 3]
    """
    gone: list[int] = []
    for i in sorted(light, key=lambda i: (nats[i], -i)):
        most -= costs[i]
        if most < -EPSILON:
            break
        gone.append(i)
    return gone


# -- what comes in for them ---------------------------------------------------------------------


def refined(
    scene: Scene,
    wording: Wording,
    words: frozenset[int],
    plan: Plan,
    spare: Mapping[int, Sequence[int]],
    nats: Scores1D,
) -> frozenset[int]:
    """Take in what fits once words go, and bring the component to its exact budget.

    ``words`` are those of the whole turn with its units selected; they come back where nothing
    fits.
    """
    others = words.difference(wording.of_units(wording.material.selectable(plan.component)))
    count = measure_of(wording, scene, plan.component)
    basket = _filled(scene, wording, plan, spare, plan.tokens - count(words))
    while len(basket.order) > len(plan.whole) + len(plan.kept):
        ranked = [i for unit in basket.order for i in spare.get(unit, ())]
        found = others | fit_words(
            wording.of_units(sorted(basket.kept())),
            sorted(ranked, key=lambda i: (-nats[i], i)),
            wording.costs,
            lambda kept: count(others.union(kept)),
            plan.tokens,
        )
        if count(found) <= plan.tokens:
            return found
        basket.drop_last()
    return words


def _filled(
    scene: Scene, wording: Wording, plan: Plan, spare: Mapping[int, Sequence[int]], room: int
) -> Basket:
    """Take the next units, best first, that fit if all that may lose words do; by estimate."""
    saved = {unit: sum(wording.costs[i] for i in words) for unit, words in spare.items()}
    basket = Basket(wording.material, frames=scene.policy.titles)
    for unit in (*plan.whole, *plan.kept):
        basket.take(unit)
    room += sum(saved[unit] for unit in plan.kept)
    for unit in plan.following:
        room -= basket.price(unit) - saved[unit]
        if room < 0:
            break
        basket.take(unit)
    return basket
