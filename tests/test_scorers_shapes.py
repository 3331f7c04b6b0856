import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from proxy.scorers.arithmetic import FP32, Arithmetic, Runtime
from proxy.scorers.pooling import Window
from proxy.scorers.shapes import batches, read_all, reads_alike, shaped_batches, sum_all

SHAPED = Runtime(Arithmetic.FP32, shape_tokens=300)


@given(lengths=st.lists(st.integers(1, 50), max_size=30), limit=st.integers(1, 200))
def test_batches_hold_every_row_once_and_fit(lengths, limit):
    found = list(batches(lengths, limit))
    assert sorted(i for batch in found for i in batch.numbers) == list(range(len(lengths)))
    for numbers, (rows, longest) in found:
        assert (rows, longest) == (len(numbers), max(lengths[i] for i in numbers))
        assert rows * longest <= limit or rows == 1


@given(
    lengths=st.lists(st.integers(1, 700), max_size=30),
    limit=st.integers(1, 3000),
    empty=st.integers(0, 1),
)
def test_batches_of_fixed_shapes_hold_every_row_once_and_may_leave_one_empty(lengths, limit, empty):
    found = list(shaped_batches(lengths, limit, 700, empty))
    assert sorted(i for batch in found for i in batch.numbers) == list(range(len(lengths)))
    for numbers, (rows, longest) in found:
        assert longest in {64, 96, 128, 192, 256, 384, 512, 700}
        assert rows == max(1 + empty, limit // longest) >= len(numbers) + empty
        assert (
            max(lengths[i] for i in numbers) <= longest < 2 * max(lengths[i] for i in numbers) + 64
        )


@given(lengths=st.lists(st.integers(1, 200), max_size=20), shaped=st.booleans())
def test_each_sequence_gets_its_own_rows(lengths, shaped):
    sequences = [np.arange(n) + 1000 * place for place, n in enumerate(lengths)]

    def run(given):
        assert not given.read.all() or not shaped
        assert given.read.any(dim=1).all()
        return torch.stack((given.ids, -given.ids), dim=-1)

    found = read_all(sequences, SHAPED if shaped else FP32, 200, run)
    for rows, sequence in zip(found, sequences, strict=True):
        assert np.array_equal(rows, np.stack((sequence, -sequence), axis=1).astype(np.float32))
        assert rows.dtype == np.float32


@given(
    lengths=st.lists(st.integers(1, 200), max_size=20),
    seed=st.integers(0, 9),
    runtime=st.sampled_from([SHAPED, FP32]),
)
def test_each_range_gets_the_sum_of_its_own_rows(lengths, seed, runtime):
    draw = np.random.default_rng(seed)
    windows = []
    for length in lengths:
        ends = np.sort(draw.integers(0, length, size=(5, 2)), axis=1)
        ends[:, 1] += 1
        windows.append(Window(draw.integers(1, 2**40, size=length), ends))

    def run(given):
        return torch.stack((given.ids, -given.ids), dim=-1)

    for sums, (ids, ranges) in zip(sum_all(windows, runtime, 200, run), windows, strict=True):
        expected = [ids[first:last].sum() for first, last in ranges]  # exact: under 2**53
        assert np.array_equal(sums, np.stack((expected, np.negative(expected)), axis=1))
        assert sums.dtype == np.float64


def test_scores_that_move_with_their_company_are_found_out():
    def steady(windows):
        return [window.astype(np.float32) for window in windows]

    def moved(windows):
        return [window + np.float32(len(windows) > 1) for window in windows]

    assert reads_alike(steady, [3, 90, 1], 2, 1000)
    assert not reads_alike(moved, [3, 90, 1], 2, 1000)


@given(lengths=st.integers(1, 30), repeats=st.integers(1, 300))
def test_windows_of_every_length_are_tried_alone(lengths, repeats):
    alone = []

    def read(windows):
        if len(windows) == 1:
            alone.append(len(windows[0]))
        return windows

    assert reads_alike(read, range(2, lengths + 2), repeats, 1000)
    assert set(alone) >= set(range(2, lengths + 2))
