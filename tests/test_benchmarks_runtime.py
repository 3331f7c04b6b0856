"""The benchmark of runtimes: its table, and the candidates that stand in for ours."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import runtime
import runtime_candidates
from runtime import Cost, Figures
from runtime_candidates import Candidate, candidates

WINDOW = np.arange(2000, 2040)


def figures(seconds, apart, *, steady=True):
    return Figures(
        seconds={60: [seconds], 128: [seconds], 254: [seconds]},
        beside=[1.04],
        apart=apart,
        cost=Cost(0.1, 0.25, 99.6, steady),
    )


def test_the_table_tells_speed_against_the_first_candidate():
    told = runtime.told(
        {"slow": figures(0.02, [0.0]), "quick": figures(0.01, [0.01, -0.03], steady=False)}
    )
    assert told.splitlines()[-2:] == [
        (
            "| slow | 3,000 (1.00) | 6,400 (1.00) | 12,700 (1.00) | 1.04 | 0.0000 / 0.0000"
            " | 0.1 + 0.2 | 100 | yes |"
        ),
        (
            "| quick | 6,000 (2.00) | 12,800 (2.00) | 25,400 (2.00) | 1.04 | 0.0200 / 0.0300"
            " | 0.1 + 0.2 | 100 | no |"
        ),
    ]


def test_float32_is_the_baseline():
    assert candidates()[0].name == "torch fp32"


def test_a_candidate_says_which_packages_it_lacks():
    lacking = Candidate("none", lambda: None, ("json", "no_such_package"))
    assert lacking.missing == ["no_such_package"]


@pytest.mark.parametrize("name", ["torch fp32, oneDNN packed", "torch bf16, oneDNN packed"])
def test_other_matrices_in_our_forward_pass_read_alike(name):
    if not runtime_candidates.torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    by_name = {candidate.name: candidate for candidate in candidates()}
    expected = by_name["torch fp32"].load()(WINDOW).mean(axis=0)
    found = by_name[name].load()(WINDOW).mean(axis=0)
    assert runtime.cosine(found, expected) > 0.999
