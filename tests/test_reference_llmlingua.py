"""What other benchmarks call the reference through, against a process that plays it."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from proxy.scorers.arithmetic import FP32
from proxy.scorers.causal_lm import Passage
from proxy.scorers.language_models import load_causal_lm

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from reference_llmlingua import Compressed, NoReference, Reference
from same_model import float_model

PLAYED = """\
import json, os, sys
print(json.dumps({"llmlingua": "0", "model": sys.argv[2]}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if asked["question"] == "Fail?":
        found = {"error": "KeyError: 3"}
    elif asked["question"] == "End?":
        sys.exit(7)
    else:
        text = json.dumps(asked, sort_keys=True)
        ranks = len(os.listdir(os.environ["TIKTOKEN_CACHE_DIR"]))
        found = {"text": text, "context": "", "seconds": 0.5, "processor_seconds": 0.25,
                 "read_tokens": ranks}
    print(json.dumps(found), flush=True)
"""


@pytest.fixture
def peers(tmp_path):
    script = tmp_path / "played.py"
    script.write_text(PLAYED)
    python = tmp_path / "llmlingua" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
    python.chmod(0o755)
    return tmp_path


def test_a_request_is_a_line_and_its_answer_too(peers):
    with Reference("some-model", peers) as reference:
        assert reference.versions == {"llmlingua": "0", "model": "some-model"}
        first = reference.compress("Be brief.", ["One.", "Two."], "Who?", rate=0.3)
        second = reference.compress("", ["One."], "Who?", target_tokens=40, aligned=True, long=True)
    asked = {"instruction": "Be brief.", "documents": ["One.", "Two."], "question": "Who?"}
    expected = json.dumps({**asked, "rate": 0.3, "aligned": False, "long": False}, sort_keys=True)
    assert first == Compressed(expected, "", 0.5, 0.25, read_tokens=1)
    asked = {"instruction": "", "documents": ["One."], "question": "Who?"}
    expected = json.dumps(
        {**asked, "target_tokens": 40, "aligned": True, "long": True}, sort_keys=True
    )
    assert second == Compressed(expected, "", 0.5, 0.25, read_tokens=1)


def test_a_prompt_that_the_reference_fails_on_is_told_and_the_next_is_answered(peers):
    with Reference("m", peers) as reference:
        with pytest.raises(ValueError, match="KeyError: 3"):
            reference.compress("", ["One."], "Fail?", rate=0.3)
        assert reference.compress("", ["One."], "Who?", rate=0.3).seconds == 0.5


def test_a_reference_that_ends_is_told(peers):
    with Reference("m", peers) as reference, pytest.raises(NoReference, match="exit code 7"):
        reference.compress("", ["One."], "End?", rate=0.3)


def test_without_its_environment_it_says_how_to_make_one(tmp_path):
    with pytest.raises(NoReference, match="make bench-peers"):
        Reference("m", tmp_path)


def test_the_float_model_computes_what_the_shipped_one_does(tmp_path):
    folder = float_model(tmp_path)
    assert float_model(tmp_path) == folder  # written once
    shipped = load_causal_lm(runtime=FP32)
    written = load_causal_lm(str(folder), runtime=FP32)
    text = [Passage("Special <|bos|> tokens spelt out, 1858 and 京都 too.")]
    [one], [other] = shipped.self_information(text), written.self_information(text)
    assert one.nats.tolist() == other.nats.tolist()
    assert one.starts.tolist() == other.starts.tolist()
    assert written.window == shipped.window
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {
        torch.float32
    }
