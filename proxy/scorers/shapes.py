"""What is read in one call: rows of even length, or batches of a few fixed shapes.

Theory of operation.  A GPU sums in an order that depends on the shape of what it multiplies, so a
text's bits would move with whatever shares its batch (law 9).  Hence few shapes, and always whole
ones: a row's length is rounded up to a power of two, every batch of a length has the same number
of rows, and rows that nobody asked for are read as well.  Of a batch at least one row stays empty,
so that the mask of padding is never all true: libraries drop such a mask and compute another way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from proxy.scorers.arithmetic import Runtime
from proxy.scorers.pooling import ALONE, Ids, Together

Scored: TypeAlias = NDArray[np.float32]
Read: TypeAlias = Callable[[Sequence[Ids]], Sequence[Scored]]

_SHORTEST: Final = 64  # tokens of a row where shapes are fixed
_ALONE: Final = 14  # windows, at most, that are tried alone
_FILLING: Final = 16  # batches of tokens, about, that it takes to fill one of every shape


class Batch(NamedTuple):
    """Rows that are read together, by number, and the shape that they are padded to."""

    numbers: Sequence[int]
    shape: tuple[int, int]  # rows, tokens


@dataclass(frozen=True, slots=True)
class Frame:
    """The special tokens that a model wants before and after a window."""

    head: Sequence[int]
    tail: Sequence[int]

    def __len__(self) -> int:
        """Count them."""
        return len(self.head) + len(self.tail)

    def around(self, windows: Sequence[Ids]) -> list[Ids]:
        """Put them around windows."""
        head, tail = np.array(self.head, dtype=np.int64), np.array(self.tail, dtype=np.int64)
        return [np.concatenate((head, ids, tail)) for ids in windows]

    def taken_off(self, found: Sequence[Scored]) -> list[Scored]:
        """Leave out what was found for them: (n + specials, ...) to (n, ...)."""
        return [each[len(self.head) : len(each) - len(self.tail)] for each in found]


class Padded(NamedTuple):
    """Sequences under each other, each filled up on the right."""

    ids: Tensor  # (b, n) int64
    read: Tensor  # (b, n) bool: no padding; of a row without a sequence the first token alone


def batches(lengths: Sequence[int], limit: int) -> Iterator[Batch]:
    """Group rows, longest first, so that rows times the longest row is at most ``limit``.

    A row longer than the limit is a batch of its own.

    >>> [(batch.numbers, batch.shape) for batch in batches([2, 9, 4, 3], 8)]
    [([1], (1, 9)), ([2, 3], (2, 4)), ([0], (1, 2))]
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and lengths[batch[0]] * (len(batch) + 1) > limit:
            yield Batch(batch, (len(batch), lengths[batch[0]]))
            batch = []
        batch.append(index)
    if batch:
        yield Batch(batch, (len(batch), lengths[batch[0]]))


def shaped_batches(lengths: Sequence[int], limit: int, longest: int) -> Iterator[Batch]:
    """Group rows so that all batches of a length have one shape, of at most ``limit`` tokens.

    Lengths are rounded up to powers of two, at least ``_SHORTEST`` and at most ``longest``.  The
    last row of a batch stays empty; so a batch has two rows at least, whatever the limit.

    >>> [(batch.numbers, batch.shape) for batch in shaped_batches([70, 9, 100, 90], 384, 2048)]
    [([1], (6, 64)), ([0, 2], (3, 128)), ([3], (3, 128))]
    """
    by_length: dict[int, list[int]] = {}
    for number, length in enumerate(lengths):
        rounded = min(max(_SHORTEST, 1 << (length - 1).bit_length()), longest)
        by_length.setdefault(rounded, []).append(number)
    for length, numbers in sorted(by_length.items()):
        rows = max(2, limit // length)
        for start in range(0, len(numbers), rows - 1):
            yield Batch(numbers[start : start + rows - 1], (rows, length))


def batches_on(runtime: Runtime, lengths: Sequence[int], longest: int) -> Iterator[Batch]:
    """Group rows as a runtime reads them: into fixed shapes, or each by itself and unpadded."""
    if runtime.shape_tokens:
        return shaped_batches(lengths, runtime.shape_tokens, longest)
    return (Batch([number], (1, length)) for number, length in enumerate(lengths))


def together(runtime: Runtime, read: Read, words: int, window: int) -> Together:
    """Return what is well taken at once: whole batches, where windows score alike in any company.

    ``read`` scores windows of up to ``window`` of ``words`` words.
    """
    if not runtime.shape_tokens or not reads_alike(read, _tried(runtime, window), words):
        return ALONE
    return Together(runtime.shape_tokens, 2 * runtime.shape_tokens)


def reads_alike(read: Read, lengths: Sequence[int], words: int) -> bool:
    """Try whether windows read together get the bits that they get alone.

    They should: integer products are exact, and elsewhere shapes are fixed.  This asks the chip.
    """
    draw = np.random.default_rng(0)
    windows = [draw.integers(words, size=length) for length in lengths]
    pairs = list(zip(windows, read(windows), strict=True))
    some = pairs[:: -(-len(pairs) // _ALONE)]
    return all(np.array_equal(among, read([alone])[0]) for alone, among in some)


def _tried(runtime: Runtime, window: int) -> list[int]:
    """Return lengths of windows that fill batches of every shape."""
    lengths = [1, min(_SHORTEST - 2, window)]
    while lengths[-1] < window:
        lengths.append(min(2 * lengths[-1], window))
    return lengths * (_FILLING * runtime.shape_tokens // sum(lengths) + 1)


def read_all(
    sequences: Sequence[Ids], runtime: Runtime, longest: int, run: Callable[[Padded], Tensor]
) -> list[Scored]:
    """Read sequences, in batches of fixed shapes or each by itself; return their rows: (n, ...).

    ``run`` makes (b, n, ...) of a batch.  Nothing waits for the GPU before every batch is on it.
    """
    lengths = [len(sequence) for sequence in sequences]
    calls = []
    for batch in batches_on(runtime, lengths, longest):
        chosen = [sequences[number] for number in batch.numbers]
        given, rows = _padded(chosen, batch.shape, runtime.device)
        calls.append((batch.numbers, run(given).flatten(0, 1).index_select(0, rows).float()))
    found: dict[int, Scored] = {}
    for numbers, states in calls:
        ends = np.cumsum([lengths[number] for number in numbers])
        found.update(zip(numbers, np.split(states.cpu().numpy(), ends[:-1]), strict=True))
    return [found[number] for number in range(len(sequences))]


def _padded(
    sequences: Sequence[Ids], shape: tuple[int, int], device: torch.device
) -> tuple[Padded, Tensor]:
    """Lay sequences into ``shape``; return them, and where their tokens lie in it, row by row."""
    ids = np.zeros(shape, dtype=np.int64)
    read = np.zeros(shape, dtype=bool)
    for number, sequence in enumerate(sequences):
        ids[number, : len(sequence)] = sequence
        read[number, : len(sequence)] = True
    rows = np.flatnonzero(read)
    read[len(sequences) :, 0] = True
    on_device = [torch.from_numpy(array).to(device) for array in (ids, read, rows)]
    return Padded(*on_device[:2]), on_device[2]
