"""Recording needs a GPU; here torch's recorder is a stand-in that runs what it is to replay."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import pytest
import torch

from proxy.scorers.recorded import Recorded


class Graph:
    """Replays by running the function anew, into the tensors that were found when it recorded."""

    recording = None

    def pool(self):
        return "memory"

    def replay(self):
        for into, each in zip(self.found, self.run(*self.given), strict=True):
            into.copy_(each)


@pytest.fixture
def recorder(monkeypatch):
    recorded = []

    @contextmanager
    def graph(into, pool, capture_error_mode):
        assert capture_error_mode == "thread_local"
        recorded.append(pool)
        Graph.recording = into
        yield
        Graph.recording = None

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    return recorded


def doubled(ids, more):
    found = (ids * 2, ids + more)
    if Graph.recording:
        Graph.recording.given, Graph.recording.found = (ids, more), found
        Graph.recording.run = lambda ids, more: (ids * 2, ids + more)
    return found


def test_each_shape_is_recorded_once_and_what_is_found_is_the_callers_own(recorder):
    run = Recorded(doubled, on_gpu=True)
    given = [(torch.full((n,), i), torch.arange(n)) for i, n in enumerate((3, 5, 3, 3, 5))]
    found = [run(*each) for each in given]
    assert recorder == [None, "memory"]
    for (ids, more), (twice, both) in zip(given, found, strict=True):
        assert torch.equal(twice, ids * 2)
        assert torch.equal(both, ids + more)


def test_a_pass_that_is_not_recorded_is_run_and_told_of_once(recorder, monkeypatch):
    @contextmanager
    def refuse(*_, **__):
        yield
        raise RuntimeError("operation not permitted when stream is capturing\nand a trace")

    monkeypatch.setattr(torch.cuda, "graph", refuse)
    run = Recorded(doubled, on_gpu=True)
    with pytest.warns(RuntimeWarning, match=r"record a pass: .* is capturing$"):
        first = run(torch.ones(2), torch.ones(2))
    again = run(torch.ones(2), torch.ones(2))  # a second warning would be an error
    assert torch.equal(first[1], again[1])
    assert torch.equal(again[1], torch.full((2,), 2.0))


def test_on_a_processor_nothing_is_recorded(recorder):
    run = Recorded(doubled, on_gpu=False)
    assert torch.equal(run(torch.ones(2), torch.ones(2))[1], torch.full((2,), 2.0))
    assert recorder == []


def test_threads_of_a_processor_run_side_by_side():
    met = Barrier(2, timeout=10)

    def meet(given):
        met.wait()
        return (given,)

    run = Recorded(meet, on_gpu=False)
    with ThreadPoolExecutor(2) as pool:
        assert len(list(pool.map(run, torch.ones(2, 1)))) == 2
