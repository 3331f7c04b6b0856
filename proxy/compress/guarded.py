"""What every method does around its own work: the guards before it, and recall after it.

The paper methods do not need a question, so a turn without one is compressed all the same; where
there is one, or an instruction, an ask that needs all of the text still passes through.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from dataclasses import replace
from typing import TypeAlias

from proxy.compress import recall
from proxy.compress.cascade import Scene, Steps, hear, nothing_to_select, units_result, with_recall
from proxy.compress.layout import Material, Rendered, read_material
from proxy.compress.ports import Encoding, QuestionVectors, ScoreRequest, Scores
from proxy.compress.result import TurnResult, verbatim
from proxy.compress.words import Measure, Wording, render_words
from proxy.policy.schema import WholeText
from proxy.types import Component, Reason

Body: TypeAlias = Callable[[Scene, Material], Generator[ScoreRequest, Scores, TurnResult]]
"""A method's own work, on a turn in which there is something to compress."""


def guarded(scene: Scene, body: Body) -> Steps:
    """Run a method on a turn, unless there is nothing to do or the ask needs all of the text.

    ``scene.policy`` says by its targets what is laid out.  What earlier turns left out comes back
    as under the cascade, where the policy allows recall.
    """
    material = read_material(scene.turn, scene.policy, scene.encoding)
    idle = nothing_to_select(material, scene.policy)
    store = scene.past.store
    recalling = scene.recalls
    asked: QuestionVectors | None = None
    ask = _ask(scene)
    if ask and (recalling or (scene.policy.whole_text is not WholeText.IGNORE and idle is None)):
        asked, whole = yield from hear(scene, ask, has_text=idle is None)
        if whole:
            restores = idle is not None and bool(store.missing)
            return replace(verbatim(material.before, Reason.WHOLE_TEXT), restores=restores)
    result = verbatim(material.before, idle)
    if idle is None:
        result = yield from body(scene, material)
    if asked is not None and recalling and scene.turn.question:
        scores = yield ScoreRequest(documents=store.documents())
        chosen = recall.wanted(
            store, scene.turn.question, asked, scores.documents, scene.policy.recall
        )
        result = with_recall(scene, result, store, chosen)
    return result


def _ask(scene: Scene) -> str | None:
    """Return the question or, where there is none, the last instruction in force."""
    return scene.turn.question or next(reversed(scene.turn.instructions), None)


def measure_of(wording: Wording, scene: Scene, component: Component) -> Measure:
    """Return what counts a component's tokens with a selection of the turn's words in place."""
    return lambda kept: render_words(wording, kept, scene.encoding).after[component]


def result_of(
    wording: Wording,
    kept: frozenset[int],
    scene: Scene,
    reason: Reason | None = None,
    render: Callable[[Wording, Collection[int], Encoding], Rendered] = render_words,
) -> TurnResult:
    """Return the result of keeping these words; units that lost any are there for recall."""
    material = wording.material
    rendered = render(wording, kept, scene.encoding)
    whole = frozenset(
        unit for unit in range(len(material.units)) if kept.issuperset(wording.of_unit(unit))
    )
    return units_result(material, whole, rendered, reason)
