"""Items are read in threads before they are asked for, in order."""

import signal
import threading
import time

import pytest

from syncl.data.reading_ahead import read_ahead


@pytest.mark.parametrize("workers", [1, 3, None])
def test_items_come_in_order_however_long_each_takes(workers):
    def read(number):
        time.sleep(0.02 * (number % 3 == 0))
        return number * 10

    assert list(read_ahead(read, range(12), 4, workers)) == [number * 10 for number in range(12)]
    assert list(read_ahead(read, [], 4, workers)) == []


def test_only_so_many_are_read_ahead():
    begun = []
    found = read_ahead(lambda number: begun.append(number) or number, iter(range(100)), ahead=3)
    assert not begun
    assert [next(found), next(found)] == [0, 1]
    time.sleep(0.1)
    assert begun == [0, 1, 2, 3, 4]
    found.close()


def test_what_goes_wrong_is_raised_in_its_place_and_ends_the_rest():
    begun = []

    def read(number):
        begun.append(number)
        if number == 3:
            raise ValueError("three")
        return number

    found = read_ahead(read, range(1000), ahead=2)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(found)
    assert len(begun) <= 6


@pytest.mark.parametrize("after_s", [0.001, 0.01, 0.05])
def test_a_signal_amid_a_wait_ends_it(after_s):
    """Threads as before, and nobody waits for ever."""
    threads = threading.active_count()

    def stop(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    try:
        found = read_ahead(lambda number: time.sleep(0.02), iter(int, 1), ahead=2)
        signal.setitimer(signal.ITIMER_REAL, after_s)
        with pytest.raises(KeyboardInterrupt):
            for _ in found:
                pass
    finally:
        signal.signal(signal.SIGALRM, before)
    # One that was about to start when the signal came ends by itself.
    until = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() == threads
