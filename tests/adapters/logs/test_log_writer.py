"""The log's output may block, break or be missing: nobody waits for it, and what is lost is counted."""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from authz.adapters.log_writer import QUEUE_FULL, WRITE_FAILED, LogWriter

LINE = b'{"event":"a line"}\n'


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    with suppress(OSError):
        os.close(writer)


def read_all(reader: int, until: bytes) -> bytes:
    data = b""
    deadline_s = time.monotonic() + 10
    while not data.endswith(until) and time.monotonic() < deadline_s:
        data += os.read(reader, 1 << 20)
    return data


def test_lines_arrive_in_order_and_a_close_waits_for_them(pipe: tuple[int, int]) -> None:
    reader, fd = pipe
    writer = LogWriter(fd)
    for number in range(1_000):
        writer.put(b"%d\n" % number, 1)
    assert writer.close(5)
    assert read_all(reader, b"999\n").split() == [b"%d" % number for number in range(1_000)]
    os.close(reader)


def test_an_unread_pipe_blocks_nobody_and_later_lines_say_what_was_lost(pipe: tuple[int, int]) -> None:
    reader, fd = pipe
    writer = LogWriter(fd, bytes_max=200_000)
    started_s = time.monotonic()
    for _ in range(20_000):
        writer.put(LINE, 1)
    assert time.monotonic() - started_s < 2
    dropped = writer.dropped[QUEUE_FULL]
    assert 5_000 < dropped < 20_000
    started_s = time.monotonic()
    assert not writer.close(0.2)
    assert time.monotonic() - started_s < 1
    chunks: list[bytes] = []
    reading = threading.Thread(target=lambda: chunks.extend(iter(lambda: os.read(reader, 1 << 20), b"")))
    reading.start()
    assert writer.close(10)
    os.close(fd)
    reading.join(10)
    lines = [json.loads(line) for line in b"".join(chunks).splitlines()]
    assert [line["event"] for line in lines].count("a line") == 20_000 - dropped
    assert sum(line["lines"] for line in lines if line["event"] == "log lines dropped") == dropped
    os.close(reader)


def test_frequent_lines_leave_room_for_others(pipe: tuple[int, int]) -> None:
    reader, fd = pipe
    writer = LogWriter(fd, bytes_max=200_000)
    for _ in range(20_000):
        writer.put(LINE, 1, share=0.75)
    dropped = writer.dropped[QUEUE_FULL]
    writer.put(LINE, 1)
    assert writer.dropped[QUEUE_FULL] == dropped
    os.close(reader)
    assert writer.close(5)


@pytest.mark.parametrize("kind", ["full", "closed", "missing"])
def test_an_output_that_fails_is_counted_and_ends_nothing(kind: str) -> None:
    fd: int | None = None
    if kind == "full":
        fd = os.open("/dev/full", os.O_WRONLY)
    elif kind == "closed":
        reader, fd = os.pipe()
        os.close(reader)
    writer = LogWriter(fd)
    for _ in range(10):
        writer.put(LINE, 1)
    assert writer.close(5)
    assert writer.dropped[WRITE_FAILED] == 10
    if fd is not None:
        os.close(fd)


def test_an_output_that_somebody_made_non_blocking_gets_every_line(pipe: tuple[int, int]) -> None:
    reader, fd = pipe
    os.set_blocking(fd, False)
    writer = LogWriter(fd)
    for number in range(20_000):
        writer.put(b"%d\n" % number, 1)
    data = read_all(reader, b"19999\n")
    assert data.split() == [b"%d" % number for number in range(20_000)]
    assert writer.close(5)
    os.close(reader)


def test_a_line_that_was_cut_by_a_failure_does_not_join_the_next(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, fd = pipe
    writer = LogWriter(fd)
    real = os.write
    failures = iter([3])

    def write(to: int, data: memoryview) -> int:
        if (count := next(failures, None)) is not None:
            real(to, data[:count])
            raise OSError(28, "no space")
        return real(to, data)

    monkeypatch.setattr("authz.adapters.log_writer.os.write", write)
    writer.put(b"first\n", 1)
    time.sleep(0.1)
    writer.put(b"second\n", 1)
    assert writer.close(5)
    first, second, notice = read_all(reader, b'Z"}\n').splitlines()
    assert (first, second, json.loads(notice)["lines"]) == (b"fir", b"second", 1)
    os.close(reader)
