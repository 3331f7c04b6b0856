"""The lean Llama computes what transformers does with the same matrices: its slow twin."""

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from proxy.scorers.arithmetic import Arithmetic, Runtime, placed
from proxy.scorers.language_models import _use_int8
from proxy.scorers.llama import LeanLlama, joined_rows, joined_weights

CONFIG = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}


def quantised(weight):
    scales = weight.abs().amax(dim=1, keepdim=True) / 127
    return (weight / scales).round().to(torch.int8), scales


def plain(key_heads):
    torch.manual_seed(0)
    config = LlamaConfig(**CONFIG, num_key_value_heads=key_heads)
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        if name.endswith("norm.weight"):
            weight.copy_(torch.rand_like(weight) + 0.5)
    return model


def lean_of(model):
    return LeanLlama(
        model.model,
        lambda names: joined_weights([model.get_submodule(name).weight for name in names]),
    )


def int8_twins(model):
    rows = {
        name.removesuffix(".weight"): quantised(weight)
        for name, weight in model.named_parameters()
        if name.endswith("proj.weight")
    }
    lean = LeanLlama(model.model, lambda names: joined_rows([rows[name] for name in names]))
    _use_int8(model, rows)
    return lean, model


@pytest.fixture(
    params=[(4, True), (2, True), (1, True), (4, False), (2, False)],
    ids=lambda given: f"{given[0]} key heads, {'int8' if given[1] else 'fp32'}",
)
def twins(request):
    key_heads, int8 = request.param
    model = plain(key_heads)
    return int8_twins(model) if int8 else (lean_of(model), model)


def states(model, ids, **more):
    with torch.inference_mode():
        return model(input_ids=ids, **more).last_hidden_state


def test_texts_are_read_as_transformers_reads_them(twins):
    lean, model = twins
    ids = torch.randint(50, (2, 20))
    torch.testing.assert_close(states(lean, ids), states(model.model, ids))


def test_reading_on_over_a_cache_with_gaps_is_as_transformers_does_it(twins):
    lean, model = twins
    ids = torch.randint(50, (1, 20))
    places = torch.cat([torch.arange(9), torch.arange(12, 23)])[None]
    found = []
    for one in (lean, model.model):
        cache = DynamicCache()
        first = states(one, ids[:, :9], position_ids=places[:, :9], past_key_values=cache)
        more = states(one, ids[:, 9:], position_ids=places[:, 9:], past_key_values=cache)
        found.append(torch.cat([first, more], dim=1))
        assert cache.get_seq_length() == 20
    torch.testing.assert_close(*found)


def test_it_stands_in_for_the_body_of_the_whole_model(twins):
    lean, model = twins
    ids = torch.randint(50, (1, 12))
    with torch.inference_mode():
        expected = model(input_ids=ids).logits
        model.model = lean
        torch.testing.assert_close(model(input_ids=ids).logits, expected)


def test_in_bfloat16_it_is_nearer_to_float32_than_transformers_is():
    model = plain(2)
    for weight in model.parameters():
        weight.copy_(weight.bfloat16())  # so that only what is computed is rounded
    ids = torch.randint(50, (4, 20))
    exact = states(model.model, ids)
    rounded = placed(model, Runtime(Arithmetic.BF16))
    theirs, found = states(rounded.model, ids), states(lean_of(rounded), ids)
    assert found.dtype == theirs.dtype == torch.bfloat16
    apart = [(each.float() - exact).norm() / exact.norm() for each in (found, theirs)]
    assert apart[0] < apart[1] < 0.05


def test_in_bfloat16_reading_on_is_as_reading_at_once():
    lean = lean_of(placed(plain(2), Runtime(Arithmetic.BF16)))
    ids, cache = torch.randint(50, (1, 20)), DynamicCache()
    places = torch.arange(20)[None]
    parts = [
        states(lean, ids[:, part], position_ids=places[:, part], past_key_values=cache)
        for part in (slice(9), slice(9, 20))
    ]
    found, expected = torch.cat(parts, dim=1).float(), states(lean, ids).float()
    assert (found - expected).norm() < 0.02 * expected.norm()
