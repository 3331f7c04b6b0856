"""What every method does around its own work: the guards before it, and recall after it.

The cascade is steered by a question and passes without one.  The paper methods do not need it, so a
turn without one is compressed all the same; where there is one, or an instruction, an ask that
needs all of the text still passes through.

A generator, because a method must ask for scores midway (is the ask a whole-text task? then: how
relevant is each unit?), and pure: it puts the question, the engine answers, tests answer with a
fake.  A ``CompressionError`` thrown into it ends it; the driver in ``request`` names the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from proxy.compress import recall
from proxy.compress.asks import needs_whole_text, whole_text_score
from proxy.compress.layout import Material, Rendered, read_material, totals
from proxy.compress.ports import (
    Document,
    DocumentVectors,
    Encoding,
    QuestionVectors,
    ScoreRequest,
    Scores,
)
from proxy.compress.reading import filled
from proxy.compress.relevance import Stack
from proxy.compress.result import Ratings, TurnResult, untouched
from proxy.compress.units import Cuts
from proxy.compress.words import Measure, Scores1D, Wording, render_words
from proxy.policy.schema import Policy, WholeText
from proxy.types import Component, Count, LeafEdit, Piece, Reason, Span, Turn

INSTRUCTION_CHARS = 1_000
"""Characters of an instruction's head, and of its tail, that are embedded."""

_MISSED = (Reason.BUDGET_INFEASIBLE, Reason.FORCED_OVER_BUDGET)
"""A target that was not met is told, whatever else happened to the turn (law 7)."""

Steps: TypeAlias = Generator[ScoreRequest, Scores, TurnResult]


@dataclass(frozen=True, slots=True)
class Past:
    """The turns before one: what they dropped, and their tokens as sent by the caller and by us."""

    store: recall.Archive = field(default_factory=recall.Archive)
    before: int = 0
    sent: int = 0


@dataclass(frozen=True, slots=True)
class Scene:
    """A turn and what surrounds it: everything that its compressed form may depend on.

    ``asked`` is what steers relevance, once it was heard; ``cuts`` only spare work.
    """

    turn: Turn
    past: Past
    policy: Policy
    encoding: Encoding
    asked: QuestionVectors | None = None
    cuts: Cuts | None = None

    @property
    def recalls(self) -> bool:
        """Whether this turn may bring back what earlier ones dropped."""
        may = self.turn.own_question and self.policy.recall.share > 0
        return may and self.past.store.misses


Body: TypeAlias = Callable[[Scene, Material], Steps]
"""A method's own work, on a turn in which there is something to compress."""


def guarded(scene: Scene, body: Body, *, steered: bool = False) -> Steps:
    """Run a method on a turn, unless there is nothing to do or the ask needs all of the text.

    ``scene.policy`` says by its targets what is laid out; a ``steered`` method does nothing without
    a question.  What earlier turns left out comes back, where the policy allows recall.
    """
    material = read_material(scene.turn, scene.policy, scene.encoding, scene.cuts)
    idle = nothing_to_select(material, scene.policy)
    ask = scene.turn.question if steered else _ask(scene)
    if idle is None and steered and ask is None:
        return untouched(material, Reason.NO_QUESTION)
    if idle is not None and not (scene.past.store.misses and scene.turn.own_question):
        return untouched(material, idle)

    if ask is not None and (
        steered or scene.recalls or scene.policy.whole_text is not WholeText.IGNORE
    ):
        asked, whole = yield from hear(scene, ask, has_text=idle is None)
        if whole:
            return replace(untouched(material, Reason.WHOLE_TEXT), restores=idle is not None)
        scene = replace(scene, asked=asked)
    steps = body(scene, material) if idle is None else _idle(untouched(material, idle))
    if scene.asked is None or not scene.recalls:
        return (yield from steps)
    store = scene.past.store
    chosen = store.shortlist(scene.turn.question or "")
    earlier = tuple(store.documents[i] for i in chosen)
    result, read = yield from _with_earlier(steps, earlier)
    vectors = filled(store.documents, chosen, read, len(scene.asked.final))
    return _with_recall(scene, result, store.stacks(vectors))


def _ask(scene: Scene) -> str | None:
    """Return the question or, where there is none, the last instruction in force."""
    return scene.turn.question or next(reversed(scene.turn.instructions), None) or None


def _idle(result: TurnResult) -> Steps:
    """Do nothing, and ask for nothing."""
    return result
    yield ScoreRequest()


def _with_earlier(
    steps: Steps, earlier: tuple[Document, ...]
) -> Generator[ScoreRequest, Scores, tuple[TurnResult, Sequence[DocumentVectors]]]:
    """Run a method; the earlier turns' documents are asked for together with its first scores."""
    if not earlier:
        return (yield from steps), ()
    try:
        ask = next(steps)
    except StopIteration as done:
        scores = yield ScoreRequest(documents=earlier)
        return done.value, scores.documents
    scores = yield replace(ask, documents=(*ask.documents, *earlier))
    own, found = scores.documents[: len(ask.documents)], scores.documents[len(ask.documents) :]
    try:
        ask = steps.send(replace(scores, documents=own))
        while True:
            ask = steps.send((yield ask))
    except StopIteration as done:
        return done.value, found


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


# -- results -------------------------------------------------------------------------------------


def units_result(
    material: Material,
    kept: frozenset[int],
    rendered: Rendered,
    reason: Reason | None,
    ratings: Ratings | None = None,
) -> TurnResult:
    """Return the result of keeping these units whole, as rendered."""
    if not rendered.edits:
        return untouched(material, reason or Reason.NEVER_LONGER)
    edited = {edit.address for edit in rendered.edits}
    dropped = frozenset(
        i for i in range(len(material.units)) if i not in kept and material.address(i) in edited
    )
    counts = MappingProxyType(totals(material.before, rendered.after))
    after = ((size, rendered.sizes.get(i, size)) for i, size in enumerate(material.sizes))
    sizes = tuple(Count(*pair) for pair in after)
    return TurnResult(
        counts, rendered.edits, reason, dropped, material=material, sizes=sizes, ratings=ratings
    )


def measure_of(wording: Wording, scene: Scene, component: Component) -> Measure:
    """Return what counts a component's tokens with a selection of the turn's words in place."""
    return lambda kept: render_words(wording, kept, scene.encoding).after[component]


def result_of(
    wording: Wording,
    kept: frozenset[int],
    scene: Scene,
    reason: Reason | None = None,
    render: Callable[[Wording, Collection[int], Encoding], Rendered] = render_words,
    ratings: Ratings | None = None,
) -> TurnResult:
    """Return the result of keeping these words; units that lost any are there for recall."""
    material = wording.material
    rendered = render(wording, kept, scene.encoding)
    whole = frozenset(
        unit for unit in range(len(material.units)) if kept.issuperset(wording.of_unit(unit))
    )
    return units_result(material, whole, rendered, reason, ratings)


def unit_ratings(scores: Scores1D) -> Ratings:
    """Return the scores of a turn's units (n,), to be looked at."""
    return Ratings(scores.astype(np.float32))


def word_ratings(wording: Wording, scores: Scores1D | Mapping[int, float]) -> Ratings:
    """Return the scores of a turn's words, to be looked at; of all or, by number, of some."""
    some = enumerate(scores.tolist()) if isinstance(scores, np.ndarray) else scores.items()
    rated = np.full(len(wording.words), np.nan, np.float32)
    for number, score in some:
        rated[number] = score
    places = [(u, *word.span) for u, word in zip(wording.unit, wording.words, strict=True)]
    return Ratings(rated, np.array(places, np.int32).reshape(-1, 3))


# -- recall -------------------------------------------------------------------------------------


def _with_recall(scene: Scene, result: TurnResult, stacks: Sequence[Stack]) -> TurnResult:
    """Put what the question needs of earlier turns at the head of this turn's first user text."""
    store, address = scene.past.store, recall.landing(scene.turn)
    if scene.asked is None or scene.turn.question is None or address is None:
        return result
    chosen = recall.wanted(store, scene.turn.question, scene.asked, stacks, scene.policy.recall)
    if not chosen:
        return result
    pieces = recall.block(store, chosen)
    texts = {a: text for c in store.chapters for a, text in c.material.texts.items()}
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
