from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from proxy.compress.ports import Document, DocumentVectors, QuestionVectors
from proxy.memo import Lru, TurnMemo, Usage, VectorMemo
from proxy.memo.vectors import size_bytes
from proxy.types import Span


def document_vectors(value=1.0, units=2):
    return DocumentVectors(
        np.full((units, 4), value, np.float32),
        np.ones(units, np.int32),
        np.full(4, value, np.float32),
    )


QUESTION = QuestionVectors(np.ones(4, np.float32), np.zeros(4, np.float32), 1.0)


def test_the_oldest_unused_is_forgotten_first():
    lru = Lru(3)
    for key in (b"a", b"b", b"c"):
        lru.put(key, key.decode())
    assert lru.get(b"a") == "a"
    lru.put(b"d", "d")
    assert [lru.peek(key) for key in (b"a", b"b", b"c", b"d")] == ["a", None, "c", "d"]
    assert lru.usage == Usage(hits=1, misses=0, entries=3, size=3)


def test_a_value_put_again_replaces_the_old_one():
    lru = Lru(10)
    lru.put(b"a", "old", 6)
    lru.put(b"a", "new", 8)
    assert (lru.get(b"a"), lru.usage.size) == ("new", 8)


def test_a_value_larger_than_the_limit_is_not_kept_and_evicts_nothing():
    lru = Lru(10)
    lru.put(b"a", "a", 5)
    lru.put(b"b", "b", 11)
    assert (lru.get(b"a"), lru.get(b"b")) == ("a", None)


def test_a_memory_of_no_size_remembers_nothing():
    memo = VectorMemo(0)
    memo.put(b"k", QUESTION)
    assert memo.get(b"k") is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 7))))
def test_the_limit_is_never_exceeded(puts):
    lru, kept = Lru(12), {}
    for key, size in puts:
        lru.put(bytes([key]), (key, size), size)
        kept[key] = size
        found = {k: lru.peek(bytes([k])) for k in kept}
        sizes = [value[1] for value in found.values() if value is not None]
        assert sum(sizes) == lru.usage.size <= 12
        assert found[key] == (key, size)


def test_counters_agree_under_threads():
    lru = Lru(50)

    def work(seed):
        for i in range(500):
            key = bytes([(seed * i) % 100])
            if lru.get(key) is None:
                lru.put(key, key)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(1, 5)))
    assert lru.usage.hits + lru.usage.misses == 2000
    assert lru.usage.entries == lru.usage.size <= 50


def test_vectors_come_back_as_they_were():
    memo, vectors = VectorMemo(), document_vectors()
    memo.put(b"d", vectors)
    memo.put(b"q", QUESTION)
    assert memo.get(b"d") is vectors
    assert memo.get(b"q") is QUESTION
    assert memo.peek(b"nothing") is None


def test_the_size_of_vectors_counts_every_array():
    assert size_bytes(document_vectors(units=100)) >= 100 * 4 * 4 + 100 * 4 + 4 * 4
    assert size_bytes(QUESTION) >= 32


def test_keys_tell_model_text_units_and_kind_apart():
    memo = VectorMemo(secret=b"s")
    keys = [
        memo.document_key("m1", Document("ab", (Span(0, 1), Span(1, 2)))),
        memo.document_key("m2", Document("ab", (Span(0, 1), Span(1, 2)))),
        memo.document_key("m1", Document("ab", (Span(0, 2),))),
        memo.document_key("m1", Document("ab", ())),
        memo.document_key("m1", Document("a", ())),
        memo.document_key("m", Document("1a", ())),
        memo.question_key("m1", "ab"),
        VectorMemo(secret=b"t").question_key("m1", "ab"),
    ]
    assert len(set(keys)) == len(keys)


def test_keys_of_equal_content_are_equal_and_lone_surrogates_have_keys():
    memo = VectorMemo()
    one = memo.document_key("m", Document("x\ud800", (Span(0, 2),)))
    two = memo.document_key("m", Document("x\ud800", (Span(0, 2),)))
    assert one == two != memo.document_key("m", Document("x\ufffd", (Span(0, 2),)))


def test_two_processes_have_different_keys():
    assert VectorMemo().question_key("m", "q") != VectorMemo().question_key("m", "q")


@dataclass(frozen=True)
class Weight:
    weight_bytes: int


def test_turns_are_remembered_up_to_a_weight():
    memo = TurnMemo(7)
    for key, weight in ((b"1", 3), (b"2", 4), (b"3", 2)):
        memo.put(key, Weight(weight))
    assert [memo.get(key) for key in (b"1", b"2", b"3")] == [None, Weight(4), Weight(2)]
    assert memo.usage == Usage(hits=2, misses=1, entries=2, size=6)
