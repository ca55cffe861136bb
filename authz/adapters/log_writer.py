"""The output of the log: a bounded queue, and the thread that writes it to a file descriptor.

The event loop never waits for the output: a pipe that nobody reads, a frozen disk or a closed descriptor costs lines,
which are counted. The format of a line is in `logs.py`.
"""

import os
import select
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Any

import orjson

from authz.adapters.log_fields import Rename

QUEUE_BYTES_MAX = 4_194_304
_WRITE_BYTES_MAX = 65_536
_GATHER_S = 0.05  # lines of this time are one write: the thread needs the interpreter lock at most 20 times a second
_BACKOFF_S = 0.25
_POLL_MS = 1_000

QUEUE_FULL, WRITE_FAILED = "queue_full", "write_failed"


class LogWriter:
    """Writes lines to `fd` in order; with `fd` None it drops all of them.

    At most `bytes_max` bytes wait. Dropped lines are counted by cause, and a later line reports them. Any thread may
    call `put`, also while it is interrupted in another call of `put`.
    """

    def __init__(self, fd: int | None, *, bytes_max: int = QUEUE_BYTES_MAX, rename: Rename | None = None) -> None:
        self._rename = rename
        self._fd = fd
        self._bytes_max = bytes_max
        self._queue: SimpleQueue[tuple[bytes, int] | None] = SimpleQueue()  # reentrant, unlike an Event
        self._producers = threading.RLock()
        self._queued_bytes = 0  # in total; changed by producers only
        self._removed_bytes = 0  # in total; changed by the thread only
        self._dropped = {QUEUE_FULL: 0, WRITE_FAILED: 0}
        self._reported = 0
        self._is_cut = False  # the last write ended within a line
        self._thread: threading.Thread | None = None
        self._is_closed = False

    @property
    def dropped(self) -> Mapping[str, int]:
        """The number of dropped lines by cause."""
        return self._dropped

    def put(self, lines: bytes, count: int, *, share: float = 1.0) -> None:
        """Queue `count` lines, or drop them where more than `share` of the queue is in use. Never blocks."""
        with self._producers:
            waiting = self._queued_bytes - self._removed_bytes
            if self._is_closed or waiting + len(lines) > self._bytes_max * share:
                self._dropped[QUEUE_FULL] += count
                return
            self._queued_bytes += len(lines)
            self._queue.put((lines, count))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()

    def close(self, deadline_s: float) -> bool:
        """Write what is queued; return whether that was possible within `deadline_s`."""
        with self._producers:
            self._is_closed = True
            thread = self._thread
        if thread is None:
            return True
        self._queue.put(None)
        thread.join(deadline_s)
        return not thread.is_alive()

    def _run(self) -> None:
        is_open = True
        while is_open:
            first = self._queue.get()
            if not self._is_closed:
                time.sleep(_GATHER_S)
            batch, is_open = self._gather(first)
            if not batch:
                continue
            data = b"".join(lines for lines, _ in batch)
            self._write(data, sum(count for _, count in batch))
            self._removed_bytes += len(data)
            self._report()

    def _gather(self, first: tuple[bytes, int] | None) -> tuple[list[tuple[bytes, int]], bool]:
        """Return the lines of one write; False with it where they are the last."""
        if first is None:
            return [], False
        batch, size = [first], len(first[0])
        while size < _WRITE_BYTES_MAX:
            try:
                item = self._queue.get_nowait()
            except Empty:
                break
            if item is None:
                return batch, False
            batch.append(item)
            size += len(item[0])
        return batch, True

    def _report(self) -> None:
        """Write a line about dropped lines, once the output works again."""
        dropped = sum(self._dropped.values())
        if dropped > self._reported and not self._is_cut:
            fields: dict[str, Any] = {
                "event": "log lines dropped",
                "lines": dropped - self._reported,
                "level": "warning",
            }
            fields |= {"logger": "authz.logs", "timestamp": datetime.now(UTC)}
            fields = fields if self._rename is None else self._rename(fields)
            if self._write(orjson.dumps(fields, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE), 0):
                self._reported = dropped

    def _write(self, data: bytes, count: int) -> bool:
        rest = memoryview(b"\n" + data if self._is_cut else data)
        try:
            while rest:
                rest = rest[self._write_some(rest[:_WRITE_BYTES_MAX]) :]
        except OSError:  # no reader, no space, no descriptor: the next lines may succeed
            self._is_cut = True
            self._dropped[WRITE_FAILED] += count
            if not self._is_closed:
                time.sleep(_BACKOFF_S)
            return False
        self._is_cut = False
        return True

    def _write_some(self, data: memoryview) -> int:
        if self._fd is None:
            raise OSError("no output")
        while True:
            try:
                return os.write(self._fd, data)
            except BlockingIOError:  # whoever shares the descriptor made it non-blocking
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll(_POLL_MS)


def duplicate_stdout() -> int | None:
    """Return a descriptor of our own for standard output, or None where it is closed."""
    try:
        return os.dup(1)
    except OSError:
        return None
