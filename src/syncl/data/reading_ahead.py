"""Reading in threads what will be asked for next."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import NoReturn, TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")


def read_ahead(
    read: Callable[[Item], Read], items: Iterable[Item], ahead: int, workers: int | None = 1
) -> Iterator[Read]:
    """What `read` makes of items, in their order.

    A signal that is raised amid a wait ends the iteration: queues, unlike futures, are left in order by it.

    Args:
        read: is called in other threads.
        items: are taken as they are needed.
        ahead: of how many more is read while one is looked at.
        workers: threads that read; None = as many as suit the machine.

    Raises:
        Exception: what `read` raised, in its item's place.
    """

    def fill(place: SimpleQueue[Callable[[], Read]], item: Item) -> None:
        try:
            found = read(item)
        except BaseException as error:  # Of whatever kind it is: it is raised where the item is asked for.
            place.put(_raising(error))
        else:
            place.put(lambda: found)

    pending: deque[SimpleQueue[Callable[[], Read]]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            pending.append(SimpleQueue())
            pool.submit(fill, pending[-1], item)
            if len(pending) > ahead:
                yield pending.popleft().get()()
        while pending:
            yield pending.popleft().get()()
    finally:
        pool.shutdown(cancel_futures=True)


def _raising(error: BaseException) -> Callable[[], NoReturn]:
    def raised() -> NoReturn:
        raise error

    return raised
