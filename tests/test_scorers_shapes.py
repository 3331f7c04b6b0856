import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from proxy.scorers.arithmetic import FP32, Arithmetic, Runtime
from proxy.scorers.shapes import batches, read_all, reads_alike, shaped_batches

SHAPED = Runtime(Arithmetic.FP32, shape_tokens=300)


@given(lengths=st.lists(st.integers(1, 50), max_size=30), limit=st.integers(1, 200))
def test_batches_hold_every_row_once_and_fit(lengths, limit):
    found = list(batches(lengths, limit))
    assert sorted(i for batch in found for i in batch.numbers) == list(range(len(lengths)))
    for numbers, (rows, longest) in found:
        assert (rows, longest) == (len(numbers), max(lengths[i] for i in numbers))
        assert rows * longest <= limit or rows == 1


@given(lengths=st.lists(st.integers(1, 700), max_size=30), limit=st.integers(1, 3000))
def test_batches_of_fixed_shapes_hold_every_row_once_and_leave_one_empty(lengths, limit):
    found = list(shaped_batches(lengths, limit, 700))
    assert sorted(i for batch in found for i in batch.numbers) == list(range(len(lengths)))
    for numbers, (rows, longest) in found:
        assert longest in {64, 128, 256, 512, 700}
        assert rows == max(2, limit // longest) > len(numbers)
        assert max(lengths[i] for i in numbers) <= longest


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


def test_scores_that_move_with_their_company_are_found_out():
    def steady(windows):
        return [window.astype(np.float32) for window in windows]

    def moved(windows):
        return [window + np.float32(len(windows) > 1) for window in windows]

    assert reads_alike(steady, [3, 90, 1], 1000)
    assert not reads_alike(moved, [3, 90, 1], 1000)
