"""Flow control in both directions (RFC 9113 sections 5.2 and 6.9)."""

import pytest
from h2.settings import SettingCodes
from support.clients.h2_peers import HEADERS as FIELDS
from support.clients.h2_peers import METHODS, SETTLED, STREAM, Peers, block, call, codes, data, framed, frames, headers

from authz.edge.h2 import Connection, Ended, Event, Limits, Request
from authz.edge.h2.wire import (
    ACK,
    DATA,
    FRAME_BYTES_MAX,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PADDED,
    PING,
    RST_STREAM,
    frame,
    settings,
    window_update,
)


def with_calls(*stream_ids: int, first: bytes = b"") -> Connection:
    connection = Connection(METHODS, Limits())
    connection.receive(SETTLED + first + b"".join(call(stream_id) for stream_id in stream_ids), 0.0)
    connection.take_output()
    return connection


def messages(events: list[Event]) -> list[bytes]:
    return [event.message for event in events if isinstance(event, Request)]


def sizes(output: bytes) -> list[tuple[int, int]]:
    return [(stream_id, len(payload)) for kind, _, stream_id, payload in frames(output) if kind == DATA]


def test_answer_waits_for_a_window_of_0_and_leaves_byte_by_byte() -> None:
    connection = with_calls(1, first=settings({INITIAL_WINDOW_SIZE: 0}))
    connection.respond(1, b"hi")
    assert sizes(connection.take_output()) == []
    for _ in range(7):
        connection.receive(window_update(1, 1), 0.0)
    output = connection.take_output()
    assert sizes(output) == [(1, 1)] * 7
    assert b"".join(payload for kind, _, _, payload in frames(output) if kind == DATA) == framed(b"hi")
    assert frames(output)[-1][3].endswith(b"grpc-status\x010")


def test_window_below_zero_after_a_setting_is_filled_before_anything_leaves() -> None:
    connection = with_calls(1)
    connection.respond(1, b"z" * 70_000)
    assert sum(size for _, size in sizes(connection.take_output())) == 65_535
    connection.receive(window_update(0, 100_000) + settings({INITIAL_WINDOW_SIZE: 0}), 0.0)
    connection.receive(window_update(1, 65_535), 0.0)
    assert sizes(connection.take_output()) == []
    connection.receive(window_update(1, 1), 0.0)
    assert sizes(connection.take_output()) == [(1, 1)]
    connection.receive(settings({INITIAL_WINDOW_SIZE: 65_535}), 0.0)
    assert sizes(connection.take_output()) == [(1, 70_005 - 65_536)]


def test_answers_share_the_connections_window() -> None:
    connection = with_calls(1, 3, 5, 7)
    for stream_id in (1, 3, 5, 7):
        connection.respond(stream_id, b"x" * 30_000)
    sent = sizes(connection.take_output())
    assert sum(size for _, size in sent) == 65_535
    assert {stream_id for stream_id, _ in sent} == {1, 3, 5}
    connection.receive(window_update(0, 1_000_000), 0.0)
    sent += sizes(connection.take_output())
    for asked_id in (1, 3, 5, 7):
        assert sum(size for stream_id, size in sent if stream_id == asked_id) == 30_005


def test_stream_without_a_window_holds_up_no_other() -> None:
    connection = with_calls(1, 3)
    connection.receive(settings({INITIAL_WINDOW_SIZE: 0}) + window_update(3, 100), 0.0)
    connection.take_output()
    connection.respond(1, b"blocked")
    connection.respond(3, b"free")
    assert sizes(connection.take_output()) == [(3, 9)]


def test_large_answer_leaves_in_frames_every_peer_accepts() -> None:
    connection = with_calls(1, first=settings({INITIAL_WINDOW_SIZE: 1_000_000}) + window_update(0, 1_000_000))
    connection.respond(1, b"x" * 100_000)
    sent = sizes(connection.take_output())
    assert max(size for _, size in sent) == FRAME_BYTES_MAX
    assert sum(size for _, size in sent) == 100_005


def test_reset_of_a_waiting_answer_frees_its_stream_and_no_window() -> None:
    connection = Connection(METHODS, Limits(streams_max=1))
    connection.receive(SETTLED + settings({INITIAL_WINDOW_SIZE: 0}) + call(1), 0.0)
    connection.respond(1, b"never")
    assert connection.receive(frame(3, 0, 1, b"\0\0\0\x08") + window_update(0, 5) + call(3), 0.0)
    assert sizes(connection.take_output()) == []


def test_answered_call_is_answered_once_even_while_it_waits() -> None:
    connection = with_calls(1, first=settings({INITIAL_WINDOW_SIZE: 0}))
    connection.respond(1, b"first")
    connection.respond(1, b"second")
    connection.receive(window_update(1, 1_000), 0.0)
    assert b"first" in (output := connection.take_output())
    assert b"second" not in output


def test_uploads_larger_than_every_window_arrive() -> None:
    limits = Limits(stream_window_bytes=65_535, connection_window_bytes=65_535)
    peers = Peers(limits)
    peers.move()
    body = framed(b"u" * 1_000_000)
    stream_id = peers.client.get_next_available_stream_id()
    peers.client.send_headers(stream_id, FIELDS)
    while body:
        room = min(peers.client.local_flow_control_window(stream_id), peers.client.max_outbound_frame_size, len(body))
        assert room > 0
        peers.client.send_data(stream_id, body[:room], end_stream=room == len(body))
        body = body[room:]
        peers.move()
    assert [len(request.message) for request in peers.requests] == [1_000_000]


def test_padding_counts_against_the_windows_and_is_returned() -> None:
    connection = Connection(METHODS, Limits(stream_window_bytes=65_535, connection_window_bytes=65_535))
    connection.receive(SETTLED + headers(1), 0.0)
    connection.take_output()
    connection.receive(b"".join(data(1, b"\xff" + bytes(255), PADDED) for _ in range(200)), 0.0)
    updates = {stream_id: int.from_bytes(payload) for _, _, stream_id, payload in frames(connection.take_output())}
    assert updates == {0: 200 * 256, 1: 128 * 256}


def test_client_with_the_smallest_windows_gets_its_answers() -> None:
    peers = Peers()
    peers.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10})
    peers.move()
    stream_id = peers.call(framed(b"x"))
    peers.move()
    peers.server.respond(stream_id, b"y" * 2_000)
    while stream_id not in peers.over:
        peers.back()
        peers.move()
    assert peers.answers[stream_id] == framed(b"y" * 2_000)
    assert peers.trailers[stream_id] == {"grpc-status": "0"}


def test_streaming_call_answered_early_delivers_what_came_before_its_peer_knew() -> None:
    connection = Connection(METHODS, Limits())
    opened = headers(1, block(_path=STREAM.path)) + data(1, framed(b"one"), 0)
    (request,) = connection.receive(SETTLED + settings({INITIAL_WINDOW_SIZE: 0}) + opened, 0.0)
    assert isinstance(request, Request)
    assert connection.respond(1, b"enough")
    assert not connection.respond(1, b"again")
    assert messages(connection.receive(data(1, framed(b"two"), 0), 0.0)) == [b"two"]
    connection.receive(window_update(1, 100), 0.0)
    output = connection.take_output()
    assert sizes(output) == [(1, 11)]
    assert codes(output) == ({}, None)
    assert messages(connection.receive(data(1, framed(b"three"), 0), 0.0)) == [b"three"]
    assert connection.receive(frame(RST_STREAM, 0, 1, b"\0\0\0\x08"), 0.0) == [Ended(1)]
    assert connection.take_output() == b""


@pytest.mark.parametrize("answered_first", [True, False])
def test_streaming_call_ends_once_though_its_early_answer_waits(answered_first: bool) -> None:  # noqa: FBT001
    connection = Connection(METHODS, Limits())
    window = 100 if answered_first else 0
    opened = headers(1, block(_path=STREAM.path)) + data(1, framed(b"one"), 0)
    connection.receive(SETTLED + settings({INITIAL_WINDOW_SIZE: window}) + opened, 0.0)
    connection.respond(1, b"enough")
    events = connection.receive(data(1, framed(b"last")), 0.0)
    assert messages(events) == [b"last"]
    assert events[-1] == Ended(1)
    connection.receive(window_update(1, 100), 0.0)
    output = connection.take_output()
    assert sizes(output) == [(1, 11)]
    assert codes(output) == ({}, None)
    assert connection.abandon() == []


def test_streaming_call_that_breaks_after_its_answer_is_reset_without_another() -> None:
    connection = Connection(METHODS, Limits())
    connection.receive(SETTLED + headers(1, block(_path=STREAM.path)) + data(1, framed(b"one"), 0), 0.0)
    connection.respond(1, b"enough")
    connection.take_output()
    assert connection.receive(data(1, b"\1", 0), 0.0) == [Ended(1)]
    assert [kind for kind, *_ in frames(connection.take_output())] == [RST_STREAM]


def test_drain_ends_with_a_streaming_call_that_was_answered() -> None:
    connection = Connection(METHODS, Limits())
    connection.receive(SETTLED + headers(1, block(_path=STREAM.path)) + data(1, framed(b"one"), 0), 0.0)
    connection.drain()
    connection.respond(1, b"enough")
    connection.receive(frame(PING, ACK, 0, b"last one"), 0.0)
    assert not connection.is_finished
    connection.receive(frame(RST_STREAM, 0, 1, b"\0\0\0\x08"), 0.0)
    assert connection.is_finished


def test_table_given_up_while_an_answer_waits_is_announced_by_its_trailers() -> None:
    connection = with_calls(1, first=settings({INITIAL_WINDOW_SIZE: 0}))
    connection.respond(1, b"")
    connection.receive(settings({HEADER_TABLE_SIZE: 0}) + window_update(1, 5), 0.0)
    assert [payload[:2] for kind, _, _, payload in frames(connection.take_output()) if kind == HEADERS] == [
        b"\x88\x0f",
        b"\x20\x00",
    ]
