"""A correct peer: calls, responses, refusals, deadlines, streams, and an orderly shutdown."""

import pytest
from h2.events import ConnectionTerminated, PingAckReceived
from support.clients.h2_peers import (
    HEADERS,
    METHODS,
    SETTLED,
    STREAM,
    Peers,
    block,
    call,
    codes,
    data,
    framed,
    frames,
    headers,
)

from authz.core.errors import GrpcCode
from authz.edge.h2 import Cancelled, Connection, Ended, Limits, Request
from authz.edge.h2.responses import Refusal
from authz.edge.h2.wire import (
    ACK,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    PING,
    RST_STREAM,
    SETTINGS,
    STREAM_ID_MASK,
    ErrorCode,
    frame,
    settings,
    window_update,
)

PING_BACK = frame(PING, ACK, 0, b"last one")


def settled(limits: Limits | None = None) -> Connection:
    connection = Connection(METHODS, limits or Limits())
    connection.receive(SETTLED, 0.0)
    connection.take_output()
    return connection


def messages(events: list[Request | Ended | Cancelled]) -> list[bytes]:
    return [event.message for event in events if isinstance(event, Request)]


@pytest.mark.parametrize("size", [0, 1, 600, 16_379, 16_380, 100_000])
def test_call_is_delivered_once_and_answered(size: int) -> None:
    peers = Peers()
    for round_ in range(3):
        stream_id = peers.client.get_next_available_stream_id()
        body = framed(b"x" * size)
        peers.client.send_headers(stream_id, HEADERS)
        for start in range(0, len(body), 16_384):
            peers.client.send_data(stream_id, body[start : start + 16_384], end_stream=start + 16_384 >= len(body))
            peers.move()
        assert [len(request.message) for request in peers.requests] == [size] * (round_ + 1)
        peers.server.respond(stream_id, b"answer")
        peers.back()
        assert peers.headers[stream_id] == {":status": "200", "content-type": "application/grpc"}
        assert peers.answers[stream_id] == framed(b"answer")
        assert peers.trailers[stream_id] == {"grpc-status": "0"}


def test_client_without_a_header_table_is_obeyed_before_its_first_answer() -> None:
    connection = settled()
    connection.receive(settings({1: 0}) + settings({1: 4_096}) + call(1) + call(3), 0.0)
    connection.take_output()
    connection.respond(1, b"a")
    connection.respond(3, b"b")
    blocks = [payload for kind, _, _, payload in frames(connection.take_output()) if kind == 1]
    assert [payload[:1] for payload in blocks] == [b"\x20", b"\x00", b"\x88", b"\x00"]


@pytest.mark.parametrize(
    ("fields", "body", "expected"),
    [
        ({}, b"", ("200", "12")),
        ({}, b"\1\0\0\0\1x", ("200", "12")),
        ({}, b"\0\0\0", ("200", "13")),
        ({}, b"\0\0\0\0\5x", ("200", "13")),
        ({}, b"\0\0\x10\0\1x", ("200", "8")),
        ({}, framed(b"a") + framed(b"b"), ("200", "12")),
        ({"grpc-encoding": "gzip"}, framed(b"a"), ("200", "12")),
        ({"grpc-encoding": "identity"}, framed(b"a"), None),
        ({"grpc-timeout": "soon"}, framed(b"a"), ("200", "13")),
        ({"grpc-timeout": "123456789S"}, framed(b"a"), ("200", "13")),
        ({":path": "/a.B/None"}, framed(b"a"), ("200", "12")),
        ({":path": STREAM.path}, b"\0\0\0\0\5x", ("200", "13")),
        ({":path": STREAM.path}, b"\1\0\0\0\1x", ("200", "12")),
        ({"content-type": "application/grpc+proto; a=b"}, framed(b"a"), None),
        ({"content-type": "text/html"}, framed(b"a"), ("415", None)),
        ({":method": "GET"}, framed(b"a"), ("405", None)),
    ],
)
@pytest.mark.parametrize("pieces", [1, 2])
def test_call_that_is_not_served_ends_with_its_headers(
    fields: dict[str, str], body: bytes, expected: tuple[str, str | None] | None, pieces: int
) -> None:
    peers = Peers(Limits(message_bytes_max=1 << 20))
    stream_id = peers.client.get_next_available_stream_id()
    peers.client.send_headers(stream_id, list({**dict(HEADERS), **fields}.items()))
    peers.client.send_data(stream_id, body[: len(body) // pieces], end_stream=pieces == 1)
    if pieces > 1:
        peers.client.send_data(stream_id, body[len(body) // pieces :], end_stream=True)
    peers.move()
    answer = peers.headers.get(stream_id)
    assert (answer and (answer[":status"], answer.get("grpc-status"))) == expected
    assert (stream_id in peers.over) == (expected is not None)
    assert len(peers.requests) == (expected is None)
    if answer and fields.get("grpc-encoding") == "gzip":
        assert answer["grpc-accept-encoding"] == "identity"


def test_a_refused_call_with_an_unfinished_body_gets_a_no_error_reset() -> None:
    connection = settled()
    assert connection.receive(headers(1, block(_path="/no/Such")), 0.0) == []
    output = connection.take_output()
    assert [kind for kind, *_ in frames(output)] == [1, RST_STREAM]
    assert codes(output) == ({1: ErrorCode.NO_ERROR}, None)
    assert connection.receive(data(1, framed(b"late")), 0.0) == []
    assert connection.take_output() == b""


def test_refusal_carries_any_text_to_its_caller() -> None:
    peers = Peers()
    stream_id = peers.call(framed(b""))
    peers.move()
    peers.server.refuse(stream_id, Refusal(GrpcCode.UNAVAILABLE, "100 % naïve\r\n" + "é" * 5_000))
    peers.back()
    assert peers.headers[stream_id]["grpc-status"] == "14"
    text = peers.headers[stream_id]["grpc-message"]
    assert text.startswith("100 %25 na%C3%AFve%0D%0A%C3%A9")
    assert len(text) < 7_000


def test_deadline_and_trace_are_read() -> None:
    peers = Peers()
    for number in range(4):
        peers.call(framed(b"x"), ("grpc-timeout", f"{number}m"), ("traceparent", f"00-{number}"))
        peers.call(framed(b"x"))
        peers.move()
    assert [request.call.timeout_s for request in peers.requests[::2]] == pytest.approx([0, 0.001, 0.002, 0.003])
    assert [request.call.traceparent for request in peers.requests[::2]] == ["00-0", "00-1", "00-2", "00-3"]
    assert [(request.call.timeout_s, request.call.traceparent) for request in peers.requests[1::2]] == [(None, "")] * 4


@pytest.mark.parametrize(("text", "expected_s"), [("1H", 3_600), ("2M", 120), ("3S", 3), ("5u", 5e-6), ("7n", 7e-9)])
def test_every_unit_of_a_deadline_is_known(text: str, expected_s: float) -> None:
    connection = settled()
    sent = headers(1, block(("grpc-timeout", text))) + data(1, framed(b""))
    (request,) = connection.receive(sent, 0.0)
    assert isinstance(request, Request)
    assert request.call.timeout_s == pytest.approx(expected_s)


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_streaming_call_gives_each_message_as_it_completes(size: int) -> None:
    connection = settled()
    connection.receive(headers(1, block(_path=STREAM.path)), 0.0)
    body = framed(b"one") + framed(b"") + framed(b"three" * 9)
    events = [
        event
        for start in range(0, len(body), size)
        for event in connection.receive(data(1, body[start : start + size], 0), 0.0)
    ]
    events += connection.receive(data(1, b""), 0.0)
    assert messages(events) == [b"one", b"", b"three" * 9]
    assert events[-1] == Ended(1)
    connection.take_output()
    connection.respond(1, b"done")
    assert codes(output := connection.take_output()) == ({}, None)
    assert b"done" in output


def test_trailers_end_a_request() -> None:
    connection = settled()
    trailers = headers(1, b"\x20\x00\x01a\x01b", 0x5)
    assert messages(connection.receive(headers(1) + data(1, framed(b"x"), 0) + trailers, 0.0)) == [b"x"]
    assert connection.receive(headers(3) + headers(3, b"\x00\x01a\x01b", 0x5), 0.0) == []
    assert b"grpc-status\x0212" in connection.take_output()


def test_a_reset_is_reported_for_a_delivered_call() -> None:
    connection = settled()
    reset = [frame(RST_STREAM, 0, stream_id, b"\0\0\0\x08") for stream_id in (1, 3, 5, 7)]
    stream = headers(5, block(_path=STREAM.path)) + data(5, framed(b"x"), 0)
    sent = call(1) + headers(3) + stream + headers(7) + data(7, b"\0", 0) + b"".join(reset)
    assert [event for event in connection.receive(sent, 0.0) if not isinstance(event, Request)] == [
        Cancelled(1),
        Cancelled(5),
    ]
    connection.take_output()
    connection.respond(1, b"late")
    connection.refuse(5, Refusal(GrpcCode.UNAVAILABLE))
    assert connection.take_output() == b""


def test_the_service_is_notified_when_a_streaming_call_must_end() -> None:
    connection = settled(Limits(upload_bytes_max=100_000))
    events = connection.receive(headers(1, block(_path=STREAM.path)) + data(1, framed(b"x") + b"\1", 0), 0.0)
    assert [type(event) for event in events] == [Cancelled]
    assert codes(connection.take_output()) == ({1: ErrorCode.NO_ERROR}, None)


def test_drain_accepts_what_is_under_way_then_refuses_and_ends() -> None:
    connection = settled()
    connection.receive(call(1), 0.0)
    connection.drain()
    connection.drain()
    announced = frames(connection.take_output())
    assert [(kind, int.from_bytes(payload[:4])) for kind, _, _, payload in announced if kind == GOAWAY] == [
        (GOAWAY, STREAM_ID_MASK)
    ]
    assert messages(connection.receive(call(3, b"under way") + PING_BACK + PING_BACK, 0.0)) == [b"under way"]
    ((_, _, _, last),) = frames(connection.take_output())
    assert int.from_bytes(last[:4]) == 3
    assert connection.receive(call(5), 0.0) == []
    assert codes(connection.take_output()) == ({5: ErrorCode.REFUSED_STREAM}, None)
    connection.respond(1, b"")
    assert not connection.is_finished
    connection.respond(3, b"")
    assert connection.is_finished
    assert not connection.is_closed


def test_drain_waits_for_answers_that_wait() -> None:
    connection = settled()
    connection.receive(settings({4: 0}) + call(1), 0.0)
    connection.drain()
    connection.respond(1, b"x")
    connection.receive(PING_BACK, 0.0)
    assert not connection.is_finished
    connection.receive(window_update(1, 100), 0.0)
    assert connection.is_finished


def test_client_that_leaves_is_answered_first() -> None:
    connection = settled()
    connection.receive(call(1) + frame(GOAWAY, 0, 0, bytes(8)) + PING_BACK, 0.0)
    assert not connection.is_finished
    connection.respond(1, b"answer")
    assert b"answer" in connection.take_output()
    assert connection.is_finished


def test_client_that_is_gone_leaves_nothing_to_answer() -> None:
    connection = settled()
    connection.receive(call(1) + headers(3), 0.0)
    assert connection.abandon() == [Cancelled(1)]
    connection.respond(1, b"late")
    assert connection.take_output() == b""
    assert connection.receive(call(5), 0.0) == []


def test_a_real_client_gets_its_ping_ack_and_a_goaway_for_a_fault() -> None:
    peers = Peers()
    peers.client.ping(b"12345678")
    peers.server.receive(peers.client.data_to_send(), 0.0)
    heard = peers.client.receive_data(peers.server.take_output())
    assert any(isinstance(event, PingAckReceived) for event in heard)
    peers.server.receive(frame(SETTINGS, 0, 1), 0.0)
    (end,) = peers.client.receive_data(peers.server.take_output())
    assert isinstance(end, ConnectionTerminated)
    assert end.error_code == ErrorCode.PROTOCOL_ERROR


def test_a_refused_call_that_had_ended_gets_no_reset() -> None:
    connection = settled()
    connection.receive(headers(1, block(_path="/no/Such"), END_HEADERS | END_STREAM), 0.0)
    assert codes(output := connection.take_output()) == ({}, None)
    assert b"grpc-status\x0212" in output
