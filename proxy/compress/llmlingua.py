"""LLMLingua (Jiang et al., EMNLP 2023, arXiv 2310.05736), as the paper means it.

Theory of operation
-------------------
*Budget controller* (Sec. 3.1).  Whole documents (demonstrations, passages) are taken in descending
perplexity, as long as they fit in k times the context's budget, then longer ones where these do not
fill it; a rate for what was taken follows from the budget.  Under ``budget: prompt`` one rate is
for instruction, context and question:

    tau_dems  = (tau L - tau_ins L_ins - tau_que L_que) / L_dems
    delta_tau = (k tau_dems L_dems - L_kept) / (L_ins + L_que)      added to tau_ins and tau_que
    tau_D     = (tau L - tau_ins L_ins - tau_que L_que) / L_kept    so that the total is met

and where a long instruction would leave the context less than ``context_floor`` of its rate,
tau_ins and tau_que are lowered in proportion instead.

*ITPC*, iterative token-level prompt compression (Sec. 3.2).  What was taken is read in windows, in
order.  Each word of window j has the self-information of its tokens, p(x_i | kept of the windows
before j, raw x_<i in j); the most surprising words, ties by position, are kept until the window's
share of the budget, in upstream tokens, is spent; what is left is carried to the next window.

A worked example.  A context of two windows of 100 tokens, to be kept at .3: the first may spend 30
and spends 28 (the next word would have cost 3); the second may spend 32.  In the end the turn is
counted exactly: over the target, the least surprising words kept go; under it, the next ones come.

Sentences that the LM cannot judge (``bands``) lose no word, nor do lines of data.  Where no
document fits with these whole, they are dropped like words, each as one, so that another script
meets its budget, too.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, product
from typing import TypeAlias, cast

import numpy as np

from proxy.compress.bands import strange_units
from proxy.compress.guarded import Scene, Steps, guarded, measure_of, result_of, word_ratings
from proxy.compress.layout import Material, document_texts
from proxy.compress.ports import Heard, Passage, ScoreRequest, Scores, SelfInformation
from proxy.compress.result import TurnResult, untouched
from proxy.compress.words import (
    DIGITS,
    Wording,
    fit_words,
    is_rigid,
    read_wording,
    word_nats,
)
from proxy.policy.schema import Budget, Components, LLMLingua, Policy, Shorten, Target, Variant
from proxy.types import Component, Reason, Span

Asking: TypeAlias = Generator[ScoreRequest, Scores, None]
EPSILON = 1e-9


def compress_turn(scene: Scene) -> Steps:
    """Compress one turn by whole documents, then by words."""
    return guarded(replace(scene, policy=_laid_out(scene.policy)), _compress)


def _laid_out(policy: Policy) -> Policy:
    """Return the policy with targets for whatever is to be laid out."""
    method, context = cast("LLMLingua", policy.method), policy.components.context
    if method.budget is Budget.CONTEXT or context.keeps_all:
        return policy
    open_to_all = Target(rate=1 - EPSILON)  # its budget follows from the prompt's
    components = Components(instruction=open_to_all, context=context, question=open_to_all)
    return policy.model_copy(update={"components": components})


# -- the budget controller ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lengths:
    """Upstream tokens of a turn's parts."""

    instruction: int
    context: int
    question: int

    @property
    def all(self) -> int:
        """Tokens of the whole."""
        return self.instruction + self.context + self.question


@dataclass(frozen=True, slots=True)
class Shares:
    """Tokens that each part may keep; together what the prompt may."""

    instruction: float
    context: float
    question: float


def first_shares(tokens: float, lengths: Lengths, method: LLMLingua) -> Shares:
    """Divide ``tokens`` over the parts before documents are chosen: tau_dems L_dems is context's.

    The context keeps at least ``context_floor`` of its part of the prompt; instruction and
    question then share the rest in proportion to what they were to have.

    >>> method = LLMLingua(name="llmlingua")
    >>> first_shares(300, Lengths(100, 880, 20), method)
    Shares(instruction=85.0, context=197.0, question=18.0)
    >>> first_shares(246, Lengths(500, 300, 20), method).context  # half of .3 x 300
    45.0
    """
    instruction = method.instruction_rate * lengths.instruction
    question = method.question_rate * lengths.question
    floor = method.context_floor * tokens * lengths.context / max(1, lengths.all)
    return _shares(tokens, instruction, question, Span(int(floor), lengths.context))


def second_shares(
    tokens: float, lengths: Lengths, first: Shares, kept: int, method: LLMLingua
) -> Shares:
    """Divide again once ``kept`` tokens of documents were chosen (delta_tau, then tau_D)."""
    around = lengths.instruction + lengths.question
    delta = max(0.0, (method.k * first.context - kept) / around) if around else 0.0
    instruction = min(lengths.instruction * 1.0, first.instruction + delta * lengths.instruction)
    question = min(lengths.question * 1.0, first.question + delta * lengths.question)
    floor = method.context_floor * tokens * lengths.context / max(1, lengths.all)
    return _shares(tokens, instruction, question, Span(min(int(floor), kept), kept))


def _shares(tokens: float, instruction: float, question: float, context: Span) -> Shares:
    """Give the context what the others leave, within ``[least, most]``; lower them if need be."""
    left = tokens - instruction - question
    if left >= context.start:
        return Shares(instruction, min(left, context.end), question)
    part = max(0.0, tokens - context.start) / (instruction + question)
    return Shares(instruction * part, tokens - (instruction + question) * part, question * part)


# -- documents ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Choice:
    """Documents by number, in order; ``whole`` are those that lose no word."""

    taken: tuple[int, ...]
    whole: frozenset[int] = frozenset()


def choose_documents(
    perplexity: Sequence[float],
    lengths: Sequence[int],
    least: Sequence[int],
    room: float,
    k: float,
) -> Choice:
    """Take whole documents, the most surprising first, while they fit in ``k`` times ``room``.

    ``least`` is what a document costs with all words dropped that may be; together these must fit
    ``room`` itself.  Where what fits whole does not fill ``room``, longer ones are taken, too, in
    the same order, to be shortened, until it is filled.

    >>> choose_documents([9.0, 5.0, 7.0], [60, 50, 30], [5, 5, 5], room=50, k=2)
    Choice(taken=(0, 2), whole=frozenset())
    >>> choose_documents([9.0, 5.0, 7.0], [160, 150, 30], [5, 5, 5], room=50, k=2)
    Choice(taken=(0, 2), whole=frozenset())
    """
    taken: list[int] = []
    total, bottom = 0, 0
    for whole, document in product((True, False), _most_surprising(perplexity)):
        fits = total + lengths[document] <= k * room if whole else not taken or total < room
        if fits and document not in taken and bottom + least[document] <= room:
            taken.append(document)
            total += lengths[document]
            bottom += least[document]
    return Choice(tuple(sorted(taken)))


def choose_whole(
    perplexity: Sequence[float], lengths: Sequence[int], least: Sequence[int], room: float
) -> Choice:
    """Take whole documents, the most surprising first; the one that no longer fits is shortened.

    >>> choose_whole([9.0, 5.0, 7.0], [60, 50, 30], [5, 5, 5], room=80)
    Choice(taken=(0, 2), whole=frozenset({0}))
    """
    taken: list[int] = []
    for document in _most_surprising(perplexity):
        if lengths[document] <= room:
            taken.append(document)
            room -= lengths[document]
        elif least[document] < room:
            return Choice(tuple(sorted([*taken, document])), frozenset(taken))
    return Choice(tuple(sorted(taken)), frozenset(taken))


def _most_surprising(perplexity: Sequence[float]) -> list[int]:
    return sorted(range(len(perplexity)), key=lambda i: (-round(perplexity[i], DIGITS), i))


# -- ITPC ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Window:
    """A run of words that is read at once, and the stretch of their leaf that is read."""

    words: range
    text: Span


def cut_windows(wording: Wording, units: Sequence[int], tokens: int) -> list[Window]:
    """Cut units, in order, into windows of about ``tokens`` upstream tokens.

    A window ends where it is full, with its segment, and where units between were left out.
    """
    windows: list[Window] = []
    first = following = cost = 0
    for i in wording.of_units(units):
        if i != following or cost >= tokens or _segment(wording, i) != _segment(wording, first):
            windows += _window(wording, first, following)
            first, cost = i, 0
        cost += wording.costs[i]
        following = i + 1
    windows += _window(wording, first, following)
    return windows


def _window(wording: Wording, first: int, end: int) -> list[Window]:
    if first == end:
        return []
    begins = wording.material.layouts[_segment(wording, first)].head.start
    if first and _segment(wording, first - 1) == _segment(wording, first):
        begins = wording.words[first - 1].span.end
    return [Window(range(first, end), Span(begins, wording.words[end - 1].span.end))]


def _segment(wording: Wording, word: int) -> int:
    return wording.material.units[wording.unit[word]].segment


def take_words(
    nats: Sequence[float], costs: Sequence[int], budget: float
) -> tuple[list[int], float]:
    """Take the most surprising words that fit, ties by position; return what is left, too.

    >>> take_words([0.1, 6.0, 2.0, 6.0], [1, 2, 1, 2], budget=3.5)
    ([1, 2], 0.5)
    """
    taken: list[int] = []
    for i in sorted(range(len(nats)), key=lambda i: (-nats[i], i)):
        if costs[i] <= budget + EPSILON:
            taken.append(i)
            budget -= costs[i]
    return sorted(taken), budget


@dataclass(slots=True)
class Reading:
    """Where the iterative compression stands."""

    wording: Wording
    droppable: Collection[int]
    rates: Mapping[Component, float]  # share of the droppable words' tokens that is kept
    exact: bool
    left: dict[Component, float] = field(default_factory=dict)  # carried to the next window
    heard: list[Heard] = field(default_factory=list)
    kept: set[int] = field(default_factory=set)
    nats: dict[int, float] = field(default_factory=dict)

    def read(self, window: Window) -> Asking:
        """Rate a window's words after what was kept so far, and keep what its share allows."""
        component = self.wording.material.component(self.wording.unit[window.words[0]])
        drops = [i for i in window.words if i in self.droppable]
        if not drops or self.rates[component] >= 1:
            self.keep(window, window.words)
            return
        text = window.text.of(self.wording.leaf(window.words[0]))
        passage = Passage(text, tuple(self.heard), self.exact)
        scores = yield ScoreRequest(passages=(passage,))
        words = [self.wording.words[i] for i in drops]
        nats = word_nats(words, scores.passages[0], window.text.start).tolist()
        costs = [self.wording.costs[i] for i in drops]
        budget = self.rates[component] * sum(costs) + self.left.get(component, 0.0)
        taken, self.left[component] = take_words(nats, costs, budget)
        self.nats |= zip(drops, nats, strict=True)
        gone = set(drops) - {drops[i] for i in taken}
        self.keep(window, [i for i in window.words if i not in gone])

    def keep(self, window: Window, words: Sequence[int]) -> None:
        """Keep these words of a window; what follows is read after them."""
        self.kept.update(words)
        start = window.text.start
        edges = [start, *(self.wording.words[i].span.end for i in window.words)]
        first = window.words[0]
        spans = (Span(edges[i - first] - start, edges[i - first + 1] - start) for i in words)
        self.heard.append(Heard(window.text.of(self.wording.leaf(first)), tuple(spans)))


def read_in_windows(reading: Reading, windows: Sequence[Window]) -> Asking:
    """Go through the turn: hear what stays whole, compress the windows, in order."""
    material = reading.wording.material
    behind = 0
    for window in windows:
        segment = _segment(reading.wording, window.words[0])
        reading.heard += _whole_segments(material, behind, segment)
        behind = segment
        yield from reading.read(window)


def _whole_segments(material: Material, first: int, end: int) -> list[Heard]:
    """Return the segments from ``first`` to before ``end`` that nothing is dropped from."""
    return [
        Heard(segment.text, (Span(0, len(segment.text)),))
        for number, segment in enumerate(material.turn.segments)
        if first <= number < end
        and number not in material.layouts
        and segment.address in material.texts
    ]


# -- a turn -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """A turn in words, with what the budget controller needs to know of its documents.

    ``yielding`` are sentences and lines that lose no word, but may be dropped whole.
    """

    scene: Scene
    method: LLMLingua
    wording: Wording
    perplexity: tuple[float, ...]
    droppable: frozenset[int]
    yielding: frozenset[int]

    @property
    def material(self) -> Material:
        """The turn, laid out."""
        return self.wording.material

    def fixed(self, component: Component) -> int:
        """Tokens of a component that are in none of its words: what is never dropped."""
        words = self.wording.of_units(self.material.selectable(component))
        return max(0, self.material.before[component] - self.cost(words))

    def documents(self, component: Component) -> list[int]:
        """Return the documents of a component, in order."""
        numbered = enumerate(self.material.documents)
        return [d for d, units in numbered if self.material.component(units[0]) is component]

    def cost(self, words: Collection[int]) -> int:
        """Upstream tokens of some words."""
        return sum(self.wording.costs[i] for i in words)


def _compress(scene: Scene, material: Material) -> Generator[ScoreRequest, Scores, TurnResult]:
    method = cast("LLMLingua", scene.policy.method)
    scores = yield ScoreRequest(passages=tuple(map(Passage, document_texts(material))))
    case = _case(scene, method, material, scores.passages)
    plan = _plan(case)
    if plan is None:
        case = replace(case, droppable=case.droppable | case.yielding)
        plan = _plan(case)
    if plan is None:
        return untouched(material, Reason.BUDGET_INFEASIBLE)
    reading = Reading(
        case.wording,
        case.droppable - set(case.wording.of_units(_units(case, plan.choice.whole))),
        _rates(case, plan),
        exact=method.variant is Variant.EXACT,
    )
    units = _units(case, plan.documents)
    yield from read_in_windows(reading, cut_windows(case.wording, units, method.window))
    kept = frozenset(reading.kept)
    reason: Reason | None = None
    for component, target in plan.targets.items():
        kept, missed = _fitted(case, reading, kept, component, target)
        reason = reason or missed
    ratings = word_ratings(case.wording, reading.nats)
    return result_of(case.wording, kept, scene, reason, ratings=ratings)


def rigid_units(material: Material, rated: Sequence[SelfInformation]) -> frozenset[int]:
    """Return the units that lose no word: code, data, frames, and what the LM cannot judge.

    ``rated`` is of each document's text.
    """
    strange = strange_units(material, dict(enumerate(rated)))
    return strange.union(i for i in range(len(material.units)) if is_rigid(material, i))


def yielding_words(wording: Wording, rigid: Collection[int]) -> frozenset[int]:
    """Return the rigid units that may be dropped whole, frames left out; each is one word."""
    units = wording.material.units
    return frozenset(wording.of_units([unit for unit in rigid if not units[unit].frame]))


def perplexity(rated: SelfInformation) -> float:
    """exp(-(1/N) sum log p(x_i)); 1 for no tokens."""
    return float(np.exp(rated.nats.mean(dtype=np.float64))) if len(rated.nats) else 1.0


def _case(
    scene: Scene, method: LLMLingua, material: Material, rated: Sequence[SelfInformation]
) -> Case:
    rigid = rigid_units(material, rated)
    wording = read_wording(material, scene.encoding, rigid.__contains__)
    droppable = frozenset(
        i
        for i, word in enumerate(wording.words)
        if wording.unit[i] not in rigid
        and not word.scope
        and not (word.protected and method.keep_protected)
    )
    yielding = frozenset[int]() if method.keep_protected else yielding_words(wording, rigid)
    return Case(scene, method, wording, tuple(map(perplexity, rated)), droppable, yielding)


@dataclass(frozen=True, slots=True)
class Plan:
    """Which documents are taken, and the tokens that each component may have."""

    documents: tuple[int, ...]  # of all components, in order
    choice: Choice
    targets: Mapping[Component, int]


def _plan(case: Case) -> Plan | None:
    """Lay the budget over the components, and choose documents; None where nothing fits."""
    before = case.material.before
    wanted = case.scene.policy.components
    targets = {
        component: _tokens(getattr(wanted, component.value), before[component])
        for component in Component
        if case.documents(component)
    }
    if case.method.budget is Budget.PROMPT:
        return _prompt_plan(case, before)
    if Component.CONTEXT not in targets:
        return _with_documents(case, Choice(()), targets)
    choice = _choose(case, targets[Component.CONTEXT])
    return _with_documents(case, choice, targets) if choice.taken else None


def _prompt_plan(case: Case, before: Mapping[Component, int]) -> Plan | None:
    """Plan for one rate over the whole prompt; what cannot be shortened is charged in full."""
    open_parts = {c: before[c] if case.documents(c) else 0 for c in Component}
    tokens = _tokens(case.scene.policy.components.context, sum(before.values()))
    tokens -= sum(before.values()) - sum(open_parts.values())
    lengths = Lengths(*(open_parts[component] for component in Component))
    shares = first_shares(tokens, lengths, case.method)
    choice = _choose(case, shares.context)
    if not choice.taken:
        return None
    kept = case.cost(case.wording.of_units(_units(case, choice.taken)))
    shares = second_shares(tokens, lengths, shares, kept, case.method)
    targets = {
        component: int(getattr(shares, component.value) + EPSILON)
        for component in Component
        if case.documents(component)
    }
    return _with_documents(case, choice, targets)


def _with_documents(case: Case, choice: Choice, targets: Mapping[Component, int]) -> Plan:
    others = chain(*(case.documents(c) for c in Component if c is not Component.CONTEXT))
    return Plan(tuple(sorted([*choice.taken, *others])), choice, targets)


def _tokens(target: Target, before: int) -> int:
    """Return what a target comes to."""
    return min(target.target_tokens or int((target.rate or 1.0) * before + EPSILON), before)


def _choose(case: Case, tokens: float) -> Choice:
    """Choose documents of the context for its share of the budget."""
    numbers = case.documents(Component.CONTEXT)
    words = [case.wording.of_units(case.material.documents[d]) for d in numbers]
    lengths = [case.cost(each) for each in words]
    least = [case.cost([i for i in each if i not in case.droppable]) for each in words]
    perplexities = [case.perplexity[d] for d in numbers]
    room = tokens - case.fixed(Component.CONTEXT)
    if case.method.shorten is Shorten.LAST:
        choice = choose_whole(perplexities, lengths, least, room)
    else:
        choice = choose_documents(perplexities, lengths, least, room, case.method.k)
    return Choice(
        tuple(numbers[i] for i in choice.taken), frozenset(numbers[i] for i in choice.whole)
    )


def _units(case: Case, documents: Collection[int]) -> list[int]:
    return [unit for d in sorted(documents) for unit in case.material.documents[d]]


def _rates(case: Case, plan: Plan) -> dict[Component, float]:
    """Return, per component, the share of the words that may be dropped which is to be kept."""
    whole = set(_units(case, plan.choice.whole))
    rates: dict[Component, float] = {}
    for component, target in plan.targets.items():
        mine = [d for d in plan.documents if d in set(case.documents(component))]
        words = case.wording.of_units(_units(case, mine))
        free = {i for i in words if i in case.droppable and case.wording.unit[i] not in whole}
        room = target - case.fixed(component) - case.cost(set(words) - free)
        rates[component] = max(0.0, room / max(1, case.cost(free)))
    return rates


def _fitted(
    case: Case, reading: Reading, kept: frozenset[int], component: Component, target: int
) -> tuple[frozenset[int], Reason | None]:
    """Bring one component to its exact budget, the least surprising words first to go.

    Where that is not enough, what loses no word goes, too, as the wholes that it is.  A budget that
    no word fits is named, not met with nothing (law 7).
    """
    mine = {i for i in reading.nats.keys() | kept if _component(case, i) is component}
    others = kept - mine
    measure = measure_of(case.wording, case.scene, component)

    def count(words: Collection[int]) -> int:
        return measure(others.union(words))

    fitted, free = kept & mine, frozenset[int]()
    for more in (case.droppable, case.yielding):
        free |= mine & more
        fitted = fit_words(fitted, _ranked(case, reading, free), case.wording.costs, count, target)
        if count(fitted) <= target:
            break
    if free and fitted.isdisjoint(free):
        whole = case.wording.of_units(case.material.selectable(component))
        return others.union(whole), Reason.BUDGET_INFEASIBLE
    over = count(fitted) > target
    return others | fitted, Reason.FORCED_OVER_BUDGET if over else None


def _ranked(case: Case, reading: Reading, words: Collection[int]) -> list[int]:
    """Order words by surprise; of those that were not read apart, the document's counts."""

    def key(i: int) -> tuple[float, float, int]:
        if i in reading.nats:
            return -reading.nats[i], 0.0, i
        document = case.material.units[case.wording.unit[i]].document
        return -np.inf, -round(case.perplexity[document], DIGITS), i

    return sorted(words, key=key)


def _component(case: Case, word: int) -> Component:
    return case.material.component(case.wording.unit[word])
