"""A work that is repeated on a thread while something else goes on."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_PAUSE_S = 0.02


@contextmanager
def repeated(work: Callable[[], object], pause_s: float = _PAUSE_S) -> Iterator[None]:
    """Repeat a work on a thread, whatever it raises."""
    is_over = threading.Event()

    def run() -> None:
        while not is_over.wait(pause_s):
            with suppress(Exception):  # what it needs is out of order on purpose
                work()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(10)
