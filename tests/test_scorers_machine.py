import numpy as np
import pytest

from proxy.scorers.arithmetic import FP32, INT8, Arithmetic, Runtime, has_vnni, int8_is_exact
from proxy.scorers.encoder import EmbeddedEncoder
from proxy.scorers.machine import is_steady, processor, tokens_per_s

SHAPED = Runtime(Arithmetic.BF16, shape_tokens=512)  # what a GPU does, on this processor
OFFERED = [FP32, SHAPED, *([INT8] if int8_is_exact() else [])]


@pytest.mark.parametrize("runtime", OFFERED, ids=lambda runtime: runtime.name)
def test_every_offered_backend_is_steady(runtime):
    assert is_steady(EmbeddedEncoder(runtime=runtime))


def test_a_backend_whose_states_move_is_found_out():
    class Drifting(EmbeddedEncoder):
        calls = 0

        def read_together(self, windows):
            self.calls += 1
            found = super().read_together(windows)
            return [states + np.float32(self.calls) for states in found]

    assert not is_steady(Drifting(runtime=FP32))


def test_the_processor_is_named():
    found = processor()
    assert found.name
    assert found.capability
    assert ("vnni" in found.features) == has_vnni()


def test_speed_is_measured_in_one_thread_and_in_several():
    encoder = EmbeddedEncoder(runtime=FP32)
    assert tokens_per_s(encoder, 1, 0.01) > 0
    assert tokens_per_s(encoder, 2, 0.01) > 0
