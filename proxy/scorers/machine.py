"""What this machine is good for: its processor, and how fast a backend reads on it."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from proxy.scorers.arithmetic import has_vnni, supports
from proxy.scorers.encoder import EmbeddedEncoder
from proxy.scorers.pooling import ALONE, Ids

_CPUINFO: Final = Path("/proc/cpuinfo")
_TOKENS: Final = 128  # of a window that is measured: a passage's length
_LENGTHS: Final = (3, 17, 40, 90, 128)


@dataclass(frozen=True, slots=True)
class Processor:
    """A processor, and what of it matters to a model."""

    name: str
    capability: str  # the widest instructions that torch uses
    features: tuple[str, ...]  # of vnni, avx512_bf16, amx


def processor() -> Processor:
    """Look at this machine's processor."""
    asked = {
        "vnni": has_vnni(),
        "avx512_bf16": supports("avx512_bf16"),
        "amx": supports("amx_tile"),
    }
    return Processor(
        name=_name(),
        capability=torch.backends.cpu.get_cpu_capability(),
        features=tuple(name for name, there in asked.items() if there),
    )


def _name() -> str:
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    told = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(told, platform.processor() or platform.machine())


def is_steady(encoder: EmbeddedEncoder) -> bool:
    """Try whether windows get the same bits alone, in another order, side by side and together."""
    windows = [_window(encoder, length, seed) for seed, length in enumerate(_LENGTHS)]
    expected = [_bits(encoder, [window])[0] for window in windows]
    with ThreadPoolExecutor(3) as pool:
        beside = list(pool.map(lambda window: _bits(encoder, [window])[0], windows[::-1]))[::-1]
    together = expected if encoder.together == ALONE else _bits(encoder, windows)
    return expected == beside == together


def _bits(encoder: EmbeddedEncoder, windows: Sequence[Ids]) -> list[bytes]:
    return [states.tobytes() for states in encoder.read_together(windows)]


def tokens_per_s(encoder: EmbeddedEncoder, threads: int, seconds: float) -> float:
    """Read windows in ``threads`` threads, side by side, for ``seconds``; return their speed.

    A call reads one, or as many as a call is worth.
    """
    windows = [_window(encoder, _TOKENS, 0)] * max(1, encoder.together.least // _TOKENS)
    encoder.read_together(windows)
    started_s = time.perf_counter()

    def read(_: int) -> int:
        calls = 0
        while not calls or time.perf_counter() - started_s < seconds:
            encoder.read_together(windows)
            calls += 1
        return calls * sum(map(len, windows))

    with ThreadPoolExecutor(threads) as pool:
        total = sum(pool.map(read, range(threads)))
    return total / (time.perf_counter() - started_s)


def _window(encoder: EmbeddedEncoder, tokens: int, seed: int) -> Ids:
    """Draw a window: how fast it is read does not depend on what it says."""
    length = min(tokens, encoder.window)
    return np.random.default_rng(seed).integers(encoder.words, size=length)
