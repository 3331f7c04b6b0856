"""The memo's file: shared, bounded, safe under sudden death, and nobody else's to read."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.compress.ports import (
    Band,
    Document,
    DocumentVectors,
    KeepProbabilities,
    QuestionVectors,
    SelfInformation,
)
from proxy.errors import PolicyError
from proxy.memo import DiskMemo, DiskShelf, VectorMemo
from proxy.memo.codec import Damaged, pack, unpack
from proxy.memo.disk import APPLICATION
from proxy.memo.vectors import arrays_of
from proxy.types import Kind, Span

MB = 2**20


def floats(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def whole(*values):
    return np.array(values, np.int32)


EVERY_KIND = [
    DocumentVectors(floats(2, 4), whole(3, 0), floats(4)),
    DocumentVectors(floats(0, 4), whole(), floats(4)),
    QuestionVectors(floats(4), floats(4), 0.75, 12),
    SelfInformation(floats(3), whole(0, 2, 4), whole(2, 4, 6)),
    SelfInformation(
        floats(2),
        whole(0, 2),
        whole(2, 4),
        {
            Kind.PROSE: Band((1.541, 6.707), (2.22, 5.48), (0.01, 0.155)),
            Kind.LIST: Band((0.0, 7.0), (2.0, 8.0), stretch=0),
        },
    ),
    KeepProbabilities(floats(1), whole(0), whole(1)),
]


def same(one, two):
    return (
        type(one) is type(two)
        and all(
            a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
            for a, b in zip(arrays_of(one), arrays_of(two), strict=True)
        )
        and all(
            getattr(one, name, None) == getattr(two, name, None)
            for name in ("known", "tokens", "bands")
        )
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "memo.sqlite3"


@pytest.fixture
def opened(path):
    """Open the file, as often as a test likes; all are closed in the end."""
    open_ones = []

    def another(limit_bytes=MB, **options):
        open_ones.append(DiskMemo(path, limit_bytes, **options))
        return open_ones[-1]

    yield another
    for disk in open_ones:
        disk.close()


# -- the codec ------------------------------------------------------------------------------------


@pytest.mark.parametrize("vectors", EVERY_KIND, ids=lambda v: type(v).__name__)
def test_what_is_packed_comes_back_bit_for_bit_and_read_only(vectors):
    back = unpack(pack(vectors))
    assert same(back, vectors)
    assert not any(array.flags.writeable for array in arrays_of(back))


@given(st.data())
def test_a_changed_byte_is_never_taken_for_vectors(data):
    packed = bytearray(pack(EVERY_KIND[0]))
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Damaged):
        unpack(bytes(packed))


@given(st.integers(0, 40))
def test_a_cut_is_never_taken_for_vectors(length):
    with pytest.raises(Damaged):
        unpack(pack(EVERY_KIND[2])[:length])


# -- the file -------------------------------------------------------------------------------------


def test_values_outlive_the_process_and_are_shared(opened):
    first = opened()
    first.put(b"a", b"one")
    first.put(b"a", b"two")
    assert first.flush()
    second = opened()
    assert (second.get(b"a"), second.get(b"b")) == (b"two", None)
    assert second.holds([b"a", b"b"]) == {b"a"}
    assert second.secret == first.secret
    used = second.usage
    assert (used.hits, used.misses, used.entries, used.size) == (1, 1, 1, 103)


def test_the_file_is_for_its_owner_alone(opened, path):
    disk = opened()
    disk.put(b"a", b"one")
    assert disk.flush()
    modes = {p.name: p.stat().st_mode & 0o777 for p in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_two_files_have_two_secrets(tmp_path):
    disks = [DiskMemo(tmp_path / name, MB) for name in "ab"]
    assert disks[0].secret != disks[1].secret
    for disk in disks:
        disk.close()


def test_past_the_limit_what_was_not_read_for_longest_goes(opened, path):
    disk = opened(limit_bytes=12_000)
    for number in range(10):
        disk.put(bytes([number]), bytes(900))
    assert disk.flush()
    age(path, {bytes([number]): number for number in range(10)})
    assert disk.get(bytes([0])) is not None  # the oldest, but read
    assert disk.flush()
    for number in range(10, 13):
        disk.put(bytes([number]), bytes(900))
    assert disk.flush()
    there = {key[0] for key in disk.holds([bytes([n]) for n in range(13)])}
    assert {0, 10, 11, 12} <= there
    assert not there & {1, 2}
    assert disk.usage.size <= 12_000


def age(path, used):
    with sqlite3.connect(path) as database:
        for key, when in used.items():
            database.execute("UPDATE vectors SET used = ? WHERE key = ?", (when, key))
    database.close()


def test_a_value_as_large_as_the_memo_is_not_kept(opened):
    disk = opened(limit_bytes=10_000)
    disk.put(b"a", bytes(1001))
    assert disk.flush()
    assert disk.get(b"a") is None


def test_two_processes_keep_one_total(opened):
    one, two = opened(limit_bytes=5_000), opened(limit_bytes=5_000)
    for number in range(20):
        (one, two)[number % 2].put(bytes([number]), bytes(400))
        assert one.flush()
        assert two.flush()
        assert one.usage.size <= 5_000
    assert one.usage.entries == two.usage.entries


def test_writes_that_find_no_room_in_the_queue_are_dropped_and_counted(opened, path):
    disk = opened(capacity=1)
    with sqlite3.connect(path) as other:  # nothing can be committed meanwhile
        other.execute("BEGIN IMMEDIATE")
        for number in range(50):
            disk.put(bytes([number]), b"value")
        assert disk.dropped > 0
        other.execute("ROLLBACK")
    other.close()
    assert disk.flush()


def test_a_full_disk_is_told_and_loses_nothing_else(opened, path):
    told = []
    disk = opened(warn=told.append)
    disk.put(b"a", b"one")
    assert disk.flush()
    disk._writer.execute("PRAGMA max_page_count = 1")
    disk.put(b"b", bytes(50_000))
    assert disk.flush()
    assert told == [f"{path}: 1 entries not written: database or disk is full"]
    assert (disk.get(b"a"), disk.get(b"b"), disk.dropped) == (b"one", None, 1)


KILLED = """
    import sys
    from pathlib import Path
    from proxy.memo import DiskMemo
    disk = DiskMemo(Path(sys.argv[1]), 2**30)
    number = 0
    while True:
        disk.put(number.to_bytes(4, "little"), number.to_bytes(4, "little") * 500)
        number += 1
        if number % 200 == 0:
            assert disk.flush()
            print(number, flush=True)
"""


def test_kill_9_loses_nothing_that_was_committed(opened, path):
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(path)]
    root = Path(__file__).parent.parent
    with subprocess.Popen(  # noqa: S603 - our own interpreter and text
        command, stdout=subprocess.PIPE, text=True, cwd=root, env=os.environ | {"PYTHONPATH": "."}
    ) as writing:
        committed = [int(writing.stdout.readline()) for _ in range(3)][-1]
        writing.send_signal(signal.SIGKILL)
    disk = opened(2**30)
    for number in range(committed):
        key = number.to_bytes(4, "little")
        assert disk.get(key) == key * 500


def test_a_damaged_memo_is_begun_anew(opened, path):
    disk = opened()
    for number in range(200):
        disk.put(bytes([number]), bytes(2_000))
    disk.close()
    blob = bytearray(path.read_bytes())
    blob[100:2000] = b"\xff" * 1900  # the first page, behind the header
    path.write_bytes(blob)
    told = []
    again = opened(warn=told.append)
    assert again.get(b"\x00") is None
    again.put(b"k", b"v")
    assert again.flush()
    assert again.get(b"k") == b"v"
    assert len(told) == 1
    assert told[0].startswith(f"{path}: begun anew: ")


def test_a_memo_of_another_version_is_begun_anew(opened, path):
    opened().close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    told = []
    opened(warn=told.append)
    assert told == [f"{path}: begun anew: found version 99, wanted 1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [("a diary", "file is not a database"), (None, "found another program's database")],
)
def test_what_is_not_ours_is_refused_and_left_alone(tmp_path, content, message):
    path = tmp_path / "mine"
    if content is None:
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE vectors (key TEXT)")
        database.close()
    else:
        path.write_text(content * 200)
    before = path.read_bytes()
    with pytest.raises(PolicyError, match=f"{path}: memo: {message}, wanted a memo"):
        DiskMemo(path, MB)
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(PolicyError, match="memo: "):
        DiskMemo(tmp_path, MB)


def test_the_header_says_whose_file_it_is(opened, path):
    opened().close()
    assert path.read_bytes()[68:72] == APPLICATION.to_bytes(4, "big") == b"lacm"


# -- behind the memory ----------------------------------------------------------------------------


def test_vectors_come_back_in_another_process_and_cost_a_look(opened):
    document = Document("ab", (Span(0, 2),))
    first = VectorMemo(MB, shelf=DiskShelf(disk := opened()))
    key = first.document_key("m", document)
    first.put(key, EVERY_KIND[0])
    assert disk.flush()
    second = VectorMemo(MB, shelf=DiskShelf(opened()))
    assert second.document_key("m", document) == key
    assert (second.get(key), second.lacks([key, b"other"])) == (None, {b"other"})
    assert same(second.fetch(key), EVERY_KIND[0])
    assert same(second.get(key), EVERY_KIND[0])  # in memory by now


def test_vectors_that_do_not_come_back_whole_are_dropped(opened):
    memo = VectorMemo(MB, shelf=DiskShelf(disk := opened()))
    disk.put(b"k", pack(EVERY_KIND[0])[:-1] + b"?")
    assert disk.flush()
    assert memo.fetch(b"k") is None
    assert disk.flush()
    assert disk.holds([b"k"]) == set()
