"""How matrices are multiplied: float32 anywhere, or int8 where the processor does it exactly.

Theory of operation.  With int8 arithmetic each row of activations (one token) gets a scale of its
own, so what a token becomes does not depend on its neighbours' size, and products are summed as
integers, which is exact in any order: the same token gives the same bits, whatever the processor's
blocking.  On processors with VNNI it is several times faster than float32.  Without VNNI some
kernels saturate 16-bit partial sums, so int8 is offered only where a self-check passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from proxy.errors import PolicyError
from proxy.scorers import AUTO


class Arithmetic(StrEnum):
    """Which numbers a model's matrices are multiplied in."""

    FP32 = "fp32"
    INT8 = "int8"  # activations int8 per token, weights int8 per row, sums int32


class Linear(Protocol):
    """A matrix and a bias."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return x (n, in) times the matrix, plus the bias: (n, out)."""


@dataclass(frozen=True, slots=True)
class Fp32Linear:
    """Float32 throughout."""

    weight: Tensor  # (out, in)
    bias: Tensor  # (out,)

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply in float32."""
        return F.linear(x, self.weight, self.bias)


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


def one_thread() -> None:
    """Let each operation run in the thread that asks for it; the engine runs several of those.

    OpenMP's own threads wait for each other by spinning: with other work on the cores that was
    measured to cost 8 ms per operation, and the sums they split need not add up alike.
    """
    torch.set_num_threads(1)


def best() -> Arithmetic:
    """Return int8 where the processor has VNNI and multiplies exactly, float32 elsewhere."""
    return Arithmetic.INT8 if has_vnni() and int8_is_exact() else Arithmetic.FP32


def chosen(backend: str) -> Arithmetic:
    """Return the arithmetic of a setting: ``auto`` is the best; raises PolicyError for a wrong one.

    int8 by name needs no VNNI, only sums that are exact: another processor may do it well, too.
    """
    if backend == AUTO:
        return best()
    if backend not in set(Arithmetic):
        wanted = ", ".join([AUTO, *Arithmetic])
        raise PolicyError(f"LACONIC_BACKEND: found {backend!r}, wanted one of {wanted}")
    if backend == Arithmetic.INT8 and not int8_is_exact():
        raise PolicyError(
            "LACONIC_BACKEND: found int8, which this processor does not multiply exactly,"
            " wanted fp32 or auto"
        )
    return Arithmetic(backend)


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


def fp32_name() -> str:
    """Name float32 arithmetic: where this differs, the last bits of a vector may."""
    return backend_name(Arithmetic.FP32)


def backend_name(arithmetic: Arithmetic) -> str:
    """Name arithmetic, torch version and instruction set."""
    version = torch.__version__.partition("+")[0]
    return f"torch-{version}-{arithmetic}-{torch.backends.cpu.get_cpu_capability().lower()}"


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
