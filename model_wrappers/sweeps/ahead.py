"""Work on what comes next while the model is busy: one thread, in order, within bounds."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(
    load: Callable[[T], R], items: Iterable[T], weigh: Callable[[R], float], room: float, most: Callable[[], int]
) -> Iterator[R]:
    """What `load` makes of each item, in their order; a thread makes the next ones in the meantime.

    Pictures come from disks and archives, and Pillow and hashlib leave Python's lock alone, so a thread suffices. There
    is one, as reading pictures sets and restores a switch of Pillow's for the whole process.

    Args:
        load: called in the thread; what it raises is raised here, when its item's turn has come.
        items: what there is to do.
        weigh: weight of what was made.
        room: weight of what may wait to be taken; one always may.
        most: how many may wait, asked again each time.
    """
    made: deque[tuple[R | None, BaseException | None, float]] = deque()
    state, ended, stopped = threading.Condition(), False, False

    def room_left() -> bool:
        return not made or (len(made) < most() and sum(weight for _, _, weight in made) < room)

    def work() -> None:
        nonlocal ended
        for item in items:
            with state:
                state.wait_for(lambda: stopped or room_left())
                if stopped:
                    break
            try:
                result = load(item)
                entry: tuple[R | None, BaseException | None, float] = result, None, weigh(result)
            except BaseException as error:  # of any kind: it belongs to whoever asked
                entry = None, error, 0.0
            with state:
                made.append(entry)
                state.notify_all()
            if entry[1] is not None:
                break
        with state:
            ended = True
            state.notify_all()

    thread = threading.Thread(target=work, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            with state:
                state.wait_for(lambda: made or ended)
                if not made:
                    return
                result, error, _ = made.popleft()
                state.notify_all()
            if error is not None:
                raise error
            yield result  # type: ignore[misc]  # None only beside an error
    finally:
        with state:
            stopped = True
            state.notify_all()
        thread.join()
