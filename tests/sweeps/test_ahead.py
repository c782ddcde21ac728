"""Work on what comes next: order, bounds, errors at their place, and a thread that ends."""

import threading
import time

import pytest

from redundancy_eval.errors import DataError
from redundancy_eval.model_wrappers.sweeps.ahead import ahead


def of(load, items, weigh=lambda _: 1, room=1e9, most=lambda: 4):
    return ahead(load, items, weigh, room, most)


def running():
    return [thread for thread in threading.enumerate() if thread.name == "ahead"]


def test_in_their_order_and_the_thread_ends():
    assert list(of(lambda x: x * x, range(50))) == [x * x for x in range(50)] and not running()
    assert list(of(str, [])) == [] and list(of(lambda x: None, range(3))) == [None] * 3


def test_the_next_ones_are_made_in_the_meantime_but_not_too_many():
    started = []
    results = of(lambda x: started.append(x) or x, range(100), most=lambda: 5)
    assert next(results) == 0
    for _ in range(200):
        if len(started) == 6:
            break
        time.sleep(0.01)
    time.sleep(0.05)
    assert started == list(range(6)), "one was taken, five wait"
    results.close()
    assert not running() and len(started) <= 7


def test_heavy_ones_wait_alone():
    started = []
    results = of(lambda x: started.append(x) or x, range(10), weigh=lambda _: 100, room=150)
    assert next(results) == 0
    for _ in range(100):
        if len(started) == 3:
            break
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(started) == 3 and list(results) == list(range(1, 10))


def test_an_error_comes_at_its_place():
    def load(x):
        if x == 3:
            raise DataError("task document 3: the picture cannot be read")
        return x

    seen = []
    with pytest.raises(DataError, match="document 3"):
        for x in of(load, range(10)):
            seen.append(x)
    assert seen == [0, 1, 2] and not running()
