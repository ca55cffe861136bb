"""Hostile peers: floods are cut off, streams and memory are bounded."""

from collections.abc import Callable

import pytest
from support.clients.h2_peers import METHODS, SETTLED, STREAM, block, call, codes, data, frames, headers

from authz.edge.h2 import Connection, Limits
from authz.edge.h2.wire import (
    ACK,
    CONTINUATION,
    GOAWAY,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    ErrorCode,
    frame,
    settings,
    window_update,
)

FLOODS: dict[str, Callable[[int], bytes]] = {
    "ping": lambda _: frame(PING, 0, 0, b"12345678"),
    "pong": lambda _: frame(PING, ACK, 0, b"12345678"),
    "settings": lambda _: settings({}),
    "acknowledgement": lambda _: frame(SETTINGS, ACK, 0),
    "goaway": lambda _: frame(GOAWAY, 0, 0, bytes(8)),
    "unknown": lambda _: frame(0x42, 0, 0),
    "priority": lambda _: frame(PRIORITY, 0, 3, b"\0\0\0\0\1"),
    "empty": lambda _: data(3, b"", 0),
    "reset": lambda number: call(2 * number + 5) + frame(RST_STREAM, 0, 2 * number + 5, b"\0\0\0\0"),
    "induced": lambda number: call(2 * number + 5) + window_update(2 * number + 5, 0),
    "malformed": lambda number: headers(2 * number + 5, block(te="gzip")),
    "dribble": lambda _: window_update(0, 1),
    "continuation": lambda number: frame(CONTINUATION, 0, 5) if number else headers(5, flags=0),
}


def settled(limits: Limits) -> Connection:
    connection = Connection(METHODS, limits)
    connection.receive(SETTLED, 0.0)
    connection.take_output()
    return connection


def test_incomplete_requests_are_bounded_together_and_their_memory_is_freed() -> None:
    connection = settled(Limits(upload_bytes_max=100_000))
    for round_ in range(3):
        ids = [round_ * 100 + number for number in range(1, 15, 2)]
        connection.receive(
            b"".join(headers(number) + data(number, b"\0\0\0\xff\xff" * 3_276, 0) for number in ids), 0.0
        )
        refused = [stream_id for _, flags, stream_id, _ in frames(connection.take_output()) if flags == 0x5]
        assert refused == ids[-1:]
        connection.receive(b"".join(frame(RST_STREAM, 0, number, b"\0\0\0\x08") for number in ids), 0.0)


def test_more_streams_than_agreed_are_refused_for_another_try() -> None:
    connection = settled(Limits(streams_max=2))
    connection.receive(call(1) + headers(3) + call(5), 0.0)
    assert codes(connection.take_output()) == ({5: ErrorCode.REFUSED_STREAM}, None)
    connection.respond(1, b"")
    assert connection.receive(call(7), 0.0)


@pytest.mark.parametrize("name", FLOODS)
def test_flood_ends_the_connection(name: str) -> None:
    connection = settled(Limits(nuisances_max=100))
    connection.receive(call(1) + headers(3, block(_path=STREAM.path)) + settings({4: 0}), 0.0)
    connection.respond(1, b"waits")
    borne = 0
    while not connection.is_closed and borne < 200:
        connection.receive(FLOODS[name](borne), 0.0)
        borne += 1
    assert 45 < borne < 100  # some of these are two nuisances each
    assert codes(connection.take_output())[1] == ErrorCode.ENHANCE_YOUR_CALM


def test_nuisances_at_a_steady_pace_are_borne() -> None:
    connection = settled(Limits(nuisances_max=10, nuisances_per_s=100))
    for number in range(1_000):
        connection.receive(frame(PING, 0, 0, b"12345678"), number / 100)
    assert not connection.is_closed


@pytest.mark.parametrize(
    "wrong", [{"stream_window_bytes": 65_534}, {"connection_window_bytes": 2**31}, {"message_bytes_max": 16_383}]
)
def test_limits_that_cannot_be_kept_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="bytes"):
        Limits(**wrong)


def test_memory_of_resets_is_bounded_and_keeps_the_latest() -> None:
    connection = settled(Limits())
    ids = range(1, 2_401, 2)
    connection.receive(b"".join(headers(stream_id, block(te="gzip")) for stream_id in ids), 0.0)
    connection.take_output()
    connection.receive(data(ids[-1], b"late") + data(ids[0], b"very late"), 0.0)
    assert codes(connection.take_output()) == ({ids[0]: ErrorCode.STREAM_CLOSED}, None)
