"""The lean Llama computes what transformers does with the same integer matrices: its slow twin."""

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from proxy.scorers.causal_lm import _use_int8
from proxy.scorers.llama import LeanLlama

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


@pytest.fixture(params=[4, 2, 1], ids=lambda heads: f"{heads} key heads")
def twins(request):
    torch.manual_seed(0)
    config = LlamaConfig(**CONFIG, num_key_value_heads=request.param)
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        if name.endswith("norm.weight"):
            weight.copy_(torch.rand_like(weight) + 0.5)
    rows = {
        name.removesuffix(".weight"): quantised(weight)
        for name, weight in model.named_parameters()
        if name.endswith("proj.weight")
    }
    lean = LeanLlama(model.model, rows)
    _use_int8(model, rows)
    return lean, model


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
