"""A web thread under every shipped policy: what is left of it is still the thread."""

import sys
from pathlib import Path

import pytest
from driving import TEXTS
from fake_classifier import classify
from fake_lm import FakeLM

from proxy.compress.ports import Scores
from proxy.policy import load_policies, shipped_policies
from proxy.types import Address, LeafEdit, Span

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import thread
from common import Pipeline, body_of

THREAD = (TEXTS / "thread.txt").read_text("utf-8").rstrip()
METHODS = [*thread.POLICIES, "llmlingua2"]
POLICIES = load_policies(shipped_policies()).policies
ASKS = {
    "nothing": ("", "after"),
    "a summary after it": ("Summarise this thread.", "after"),
    "a summary before it": ("Summarise this thread.", "before"),
    "a question": ("What does one of these clocks cost?", "after"),
}


class EncoderAndFakes(Pipeline):
    """The shipped encoder, with an LM and a classifier of one line behind it."""

    def _scores(self, ask):
        found = super()._scores(ask)
        rated = tuple(map(FakeLM().rate, ask.passages))
        return Scores(found.documents, found.questions, rated, tuple(map(classify, ask.classified)))


@pytest.fixture(scope="module")
def pipeline():
    return EncoderAndFakes()


def check(pipeline, name, asked):
    ask, place = ASKS[asked]
    raw = body_of(thread.messages_of(THREAD, ask, place))
    result = pipeline.run_raw(raw, POLICIES[name])
    assert list(thread.faults(raw, result, POLICIES[name])) == []
    assert ask in result.text()


@pytest.mark.parametrize("asked", ASKS)
@pytest.mark.parametrize("name", ["default", "rag"])
def test_every_kept_sentence_is_whole_or_all_of_it_passes_with_the_reason(pipeline, name, asked):
    check(pipeline, name, asked)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in thread.WHOLE_SENTENCES])
def test_every_kept_word_is_whole_and_in_its_place(pipeline, name):
    check(pipeline, name, "a question")


def test_a_question_keeps_the_comment_that_answers_it(pipeline):
    raw = body_of(thread.messages_of(THREAD, *ASKS["a question"]))
    for name in ("default", "rag"):
        result = pipeline.run_raw(raw, POLICIES[name])
        assert len(result.body) < len(raw)
        assert "A cooperative two harbours south of here makes them for €85" in result.text()


GARBLED = "a word that was cut, glued or moved"


@pytest.mark.parametrize(
    ("end", "start", "by_words", "by_sentences"),
    [
        ("Lovely.", "\n\n      We don't,", [], []),
        ("the next high water,", " until the bar", [], ["cut", "cut"]),
        ("the bar can", "crossed. The", [GARBLED], [GARBLED, "cut", "cut"]),
        ("how many min", " until the bar", [GARBLED, "cut"], [GARBLED, "cut", "cut"]),
        ("https://tidewatch", " and the harm", [GARBLED, "cut"], [GARBLED, "cut", "cut"]),
    ],
)
def test_a_garbled_thread_is_told(end, start, by_words, by_sentences):
    """The check itself: it finds what a compressor must not do."""
    spans = (Span(0, THREAD.index(end) + len(end)), Span(THREAD.index(start), len(THREAD)))
    edit = LeafEdit(Address(0, 0), spans)
    for expected, words in ((by_words, True), (by_sentences, False)):
        found = list(thread.faults_of_edit(edit, THREAD, by_words=words))
        assert [one if one == GARBLED else one.split()[0] for one in found] == expected
