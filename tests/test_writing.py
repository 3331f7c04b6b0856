import threading

from proxy.writing import Batches

PATIENCE_S = 10


class Taker:
    """Keeps what it is handed, batch by batch; ``gate`` holds it up."""

    def __init__(self):
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()
        self.came = threading.Semaphore(0)

    def __call__(self, batch):
        self.came.release()
        assert self.gate.wait(PATIENCE_S)
        self.batches.append(list(batch))

    @property
    def items(self):
        return [item for batch in self.batches for item in batch]


def batches(taker, capacity=100, linger_s=0.0, largest=500):
    return Batches(taker, name="taker", capacity=capacity, linger_s=linger_s, largest=largest)


def test_what_is_handed_in_is_taken_in_order_by_the_flush():
    taker = Taker()
    made = batches(taker)
    assert all(made.put(number) for number in range(50))
    assert made.flush(PATIENCE_S)
    assert taker.items == list(range(50))
    made.close()


def test_a_flush_does_not_wait_for_what_comes_after_it_nor_linger():
    taker = Taker()
    made = batches(taker, linger_s=1000.0)
    made.put(1)
    assert made.flush(PATIENCE_S)
    assert taker.batches == [[1]]
    made.close()


def test_what_gathers_is_one_batch_up_to_the_largest():
    taker = Taker()
    made = batches(taker, largest=3)
    taker.gate.clear()
    made.put(0)
    assert taker.came.acquire(timeout=PATIENCE_S)  # the first is being taken: the rest gathers
    for number in range(1, 8):
        made.put(number)
    taker.gate.set()
    made.close()
    assert taker.batches == [[0], [1, 2, 3], [4, 5, 6], [7]]


def test_beyond_its_capacity_nothing_is_taken_in():
    taker = Taker()
    made = batches(taker, capacity=2)
    taker.gate.clear()
    made.put(0)
    assert taker.came.acquire(timeout=PATIENCE_S)
    assert [made.put(1), made.put(2), made.put(3)] == [True, True, False]
    taker.gate.set()
    made.close()
    assert taker.items == [0, 1, 2]


def test_closing_takes_what_was_handed_in_and_nothing_more_and_may_be_done_twice():
    taker = Taker()
    made = batches(taker, linger_s=1000.0)
    made.put("last")
    made.close()
    made.close()
    assert taker.items == ["last"]
    assert not made.put("late")


def test_a_flush_after_the_end_finds_all_taken():
    taker = Taker()
    made = batches(taker)
    made.put(1)
    made.close()
    assert made.flush(timeout_s=0.0)
    assert taker.items == [1]


def test_many_threads_lose_nothing():
    taker = Taker()
    made = batches(taker, capacity=100_000, linger_s=0.001)

    def hand_in(which):
        for number in range(500):
            assert made.put((which, number))

    threads = [threading.Thread(target=hand_in, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made.close()
    assert sorted(taker.items) == [(which, number) for which in range(4) for number in range(500)]
    for which in range(4):
        assert [number for w, number in taker.items if w == which] == list(range(500))
