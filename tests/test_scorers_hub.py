import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from proxy.compress.ports import Document
from proxy.errors import PolicyError
from proxy.scorers import load_scorer
from proxy.scorers.arithmetic import Arithmetic, Runtime
from proxy.scorers.encoder import EmbeddedEncoder
from proxy.scorers.hub import HubEncoder
from proxy.types import Span

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

import convert_encoder

TEXT = "the cat sat on the mat. a dog ran far away! the cat ran."
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny BERT with random weights, saved as the hub has them."""
    path = tmp_path_factory.mktemp("tiny")
    words = sorted({*TEXT.replace(".", " .").replace("!", " !").split(), "[", "]", "sep"})
    vocabulary = {word: i for i, word in enumerate([*SPECIALS, *words])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        model_max_length=40,
    ).save_pretrained(path)
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=40,
            initializer_range=0.5,
        )
    ).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def hub(folder):
    return load_scorer(str(folder), "fp32")


def test_states_are_those_of_transformers_without_special_tokens(hub, folder):
    model = BertModel.from_pretrained(folder).eval()
    ids = hub.tokenise(TEXT).ids
    with torch.inference_mode():
        expected = model(torch.tensor([[2, *ids.tolist(), 3]]), output_hidden_states=True)
    found = hub.read(ids)
    assert np.array_equal(found.final, expected.hidden_states[3][0, 1:-1].numpy())
    assert np.array_equal(found.middle, expected.hidden_states[2][0, 1:-1].numpy())


def test_a_hub_model_pools_and_windows_like_any_other(hub):
    assert (hub.window, hub.width, hub.unknown) == (38, 32, 1)
    long = TEXT * 9
    found = hub.embed_documents([Document(long, (Span(0, 23), Span(24, len(long))))])[0]
    assert found.units.shape == (2, 32)
    assert found.unit_tokens.sum() == len(hub.tokenise(long).ids) > hub.window
    assert hub.embed_questions(["the cat zebra"])[0].known == pytest.approx(2 / 3)


@pytest.mark.parametrize(("arithmetic", "apart"), [(Arithmetic.FP32, 1e-5), (Arithmetic.BF16, 0.3)])
def test_in_fixed_shapes_company_changes_nothing_of_a_hub_model(hub, folder, arithmetic, apart):
    shaped = HubEncoder(str(folder), Runtime(arithmetic, shape_tokens=240))
    windows = [hub.tokenise(TEXT).ids[:n] for n in (1, 7, 14, 3, 14, 2, 9, 5)]
    found = shaped.read_together(windows)
    assert shaped.together == (240, 960)
    for window, states in zip(windows, found, strict=True):
        alone, expected = shaped.read(window), hub.read(window)
        assert np.array_equal(states, alone.final)
        assert np.abs(alone.final - expected.final).max() < apart
        assert np.abs(alone.middle - expected.middle).max() < apart


def test_special_tokens_in_text_are_plain_text_for_a_hub_model(hub):
    assert not {0, 2, 3} & set(hub.tokenise("the [SEP] cat").ids.tolist())


def test_the_revision_follows_the_weights(hub, folder, tmp_path):
    model = BertModel.from_pretrained(folder)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[0, 0] += 1
    PreTrainedTokenizerFast.from_pretrained(folder).save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    other = load_scorer(str(tmp_path))
    assert other.revision.split("@")[1] != hub.revision.split("@")[1]


@pytest.mark.parametrize("name", ["not/a/hub name", "empty"])
def test_a_model_that_cannot_be_loaded_is_named_in_one_line(name, tmp_path):
    wanted = str(tmp_path) if name == "empty" else name
    with pytest.raises(PolicyError, match="cannot be loaded") as caught:
        load_scorer(wanted)
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arithmetic", list(Arithmetic))
def test_a_converted_model_gives_nearly_the_same_states(hub, folder, tmp_path, arithmetic):
    convert_encoder.convert(folder, tmp_path / "out", wanted_sha256="any")
    converted = EmbeddedEncoder(tmp_path / "out", Runtime(arithmetic))
    ids = hub.tokenise(TEXT).ids
    assert converted.tokenise(TEXT).ids.tolist() == ids.tolist()
    for name in ("final", "middle"):
        expected, found = getattr(hub.read(ids), name), getattr(converted.read(ids), name)
        nearness = (expected * found).sum(1)
        nearness /= np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
        assert nearness.min() > 0.99


def test_conversion_says_what_it_made(folder, tmp_path):
    source = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    convert_encoder.convert(folder, tmp_path / "out", wanted_sha256=source)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    written = hashlib.sha256((tmp_path / "out" / "model.safetensors").read_bytes()).hexdigest()
    assert (config["source_sha256"], config["weights_sha256"]) == (source, written)


def test_converting_other_weights_than_wanted_is_refused(folder, tmp_path):
    with pytest.raises(SystemExit, match=r"found sha256 [0-9a-f]{64}, wanted 00"):
        convert_encoder.convert(folder, tmp_path / "out", wanted_sha256="00")
    assert not (tmp_path / "out").exists()


def test_converting_an_architecture_that_the_forward_pass_lacks_is_refused():
    with pytest.raises(SystemExit, match="model_type: found 'roberta', wanted 'bert'"):
        convert_encoder.shape_of({"model_type": "roberta"})


def test_quantised_rows_are_within_a_step_of_the_weights():
    matrix = np.random.default_rng(0).standard_normal((50, 64)).astype(np.float32)
    matrix[0] = 0
    rows, scales = convert_encoder.quantise(matrix)
    assert (rows.dtype, rows.shape, scales.shape) == (np.int8, (50, 64), (50, 1))
    errors = np.abs(rows * scales - matrix)
    plain = np.abs(matrix).max(axis=1, keepdims=True) / 127
    naive = np.rint(matrix / np.maximum(plain, 1e-12)) * plain
    assert np.square(errors).sum() <= np.square(naive - matrix).sum()
