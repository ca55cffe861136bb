"""Hostile peers: floods are cut off, streams and memory are bounded."""

import time
from collections.abc import Callable

import pytest
from support.clients.h2_peers import METHODS, SETTLED, STREAM, block, call, codes, data, frames, headers

from authz.edge.h2 import Connection, Limits, UploadBudget
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
    "refused": lambda number: headers(2 * number + 5, block(_path="/unknown"), 5),
    "fields": lambda number: headers(2 * number + 5, block(*((f"x-{number}-{each}", "a") for each in range(70)))),
    "late": lambda number: data(5, b"late", 0) if number else headers(5, block(te="gzip")),
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
    assert 20 < borne < 100  # some of these are several nuisances each
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
    connection.receive(call(1), 0.0)  # a peer that has sent a request may make more errors
    connection.respond(1, b"")
    ids = range(3, 2_403, 2)
    connection.receive(b"".join(headers(stream_id, block(te="gzip")) for stream_id in ids), 0.0)
    connection.take_output()
    connection.receive(data(ids[-1], b"late") + data(ids[0], b"very late"), 0.0)
    assert codes(connection.take_output()) == ({ids[0]: ErrorCode.STREAM_CLOSED}, None)


def test_thousands_of_settings_in_a_frame_end_the_connection() -> None:
    connection = settled(Limits())
    connection.receive(call(1) + headers(3), 0.0)
    connection.receive(frame(SETTINGS, 0, 0, b"\0\4\0\0\xff\xff" * 33), 0.0)
    assert codes(connection.take_output())[1] == ErrorCode.ENHANCE_YOUR_CALM


def test_settings_that_change_many_windows_are_many_nuisances() -> None:
    connection = settled(Limits(nuisances_max=200, nuisances_per_s=1))
    ids = range(1, 2_001, 2)
    connection.receive(settings({4: 0}) + b"".join(call(stream_id) for stream_id in ids), 0.0)
    for stream_id in ids:
        connection.respond(stream_id, b"waits")
    borne = 0
    while not connection.is_closed and borne < 200:
        connection.receive(settings({4: 0}), 0.0)
        borne += 1
    assert borne < 30


def test_frames_cost_no_more_however_many_responses_are_blocked() -> None:
    def cost_s(blocked: int) -> float:
        connection = settled(Limits(nuisances_max=100_000))
        ids = range(1, 2 * blocked, 2)
        connection.receive(settings({4: 0}) + b"".join(call(stream_id) for stream_id in ids), 0.0)
        for stream_id in ids:
            connection.respond(stream_id, b"waits")
        started_s = time.process_time()
        for _ in range(2_000):
            connection.receive(frame(PING, 0, 0, b"12345678"), 0.0)
        return time.process_time() - started_s

    assert min(cost_s(2_000) for _ in range(3)) < 5 * min(cost_s(1) for _ in range(3))


def test_a_peer_without_a_request_may_make_few_nuisances_and_hold_little() -> None:
    connection = settled(Limits())
    connection.receive(frame(PING, 0, 0, b"12345678") * 300, 0.0)
    assert connection.is_closed
    connection = settled(Limits())
    body = b"\0\0\x0f\xff\xff" + bytes(16_379)
    for stream_id in range(1, 32, 2):
        parts = b"".join(data(stream_id, body if part == 0 else bytes(16_384), 0) for part in range(15))
        connection.receive(headers(stream_id) + parts, 0.0)
    assert connection.upload_bytes <= 2_097_152 + 16_384


def test_calls_that_stay_incomplete_or_unread_are_reset_and_others_are_not() -> None:
    connection = settled(Limits())
    connection.receive(settings({4: 0}) + call(1) + headers(3) + headers(5) + data(5, b"\0\0\0", 0) + call(7), 0.0)
    connection.respond(1, b"is not read")
    connection.receive(headers(9, block(_path=STREAM.path)), 0.0)
    assert connection.expire() == []
    connection.receive(headers(11), 0.0)
    connection.take_output()
    connection.expire()
    resets, _ = codes(connection.take_output())
    assert resets == dict.fromkeys((1, 3, 5), ErrorCode.CANCEL)
    assert connection.respond(7, b"")
    assert connection.streams == 3


def test_connections_share_a_budget_and_the_one_that_holds_most_pays() -> None:
    asked: list[int] = []

    def make_room(held_bytes: int) -> bool:
        asked.append(held_bytes)
        return False

    budget = UploadBudget(100_000, make_room)
    first, second = Connection(METHODS, Limits(), budget), Connection(METHODS, Limits(), budget)
    for connection in (first, second):
        connection.receive(SETTLED, 0.0)
        connection.receive(headers(1) + data(1, b"\0\0\0\xff\xff" + bytes(16_000), 0) * 3, 0.0)
    assert budget.used_bytes == first.upload_bytes + second.upload_bytes
    second.receive(headers(3) + data(3, b"\0\0\0\xff\xff" + bytes(16_000), 0), 0.0)
    assert asked
    assert budget.used_bytes <= 100_000
    first.abandon()
    second.abandon()
    assert budget.used_bytes == 0
