"""The forward pass of a BERT encoder in plain torch.

Weights come from a file of our own: two-dimensional ones as int8 rows with one float32 scale each
(weight = rows * scale), the rest as they are.  Matrices are widened to float32 when loaded,
or used as they are (:mod:`proxy.scorers.arithmetic`); the word table stays int8 and is widened row
by row as words are looked up, which gives the same numbers in a quarter of the memory.

Several sequences may be read together: their tokens lie under each other, as rows, and only
attention is told where one ends.  Whatever else is done is done row by row.  On a processor no
sequence is padded; on a GPU all are, to one length, so that one operation attends for all of them.

Written out because importing transformers takes seconds, and this takes a page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from proxy.scorers.arithmetic import Arithmetic, FloatLinear, Int8Linear, Linear, Runtime
from proxy.scorers.shapes import Padded

_Attend: TypeAlias = Callable[[Tensor], Tensor]
"""Lets tokens attend to those of their own sequence: (n, 3, heads, d/heads) to (n, d)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The dimensions of an encoder."""

    width: int
    layers: int
    heads: int
    inner: int
    positions: int
    words: int
    epsilon: float

    @property
    def middle(self) -> int:
        """How many layers make two thirds of them."""
        return -(-2 * self.layers // 3)


@dataclass(frozen=True, slots=True)
class _Norm:
    weight: Tensor  # (d,)
    bias: Tensor  # (d,)
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


@dataclass(frozen=True, slots=True)
class _Layer:
    """One block: attention, then a two-layer perceptron, each with a residual and a norm."""

    heads: int
    qkv: Linear
    attended: Linear
    norm1: _Norm
    inner: Linear
    outer: Linear
    norm2: _Norm

    def __call__(self, x: Tensor, attend: _Attend) -> Tensor:
        n, d = x.shape
        mixed = attend(self.qkv(x).view(n, 3, self.heads, d // self.heads))
        x = self.norm1(x + self.attended(mixed))
        return self.norm2(x + self.outer(F.gelu(self.inner(x))))


def _attend_each(lengths: Sequence[int], qkv: Tensor) -> Tensor:
    """Let sequences of these lengths, under each other, attend one after the other."""
    mixed = [_attend_alone(sequence) for sequence in torch.split(qkv, list(lengths))]
    return mixed[0] if len(mixed) == 1 else torch.cat(mixed)


def _attend_alone(qkv: Tensor) -> Tensor:
    q, k, v = qkv.permute(1, 2, 0, 3)  # (heads, n, d/heads) each
    mixed = F.scaled_dot_product_attention(q[None], k[None], v[None])[0]
    return mixed.transpose(0, 1).reshape(len(qkv), -1)


def _attend_padded(read: Tensor, dtype: torch.dtype, qkv: Tensor) -> Tensor:
    """Let sequences padded to one length attend in one operation; ``read`` (b, n) is no padding."""
    b, n = read.shape
    q, k, v = qkv.to(dtype).view(b, n, *qkv.shape[1:]).permute(2, 0, 3, 1, 4)  # (b, heads, n, d/h)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=read[:, None, None])
    return mixed.transpose(1, 2).reshape(b * n, -1)


class Bert:
    """An encoder of the BERT family: ids of sequences in, states of two layers out."""

    def __init__(self, shape: Shape, weights: Mapping[str, Tensor], runtime: Runtime) -> None:
        """Widen the matrices; a missing or misshapen tensor is a KeyError or a ValueError."""
        self.shape = shape
        self._dtype = runtime.dtype
        weights = {name: tensor.to(runtime.device) for name, tensor in weights.items()}
        self._words = weights["words.rows"]  # (words, d) int8
        self._word_scales = weights["words.scales"]  # (words, 1)
        self._places = _widened(weights, "positions")  # (positions, d)
        self._norm = _norm(weights, "norm", shape)
        self._layers = [_layer(weights, f"layers.{i}", shape, runtime) for i in range(shape.layers)]
        if self._words.shape != (shape.words, shape.width):
            raise ValueError(f"words: found {tuple(self._words.shape)}, wanted {shape}")

    @torch.inference_mode()
    def __call__(self, sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the final states and those two thirds down, each (n, d), of n ids in all."""
        lengths = [len(sequence) for sequence in sequences]
        places = torch.cat([self._places[:length] for length in lengths])
        return self._states(torch.cat(list(sequences)), places, partial(_attend_each, lengths))

    @torch.inference_mode()
    def padded(self, given: Padded) -> tuple[Tensor, Tensor]:
        """Return the final states and those two thirds down, each (b, n, d), padding and all."""
        b, n = given.ids.shape
        attend = partial(_attend_padded, given.read, self._dtype)
        final, middle = self._states(given.ids.flatten(), self._places[:n].repeat(b, 1), attend)
        return final.view(b, n, -1), middle.view(b, n, -1)

    def _states(self, ids: Tensor, places: Tensor, attend: _Attend) -> tuple[Tensor, Tensor]:
        x = middle = self._norm(self._words[ids] * self._word_scales[ids] + places)
        for number, layer in enumerate(self._layers, 1):
            x = layer(x, attend)
            if number == self.shape.middle:
                middle = x
        return x, middle


def _widened(weights: Mapping[str, Tensor], name: str) -> Tensor:
    return weights[f"{name}.rows"] * weights[f"{name}.scales"]


def _linear(weights: Mapping[str, Tensor], name: str, runtime: Runtime) -> Linear:
    bias = weights[f"{name}.bias"]
    if runtime.arithmetic is Arithmetic.INT8:
        return Int8Linear(weights[f"{name}.rows"].T, weights[f"{name}.scales"][:, 0], bias)
    return FloatLinear(_widened(weights, name).to(runtime.dtype), bias.to(runtime.dtype))


def _norm(weights: Mapping[str, Tensor], name: str, shape: Shape) -> _Norm:
    return _Norm(weights[f"{name}.weight"], weights[f"{name}.bias"], shape.epsilon)


def _layer(weights: Mapping[str, Tensor], name: str, shape: Shape, runtime: Runtime) -> _Layer:
    return _Layer(
        heads=shape.heads,
        qkv=_linear(weights, f"{name}.qkv", runtime),
        attended=_linear(weights, f"{name}.attended", runtime),
        norm1=_norm(weights, f"{name}.norm1", shape),
        inner=_linear(weights, f"{name}.inner", runtime),
        outer=_linear(weights, f"{name}.outer", runtime),
        norm2=_norm(weights, f"{name}.norm2", shape),
    )
