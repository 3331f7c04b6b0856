"""Every shape of request that the benchmark has, tagged as whoever wrote it meant."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import tagging
from proxy.cli.demonstration import load_passages
from tagging_shapes import Texts, shapes

QUESTION, PASSAGES = load_passages()
PAIRS = [(passage.text, f"When was {passage.title} made?") for passage in PASSAGES]
MULTI = {
    "es": [("La torre se empezó en 1173. Tardaron dos siglos en acabarla. " * 4, "¿Cuándo?")] * 9,
    "zh": [("这座塔建于1173年。它用了两百年才完成。地基很软。" * 6, "它建于哪一年？")] * 9,
    "hi": [("यह मीनार 1173 में शुरू हुई। इसमें दो सौ वर्ष लगे। " * 5, "यह कब शुरू हुई?")] * 9,
    "ar": [("بدأ بناء البرج عام 1173. استغرق قرنين من الزمن. " * 5, "متى بدأ البناء؟")] * 9,
}
TITLED = [(passage.title, passage.text) for passage in PASSAGES]


@pytest.mark.parametrize("later", [False, True], ids=["first", "second"])
def test_shapes_are_tagged_as_they_are_meant(later):
    """Of what is asked and told hardly anything is taken for context, whose parts are found."""
    rng = random.Random(7)  # noqa: S311 - a sample, no secret
    texts = Texts(squad=PAIRS, natural=[(QUESTION, TITLED)] * 9, multi=MULTI, rng=rng)
    whole = tagging.Tally()
    for name, row in shapes(texts, later=later):
        whole.add(tagging._tally(name, row, verbose=False))
    assert whole.harmed <= 0.002 * whole.ask
    assert whole.found >= 0.98 * whole.context
