import gzip
import os
import random
import zlib
from itertools import pairwise

import brotli
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.types import Reason
from proxy.wire import BodyTooLarge, Decoder, Unparsed, decode_body

examples = settings(max_examples=int(os.environ.get("LACONIC_EXAMPLES", "60")), deadline=None)


def raw_deflate(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def zstd_streamed(data):
    packer = zstandard.ZstdCompressor().compressobj()  # a frame that does not tell its size
    return packer.compress(data) + packer.flush()


PACKERS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "ZSTD": zstd_streamed,
}
BODY = '{"messages":[{"role":"user","content":"café, again and again and again"}]}'.encode()


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize(
    "body", [b"", b"a", BODY, BODY * 5000], ids=["empty", "byte", "body", "large"]
)
def test_each_encoding_is_undone(name, body):
    assert decode_body(PACKERS[name](body), name) == body


@pytest.mark.parametrize("header", [None, "", "identity", " , identity,"])
def test_without_an_encoding_the_body_is_itself(header):
    assert decode_body(BODY, header) == BODY


def test_an_empty_body_is_empty_whatever_its_header_says():
    assert decode_body(b"", "gzip") == b""


@examples
@given(
    st.binary(max_size=2000),
    st.lists(st.sampled_from(sorted(PACKERS)), max_size=4),
    st.lists(st.integers(0, 4000), max_size=5),
)
def test_stacked_encodings_are_undone_however_the_body_is_cut(body, names, cuts):
    packed = body
    for name in names:
        packed = PACKERS[name](packed)
    decoder = Decoder(", ".join(names))
    edges = [0, *sorted(min(cut, len(packed)) for cut in cuts), len(packed)]
    pieces = [piece for a, b in pairwise(edges) for piece in decoder.feed(packed[a:b])]
    decoder.finish()
    assert b"".join(pieces) == decode_body(packed, ",".join(names)) == body


@pytest.mark.parametrize("name", PACKERS)
def test_one_byte_at_a_time(name):
    decoder = Decoder(name)
    packed = PACKERS[name](BODY)
    pieces = [piece for byte in packed for piece in decoder.feed(bytes([byte]))]
    decoder.finish()
    assert b"".join(pieces) == BODY


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_members_and_frames_follow_one_another(name):
    assert decode_body(PACKERS[name](b"one") + PACKERS[name](b"two"), name) == b"onetwo"


@pytest.mark.parametrize("name", PACKERS)
def test_a_body_cut_short_is_unparsed(name):
    packed = PACKERS[name](BODY)
    for length in range(1, len(packed)):
        with pytest.raises(Unparsed) as caught:
            decode_body(packed[:length], name)
        assert caught.value.reason is Reason.UNPARSED


@pytest.mark.parametrize("name", PACKERS)
def test_a_header_that_lies_is_unparsed(name):
    with pytest.raises(Unparsed):
        decode_body(BODY, name)


@pytest.mark.parametrize("name", PACKERS)
def test_bytes_after_the_end_are_unparsed(name):
    with pytest.raises(Unparsed):
        decode_body(PACKERS[name](BODY) + b"and more", name)


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_a_broken_checksum_is_unparsed(name):
    packed = bytearray(
        gzip.compress(BODY)
        if name == "gzip"
        else zstandard.ZstdCompressor(write_checksum=True).compress(BODY)
    )
    packed[-5 if name == "gzip" else -1] ^= 1
    with pytest.raises(Unparsed):
        decode_body(bytes(packed), name)


@examples
@given(st.sampled_from(sorted(PACKERS)), st.binary(max_size=200), st.data())
def test_damage_never_raises_anything_else(name, noise, data):
    packed = PACKERS[name](BODY)
    at = data.draw(st.integers(0, len(packed)))
    try:
        decode_body(packed[:at] + noise + packed[at + len(noise) :], name, limit_bytes=10_000)
    except (Unparsed, BodyTooLarge):
        return


@pytest.mark.parametrize("name", PACKERS)
def test_a_bomb_is_too_large(name):
    packed = PACKERS[name](bytes(32 * 1024 * 1024))
    with pytest.raises(BodyTooLarge) as caught:
        decode_body(packed, name, limit_bytes=1024 * 1024)
    assert (caught.value.status, caught.value.code) == (413, "request_too_large")


@pytest.mark.parametrize("name", PACKERS)
def test_the_limit_itself_is_allowed(name):
    body = random.Random(7).randbytes(5000)  # noqa: S311 - incompressible, not secret
    packed = PACKERS[name](body)
    assert decode_body(packed, name, limit_bytes=max(len(packed), 5000)) == body
    with pytest.raises(BodyTooLarge):
        decode_body(packed, name, limit_bytes=4999)


def test_a_bomb_inside_another_encoding_is_too_large():
    packed = brotli.compress(gzip.compress(bytes(16 * 1024 * 1024)))
    with pytest.raises(BodyTooLarge):
        decode_body(packed, "gzip, br", limit_bytes=1024 * 1024)


def test_a_bomb_is_unpacked_only_as_far_as_asked():
    decoder = Decoder("br", limit_bytes=2**40)
    pieces = decoder.feed(brotli.compress(bytes(64 * 1024 * 1024)))
    assert len(next(pieces)) <= 16 * 1024 * 1024


def test_a_zstd_window_beyond_what_http_allows_is_unparsed():
    wide = zstandard.ZstdCompressionParameters(window_log=25)
    body = random.Random(7).randbytes(9 * 1024 * 1024)  # noqa: S311 - incompressible, not secret
    packer = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    with pytest.raises(Unparsed):
        decode_body(packer.compress(body) + packer.flush(), "zstd")


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("compress", "an unknown one, wanted gzip, x-gzip, deflate, br, zstd or identity"),
        ("gzip, foo", "an unknown one, wanted gzip, x-gzip, deflate, br, zstd or identity"),
        ("gzip,br,gzip,br,gzip", "5, wanted at most 4"),
    ],
)
def test_encodings_we_do_not_undo_are_named(header, found):
    with pytest.raises(Unparsed) as caught:
        decode_body(b"x", header)
    assert caught.value.detail == f"content-encoding: found {found}"
