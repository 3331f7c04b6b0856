"""What is read in one call: rows of even length, or batches of a few fixed shapes.

Theory of operation.  A GPU sums in an order that depends on the shape of what it multiplies, so a
text's bits would move with whatever shares its batch (law 9).  Hence few shapes, and always whole
ones: a row's length is rounded up to one of a few, every batch of a length has the same number
of rows, and rows that nobody asked for are read as well.  Where padding is masked at least one row
of a batch stays empty, so that the mask is never all true: libraries drop such a mask and compute
another way.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray
from torch import Tensor

from proxy.scorers.arithmetic import Runtime
from proxy.scorers.pooling import ALONE, Ids, Sums, Together, Window

Scored: TypeAlias = NDArray[np.float32]
Read: TypeAlias = Callable[[Sequence[Ids]], Sequence[NDArray[Any]]]

_SHORTEST: Final = 64  # tokens of a row where shapes are fixed
_ALONE: Final = 14  # windows, about, that are tried alone
_BATCHES: Final = 4  # that are well read in one call: of each length, the last is not full
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

    def with_ranges(self, windows: Sequence[Window]) -> list[Window]:
        """Put them around windows; ranges stay with the tokens that they are of."""
        whole = self.around([window.ids for window in windows])
        return [
            Window(ids, window.ranges + len(self.head))
            for ids, window in zip(whole, windows, strict=True)
        ]

    def taken_off(self, found: Sequence[Scored]) -> list[Scored]:
        """Leave out what was found for them: (n + specials, ...) to (n, ...)."""
        return [each[len(self.head) : len(each) - len(self.tail)] for each in found]


class Padded(NamedTuple):
    """Sequences under each other, each filled up on the right."""

    ids: Tensor  # (b, n) int64
    read: Tensor  # (b, n) bool: no padding; of a row without a sequence the first token alone


class _Places(NamedTuple):
    """What of a batch is brought back: tokens, or ranges of them, and the rows that they lie in."""

    rows: Tensor  # (m,)
    tokens: Tensor  # (m,), or (m, 2) for ranges [first, last)


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


def shaped_batches(
    lengths: Sequence[int], limit: int, longest: int, empty: int = 1
) -> Iterator[Batch]:
    """Group rows so that all batches of a length have one shape, of at most ``limit`` tokens.

    Lengths are rounded up to those of ``row_lengths``.  The last ``empty`` rows of a batch stay
    so, and one row at least does not, whatever the limit.

    >>> [(batch.numbers, batch.shape) for batch in shaped_batches([70, 9, 90, 97], 384, 2048)]
    [([1], (6, 64)), ([0, 2], (4, 96)), ([3], (3, 128))]
    """
    rounded = row_lengths(longest)
    by_length: dict[int, list[int]] = {}
    for number, length in enumerate(lengths):
        by_length.setdefault(rounded[bisect_left(rounded, length)], []).append(number)
    for length, numbers in sorted(by_length.items()):
        full = max(1, limit // length - empty)
        for start in range(0, len(numbers), full):
            yield Batch(numbers[start : start + full], (full + empty, length))


def row_lengths(longest: int) -> list[int]:
    """Return the lengths of rows where shapes are fixed: powers of two, and half-way between.

    >>> row_lengths(300)
    [64, 96, 128, 192, 256, 300]
    """
    found, half = [], _SHORTEST
    while half < longest:
        found += [half, half + half // 2]
        half *= 2
    return [length for length in found if length < longest] + [longest]


def batches_on(
    runtime: Runtime, lengths: Sequence[int], longest: int, empty: int = 1
) -> Iterator[Batch]:
    """Group rows as a runtime reads them: into fixed shapes, or each by itself and unpadded."""
    if runtime.shape_tokens:
        return shaped_batches(lengths, runtime.shape_tokens, longest, empty)
    return (Batch([number], (1, length)) for number, length in enumerate(lengths))


def together(runtime: Runtime, read: Read, words: int, window: int, specials: int) -> Together:
    """Return what is well taken at once: whole batches, where windows score alike in any company.

    ``read`` scores windows of up to ``window`` of ``words`` words, each as a row that is longer by
    ``specials``.
    """
    most = _BATCHES * runtime.shape_tokens
    if not most:
        return ALONE
    lengths = [1, *(n - specials for n in row_lengths(window + specials) if n > specials + 1)]
    repeats = _FILLING * runtime.shape_tokens // sum(lengths) + 1
    alike = reads_alike(read, lengths, repeats, words)
    return Together(runtime.shape_tokens, most) if alike else ALONE


def reads_alike(read: Read, lengths: Sequence[int], repeats: int, words: int) -> bool:
    """Try whether windows read together, so many of each length, get the bits they get alone.

    They should: integer products are exact, and elsewhere shapes are fixed.  This asks the chip.
    """
    draw = np.random.default_rng(0)
    windows = [draw.integers(words, size=length) for length in list(lengths) * repeats]
    among = read(windows)
    tried = max(len(lengths), min(_ALONE, len(windows)))
    some = [  # of every length, here and there in the batches
        number % len(lengths) + len(lengths) * (number * repeats // tried)
        for number in range(tried)
    ]
    return all(np.array_equal(among[number], read([windows[number]])[0]) for number in some)


def read_all(
    sequences: Sequence[Ids], runtime: Runtime, longest: int, run: Callable[[Padded], Tensor]
) -> list[Scored]:
    """Read sequences, in batches of fixed shapes or each by itself; return their rows: (n, ...).

    ``run`` makes (b, n, ...) of a batch.
    """

    def states(given: Padded, places: _Places) -> Tensor:
        return run(given)[places.rows, places.tokens].float()

    every = [np.arange(len(sequence)) for sequence in sequences]
    return _in_batches(sequences, every, runtime, longest, states)


def sum_all(
    windows: Sequence[Window], runtime: Runtime, longest: int, run: Callable[[Padded], Tensor]
) -> list[Sums]:
    """Read windows likewise; return the sums over their ranges: (k, d), float64.

    Each is the difference of two running sums of its row, so that nothing beside the row is in it,
    and no order of summing is left to chance.
    """

    def sums(given: Padded, places: _Places) -> Tensor:
        upto = F.pad(run(given), (0, 0, 1, 0)).cumsum(1, dtype=torch.float64)  # (b, 1 + n, d)
        first, last = places.tokens.unbind(1)
        return upto[places.rows, last] - upto[places.rows, first]

    ids, ranges = [window.ids for window in windows], [window.ranges for window in windows]
    return _in_batches(ids, ranges, runtime, longest, sums)


def _in_batches(
    sequences: Sequence[Ids],
    wanted: Sequence[Ids],
    runtime: Runtime,
    longest: int,
    run: Callable[[Padded, _Places], Tensor],
) -> list[NDArray[Any]]:
    """Return what ``run`` makes of each sequence's wanted places, as many as there are.

    Nothing waits for the GPU before every batch is on it.
    """
    given = [
        (batch.numbers, *_padded(sequences, wanted, batch, runtime.device))
        for batch in batches_on(runtime, [len(ids) for ids in sequences], longest)
    ]
    calls = [(numbers, run(padded, places)) for numbers, padded, places in given]
    found: dict[int, NDArray[Any]] = {}
    for numbers, tensor in calls:
        ends = np.cumsum([len(wanted[number]) for number in numbers])
        found.update(zip(numbers, np.split(tensor.cpu().numpy(), ends[:-1]), strict=True))
    return [found[number] for number in range(len(sequences))]


def _padded(
    sequences: Sequence[Ids], wanted: Sequence[Ids], batch: Batch, device: torch.device
) -> tuple[Padded, _Places]:
    """Lay a batch's sequences into its shape, and say where in it the wanted places are."""
    ids = np.zeros(batch.shape, dtype=np.int64)
    read = np.zeros(batch.shape, dtype=bool)
    for row, number in enumerate(batch.numbers):
        length = len(sequences[number])
        ids[row, :length] = sequences[number]
        read[row, :length] = True
    read[len(batch.numbers) :, 0] = True
    places = [wanted[number] for number in batch.numbers]
    rows = np.repeat(np.arange(len(places)), [len(each) for each in places])
    arrays = (ids, read, rows, np.concatenate(places))
    on_device = [torch.from_numpy(array).to(device) for array in arrays]
    return Padded(*on_device[:2]), _Places(*on_device[2:])
