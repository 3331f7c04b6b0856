"""What the causal LM cannot judge loses no word: its bands decide, and constants where it has none.

The last tests read with the model that travels in the package.
"""

import base64

import numpy as np
import pytest
from driving import ENCODING, examples, policy, turn
from fake_lm import FakeLM
from hypothesis import given
from hypothesis import strategies as st

from proxy.compress.bands import UNMEASURED, band_of, strange_units
from proxy.compress.layout import document_texts, read_material
from proxy.compress.ports import Band, Manner, Passage, SelfInformation
from proxy.scorers.language_models import load_causal_lm
from proxy.scorers.passages import PassageReader
from proxy.scorers.pooling import drain
from proxy.types import Kind

PROSE = Band((1.0, 5.0), (2.0, 8.0), (0.0, 0.2))
LIST = Band((1.0, 3.0), (2.0, 8.0), (0.0, 0.2))


def rated(text, nats, tokens=None, bands=None):
    """A text whose tokens all tell the same; by default a token has five characters."""
    edges = np.linspace(0, len(text), (tokens or len(text) // 5) + 1).astype(np.int32)
    starts, ends = edges[:-1], edges[1:]
    return SelfInformation(np.full(len(starts), nats, np.float32), starts, ends, bands or {})


def strange(text, rate, kind=Kind.PROSE):
    """The units of a text that cannot be judged, where ``rate`` reads each document."""
    material = read_material(turn(text, kind), policy(), ENCODING)
    documents = enumerate(document_texts(material))
    found = strange_units(material, {number: rate(document) for number, document in documents})
    return [material.text(number) for number in sorted(found)]


@pytest.mark.parametrize(
    ("text", "tokens", "nats", "ordinary"),
    [
        ("The harbour master opened the gate.", 9, 4.0, True),
        ("The harbour master opened the gate.", 9, 8.0, False),
        ("The harbour master opened the gate.", 30, 2.0, False),
        ("a+=(b[0]);{c}->d;e!=f||g", 10, 2.0, False),
    ],
)
def test_without_bands_constants_decide_whatever_the_length(text, tokens, nats, ordinary):
    assert strange(text, lambda t: rated(t, nats, tokens)) == ([] if ordinary else [text])


def test_a_text_without_tokens_cannot_be_judged():
    assert strange("It ran.", lambda t: rated("", 0.0)) == ["It ran."]


def test_the_band_is_that_of_the_kind_or_else_of_prose():
    found = rated("x", 1.0, 1, {Kind.PROSE: PROSE, Kind.LIST: LIST})
    assert [band_of(found, kind) for kind in (Kind.LIST, Kind.LOG)] == [LIST, PROSE]
    assert band_of(rated("x", 1.0, 1, {Kind.LIST: LIST}), Kind.LOG) is UNMEASURED


@pytest.mark.parametrize(("kind", "ordinary"), [(Kind.PROSE, True), (Kind.LIST, False)])
def test_a_segment_is_judged_by_the_band_of_its_kind(kind, ordinary):
    text = "- " + "the harbour master opened the gate and the boats went out " * 7
    bands = {Kind.PROSE: PROSE, Kind.LIST: LIST}
    found = strange(text, lambda t: rated(t, 4.0, bands=bands), kind)
    assert (found == []) is ordinary


def test_what_is_foretold_better_than_ordinary_text_is_ordinary():
    assert PROSE.holds(Manner(0.1, 20.0, 0.0), 4000)


@examples(200)
@given(
    st.builds(Manner, st.floats(0, 12), st.floats(0.2, 9), st.floats(0, 1)),
    st.integers(1, 800),
    st.integers(0, 400),
)
def test_a_shorter_text_may_stray_further(manner, characters, more):
    if PROSE.holds(manner, characters + more):
        assert PROSE.holds(manner, characters)
    assert PROSE.holds(manner, 400) is PROSE.holds(manner, 4000)


def test_one_odd_sentence_does_not_bar_the_text_around_it():
    plain = "The ship left the harbour in the morning and came back late."
    odd = "Qz xk vj wq zx kq."
    known = dict.fromkeys(["Qz", "xk", "vj", "wq", "zx", "kq"], 400.0)
    lm = FakeLM(known, most=4.0)

    def rate(text):
        found = lm.rate(Passage(text))
        bands = {Kind.PROSE: Band((0.0, 8.0), (2.0, 8.0), (0.0, 0.2))}
        return SelfInformation(found.nats, found.starts, found.ends, bands)

    text = " ".join([*[plain] * 20, odd, *[plain] * 20])
    found = strange(text, rate)
    assert odd in found
    assert len(found) < 16


# -- the model that travels in the package ------------------------------------------------------

BLOB = base64.b64encode(np.random.default_rng(3).bytes(600)).decode()
MINIFIED = (
    '!function(e,t){"object"==typeof exports&&"undefined"!=typeof module?module.exports=t():'
    '"function"==typeof define&&define.amd?define(t):(e=e||self).Vue=t()}(this,function(){'
    '"use strict";var e=Object.freeze({});function t(e){return null==e}function n(e){return '
    "null!=e}function r(e){return!0===e}var o=Object.prototype.toString})"
)


@pytest.fixture(scope="module")
def rate():
    reader = PassageReader(load_causal_lm())
    return lambda text: drain(reader.steps([Passage(text)]))[0]


@pytest.mark.parametrize(
    "text",
    [
        BLOB,
        "\n".join(BLOB[i : i + 76] for i in range(0, len(BLOB), 76)),
        MINIFIED,
        MINIFIED.replace(";", "; ").replace("{", "{ "),
        " ".join(f"{byte:02x}" for byte in np.random.default_rng(4).bytes(200)),
        "ภาษาไทยเป็นภาษาที่ไม่มีช่องว่างระหว่างคำ แต่ อ่านได้ง่ายสำหรับคนไทย",
        "वह नदी उत्तर में बहती है और गहरी है। यह शहर बहुत पुराना है।",
        "京都的寺庙建于1397年，很大。它们位于城市北部。",
        "Корабль вышел из порта утром и вернулся только вечером.",
        "السفينة غادرت الميناء في الصباح.",
    ],
)
def test_another_script_or_no_language_at_all_loses_no_word(text, rate):
    material = read_material(turn(text), policy(), ENCODING)
    assert len(strange(text, rate)) == len(material.units)


@pytest.mark.parametrize(
    "text",
    [
        "The lighthouse was lit in 1858.",
        "Who wrote it?",
        "Yes.",
        "Messi, Neymar, Mbappé.",
        "Tonight: Thai food, sushi, pho.",
        "Kubernetes pods crash-loop when OOMKilled.",
        "My flatmate binge-watched K-dramas on TikTok.",
        "Zlatan Ibrahimović signed for AC Milan.",
        "GPT-4o beats Claude on MMLU, says OpenAI.",
        "Photosynthesis hydrolyses phosphoglycerate via RuBisCO.",
    ],
)
def test_short_english_is_judged_though_the_model_knows_it_less(text, rate):
    assert strange(text, rate) == []


def test_a_passage_in_another_script_among_english_ones_is_told_by_itself(rate):
    plain = "The ship left the harbour in the morning and came back late. " * 6
    hindi = "वह नदी उत्तर में बहती है और गहरी है।"
    assert strange(f"{plain}\n\n{hindi}\n\n{plain}", rate) == [hindi]
