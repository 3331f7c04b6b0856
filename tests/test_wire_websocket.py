import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.websocket import Frames, asks_for_websocket, close_frame


@pytest.mark.parametrize(
    ("method", "headers", "asked"),
    [
        ("GET", [("Connection", "Upgrade"), ("Upgrade", "websocket")], True),
        ("GET", [("connection", "keep-alive, upgrade"), ("upgrade", "WebSocket")], True),
        ("GET", [("Connection", "keep-alive"), ("Upgrade", "websocket")], False),
        ("GET", [("Connection", "Upgrade"), ("Upgrade", "h2c")], False),
        ("POST", [("Connection", "Upgrade"), ("Upgrade", "websocket")], False),
        ("GET", [], False),
    ],
)
def test_a_request_for_a_websocket_is_known(method, headers, asked):
    assert asks_for_websocket(method, headers) is asked


def frame(opcode, payload, *, mask=b"", final=True):
    """A frame, straight from RFC 6455, 5.2."""
    first = opcode | (0x80 if final else 0)
    bit = 0x80 if mask else 0
    if len(payload) < 126:
        head = struct.pack("!BB", first, len(payload) | bit)
    elif len(payload) < 1 << 16:
        head = struct.pack("!BBH", first, 126 | bit, len(payload))
    else:
        head = struct.pack("!BBQ", first, 127 | bit, len(payload))
    return head + mask + bytes(b ^ mask[i % 4] if mask else b for i, b in enumerate(payload))


def fed(*chunks):
    frames = Frames()
    for chunk in chunks:
        frames.feed(chunk)
    return frames


frames_of_any_kind = st.builds(
    frame,
    st.sampled_from([0x0, 0x1, 0x2, 0x9, 0xA]),
    st.sampled_from([0, 1, 5, 125, 126, 300, 70_000]).map(bytes),
    mask=st.sampled_from([b"", b"\x88\x82\x00\xff"]),
    final=st.booleans(),
)


@given(st.lists(frames_of_any_kind, min_size=1, max_size=4), st.data())
def test_between_frames_is_known_however_they_are_cut(made, data):
    whole = b"".join(made)
    ends = {0}
    for one in made:
        ends.add(max(ends) + len(one))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    frames, before = Frames(), 0
    for cut in [*cuts, len(whole)]:
        frames.feed(whole[before:cut])
        before = cut
        assert frames.between is (cut in ends)
    assert not frames.closed


@pytest.mark.parametrize("mask", [b"", b"\x01\x02\x03\x04"])
@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x0f\xa0because"])
def test_a_close_frame_counts_once_it_has_passed_whole(mask, payload):
    data = frame(0x2, b"\x88\x02") + frame(0x8, payload, mask=mask)
    for cut in range(len(data)):
        assert not fed(data[:cut]).closed
    assert fed(data).closed
    assert fed(*(bytes([byte]) for byte in data)).closed


def test_a_close_frame_is_as_the_standard_has_it():
    assert close_frame(1001) == frame(0x8, b"\x03\xe9")
    assert close_frame(1001, b"\x01\x02\x03\x04") == frame(
        0x8, b"\x03\xe9", mask=b"\x01\x02\x03\x04"
    )
