import numpy as np
import pytest

from proxy.scorers.arithmetic import Arithmetic, has_vnni, int8_is_exact
from proxy.scorers.encoder import EmbeddedEncoder
from proxy.scorers.machine import is_steady, processor, tokens_per_s
from proxy.scorers.pooling import States

OFFERED = [each for each in Arithmetic if each is not Arithmetic.INT8 or int8_is_exact()]


@pytest.mark.parametrize("arithmetic", OFFERED)
def test_every_offered_backend_is_steady(arithmetic):
    assert is_steady(EmbeddedEncoder(arithmetic=arithmetic))


def test_a_backend_whose_states_move_is_found_out():
    class Drifting(EmbeddedEncoder):
        calls = 0

        def read_together(self, windows):
            self.calls += 1
            found = super().read_together(windows)
            return [States(s.final + np.float32(self.calls), s.middle) for s in found]

    assert not is_steady(Drifting(arithmetic=Arithmetic.FP32))


def test_the_processor_is_named():
    found = processor()
    assert found.name
    assert found.capability
    assert ("vnni" in found.features) == has_vnni()


def test_speed_is_measured_in_one_thread_and_in_several():
    encoder = EmbeddedEncoder(arithmetic=Arithmetic.FP32)
    assert tokens_per_s(encoder, 1, 0.01) > 0
    assert tokens_per_s(encoder, 2, 0.01) > 0
