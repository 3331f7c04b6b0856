"""Weights are used where they lie in their file, so that processes share them."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from proxy.errors import PolicyError
from proxy.scorers import LANGUAGE_MODEL
from proxy.scorers.arithmetic import INT8, int8_is_exact
from proxy.scorers.causal_lm import Passage
from proxy.scorers.encoder import MODELS, EmbeddedEncoder
from proxy.scorers.language_models import load_causal_lm
from proxy.scorers.weights import mapped

ENCODER = MODELS / "all-minilm-l6-v2"
SMAPS = Path("/proc/self/smaps")

needs_int8 = pytest.mark.skipif(not int8_is_exact(), reason="this processor saturates int8 sums")
needs_smaps = pytest.mark.skipif(not SMAPS.exists(), reason="only Linux tells what is shared")


def mappings(path):
    """Where this process has mapped a file, and how many kB of that are what."""
    found = []
    for line in SMAPS.read_text().splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):
            start, end = (int(part, 16) for part in name.split("-"))
            found.append((range(start, end), rest[-1], {}))
        elif rest[-1] == "kB":
            found[-1][2][name[:-1]] = int(rest[0])
    return [(where, sizes) for where, name, sizes in found if name == str(path.resolve())]


def lies_in(path, tensor):
    return any(tensor.data_ptr() in where for where, _ in mappings(path))


def own_kb(path):
    """What this process has of the file for itself alone: written to, or copied."""
    return sum(sizes["Private_Dirty"] + sizes["Anonymous"] for _, sizes in mappings(path))


def test_what_is_mapped_is_what_the_file_holds():
    blob = (ENCODER / "model.safetensors").read_bytes()
    expected = load(blob)
    found = mapped(ENCODER, hashlib.sha256(blob).hexdigest())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_another_file_and_no_file_are_refused(tmp_path):
    with pytest.raises(PolicyError, match=r"found weights [0-9a-f]{64}, wanted 00"):
        mapped(ENCODER, "00")
    with pytest.raises(PolicyError, match="No such file"):
        mapped(tmp_path, "00")


@needs_smaps
@needs_int8
def test_the_encoders_rows_are_the_files_own_pages():
    path = ENCODER / "model.safetensors"
    encoder = EmbeddedEncoder(runtime=INT8)
    encoder.embed_questions(["who opened the canal?"])
    layers = encoder._bert._layers
    rows = [part.columns for layer in layers for part in (layer.qkv, layer.inner, layer.outer)]
    assert all(lies_in(path, tensor) for tensor in [encoder._bert._words, *rows])
    assert sum(tensor.nbytes for tensor in [encoder._bert._words, *rows]) > 20_000_000
    assert own_kb(path) == 0


@needs_smaps
@needs_int8
def test_the_language_models_unjoined_rows_are_the_files_own_pages():
    path = LANGUAGE_MODEL / "model.safetensors"
    model = load_causal_lm(runtime=INT8)
    model.self_information([Passage("who opened the canal?")])
    layers = model._model.model._layers
    rows = [part.columns for layer in layers for part in (layer.attended, layer.down)]
    assert all(lies_in(path, tensor) for tensor in rows)
    assert own_kb(path) == 0
