"""The shipped encoder as a graph of ONNX and of OpenVINO, written out from its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Weights: TypeAlias = Mapping[str, NDArray[Any]]
Shape: TypeAlias = Mapping[str, Any]

_BLOCK = 128
_CONTRIB = "com.microsoft"


class _Onnx:
    """Collects the nodes of a graph; each method adds some and returns the name of their output."""

    def __init__(self, weights: Weights, shape: Shape, kind: str) -> None:
        from onnx import helper, numpy_helper  # noqa: PLC0415

        self._helper, self._array = helper, numpy_helper.from_array
        self._weights, self._shape, self._kind = weights, shape, kind
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, *inputs: str, outputs: int = 1, domain: str = "", **told: Any) -> Any:
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(self._helper.make_node(kind, inputs, names, domain=domain, **told))
        return names[0] if outputs == 1 else names

    def constant(self, array: Any) -> str:
        self.constants.append(self._array(np.ascontiguousarray(array), f"c{len(self.constants)}"))
        return str(self.constants[-1].name)

    def linear(self, x: str, name: str) -> Any:
        rows, scales, bias = (self._weights[f"{name}.{p}"] for p in ("rows", "scales", "bias"))
        if self._kind == "window":
            return self.add(
                "DynamicQuantizeMatMul", x, self.constant(rows.T), self.constant(scales[:, 0]),
                "", self.constant(bias), domain=_CONTRIB,
            )  # fmt: skip
        if self._kind == "token":
            return self._by_token(x, rows, scales, bias)
        if self._kind == "blocks":
            return self._by_block(x, rows, scales, bias)
        product = self.add("MatMul", x, self.constant((rows * scales).T.astype(np.float32)))
        return self.add("Add", product, self.constant(bias))

    def _by_token(self, x: str, rows: Any, scales: Any, bias: Any) -> Any:
        top = self.add("ReduceMax", self.add("Abs", x), self.constant(np.array([1])), keepdims=1)
        scale = self.add("Mul", top, self.constant(np.float32(1 / 127)))
        whole = self.add("Cast", self.add("Round", self.add("Div", x, scale)), to=3)  # int8
        found = self.add("Cast", self.add("MatMulInteger", whole, self.constant(rows.T)), to=1)
        scaled = self.add("Mul", self.add("Mul", found, scale), self.constant(scales[:, 0]))
        return self.add("Add", scaled, self.constant(bias))

    def _by_block(self, x: str, rows: Any, scales: Any, bias: Any) -> Any:
        out, width = rows.shape
        blocks = (rows.astype(np.int16) + 128).astype(np.uint8).reshape(out, -1, _BLOCK)
        repeated = np.repeat(scales, width // _BLOCK, axis=1).astype(np.float32)
        return self.add(
            "MatMulNBits", x, self.constant(blocks), self.constant(repeated.flatten()),
            "", "", self.constant(bias), domain=_CONTRIB,
            K=width, N=out, bits=8, block_size=_BLOCK, accuracy_level=4,
        )  # fmt: skip

    def norm(self, x: str, name: str) -> Any:
        weight, bias = (self.constant(self._weights[f"{name}.{p}"]) for p in ("weight", "bias"))
        epsilon = float(self._shape["epsilon"])
        return self.add("LayerNormalization", x, weight, bias, axis=-1, epsilon=epsilon)

    def embedded(self) -> Any:
        weights, zero = self._weights, self.constant(np.array([0]))
        words = self.add(
            "Cast", self.add("Gather", self.constant(weights["words.rows"]), "ids"), to=1
        )
        scales = self.add("Gather", self.constant(weights["words.scales"]), "ids")
        places = (weights["positions.rows"] * weights["positions.scales"]).astype(np.float32)
        here = self.add("Slice", self.constant(places), zero, self.add("Shape", "ids"), zero)
        return self.norm(self.add("Add", self.add("Mul", words, scales), here), "norm")

    def layer(self, x: str, name: str) -> Any:
        one = self.constant(np.array([0]))
        parts = self.add("Split", self.linear(x, f"{name}.qkv"), outputs=3, axis=1, num_outputs=3)
        q, k, v = (self.add("Unsqueeze", part, one) for part in parts)
        heads = int(self._shape["heads"])
        mixed = self.add("MultiHeadAttention", q, k, v, domain=_CONTRIB, num_heads=heads)
        attended = self.linear(self.add("Squeeze", mixed, one), f"{name}.attended")
        x = self.norm(self.add("Add", x, attended), f"{name}.norm1")
        inner = self.add("Gelu", self.linear(x, f"{name}.inner"), domain=_CONTRIB)
        return self.norm(self.add("Add", x, self.linear(inner, f"{name}.outer")), f"{name}.norm2")


def onnx_graph(weights: Weights, shape: Shape, kind: str) -> bytes:
    """Return the graph ``ids`` (n,) -> ``final`` (n, d).

    Kinds of matrices: ``fp32``; int8 with one scale for all activations of a window (``window``),
    one per token (``token``), or one per token and 128 columns (``blocks``).
    """
    from onnx import helper  # noqa: PLC0415

    made = _Onnx(weights, shape, kind)
    x = made.embedded()
    for number in range(shape["layers"]):
        x = made.layer(x, f"layers.{number}")
    made.nodes.append(helper.make_node("Identity", [x], ["final"]))
    ids = helper.make_tensor_value_info("ids", 7, ["n"])
    final = helper.make_tensor_value_info("final", 1, ["n", shape["width"]])
    graph = helper.make_graph(made.nodes, "bert", [ids], [final], made.constants)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(_CONTRIB, 1)]
    model: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    return model


def openvino_graph(weights: Weights, shape: Shape, *, int8: bool) -> Any:
    """Return the same as a model of OpenVINO; with ``int8`` weights stay int8, per row."""
    import openvino as ov  # noqa: PLC0415
    import openvino.opset13 as op  # noqa: PLC0415

    heads, width = int(shape["heads"]), int(shape["width"])
    ids = op.parameter([-1], np.int64, name="ids")
    zero = op.constant(np.array(0, np.int64))

    def constant(array: Any) -> Any:
        return op.constant(np.ascontiguousarray(array))

    def ints(*values: int) -> Any:
        return op.constant(np.array(values, np.int64))

    def linear(x: Any, name: str) -> Any:
        rows, scales, bias = (weights[f"{name}.{part}"] for part in ("rows", "scales", "bias"))
        widened = op.multiply(op.convert(constant(rows), np.float32), constant(scales))
        plain = constant((rows * scales).astype(np.float32))
        return op.add(op.matmul(x, widened if int8 else plain, False, True), constant(bias))

    def norm(x: Any, name: str) -> Any:
        epsilon = float(shape["epsilon"])
        found = op.mvn(x, ints(1), True, epsilon, "INSIDE_SQRT")
        scaled = op.multiply(found, constant(weights[f"{name}.weight"]))
        return op.add(scaled, constant(weights[f"{name}.bias"]))

    def layer(x: Any, name: str) -> Any:
        apart = ints(1, -1, 3, heads, width // heads)
        qkv = op.reshape(linear(x, f"{name}.qkv"), apart, False)
        parts = op.split(op.transpose(qkv, ints(2, 0, 3, 1, 4)), zero, 3).outputs()
        mixed = op.scaled_dot_product_attention(*(op.squeeze(part, ints(0)) for part in parts))
        joined = op.reshape(op.transpose(mixed, ints(0, 2, 1, 3)), ints(-1, width), False)
        x = norm(op.add(x, linear(joined, f"{name}.attended")), f"{name}.norm1")
        inner = op.gelu(linear(x, f"{name}.inner"), "erf")
        return norm(op.add(x, linear(inner, f"{name}.outer")), f"{name}.norm2")

    words = op.gather(op.convert(constant(weights["words.rows"]), np.float32), ids, zero)
    scaled = op.multiply(words, op.gather(constant(weights["words.scales"]), ids, zero))
    places = constant((weights["positions.rows"] * weights["positions.scales"]).astype(np.float32))
    here = op.slice(places, ints(0), op.shape_of(ids), ints(1), ints(0))
    x = norm(op.add(scaled, here), "norm")
    for number in range(shape["layers"]):
        x = layer(x, f"layers.{number}")
    return ov.Model([op.result(x)], [ids])
