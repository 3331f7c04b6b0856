"""The comparison with the reference: its arithmetic, its table, and the model that knows a text."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from proxy.policy.schema import Target
from proxy.scorers.arithmetic import FP32
from proxy.scorers.causal_lm import Passage
from proxy.scorers.language_models import load_causal_lm

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from defects import cases, known, write_known
from paired import difference, ratio, write_block
from reference import Ours
from reference_table import ROWS, Side, Trial, report

# -- intervals ----------------------------------------------------------------------------------


def test_a_difference_is_paired():
    """Cases that differ wildly from one another, by the same amount on both sides."""
    theirs = [1.0, 100.0, 3.0, 250.0, 7.0]
    found = difference([value + 2 for value in theirs], theirs)
    assert (found.value, found.low, found.high) == (2, 2, 2)


def test_an_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        theirs = rng.normal(0, 5, 30)
        found = difference((theirs + rng.normal(1, 1, 30)).tolist(), theirs.tolist())
        held += found.low <= 1 <= found.high
    assert 180 <= held <= 198


def test_a_ratio_is_that_of_the_sums():
    found = ratio([1.0, 30.0], [1.0, 10.0])
    assert found.value == 31 / 11
    assert (found.low, found.high) == (1, 3)


# -- the table ----------------------------------------------------------------------------------

SIDE = Side(tokens=50, seconds=0.5, processor_seconds=0.25, kept=True, nll=2.0, cropped=False)
SLOW = replace(SIDE, seconds=1.5, processor_seconds=1.0, kept=False, nll=2.5)
TRIAL = Trial(
    before=200,
    prompt_tokens=210,
    question_tokens=10,
    whole_nll=1.5,
    chance=0.125,
    read=400,
    reference=SLOW,
    ours=replace(SIDE, tokens=48),
    fp32=replace(SIDE, processor_seconds=0.5),
    aligned=replace(SLOW, kept=True, cropped=True),
    ours_again=SIDE,
)


def test_a_column_says_all_of_its_cases():
    text = report({"XQuAD 0.25": [TRIAL, TRIAL]}, "tiny@1", "judge@2", {"llmlingua": "0.2.2"})
    table, told = text.split("\n\n")
    lines = [line.strip("| ").split(" | ") for line in table.splitlines()]
    assert lines[0] == ["XQuAD 0.25"]
    assert dict(lines[2:]) == {
        "cases": "2",
        "tokens of the context": "200",
        "rate that the reference came to (range)": "0.286 (0.286 to 0.286)",
        "tokens kept, reference / ours": "50 / 48",
        "ours below these tokens": "2.0 (at most 2; above it in 0)",
        "read by the reference's model, per token of the context": "2.00",
        "tokens/s, reference": "200",
        "tokens/s, ours": "800",
        "**ours : reference**": "4.00 (4.00 to 4.00)",
        "the same by the clock": "3.00 (3.00 to 3.00)",
        "tokens/s, ours in float32": "400",
        "float32 : reference": "2.00 (2.00 to 2.00)",
        "answers kept by documents drawn at random, %": "12",
        "answers kept, %, reference / ours": "0 / 100",
        "**difference, points**": "+100 (+100 to +100)",
        "answers kept, %, aligned / ours": "100 / 100",
        "difference, points": "+0 (+0 to +0)",
        "NLL of the answer after the whole prompt": "1.50",
        "NLL, reference / ours": "2.50 / 2.00",
        "**difference, nats per token**": "-0.50 (-0.50 to -0.50)",
        "NLL, aligned / ours": "2.50 / 2.00",
        "difference, nats per token": "-0.50 (-0.50 to -0.50)",
        "prompts that the judge could not hold, reference / ours": "0 / 0",
    }
    assert len(ROWS) == len(lines) - 2
    assert "`tiny@1`" in told
    assert "`judge@2`" in told
    assert "llmlingua 0.2.2" in told


def test_what_was_not_tried_is_left_open():
    text = report({"NQ": [replace(TRIAL, fp32=None, aligned=None, ours_again=None)]}, "a", "b", {})
    assert [line for line in text.splitlines() if line.endswith(" | |")] == [
        "| tokens/s, ours in float32 | |",
        "| float32 : reference | |",
        "| answers kept, %, aligned / ours | |",
        "| difference, points | |",
        "| NLL, aligned / ours | |",
        "| difference, nats per token | |",
    ]


def test_a_block_is_replaced_and_the_rest_stays(tmp_path):
    path = tmp_path / "a.md"
    path.write_text("# A\n\n<!-- x -->\nold\n<!-- /x -->\n\nEnd.\n")
    for text in ("new\nlines\n", "newer"):
        write_block(path, "x", text)
        assert path.read_text() == f"# A\n\n<!-- x -->\n{text.strip()}\n<!-- /x -->\n\nEnd.\n"


@pytest.mark.parametrize("text", ["none", "<!-- x -->\n", "<!-- /x --><!-- x -->\n"])
def test_a_file_without_its_comments_is_left_alone(tmp_path, text):
    path = tmp_path / "a.md"
    path.write_text(text)
    with pytest.raises(ValueError, match="<!-- /x -->, once"):
        write_block(path, "x", "new")
    assert path.read_text() == text


# -- a model that knows a text ------------------------------------------------------------------


def test_a_known_text_surprises_as_it_is_to(tmp_path):
    text = known([0.05, 0.05, 3.0, 0.05, 9.0, 1.0])
    lm = load_causal_lm(str(write_known(tmp_path, text)), runtime=FP32)
    [found] = lm.self_information([Passage(text.text)])
    assert found.nats.tolist() == pytest.approx(text.nats, abs=1 / 128)


def test_ours_keeps_what_surprises_where_the_reference_does_not(tmp_path):
    """The reference: 0 and 9; .2475; .47 (``benchmarks/reference.py --defects``)."""
    told = []
    for number, case in enumerate(cases()):
        text = known(case.nats)
        folder = write_known(tmp_path / str(number), text)
        ours = Ours(load_causal_lm(str(folder), runtime=FP32))
        left = ours.compress([text.text], "What happened?", Target(rate=case.rate)).text
        told.append(case.told(text, left.removesuffix("What happened?").split()))
    rare, half, short = told
    assert rare == "9 and 0"
    assert 0.495 <= float(half) <= 0.5
    assert 0.19 <= float(short) <= 0.2
