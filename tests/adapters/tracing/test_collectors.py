"""Collectors that are slow, gone or hostile: spans are lost and counted, and neither time nor memory grows."""

import gzip
import logging
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import pytest

from authz.adapters.tracing import export
from authz.adapters.tracing.export import NOT_EXPORTED, QUEUE_FULL, QUEUE_MAX, Exporter, SpanQueue
from authz.demo.servers import free_port

ZEROS_BYTES = 60_000_000
BOMB = gzip.compress(bytes(ZEROS_BYTES), 9)
GZIP = b"content-encoding: gzip\r\n"


def response(status: str, fields: bytes = b"", body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n".encode() + fields + b"\r\n" + body


@contextmanager
def collector(answer: bytes, *, stays_open: bool = False) -> Iterator[str]:
    """Answer each connection's request with some bytes; return the collector's URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted = []

        def serve() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                accepted.append(peer)
                peer.recv(65_536)
                try:
                    peer.sendall(answer)
                except OSError:
                    continue
                if not stays_open:
                    peer.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        for peer in accepted:
            peer.close()


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_EXPORT_S", 0.3)


ANSWERS = {
    "accepts": (response("200 OK"), True),
    "accepts with a long text": (response("200 OK", body=b"x" * 1_000_000), True),
    "fails": (response("500 Internal Server Error"), False),
    "is busy": (response("503 Service Unavailable", b"retry-after: 3600\r\n"), False),
    "redirects": (response("307 Temporary Redirect", b"location: http://127.0.0.1:1/\r\n"), False),
    "redirects with a bomb": (response("301 Moved", b"location: /other\r\n" + GZIP, BOMB), False),
    "redirects to nowhere": (response("302 Found"), False),
    "answers a bomb": (response("200 OK", GZIP, BOMB), True),
    "answers a small bomb": (response("200 OK", GZIP, BOMB[:60_000]), True),
    "answers a bomb of no stated length": (b"HTTP/1.1 200 OK\r\n" + GZIP + b"\r\n" + BOMB, True),
    "says nothing": (b"", False),
    "speaks no HTTP": (b"\x00\xff" * 1_000, False),
    "has endless fields": (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 100_000, False),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_collector_costs_little_memory_and_bounded_time(kind: str) -> None:
    answer, is_accepted = ANSWERS[kind]
    with collector(answer) as url:
        exporter = Exporter(url)
        exporter.send(b"")  # imports what the library needs
        tracemalloc.start()
        started_s = time.monotonic()
        assert exporter.send(b"spans") is is_accepted
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert time.monotonic() - started_s < 3
        assert peak_bytes < 4_000_000 < ZEROS_BYTES


@pytest.mark.parametrize("stays_open", [False, True])
def test_no_collector_and_a_silent_one_fail_in_time(*, stays_open: bool) -> None:
    with collector(b"", stays_open=True) as silent:
        url = silent if stays_open else f"http://127.0.0.1:{free_port()}"
        started_s = time.monotonic()
        assert not Exporter(url).send(b"spans")
        assert time.monotonic() - started_s < 3


def test_spans_beyond_the_queue_and_those_that_fail_are_counted() -> None:
    may_go_on = threading.Event()
    exported: list[int] = []

    def stuck(spans: Sequence[int]) -> bool:
        may_go_on.wait(10)
        exported.extend(spans)
        return not exported[-1]

    queue = SpanQueue(stuck)
    for number in range(5 * QUEUE_MAX):
        queue.put(number)
    full = queue.dropped[QUEUE_FULL]
    assert 5 * QUEUE_MAX - full <= QUEUE_MAX + 512
    started_s = time.monotonic()
    queue.close(0.1)  # a drain does not wait for a collector
    assert time.monotonic() - started_s < 1
    queue.put(0)
    assert queue.dropped[QUEUE_FULL] == full + 1
    may_go_on.set()
    queue.close(5)
    assert queue.dropped[NOT_EXPORTED] == len(exported) == 5 * QUEUE_MAX - full


def test_an_export_that_raises_costs_its_spans_only() -> None:
    results: Iterator[Callable[[], bool]] = iter((partial(int, "no number"), lambda: True))  # type: ignore[arg-type]
    queue: SpanQueue[int] = SpanQueue(lambda _spans: next(results)())
    for _ in range(1_024):
        queue.put(1)
    queue.close(5)
    assert queue.dropped == {QUEUE_FULL: 0, NOT_EXPORTED: 512}


@pytest.mark.parametrize("headers", ["authorization: Bearer s3cret-t0ken", "authorization=s3cret%0d%0at0ken"])
@pytest.mark.parametrize("kind", ["fails", "redirects", "says nothing"])
def test_no_credential_is_logged_where_an_export_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, headers: str, kind: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", headers)
    with caplog.at_level(logging.WARNING), collector(ANSWERS[kind][0]) as url:
        assert not Exporter(url.replace("http://", "http://me:s3cret@") + "/s3cret?token=s3cret").send(b"spans")
    assert [record.message for record in caplog.records] == ["spans not exported"]
    assert "s3cret" not in "".join(f"{vars(record)}" for record in caplog.records)


def test_what_arrives_during_an_export_waits_for_company_and_the_end_exports_it() -> None:
    exported: list[int] = []
    has_begun, may_go = threading.Event(), threading.Event()

    def slow(spans: Sequence[int]) -> bool:
        exported.append(len(spans))
        has_begun.set()
        return may_go.wait(5)

    queue = SpanQueue(slow)
    for number in range(512):
        queue.put(number)
    assert has_begun.wait(5)
    for number in range(30):
        queue.put(number)
    may_go.set()
    time.sleep(0.1)
    assert exported == [512]
    queue.close(5)
    assert exported == [512, 30]
    assert set(queue.dropped.values()) == {0}
