"""What could run the encoder: each candidate loads the shipped weights and reads windows.

A candidate is one thing that was tried.  Those that Laconic offers are its own code; the others
live here, and whatever they need is imported when they load, so that a benchmark without ONNX
Runtime, say, measures the rest.
"""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from proxy.scorers.arithmetic import FP32, INT8, Linear, Runtime
from proxy.scorers.encoder import MODELS, EmbeddedEncoder
from proxy.scorers.pooling import Ids
from runtime_graphs import Shape, Weights, onnx_graph, openvino_graph

FOLDER = MODELS / "all-minilm-l6-v2"

States: TypeAlias = NDArray[np.float32]
Read: TypeAlias = Callable[[Ids], States]
"""Ids of a window (n,), special tokens left out, to its final states (n, d)."""

Make: TypeAlias = Callable[[Tensor, Tensor, Tensor], Linear]
"""A matrix as int8 rows (out, in), their scales (out, 1) and a bias, to what multiplies by it."""


@dataclass(frozen=True)
class Candidate:
    """One way to run the encoder; ``needs`` are the packages that it stands on."""

    name: str
    load: Callable[[], Read]
    needs: tuple[str, ...] = ()
    slow: bool = False  # takes a minute or more to load

    @property
    def missing(self) -> list[str]:
        """Name the packages that are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


def candidates() -> list[Candidate]:
    """Return what is tried, the baseline first."""
    return [
        Candidate("torch fp32", lambda: _ours(FP32)),
        Candidate("torch int8", lambda: _ours(INT8)),
        Candidate("torch int8, 2 threads in an operation", _two_threads),
        Candidate("torch fp32, oneDNN packed", lambda: _variant(_Packed.fp32)),
        Candidate("torch bf16, oneDNN packed", lambda: _variant(_Packed.bf16)),
        Candidate("torch int8, oneDNN packed", lambda: _variant(_PackedInt8)),
        Candidate("torch.compile, fp32", lambda: _compiled(FP32), slow=True),
        Candidate("torch.compile, int8", lambda: _compiled(INT8), slow=True),
        Candidate("torchao int8", _torchao, ("torchao",)),
        *(
            Candidate(
                f"ONNX Runtime {name}",
                lambda kind=kind: _onnx(kind),  # type: ignore[misc]
                ("onnx", "onnxruntime"),
            )
            for name, kind in (
                ("fp32", "fp32"),
                ("int8, a scale per window", "window"),
                ("int8, a scale per token", "token"),
                ("int8, a scale per 128 columns", "blocks"),
            )
        ),
        *(
            Candidate(
                f"OpenVINO {name}",
                lambda options=options: _openvino(**options),  # type: ignore[misc]
                ("openvino",),
            )
            for name, options in (
                ("fp32", {"int8": False, "precision": "f32"}),
                ("bf16", {"int8": False, "precision": "bf16"}),
                ("int8, a scale per 128 columns", {"int8": True, "precision": "f32"}),
            )
        ),
    ]


def _ours(runtime: Runtime) -> Read:
    encoder = EmbeddedEncoder(runtime=runtime)
    return lambda ids: encoder.read(ids).final


def _two_threads() -> Read:
    """Let OpenMP share each operation out; what is read beside it must do without."""
    read = _ours(INT8)

    def shared(ids: Ids) -> States:
        torch.set_num_threads(2)
        try:
            return read(ids)
        finally:
            torch.set_num_threads(1)

    return shared


def _stored() -> tuple[Shape, Weights, list[int], list[int]]:
    config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    weights = {
        name: tensor.numpy() for name, tensor in load_file(FOLDER / "model.safetensors").items()
    }
    return config["shape"], weights, config["special"]["head"], config["special"]["tail"]


# -- other matrices in our own forward pass --------------------------------------------------------


def _variant(make: Make) -> Read:
    encoder = EmbeddedEncoder(runtime=FP32)
    _replace_linears(encoder, make)
    return lambda ids: encoder.read(ids).final


def _replace_linears(encoder: EmbeddedEncoder, make: Make) -> None:
    weights = load_file(FOLDER / "model.safetensors")
    layers = encoder._bert._layers  # noqa: SLF001 - a benchmark tries other insides

    def made(number: int, name: str) -> Linear:
        rows, scales, bias = (
            weights[f"layers.{number}.{name}.{part}"] for part in ("rows", "scales", "bias")
        )
        return make(rows, scales, bias)

    for number, layer in enumerate(layers):
        layers[number] = replace(
            layer,
            qkv=made(number, "qkv"),
            attended=made(number, "attended"),
            inner=made(number, "inner"),
            outer=made(number, "outer"),
        )


class _Packed:
    """A matrix in oneDNN's own layout, in float32 or bf16; what comes out is float32."""

    def __init__(self, rows: Tensor, scales: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        self._dtype, self._bias = dtype, bias.to(dtype)
        self._packed = torch.ops.mkldnn._reorder_linear_weight((rows * scales).to(dtype))  # noqa: SLF001

    @classmethod
    def fp32(cls, rows: Tensor, scales: Tensor, bias: Tensor) -> _Packed:
        return cls(rows, scales, bias, torch.float32)

    @classmethod
    def bf16(cls, rows: Tensor, scales: Tensor, bias: Tensor) -> _Packed:
        return cls(rows, scales, bias, torch.bfloat16)

    def __call__(self, x: Tensor) -> Tensor:
        given = x.to(self._dtype)
        found: Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001
            given, self._packed, self._bias, "none", [], ""
        )
        return found.float()


class _PackedInt8:
    """Our int8 product on packed weights; those want unsigned rows, shifted by 128."""

    def __init__(self, rows: Tensor, scales: Tensor, bias: Tensor) -> None:
        self._packed = torch.ops.onednn.qlinear_prepack(rows, None)
        self._scales, self._bias = scales[:, 0].contiguous(), bias
        self._zeros = torch.zeros(len(rows), dtype=torch.int64)

    def __call__(self, x: Tensor) -> Tensor:
        scale = x.abs().amax(dim=1, keepdim=True).clamp_min_(1e-12).div_(127)
        rows = (x / scale).round_().to(torch.int8).view(torch.uint8).bitwise_xor_(128)
        found: Tensor = torch.ops.onednn.qlinear_pointwise(
            rows, 1.0, 128, self._packed, self._scales, self._zeros, None,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return found.mul_(scale).add_(self._bias)


def _compiled(runtime: Runtime) -> Read:
    encoder = EmbeddedEncoder(runtime=runtime)
    layers = encoder._bert._layers  # noqa: SLF001
    compiled: list[Any] = [torch.compile(layer, dynamic=True) for layer in layers]
    layers[:] = compiled
    for length in (40, 90, 200):  # shapes that make it compile
        encoder.read(np.arange(1000, 1000 + length))
    return lambda ids: encoder.read(ids).final


def _torchao() -> Read:
    from torchao.quantization import (  # noqa: PLC0415
        Int8DynamicActivationInt8WeightConfig,
        quantize_,
    )

    def make(rows: Tensor, scales: Tensor, bias: Tensor) -> Linear:
        module = nn.Linear(rows.shape[1], rows.shape[0])
        module.weight = nn.Parameter(rows * scales, requires_grad=False)
        module.bias = nn.Parameter(bias.float(), requires_grad=False)
        quantize_(holder := nn.Sequential(module), Int8DynamicActivationInt8WeightConfig())
        return holder

    return _variant(make)


# -- other runtimes --------------------------------------------------------------------------------


def _onnx(kind: str) -> Read:
    import onnxruntime as ort  # noqa: PLC0415

    shape, weights, head, tail = _stored()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(
        onnx_graph(weights, shape, kind), options, providers=["CPUExecutionProvider"]
    )

    def read(ids: Ids) -> States:
        framed = np.array([*head, *ids.tolist(), *tail], dtype=np.int64)
        found: States = session.run(["final"], {"ids": framed})[0]
        return found[len(head) : len(head) + len(ids)]

    return read


def _openvino(*, int8: bool, precision: str) -> Read:
    import openvino as ov  # noqa: PLC0415

    shape, weights, head, tail = _stored()
    told: Mapping[str, str] = {
        "INFERENCE_NUM_THREADS": "2",
        "NUM_STREAMS": "2",  # a thread each: two windows side by side
        "INFERENCE_PRECISION_HINT": precision,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "128" if int8 else "0",
    }
    model = ov.Core().compile_model(openvino_graph(weights, shape, int8=int8), "CPU", told)
    own = threading.local()

    def read(ids: Ids) -> States:
        if not hasattr(own, "request"):
            own.request = model.create_infer_request()
        framed = np.array([*head, *ids.tolist(), *tail], dtype=np.int64)
        found: States = own.request.infer({0: framed})[0]
        return found[len(head) : len(head) + len(ids)].copy()

    return read
