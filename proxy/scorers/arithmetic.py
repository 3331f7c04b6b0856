"""How matrices are multiplied, and where: on the processor or on a GPU.

Theory of operation.  With int8 arithmetic each row of activations (one token) gets a scale of its
own, so what a token becomes does not depend on its neighbours' size, and products are summed as
integers, which is exact in any order: the same token gives the same bits, whatever the processor's
blocking.  On processors with VNNI it is several times faster than float32.  Without VNNI some
kernels saturate 16-bit partial sums, so int8 is offered only where a self-check passes.

A GPU multiplies in bfloat16 and sums in float32, in an order that depends on the shape of what it
is given.  So there the shapes are few and fixed (:mod:`proxy.scorers.shapes`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from proxy.errors import PolicyError
from proxy.scorers import AUTO, CUDA


class Arithmetic(StrEnum):
    """Which numbers a model's matrices are multiplied in."""

    FP32 = "fp32"
    BF16 = "bf16"  # sums float32; what GPUs are made for
    INT8 = "int8"  # activations int8 per token, weights int8 per row, sums int32; processors only


_CPU: Final = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a model is computed in, and where."""

    arithmetic: Arithmetic
    device: torch.device = _CPU
    shape_tokens: int = 0
    """Tokens of a batch, where sums hang on a batch's shape and shapes are fixed for it; or 0."""

    @property
    def name(self) -> str:
        """Arithmetic, torch version and chip: where this differs, the last bits of a score may."""
        version = torch.__version__.partition("+")[0]
        chip = (
            torch.backends.cpu.get_cpu_capability()
            if self.device.type == "cpu"
            else torch.cuda.get_device_name(self.device)
        )
        shaped = f"-{self.shape_tokens}" if self.shape_tokens else ""
        return f"torch-{version}-{self.arithmetic}-{chip.lower().replace(' ', '-')}{shaped}"

    @property
    def dtype(self) -> torch.dtype:
        """The numbers of weights that are not int8."""
        return torch.bfloat16 if self.arithmetic is Arithmetic.BF16 else torch.float32


SHAPE_TOKENS: Final = 8_192
"""Tokens of a batch on a GPU: few enough that a short text hardly waits for the empty rows beside
it, enough that a GPU is worth its while."""

FP32: Final = Runtime(Arithmetic.FP32)
INT8: Final = Runtime(Arithmetic.INT8)


class Linear(Protocol):
    """A matrix, and a bias if there is one."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return x (n, in) times the matrix, plus the bias: (n, out)."""


@dataclass(frozen=True, slots=True)
class FloatLinear:
    """Float32 throughout or, with weights in bfloat16, inputs and products rounded to that."""

    weight: Tensor  # (out, in)
    bias: Tensor | None = None  # (out,)

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply; sums are float32 wherever the chip can, what comes back is as the weights."""
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class Int8Linear:
    """Integer products; one scale per token and one per row of weights."""

    columns: Tensor  # (in, out) int8: the transposed view of (out, in) rows
    scales: Tensor  # (out,)
    bias: Tensor | None = None  # (out,)

    def __call__(self, x: Tensor) -> Tensor:
        """Round each token's activations to int8, multiply exactly, scale back."""
        scale = x.abs().amax(dim=1, keepdim=True).clamp_min_(1e-12).div_(127)  # (n, 1)
        rows = (x / scale).round_().to(torch.int8)
        found = _product(rows, self.columns).float().mul_(scale).mul_(self.scales)
        return found if self.bias is None else found.add_(self.bias)


def placed(model: Any, runtime: Runtime) -> Any:
    """Bring a module's weights into a runtime's numbers, and all of it to its device.

    What is computed with but not learnt (the frequencies of rotary positions) stays float32:
    rounded, it would be off by more the further a text goes.
    """
    for weight in model.parameters():
        weight.data = weight.data.to(runtime.dtype)
    return model.to(runtime.device)


def one_thread() -> None:
    """Let each operation run in the thread that asks for it; the engine runs several of those.

    OpenMP's own threads wait for each other by spinning: with other work on the cores that was
    measured to cost 8 ms per operation, and the sums they split need not add up alike.
    """
    torch.set_num_threads(1)


def best() -> Runtime:
    """Return what suits the processor: int8 where it has VNNI and is exact, else float32."""
    return INT8 if has_vnni() and int8_is_exact() else FP32


def automatic() -> Runtime:
    """Return what suits the machine: its GPU or, without one, its processor."""
    return on_gpu() if has_gpu() else best()


def has_gpu() -> bool:
    """Tell whether torch finds a GPU that it can use."""
    return torch.cuda.is_available()


def on_gpu() -> Runtime:
    """Return what suits a GPU: bfloat16 or, on one that lacks it, float32."""
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    found = Arithmetic.BF16 if native else Arithmetic.FP32
    return Runtime(found, torch.device("cuda"), SHAPE_TOKENS)


def chosen(backend: str) -> Runtime:
    """Return the runtime of a setting: ``auto`` suits the machine; PolicyError for a wrong one.

    int8 by name needs no VNNI, only sums that are exact: another processor may do it well, too.
    """
    if backend == AUTO:
        return automatic()
    if backend == CUDA:
        if not has_gpu():
            raise PolicyError(
                f"LACONIC_BACKEND: found cuda, and torch {torch.__version__} finds no such GPU,"
                " wanted auto, int8 or fp32"
            )
        return on_gpu()
    named = {FP32.arithmetic: FP32, INT8.arithmetic: INT8}
    if backend not in named:
        wanted = ", ".join([AUTO, *named, CUDA])
        raise PolicyError(f"LACONIC_BACKEND: found {backend!r}, wanted one of {wanted}")
    if backend == Arithmetic.INT8 and not int8_is_exact():
        raise PolicyError(
            "LACONIC_BACKEND: found int8, which this processor does not multiply exactly,"
            " wanted fp32 or auto"
        )
    return named[Arithmetic(backend)]


def through_transformers(backend: str) -> Runtime:
    """Return the runtime of a setting for models that come without int8: float32, or a GPU's."""
    found = chosen(backend)
    return FP32 if found.arithmetic is Arithmetic.INT8 else found


def int8_is_exact() -> bool:
    """Multiply the largest int8 numbers, at widths that encoders use, and compare with int64."""
    generator = torch.Generator().manual_seed(0)
    for n, width, out in ((1, 384, 384), (7, 1536, 384), (130, 384, 1536)):
        rows = torch.randint(100, 128, (n, width), generator=generator)
        columns = torch.randint(100, 128, (out, width), generator=generator).T
        columns[:, ::3] *= -1
        found = _product(rows.to(torch.int8), columns.T.contiguous().to(torch.int8).T)
        if not torch.equal(found.double(), rows.double() @ columns.double()):
            return False
    return True


def _product(rows: Tensor, columns: Tensor) -> Tensor:
    """Multiply int8 (n, in) by int8 (in, out): int32 (n, out)."""
    return torch._int_mm(rows, columns)  # noqa: SLF001 - torch has no public name for it


def has_vnni() -> bool:
    """Tell whether the processor multiplies int8 numbers four at a time (AVX512-VNNI)."""
    return supports("vnni")


def supports(feature: str) -> bool:
    """Ask torch whether the processor has a feature; it has no public name for the question."""
    asked = getattr(torch.cpu, f"_is_{feature}_supported", None)
    return asked is not None and bool(asked())
