"""Passes of fixed shapes through a model, recorded once on a GPU and replayed from then on.

Theory of operation.  A small model is a hundred small kernels.  Started from Python one by one they
take longer to start than to run, and between any two another thread may take the interpreter's
lock.  Where shapes are fixed CUDA can record the kernels of one pass, and start all of them in one
call.  A recording reads from tensors of its own and writes into others: what is given is copied in,
what is found is copied out, and since every thread queues its work on one stream, in order, a lock
around the three is all that threads need.

A pass that CUDA does not record is run as it is.  Either way its kernels are the same, and so are
its bits.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from threading import Lock
from typing import Any, Final, NamedTuple, TypeAlias

import torch
from torch import Tensor

Run: TypeAlias = Callable[..., tuple[Tensor, ...]]

_WARM_UPS: Final = 2  # passes before one is recorded: libraries choose their kernels in the first


class _Recording(NamedTuple):
    given: tuple[Tensor, ...]
    found: tuple[Tensor, ...]
    graph: Any  # torch.cuda.CUDAGraph


class Recorded:
    """A function of tensors that, on a GPU, is recorded once for every shape of the first.

    It must not look at values, only compute with them.  Any thread may call.  ``run`` is the
    function itself, which starts kernel by kernel.
    """

    def __init__(self, run: Run, *, on_gpu: bool) -> None:
        """Record ``run`` if it is ``on_gpu``; else it is called as it is."""
        self.run = run
        self._records = on_gpu
        self._recordings: dict[torch.Size, _Recording] = {}
        self._lock = Lock()
        self._memory: Any = None  # one for all recordings: they run one after the other

    @torch.inference_mode()
    def __call__(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Return what the function makes of tensors."""
        if self._records:
            with self._lock:
                recording = self._recordings.get(given[0].shape) or self._record(given)
                if recording is not None:
                    return _replayed(recording, given)
        return self.run(*given)  # not behind the lock: threads of a processor run side by side

    def _record(self, given: tuple[Tensor, ...]) -> _Recording | None:
        own = tuple(each.clone() for each in given)
        for _ in range(_WARM_UPS):
            self.run(*own)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._memory, capture_error_mode="thread_local"):
                found = self.run(*own)
        except RuntimeError as error:
            line = str(error).partition("\n")[0]
            warnings.warn(f"CUDA did not record a pass: {line}", RuntimeWarning, stacklevel=2)
            self._records = False
            return None
        self._memory = self._memory or graph.pool()
        recording = _Recording(own, found, graph)
        self._recordings[given[0].shape] = recording
        return recording


def _replayed(recording: _Recording, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    for into, each in zip(recording.given, given, strict=True):
        into.copy_(each)
    recording.graph.replay()
    return tuple(each.clone() for each in recording.found)
