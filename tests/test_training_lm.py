"""The training recipe, end to end on a few kilobytes."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
import zstandard
from tokenizers import Tokenizer

from proxy.compress.bands import symbol_share
from proxy.compress.ports import Band, Manner
from proxy.errors import PolicyError
from proxy.scorers.arithmetic import FP32, Arithmetic, Runtime, best
from proxy.scorers.causal_lm import GRID, Passage
from proxy.scorers.language_models import load_causal_lm
from proxy.types import Kind

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

import export_lm
import lm_bands
import lm_data
import tokenizer as bpe
import train_lm
from lm_data import BOS, Blocks, Record, Sources

LENGTH = 32
SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "In 2024 there were 365 days,\n    and then some.",
    "def double(x):\n    return x + x\n",
    "Nothing is said that has not been said before.",
]


def packed(path, rows):
    lines = "".join(json.dumps({"source": source, "text": text}) + "\n" for source, text in rows)
    path.write_bytes(zstandard.compress(lines.encode()))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rows = [(f"kind{i % 2}_mit", " ".join(SENTENCES[i % 4 :] * 3)) for i in range(40)]
    packed(folder / "train-1of2.jsonl.zst", rows[:25])
    packed(folder / "train-2of2.jsonl.zst", rows[25:])
    packed(folder / "valid.jsonl.zst", rows[:8])
    return folder


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    """The tokenizer, in a folder."""
    out = tmp_path_factory.mktemp("tokenizer")
    bpe.train(bpe.sample(data, Sources(), 10_000), 300).save(str(out / "tokenizer.json"))
    return out


@pytest.fixture(scope="module")
def words(folder):
    found = Tokenizer.from_file(str(folder / "tokenizer.json"))
    found.encode_special_tokens = True
    return found


def numbers(words, text):
    return words.encode(text, add_special_tokens=False)


def trained(data, folder, out, *more):
    """Run the command line."""
    short = ["--length", str(LENGTH), "--step-tokens", "128", "--checkpoint-minutes", "0"]
    sys.argv = ["train_lm.py", "--data", str(data), "--tokenizer", str(folder), "--out", str(out)]
    sys.argv += [*short, "--cpu", "--dtype", "float32", "--embedding-rate", "0.01", *more]
    train_lm.main()


@pytest.fixture(scope="module")
def run(data, folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    argv = sys.argv
    trained(data, folder, out, "--tokens", "1280")
    sys.argv = argv
    return out


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "mine"
    export_lm.export(run / "model", out, tokens=1280)
    return out


def test_every_digit_is_a_token_and_white_space_is_kept(words):
    found = numbers(words, "x 2024\n\n    y\t\n")
    assert [token for token in found.tokens if token.isdigit()] == list("2024")
    assert words.decode(found.ids) == "x 2024\n\n    y\t\n"


@pytest.mark.parametrize("text", ["हिन्दी, 中文, 🙂‍↔️", f"a {BOS} b", "\x00\ufffd"])
def test_any_text_is_represented_without_special_tokens(words, text):
    found = numbers(words, text)
    assert words.decode(found.ids) == text
    assert 0 not in found.ids


def test_bos_is_token_zero(words):
    assert (words.token_to_id(BOS), words.encode("a").ids[0]) == (0, 0)


def test_sources_are_filtered_by_pattern(data):
    path = lm_data.shards(data, "valid")[0]
    assert {r.source for r in lm_data.read(path, Sources())} == {"kind0_mit", "kind1_mit"}
    assert {r.source for r in lm_data.read(path, Sources(only=("*0_*",)))} == {"kind0_mit"}
    assert {r.source for r in lm_data.read(path, Sources(without=("*0_*",)))} == {"kind1_mit"}


def test_a_folder_without_data_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"no train\*.jsonl.zst"):
        lm_data.shards(tmp_path, "train")


def test_tokens_are_documents_each_behind_bos_and_kept_for_next_time(data, words, tmp_path):
    path = lm_data.shards(data, "valid")[0]
    first = lm_data.encoded(path, words, Sources(), tmp_path)
    expected = [
        number
        for record in lm_data.read(path, Sources())
        for number in [0, *numbers(words, record.text).ids]
    ]
    assert first.tolist() == expected
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(np.array([7, 8], dtype=np.uint16).tobytes())
    assert lm_data.encoded(path, words, Sources(), tmp_path).tolist() == [7, 8]
    assert len(lm_data.encoded(path, words, Sources(only=("*0_*",)), tmp_path)) > 2


def test_an_epoch_shows_every_block_once_and_the_next_cuts_elsewhere():
    parts = [np.arange(100, 200, dtype=np.uint16), np.arange(300, 350, dtype=np.uint16)]
    blocks = Blocks(parts, bos=0, length=8, seed=3)
    steps = len(blocks._starts(0)) // 2
    epochs = [
        np.concatenate([blocks.batch(step, 2) for step in range(e * steps, (e + 1) * steps)])
        for e in (0, 1)
    ]
    for rows in epochs:
        assert rows.shape == (steps * 2, 9)
        assert set(rows[:, 0]) == {0}
        assert all(np.array_equal(np.diff(row[1:]), np.ones(7)) for row in rows)
        assert len(set(rows[:, 1])) == len(rows)
    assert not np.array_equal(epochs[0], epochs[1])
    assert np.array_equal(blocks.batch(3, 2), Blocks(parts, 0, 8, 3).batch(3, 2))


def test_too_little_text_for_a_block_is_said():
    with pytest.raises(SystemExit, match="no block of 8 tokens"):
        Blocks([np.arange(5, dtype=np.uint16)], 0, 8, 0).batch(0, 1)


def test_held_out_blocks_are_cut_by_source_with_bytes_per_token(data, words):
    found = lm_data.held_out(data, words, Sources(), length=LENGTH, tokens=100)
    assert sorted(held.source for held in found) == ["kind0_mit", "kind1_mit"]
    for held in found:
        assert held.blocks.shape == (3, LENGTH + 1)
        assert set(held.blocks[:, 0]) == {0}
        assert 1 < held.bytes_per_token < 10


def test_the_chunked_loss_and_its_gradients_are_those_of_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(train_lm.CHUNK["cpu"] + 5, 8, generator=generator, requires_grad=True)
    table = torch.randn(50, 8, generator=generator, requires_grad=True)
    targets = torch.randint(0, 50, (len(states),), generator=generator)
    found = train_lm.ChunkedLoss.apply(states, table, targets, train_lm.slope_of)
    (3 * found).backward()
    twins = [tensor.detach().clone().requires_grad_() for tensor in (states, table)]
    expected = F.cross_entropy(twins[0] @ twins[1].T, targets)
    (3 * expected).backward()
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(states.grad, twins[0].grad, atol=1e-6)
    assert torch.allclose(table.grad, twins[1].grad, atol=1e-5)


@pytest.mark.parametrize(("size", "millions"), [("tiny", 6), ("small", 20)])
def test_sizes_are_what_they_are_called(size, millions):
    with torch.device("meta"):
        model = train_lm.new_model(size, 16_384, 513)
    inner = sum(p.numel() for p in model.model.layers.parameters())
    assert inner / 1e6 == pytest.approx(millions, rel=0.1)
    assert sum(p.numel() for p in model.parameters()) < 28e6  # 30 MB in int8


def test_a_run_ends_as_planned_and_has_learnt(run):
    told = json.loads((run / "model" / "run.json").read_text())
    last = told["history"][-1]
    assert (last["step"], last["tokens"]) == (10, 1280)
    assert [line["step"] for line in told["history"]] == [*range(1, 11), 10]
    assert last["valid_nats_mean"] < told["history"][0]["valid_nats_mean"] < math.log(300) + 0.1
    assert set(last["valid"]) == {"kind0_mit", "kind1_mit"}
    assert told["plan"]["length"] == LENGTH


class Interrupted(Exception):
    """Stands in for a machine that goes away."""


class Fragile(train_lm.Run):
    """A run that breaks in its sixth step."""

    def step(self, share):
        if self.state.step == 5:
            raise Interrupted
        return super().step(share)


def test_an_interrupted_run_ends_with_the_same_weights(data, folder, words, run, tmp_path):
    plan = train_lm.Plan(**json.loads((run / "plan.json").read_text()))
    parts = [
        lm_data.encoded(path, words, Sources(), tmp_path) for path in lm_data.shards(data, "train")
    ]
    blocks = Blocks(parts, 0, LENGTH, plan.seed)
    held = lm_data.held_out(data, words, Sources(), length=LENGTH, tokens=100)
    words.save(str(tmp_path / "tokenizer.json"))
    arguments = (plan, blocks, held, tmp_path, torch.device("cpu"), words.get_vocab_size())
    with pytest.raises(Interrupted):
        Fragile(*arguments).train()
    resumed = train_lm.Run(*arguments)
    resumed.train()
    expected = torch.load(run / "checkpoint.pt", weights_only=True)["model"]
    for name, tensor in resumed.model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_time_ends_a_run_as_well(data, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [])
    trained(data, folder, tmp_path, "--minutes", "1e-9")
    last = json.loads((tmp_path / "model" / "run.json").read_text())["history"][-1]
    assert last["step"] == 1


def test_a_run_may_begin_with_an_exported_model(data, exported, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [])
    trained(data, exported, tmp_path, "--begin-with", str(exported), "--tokens", "1280")
    told = json.loads((tmp_path / "model" / "run.json").read_text())
    assert told["plan"]["tokens_before"] == 1280
    assert export_lm.tokens_seen(told) == 2560
    first = told["history"][0]["valid_nats_mean"]
    assert first < math.log(300) - 1  # random weights would be at log(300) after one step


def test_a_run_does_not_begin_with_words_of_another_tokenizer(exported, data, tmp_path):
    other = bpe.train(bpe.sample(data, Sources(), 10_000), 290)
    with pytest.raises(SystemExit, match="found another tokenizer"):
        train_lm.read_export(exported, other)


def test_an_exported_model_scores_like_the_trained_one(run, exported):
    text = " ".join(SENTENCES * 4)
    theirs = load_causal_lm(str(run / "model"), runtime=FP32)
    expected = theirs.self_information([Passage(text)])[0]
    for precision, limit in (
        (Arithmetic.FP32, 0.05),
        (Arithmetic.BF16, 0.1),
        (Arithmetic.INT8, 0.1),
    ):
        ours = load_causal_lm(str(exported), runtime=Runtime(precision))
        assert ours.window == theirs.window == LENGTH
        found = ours.self_information([Passage(text)])[0]
        assert np.array_equal(found.starts, expected.starts)
        assert np.abs(found.nats - expected.nats).mean() < limit
        assert np.abs(found.nats).max() >= 1 / GRID


def test_an_exported_model_says_what_it_is(exported):
    config = json.loads((exported / "config.json").read_text())
    model = load_causal_lm(str(exported), runtime=FP32)
    assert model.revision.startswith(f"mine@{config['revision']}/torch-")
    assert (exported / "model.safetensors").stat().st_size < 7e6


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", lambda b: b.replace(b'"format": 1', b'"format": 2'), "found format 2"),
        ("model.safetensors", lambda b: b[:-1] + b"\x55", "found weights"),
    ],
)
def test_a_damaged_export_is_refused(exported, tmp_path, name, change, message):
    for path in exported.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).write_bytes(change((tmp_path / name).read_bytes()))
    with pytest.raises(PolicyError, match=message):
        load_causal_lm(str(tmp_path), best())


def test_an_export_without_weights_is_refused(exported, tmp_path):
    (tmp_path / "config.json").write_bytes((exported / "config.json").read_bytes())
    with pytest.raises(PolicyError, match="No such file"):
        load_causal_lm(str(tmp_path), best())


def test_the_card_tells_tokens_seen_and_loss_per_source(data, run, tmp_path, monkeypatch):
    out = tmp_path / "mine"
    command = ["export_lm.py", str(run / "model"), "--data", str(data), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [*command, "--texts", "3"])
    export_lm.main()
    card = (out / "MODEL_CARD.md").read_text()
    assert "**It saw 0.0 million tokens**" in card
    assert "| kind0_mit | MIT |" in card
    assert "{" not in card
    calibrated = load_causal_lm(str(out), best()).bands
    assert calibrated == {}  # its sources are of no known kind


def test_bands_hold_ordinary_text_of_a_kind_and_not_another(exported):
    model = load_causal_lm(str(exported), runtime=FP32)
    plain = [sentence for sentence in SENTENCES if "def " not in sentence]
    records = [Record("books_pd", " ".join(plain[i % 3 :] * 4)) for i in range(20)]
    assert set(lm_bands.bands(model, records)) == {"prose"}
    band = lm_bands.bands(model, records)["prose"]
    for text, ordinary in ((" ".join(plain), True), ("zJ9x/+Qk0Wv7Tq" * 20, False)):
        found = model.self_information([Passage(text)])[0]
        length = len(text) / len(found.nats)
        manner = Manner(found.mean_nats, length, symbol_share(text))
        assert band.holds(manner, len(text)) is ordinary


def test_stretches_are_limited_per_kind_and_long_enough():
    records = [Record("code_mit", "x" * 50), *[Record("code_mit", "y" * 2000)] * 100]
    found = lm_bands.stretches(records)["code"]
    assert len(found) == lm_bands.PER_KIND
    assert set(found) == {"y" * lm_bands.STRETCH}


def test_code_in_prose_does_not_widen_the_band_of_prose():
    code = "def f(x):\n    return {x: [x]};\n" * 20
    records = [Record("tech_docs_mit", code), Record("tech_docs_mit", "It ran. " * 60)]
    assert lm_bands.stretches(records)["prose"] == [("It ran. " * 60)[:400]]


def test_bands_are_part_of_what_a_model_is_called(exported, tmp_path):
    for path in exported.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    names = [load_causal_lm(str(tmp_path), best()).revision]
    for most in (6.0, 7.0):
        config["bands"] = {"prose": {"nats": [1.0, most], "chars_per_token": [2.0, 5.0]}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        found = load_causal_lm(str(tmp_path), best())
        assert found.bands == {Kind.PROSE: Band((1.0, most), (2.0, 5.0))}
        names.append(found.revision)
    assert len(set(names)) == 3
