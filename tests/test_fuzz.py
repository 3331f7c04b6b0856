"""Every seed of ``make fuzz``, and every input that ever failed, through what is fuzzed."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))

from targets import TARGETS

CORPUS = Path(__file__).parent / "fuzz" / "corpus"
SEEDS = [
    pytest.param(TARGETS[folder.name], seed, id=f"{folder.name}-{seed.name}")
    for folder in sorted(CORPUS.iterdir())
    for seed in sorted(folder.iterdir())
]


@pytest.mark.parametrize(("target", "seed"), SEEDS)
def test_a_seed_holds(target, seed):
    target(seed.read_bytes())


def test_every_target_has_seeds():
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
