import json
import os
import random
import shutil
import threading

import numpy as np
import pytest
import torch
from fakes import models_of

from proxy.compress.ports import Document, ScoreRequest
from proxy.engine import Engine
from proxy.errors import PolicyError
from proxy.memo import VectorMemo
from proxy.scorers import load_models, load_scorer, shapes
from proxy.scorers.arithmetic import (
    FP32,
    INT8,
    Arithmetic,
    FloatLinear,
    Int8Linear,
    Runtime,
    automatic,
    best,
    chosen,
    int8_is_exact,
    through_transformers,
)
from proxy.scorers.encoder import MODELS, EmbeddedEncoder
from proxy.scorers.pooling import ALONE, drain
from proxy.types import Span

SHIPPED = MODELS / "all-minilm-l6-v2"
UNITS = int(os.environ.get("LACONIC_TEST_UNITS", "300"))  # 10_000 for the full claim
WORDS = [
    "the",
    "bank",
    "raised",
    "its",
    "interest",
    "rate",
    "fish",
    "swam",
    "past",
    "Paris",
    "1901",
]

needs_int8 = pytest.mark.skipif(not int8_is_exact(), reason="this processor saturates int8 sums")


@pytest.fixture(scope="module")
def encoder():
    return EmbeddedEncoder()


@pytest.fixture(scope="module", params=[FP32, pytest.param(INT8, marks=needs_int8)])
def each(request):
    return EmbeddedEncoder(runtime=request.param)


def sentences(seed, count):
    draw = random.Random(seed)  # noqa: S311 - sampled with a seed
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 25))) + "." for _ in range(count)]


def document(seed, units):
    text, spans = "", []
    for sentence in sentences(seed, units):
        spans.append(Span(len(text), len(text) + len(sentence)))
        text += sentence + " "
    return Document(text, tuple(spans))


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_what_answers_the_question_is_nearer_to_it(each):
    text = "Paris is the capital of France. The cat sat on the mat. Bread needs flour."
    spans = (Span(0, 31), Span(32, 55), Span(56, 74))
    units = each.embed_documents([Document(text, spans)])[0].units
    question = each.embed_questions(["What is the capital city of France?"])[0]
    nearness = [cosine(unit, question.final) for unit in units]
    assert nearness.index(max(nearness)) == 0


def test_vectors_keep_close_to_those_of_the_original_weights(each):
    # Under the original float32 weights, through transformers: the first 16 of 384 components.
    final = [-0.4003, 0.149, -0.0208, 0.8056, 0.097, -0.1172, 0.3978, 0.4619]
    final += [-0.0612, 0.2163, 0.0209, -0.1531, -0.3941, 0.3001, -0.3501, 0.2642]
    middle = [-0.1371, -0.0891, -0.4497, 0.0603, 0.4493, 0.6929, 0.1989, 0.7222]
    middle += [-0.1188, 0.1687, -0.4274, -0.4798, 0.0573, -0.2037, -0.1584, -0.0096]
    found = each.embed_questions(["who got the first nobel prize in physics"])[0]
    assert found.final.shape == found.middle.shape == (384,)
    assert found.final.dtype == found.middle.dtype == np.float32
    assert cosine(found.final[:16], np.array(final)) > 0.99
    assert cosine(found.middle[:16], np.array(middle)) > 0.99


def test_special_tokens_spelt_out_are_plain_text(encoder):
    ids = encoder.tokenise("[CLS] a [SEP] b [MASK] [UNK] [PAD]").ids.tolist()
    assert not {0, 100, 101, 102, 103} & set(ids)


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        ("naïve 日本 x", [0, 6, 7, 9]),
        ("😀 x", [0, 2]),
        ("e\u0301a b", [0, 4]),
        ("İstanbul b", [0, 9]),
    ],
)
def test_a_token_starts_at_its_first_character(encoder, text, starts):
    found = encoder.tokenise(text).starts.tolist()
    assert set(starts) <= set(found) <= set(range(len(text)))
    assert found == sorted(found)


def test_text_beyond_the_window_is_read(encoder):
    text = "Filler says nothing here. " * 120 + "The password is swordfish."
    where = Span(text.index("The pass"), len(text))
    found = encoder.embed_documents([Document(text, (where,))])[0]
    question = encoder.embed_questions(["what is the password?"])[0]
    assert cosine(found.units[0], question.final) > cosine(found.whole, question.final)


def test_script_that_the_encoder_does_not_know_is_told(encoder):
    known = [q.known for q in encoder.embed_questions(["plain words", "😀 😀 word", ""])]
    assert known == [1.0, pytest.approx(1 / 3), 1.0]


def test_vectors_do_not_move_with_the_batch_or_the_threads(each):
    documents = [document(seed, 1 + seed % 19) for seed in range(UNITS // 10 + 19)]
    assert sum(len(d.units) for d in documents) >= UNITS
    alone = [each.embed_documents([d])[0] for d in documents]
    engine = Engine(lambda: models_of(each), VectorMemo(0), threads=3, queue_entries=1000)
    engine.start()
    engine.wait_ready_blocking(60)
    order = list(range(len(documents)))
    random.Random(1).shuffle(order)  # noqa: S311 - sampled with a seed
    batches = [order[i : i + 7] for i in range(0, len(order), 7)]
    answers = {}

    def ask(batch):
        request = ScoreRequest(tuple(documents[i] for i in batch))
        answers.update(zip(batch, engine.score_blocking(request).documents, strict=True))

    asking = [threading.Thread(target=ask, args=(batch,)) for batch in batches]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    engine.close()
    for i, expected in enumerate(alone):
        assert np.array_equal(answers[i].units, expected.units)
        assert np.array_equal(answers[i].whole, expected.whole)


@needs_int8
@pytest.mark.parametrize("seed", range(8))
def test_windows_read_together_get_the_bits_that_they_get_alone(seed):
    encoder = EmbeddedEncoder(runtime=INT8)
    draw = np.random.default_rng(seed)
    windows = [draw.integers(200, 30_000, size=n) for n in draw.integers(1, 90, size=7)]
    assert encoder.together.most > 0
    for found, window in zip(encoder.read_together(windows), windows, strict=True):
        assert np.array_equal(found, encoder.read(window).final)


SHAPED = Runtime(Arithmetic.BF16, shape_tokens=640)  # as on a GPU, on this processor


@pytest.mark.parametrize("runtime", [SHAPED, pytest.param(INT8, marks=needs_int8)])
def test_documents_read_together_get_the_vectors_that_they_get_alone(runtime):
    encoder = EmbeddedEncoder(runtime=runtime)
    documents = [document(seed, units) for seed, units in enumerate((1, 40, 2, 0, 90, 3))]
    together = drain(encoder.documents_steps(documents))
    for found, expected in zip(together, encoder.embed_documents(documents), strict=True):
        assert np.array_equal(found.units, expected.units)
        assert np.array_equal(found.whole, expected.whole)


def test_float32_reads_each_window_alone():
    assert EmbeddedEncoder(runtime=FP32).together == ALONE


@pytest.mark.parametrize(
    ("arithmetic", "apart"), [(Arithmetic.FP32, 1e-5), (Arithmetic.BF16, 0.04)]
)
def test_in_fixed_shapes_states_are_those_of_a_window_alone_within_the_rounding(arithmetic, apart):
    shaped = EmbeddedEncoder(runtime=Runtime(arithmetic, shape_tokens=640))
    plain = EmbeddedEncoder(runtime=FP32)
    ids = [np.arange(2000, 2000 + n) for n in (1, 62, 63, 200, 254, 3)]
    for found, window in zip(shaped.read_together(ids), ids, strict=True):
        expected = plain.read(window)
        assert np.abs(found - expected.final).max() < apart * np.abs(expected.final).max()
        middle = shaped.read(window).middle
        assert np.abs(middle - expected.middle).max() < apart * np.abs(expected.middle).max()
    assert shaped.together == (640, 2560)
    assert "-640" in shaped.revision


def test_where_company_moves_scores_windows_are_read_alone(monkeypatch):
    monkeypatch.setattr(shapes, "reads_alike", lambda *_: False)
    encoder = EmbeddedEncoder(runtime=SHAPED)
    assert encoder.together == ALONE
    calls = list(encoder.documents_steps([document(0, 3), document(1, 2)]))
    assert len(calls) == 2


@needs_int8
def test_int8_products_of_a_row_do_not_depend_on_the_other_rows():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(-127, 128, (64, 96), generator=generator).to(torch.int8)
    linear = Int8Linear(rows.T, torch.rand(64, generator=generator), torch.zeros(64))
    x = torch.randn(37, 96, generator=generator) * torch.logspace(-3, 3, 37)[:, None]
    together = linear(x)
    alone = torch.cat([linear(x[i : i + 1]) for i in range(37)])
    assert torch.equal(together, alone)


@needs_int8
def test_int8_arithmetic_stays_within_its_rounding():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(-127, 128, (64, 96), generator=generator).to(torch.int8)
    scales, bias = torch.rand(64, generator=generator), torch.randn(64, generator=generator)
    x = torch.randn(37, 96, generator=generator)
    exact = FloatLinear(rows * scales[:, None], bias)(x)
    found = Int8Linear(rows.T, scales, bias)(x)
    # Each activation is off by half a step at most: |x|max / 127 / 2, times 96 weights.
    step = x.abs().amax(dim=1, keepdim=True) / 127 / 2
    bound = step * (rows.abs() * scales[:, None]).sum(dim=1)
    assert bool(((found - exact).abs() <= bound + 1e-3).all())


def test_a_row_of_zeros_multiplies_to_the_bias():
    linear = Int8Linear(torch.ones(8, 8, dtype=torch.int8), torch.ones(8), torch.arange(8.0))
    assert torch.equal(linear(torch.zeros(2, 8)), torch.arange(8.0).expand(2, 8))


def test_both_arithmetics_rank_alike():
    documents = [document(seed, 10) for seed in range(6)]
    orders = []
    for runtime in (FP32, best()):
        model = EmbeddedEncoder(runtime=runtime)
        question = model.embed_questions(["which bank raised its interest rate?"])[0].final
        found = np.concatenate([d.units for d in model.embed_documents(documents)])
        orders.append([cosine(unit, question) for unit in found])
    assert np.corrcoef(np.argsort(np.argsort(orders)), rowvar=True)[0, 1] > 0.98


def test_the_revision_names_weights_and_arithmetic():
    config = json.loads((SHIPPED / "config.json").read_text())
    found = EmbeddedEncoder(runtime=FP32).revision
    assert found.startswith(f"all-minilm-l6-v2@{config['revision']}/torch-")
    assert "-fp32-" in found


def test_the_backend_of_the_settings_is_the_one_that_computes():
    assert "-fp32-" in load_scorer(backend="fp32").revision
    assert load_scorer(backend="auto").revision == EmbeddedEncoder(runtime=automatic()).revision


@needs_int8
def test_int8_may_be_asked_for_by_name():
    assert "-int8-" in load_scorer(backend="int8").revision


def test_a_backend_that_is_none_is_refused():
    with pytest.raises(PolicyError, match="found 'bf16', wanted one of auto, fp32, int8, cuda"):
        load_scorer(backend="bf16")


def test_a_gpu_that_is_not_there_is_an_error_in_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(PolicyError, match=r"LACONIC_BACKEND: found cuda, and torch .* wanted auto"):
        load_scorer(backend="cuda")


@pytest.mark.parametrize(("bf16", "arithmetic"), [(True, "bf16"), (False, "fp32")])
def test_auto_takes_a_gpu_where_there_is_one(monkeypatch, bf16, arithmetic):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bf16)
    expected = Runtime(Arithmetic(arithmetic), torch.device("cuda"), 8_192)
    assert chosen("auto") == chosen("cuda") == through_transformers("auto") == expected
    assert chosen("fp32") == FP32


def test_a_hub_model_is_not_read_in_int8():
    with pytest.raises(PolicyError, match=r"found int8 for model 'some/model'.* wanted fp32"):
        load_scorer("some/model", "int8")


def test_the_revision_of_all_models_names_the_backend():
    # The causal LM loads later, in the same backend: what it said under another is not reused.
    found = {load_models("embedded", "embedded", None, b).revision for b in ("fp32", "auto")}
    assert len(found) == 2


def test_embedded_is_what_the_package_carries():
    assert load_scorer().revision == load_scorer("embedded").revision


def test_weights_that_were_tampered_with_are_refused(tmp_path):
    folder = shutil.copytree(SHIPPED, tmp_path / "model")
    blob = bytearray((folder / "model.safetensors").read_bytes())
    blob[-1] ^= 1
    (folder / "model.safetensors").write_bytes(blob)
    with pytest.raises(PolicyError, match=r"found weights [0-9a-f]{64}, wanted [0-9a-f]{64}"):
        EmbeddedEncoder(folder)


def test_a_model_of_another_format_is_refused(tmp_path):
    folder = shutil.copytree(SHIPPED, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format": 9}))
    with pytest.raises(PolicyError, match="found format 9, wanted 1"):
        EmbeddedEncoder(folder)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(PolicyError, match="No such file"):
        EmbeddedEncoder(tmp_path)
