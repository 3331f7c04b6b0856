"""The body of a Llama in plain torch: what transformers computes, in half as many steps.

Theory of operation.  At the widths of a small model an operation's own cost rivals its arithmetic.
Here the matrices that read the same input are one (query, key and value; gate and up), so an input
is rounded once, and rotations are made for queries and keys together.  Integer products are exact
in any grouping, so in int8 this changes no sum.  In bfloat16 what is between two products (norms,
rotations, the sums that go from layer to layer) is float32 here.

    x = x + attend(norm(x)),  x = x + down(silu(gate(norm(x))) * up(norm(x)))      per layer

It stands in for a model's ``model`` (``LlamaForCausalLM.model``), and takes and grows the same
cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn
from transformers import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast

from proxy.scorers.arithmetic import FloatLinear, Int8Linear, Linear

Join: TypeAlias = Callable[[Sequence[str]], Linear]
"""Makes one matrix of those of these names, which read one input: (out1 + out2 ..., in)."""
Rows: TypeAlias = tuple[Tensor, Tensor]
"""A matrix as int8 rows (out, in) and their scales (out, 1)."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """One block.  ``attends`` heads ask, ``answers`` heads are asked."""

    number: int
    attends: int
    answers: int
    norm1: Tensor  # (d,)
    qkv: Linear
    attended: Linear
    norm2: Tensor  # (d,)
    gate_up: Linear
    down: Linear
    epsilon: float
    dtype: torch.dtype  # of what attends

    def __call__(
        self, x: Tensor, turned: tuple[Tensor, Tensor], mask: Tensor | None, cache: Cache | None
    ) -> Tensor:
        """Read x (b, n, d); ``turned`` are cosines and sines (b, n, 1, d_head / 2)."""
        b, n, d = x.shape
        heads = self.qkv(self._normed(x, self.norm1)).view(
            b, n, self.attends + 2 * self.answers, -1
        )
        both, values = torch.split(heads, [self.attends + self.answers, self.answers], dim=2)
        rotated = _rotated(both, *turned).to(self.dtype).transpose(1, 2)
        q, k = torch.split(rotated, [self.attends, self.answers], 1)
        v = values.transpose(1, 2)  # (b, heads, n, d_head), as q and k
        if cache is not None:
            k, v = cache.update(k, v, self.number)
        mixed = F.scaled_dot_product_attention(
            q, k, v, mask, is_causal=mask is None, enable_gqa=self.attends != self.answers
        )
        x = x + self.attended(mixed.transpose(1, 2).reshape(b * n, -1)).view(b, n, d)
        gate, up = self.gate_up(self._normed(x, self.norm2)).chunk(2, dim=1)
        return x + self.down(F.silu(gate).mul_(up)).view(b, n, d)

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, self.epsilon).flatten(0, 1)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x_i, x_(i + d/2)) of the last axis by its angle (RoPE, arXiv 2104.09864)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class LeanLlama(nn.Module):
    """The layers of a Llama, from its embedding to its last norm."""

    def __init__(self, model: Any, join: Join) -> None:
        """Take embedding and norms from a transformers ``LlamaModel``, matrices from ``join``.

        Matrices are named as in the whole model, ``model.layers.0.mlp.up_proj`` and so on.
        """
        super().__init__()
        config = model.config
        self.embed_tokens = model.embed_tokens
        self._norm: Tensor = model.norm.weight.float()
        self._dtype: torch.dtype = model.embed_tokens.weight.dtype
        self._frequencies: Tensor = model.rotary_emb.inv_freq  # (d_head / 2,)
        self._epsilon = float(config.rms_norm_eps)
        self._layers = [
            _Layer(
                number,
                config.num_attention_heads,
                config.num_key_value_heads,
                layer.input_layernorm.weight.float(),
                join(_named(number, "self_attn", "qkv")),
                join(_named(number, "self_attn", "o")),
                layer.post_attention_layernorm.weight.float(),
                join(_named(number, "mlp", ("gate", "up"))),
                join(_named(number, "mlp", ("down",))),
                self._epsilon,
                self._dtype,
            )
            for number, layer in enumerate(model.layers)
        ]

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPast:
        """Read input_ids (b, n) behind what the cache holds, at position_ids (b, n)."""
        n = input_ids.shape[1]
        before = past_key_values.get_seq_length() if past_key_values is not None else 0
        if position_ids is None:
            position_ids = torch.arange(before, before + n, device=input_ids.device)[None]
        angles = (position_ids[..., None].float() * self._frequencies)[:, :, None]
        turned = angles.cos(), angles.sin()
        mask = self._mask(before, n, input_ids.device) if before else None
        x = self.embed_tokens(input_ids).float()
        for layer in self._layers:
            x = layer(x, turned, mask, past_key_values)
        states = F.rms_norm(x, self._norm.shape, self._norm, self._epsilon).to(self._dtype)
        return BaseModelOutputWithPast(last_hidden_state=states, past_key_values=past_key_values)

    def _mask(self, before: int, n: int, device: torch.device) -> Tensor:
        """Let each of n tokens attend to those before it, and to none behind: (n, before + n)."""
        shape = (n, before + n)
        return torch.full(shape, -torch.inf, dtype=self._dtype, device=device).triu(before + 1)


def _named(layer: int, part: str, names: str | tuple[str, ...]) -> list[str]:
    return [f"model.layers.{layer}.{part}.{name}_proj" for name in names]


def joined_rows(found: Sequence[Rows]) -> Int8Linear:
    """Put int8 matrices of one input under each other: (out1 + out2 ..., in)."""
    if len(found) == 1:  # as it is stored: no copy
        matrix, scales = found[0]
        return Int8Linear(matrix.T, scales.flatten())
    stacked = torch.cat([matrix for matrix, _ in found])
    return Int8Linear(stacked.T, torch.cat([scales.flatten() for _, scales in found]))


def joined_weights(found: Sequence[Tensor]) -> FloatLinear:
    """Put matrices of one input under each other: (out1 + out2 ..., in)."""
    return FloatLinear(torch.cat(list(found)))
