"""Our side of HTTP/2 against a peer that behaves, python-hyper's, and against one that does not."""

import random
from collections.abc import Callable

import pytest
from h2.settings import SettingCodes
from hpack import Encoder
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import HEADERS, METHODS, STREAM, Peers, framed

from authz.edge.h2 import Cancelled, Connection, Ended, Limits, Request
from authz.edge.h2.answers import Refusal
from authz.edge.h2.wire import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEAD,
    GOAWAY,
    PADDED,
    PING,
    PREFACE,
    PRIORITISED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    frame,
    window_update,
)
from authz.edge.h2.wire import (
    HEADERS as HEADERS_FRAME,
)
from authz.edge.h2.wire import (
    settings as settings_frame,
)

MESSAGES = st.binary(max_size=99) | st.integers(0, 900).map(lambda size: b"x" * size) | st.just(b"y" * 40_000)
HELLO = PREFACE + settings_frame({})


def block(*fields: tuple[str, str]) -> bytes:
    return bytes(Encoder().encode(fields or HEADERS))


def codes(output: bytes) -> tuple[dict[int, int], int | None]:
    """Read the server's output: the code of each stream it reset, and of its GOAWAY."""
    resets: dict[int, int] = {}
    goaway, position = None, 0
    while position < len(output):
        word, _flags, stream_id = FRAME_HEAD.unpack_from(output, position)
        payload = output[position + 9 : position + 9 + (word >> 8)]
        position += 9 + (word >> 8)
        if word & 0xFF == RST_STREAM:
            resets[stream_id] = int.from_bytes(payload)
        elif word & 0xFF == GOAWAY:
            goaway = int.from_bytes(payload[4:8])
    return resets, goaway


def sent(*data: bytes) -> tuple[Connection, dict[int, int], int | None]:
    connection = Connection(METHODS, Limits())
    connection.receive(HELLO + b"".join(data), 0.0)
    return connection, *codes(connection.take_output())


def headers(stream_id: int, flags: int = END_HEADERS, payload: bytes | None = None) -> bytes:
    return frame(HEADERS_FRAME, flags, stream_id, block() if payload is None else payload)


def replaced(name: str, value: str | None) -> bytes:
    """The usual headers with one of them changed, or left out."""
    changed = [(key, value if key == name else text) for key, text in HEADERS]
    return block(*((key, text) for key, text in changed if text is not None))


OPEN = headers(1)
CONNECTION_FAULTS: dict[str, tuple[bytes, ErrorCode]] = {
    "data on stream 0": (frame(DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "data on an idle stream": (frame(DATA, 0, 5, b"x"), ErrorCode.PROTOCOL_ERROR),
    "padding longer than the payload": (OPEN + frame(DATA, PADDED, 1, b"\x05abc"), ErrorCode.PROTOCOL_ERROR),
    "padded without a length": (OPEN + frame(DATA, PADDED, 1), ErrorCode.FRAME_SIZE_ERROR),
    "headers on stream 0": (headers(0), ErrorCode.PROTOCOL_ERROR),
    "headers on an even stream": (headers(2), ErrorCode.PROTOCOL_ERROR),
    "a lower stream than the last": (headers(5) + headers(3), ErrorCode.PROTOCOL_ERROR),
    "a block that cannot be decoded": (headers(1, payload=b"\xff\xff\xff\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
    "a priority cut short in headers": (headers(1, END_HEADERS | PRIORITISED, b"\0\0"), ErrorCode.FRAME_SIZE_ERROR),
    "a block interrupted by data": (headers(1, 0) + frame(DATA, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
    "a block interrupted by a ping": (headers(1, 0) + frame(PING, 0, 0, b"12345678"), ErrorCode.PROTOCOL_ERROR),
    "a block continued on another stream": (headers(1, 0) + frame(CONTINUATION, 4, 3), ErrorCode.PROTOCOL_ERROR),
    "a block interrupted by an ordinary call": (headers(1, 0) + headers(3), ErrorCode.PROTOCOL_ERROR),
    "a continuation of nothing": (frame(CONTINUATION, END_HEADERS, 1, b""), ErrorCode.PROTOCOL_ERROR),
    "a block without end": (
        headers(1, 0) + b"".join(frame(CONTINUATION, 0, 1, b"x" * 9000) for _ in range(3)),
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "priority on stream 0": (frame(PRIORITY, 0, 0, b"\0\0\0\0\1"), ErrorCode.PROTOCOL_ERROR),
    "priority of a wrong size, idle": (frame(PRIORITY, 0, 9, b"\0"), ErrorCode.FRAME_SIZE_ERROR),
    "reset on stream 0": (frame(RST_STREAM, 0, 0, b"\0\0\0\0"), ErrorCode.PROTOCOL_ERROR),
    "reset of an idle stream": (frame(RST_STREAM, 0, 7, b"\0\0\0\0"), ErrorCode.PROTOCOL_ERROR),
    "reset of a wrong size": (OPEN + frame(RST_STREAM, 0, 1, b"\0"), ErrorCode.FRAME_SIZE_ERROR),
    "settings on a stream": (frame(SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "settings of a wrong size": (frame(SETTINGS, 0, 0, b"\0" * 5), ErrorCode.FRAME_SIZE_ERROR),
    "a settings acknowledgement with content": (frame(SETTINGS, ACK, 0, b"\0" * 6), ErrorCode.FRAME_SIZE_ERROR),
    "push neither on nor off": (settings_frame({2: 2}), ErrorCode.PROTOCOL_ERROR),
    "an initial window over the maximum": (settings_frame({4: 2**31}), ErrorCode.FLOW_CONTROL_ERROR),
    "a frame size under the minimum": (settings_frame({5: 16_383}), ErrorCode.PROTOCOL_ERROR),
    "a frame size over the maximum": (settings_frame({5: 2**24}), ErrorCode.PROTOCOL_ERROR),
    "push from a client": (frame(PUSH_PROMISE, 4, 1, b"\0\0\0\2"), ErrorCode.PROTOCOL_ERROR),
    "ping on a stream": (frame(PING, 0, 1, b"12345678"), ErrorCode.PROTOCOL_ERROR),
    "ping of a wrong size": (frame(PING, 0, 0, b"1234567"), ErrorCode.FRAME_SIZE_ERROR),
    "goaway on a stream": (frame(GOAWAY, 0, 1, b"\0" * 8), ErrorCode.PROTOCOL_ERROR),
    "goaway cut short": (frame(GOAWAY, 0, 0, b"\0" * 7), ErrorCode.FRAME_SIZE_ERROR),
    "window update of 0": (window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
    "window update of a wrong size": (frame(WINDOW_UPDATE, 0, 0, b"\0"), ErrorCode.FRAME_SIZE_ERROR),
    "window update on an idle stream": (window_update(9, 1), ErrorCode.PROTOCOL_ERROR),
    "a window over its maximum": (window_update(0, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
    "a frame too large": (frame(DATA, 0, 1, b"x" * 16_385), ErrorCode.FRAME_SIZE_ERROR),
    "more data than the connection's window": (
        OPEN + b"".join(frame(DATA, 0, 1, b"\0" * 16_384) for _ in range(2)) + b"".join(
            headers(number) + frame(DATA, 0, number, b"\0\0\x0f\xff\xff" + b"x" * 16_379) for number in range(3, 200, 2)
        ),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
}  # fmt: skip
STREAM_FAULTS: dict[str, tuple[bytes, ErrorCode]] = {
    "no method": (headers(1, payload=replaced(":method", None)), ErrorCode.PROTOCOL_ERROR),
    "no scheme": (headers(1, payload=replaced(":scheme", None)), ErrorCode.PROTOCOL_ERROR),
    "no path": (headers(1, payload=replaced(":path", None)), ErrorCode.PROTOCOL_ERROR),
    "an unknown pseudo-header": (headers(1, payload=block(*HEADERS, (":x", "y"))), ErrorCode.PROTOCOL_ERROR),
    "a late pseudo-header": (headers(1, payload=block(("a", "b"), *HEADERS)), ErrorCode.PROTOCOL_ERROR),
    "a pseudo-header twice": (headers(1, payload=block(HEADERS[0], *HEADERS)), ErrorCode.PROTOCOL_ERROR),
    "an upper-case name": (headers(1, payload=block(*HEADERS, ("X-Y", "z"))), ErrorCode.PROTOCOL_ERROR),
    "a connection header": (headers(1, payload=block(*HEADERS, ("connection", "close"))), ErrorCode.PROTOCOL_ERROR),
    "te that is not trailers": (headers(1, payload=replaced("te", "gzip")), ErrorCode.PROTOCOL_ERROR),
    "a line break in a value": (headers(1, payload=block(*HEADERS, ("x", "a\nb"))), ErrorCode.PROTOCOL_ERROR),
    "a blank around a value": (headers(1, payload=block(*HEADERS, ("x", " a"))), ErrorCode.PROTOCOL_ERROR),
    "a host that contradicts": (headers(1, payload=block(*HEADERS, ("host", "x"))), ErrorCode.PROTOCOL_ERROR),
    "data beyond content-length": (
        headers(1, payload=block(*HEADERS, ("content-length", "1"))) + frame(DATA, END_STREAM, 1, framed(b"abc")),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "less data than content-length": (
        headers(1, payload=block(*HEADERS, ("content-length", "99"))) + frame(DATA, END_STREAM, 1, framed(b"abc")),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "trailers that do not end": (OPEN + headers(1, payload=block(("a", "b"))), ErrorCode.PROTOCOL_ERROR),
    "a pseudo-header among trailers": (
        OPEN + headers(1, END_HEADERS | END_STREAM, block((":path", "/"))), ErrorCode.PROTOCOL_ERROR,
    ),
    "data after the end": (
        OPEN + frame(DATA, END_STREAM, 1, framed(b"a")) + frame(DATA, END_STREAM, 1, framed(b"a")),
        ErrorCode.STREAM_CLOSED,
    ),
    "headers after the end": (OPEN + frame(DATA, END_STREAM, 1, framed(b"a")) + headers(1), ErrorCode.STREAM_CLOSED),
    "priority of a wrong size": (OPEN + frame(PRIORITY, 0, 1, b"\0"), ErrorCode.FRAME_SIZE_ERROR),
    "a stream's window update of 0": (OPEN + window_update(1, 0), ErrorCode.PROTOCOL_ERROR),
    "a stream's window over its maximum": (OPEN + window_update(1, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
}  # fmt: skip


@pytest.mark.parametrize("name", CONNECTION_FAULTS)
def test_a_fault_of_the_connection_closes_it_with_its_code(name: str) -> None:
    data, code = CONNECTION_FAULTS[name]
    connection, _, goaway = sent(data)
    assert goaway == code
    assert connection.is_closed
    assert connection.receive(headers(1001), 0.0) == []
    assert connection.take_output() == b""


@pytest.mark.parametrize("name", STREAM_FAULTS)
def test_a_fault_of_a_stream_resets_it_and_nothing_else(name: str) -> None:
    data, code = STREAM_FAULTS[name]
    connection, resets, goaway = sent(data)
    assert (resets, goaway) == ({1: code}, None)
    (request,) = connection.receive(headers(9) + frame(DATA, END_STREAM, 9, framed(b"next")), 0.0)
    assert isinstance(request, Request)
    assert request.message == b"next"


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX", PREFACE + headers(1)])
def test_what_does_not_begin_as_http_2_is_refused(data: bytes) -> None:
    connection = Connection(METHODS, Limits())
    connection.receive(data, 0.0)
    assert codes(connection.take_output())[1] == ErrorCode.PROTOCOL_ERROR


def test_unknown_frames_padding_priority_and_late_frames_are_taken_in_good_part() -> None:
    padded = b"\x03" + framed(b"hi") + b"\0\0\0"
    connection = Connection(METHODS, Limits())
    events = connection.receive(
        HELLO
        + frame(0x42, 0xFF, 7, b"?")
        + frame(GOAWAY, 0, 0, b"\0" * 8)
        + headers(1, END_HEADERS | PRIORITISED | PADDED, b"\x02\0\0\0\0\x10" + block() + b"\0\0")
        + frame(PRIORITY, 0, 1, b"\0\0\0\0\1")
        + frame(DATA, END_STREAM | PADDED, 1, padded)
        + frame(RST_STREAM, 0, 1, b"\0\0\0\x08")
        + window_update(1, 5)
        + frame(PING, ACK, 0, b"12345678"),
        0.0,
    )
    assert [type(event) for event in events] == [Request, Cancelled]
    assert codes(connection.take_output()) == ({}, None)


@pytest.mark.parametrize(
    ("fields", "body", "status", "http"),
    [
        ((), b"", "12", "200"),
        ((), b"\1\0\0\0\1x", "12", "200"),
        ((), b"\0\0\0\0\5x", "13", "200"),
        ((), framed(b"a") + framed(b"b"), "12", "200"),
        ((("grpc-encoding", "gzip"),), framed(b"a"), "12", "200"),
        ((("grpc-timeout", "soon"),), framed(b"a"), "13", "200"),
        (((":path", "/a.B/None"),), framed(b"a"), "12", "200"),
        ((("content-type", "text/html"),), framed(b"a"), None, "415"),
        (((":method", "GET"),), framed(b"a"), None, "405"),
    ],
)
def test_a_call_that_is_not_served_ends_with_its_headers(
    fields: tuple[tuple[str, str], ...], body: bytes, status: str | None, http: str
) -> None:
    peers = Peers()
    stream_id = peers.client.get_next_available_stream_id()
    names = dict(fields)
    kept = [(name, names.pop(name, value)) for name, value in HEADERS]
    peers.client.send_headers(stream_id, [*kept, *names.items()])
    peers.client.send_data(stream_id, body, end_stream=True)
    peers.server.receive(peers.client.data_to_send(), 0.0)
    answers = [
        dict(event.headers)
        for event in peers.client.receive_data(peers.server.take_output())
        if hasattr(event, "headers")
    ]
    assert [(answer[":status"], answer.get("grpc-status")) for answer in answers] == [(http, status)]


def test_a_deadline_and_a_trace_are_read() -> None:
    peers = Peers()
    for number in range(3):
        peers.call(framed(b"x"), ("grpc-timeout", "200m"), ("traceparent", f"00-{number}"))
        peers.move()
    assert [request.call.timeout_s for request in peers.requests] == [0.2] * 3
    assert [request.call.traceparent for request in peers.requests] == ["00-0", "00-1", "00-2"]


def test_a_streaming_call_gives_each_message_as_it_completes() -> None:
    connection = Connection(METHODS, Limits())
    opened = HELLO + headers(1, payload=replaced(":path", STREAM.path))
    body = framed(b"one") + framed(b"two") + framed(b"three")
    events = connection.receive(opened + frame(DATA, 0, 1, body[:9]), 0.0)
    events += connection.receive(frame(DATA, 0, 1, body[9:-1]), 0.0)
    events += connection.receive(frame(DATA, END_STREAM, 1, body[-1:]), 0.0)
    assert [event.message for event in events if isinstance(event, Request)] == [b"one", b"two", b"three"]
    assert events[-1] == Ended(1)
    connection.respond(1, b"done")
    assert b"done" in connection.take_output()


def test_answers_wait_for_the_windows_and_leave_as_they_open() -> None:
    peers = Peers()
    peers.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10})
    peers.move()
    stream_id = peers.call(framed(b"x"))
    peers.move()
    peers.server.respond(stream_id, b"y" * 100_000)
    for _ in range(20_000):
        peers.back()
        peers.move()
        if stream_id in peers.trailers:
            break
    assert peers.answers[stream_id] == framed(b"y" * 100_000)
    assert peers.trailers[stream_id] == {"grpc-status": "0"}


def test_a_window_shrunk_below_zero_holds_answers_back() -> None:
    connection = Connection(METHODS, Limits())
    connection.receive(HELLO + headers(1) + frame(DATA, END_STREAM, 1, framed(b"a")), 0.0)
    connection.respond(1, b"z" * 70_000)
    connection.take_output()
    connection.receive(window_update(0, 100_000) + settings_frame({4: 0}), 0.0)
    assert b"z" not in connection.take_output()
    connection.receive(window_update(1, 65_535), 0.0)
    assert b"z" not in connection.take_output()
    connection.receive(window_update(1, 10_000), 0.0)
    assert connection.take_output().count(b"z") == 70_005 - 65_535


@pytest.mark.parametrize(
    "flood",
    [
        lambda _: frame(PING, 0, 0, b"12345678"),
        lambda _: settings_frame({}),
        lambda _: frame(0x42, 0, 0),
        lambda number: headers(2 * number + 1) + frame(RST_STREAM, 0, 2 * number + 1, b"\0\0\0\0"),
        lambda _: frame(PRIORITY, 0, 1, b"\0\0\0\0\1"),
        lambda number: headers(2 * number + 1, payload=replaced(":path", None)),
    ],
)
def test_floods_are_cut_off(flood: Callable[[int], bytes]) -> None:
    connection = Connection(METHODS, Limits(nuisances_max=100))
    connection.receive(HELLO, 0.0)
    for number in range(200):
        connection.receive(flood(number), 0.0)
    assert codes(connection.take_output())[1] == ErrorCode.ENHANCE_YOUR_CALM


def test_more_streams_than_agreed_are_refused_for_another_try() -> None:
    connection = Connection(METHODS, Limits(streams_max=2))
    connection.receive(HELLO + headers(1) + headers(3) + headers(5), 0.0)
    assert codes(connection.take_output()) == ({5: ErrorCode.REFUSED_STREAM}, None)


def test_a_drain_answers_what_is_under_way_and_refuses_what_comes_later() -> None:
    connection = Connection(METHODS, Limits())
    connection.receive(HELLO + headers(1) + frame(DATA, END_STREAM, 1, framed(b"a")), 0.0)
    connection.drain()
    assert codes(connection.take_output())[1] == ErrorCode.NO_ERROR
    connection.receive(headers(3), 0.0)
    assert codes(connection.take_output())[0] == {3: ErrorCode.REFUSED_STREAM}
    assert not connection.is_finished
    connection.respond(1, b"b")
    assert connection.is_finished


def test_who_hangs_up_is_told_of() -> None:
    connection = Connection(METHODS, Limits())
    connection.receive(HELLO + headers(1) + frame(DATA, END_STREAM, 1, framed(b"a")) + headers(3), 0.0)
    assert connection.abandon() == [Cancelled(1)]
    connection.take_output()
    connection.respond(1, b"late")
    connection.refuse(3, Refusal(13, "late"))
    assert connection.take_output() == b""


def exchange(chance: random.Random, messages: list[bytes], table_size: int) -> None:
    """Ask with every message, cut into frames and reads by chance, and answer in an order by chance."""
    peers = Peers()
    peers.client.update_settings({SettingCodes.HEADER_TABLE_SIZE: table_size})
    asked: dict[int, bytes] = {}
    for number, message in enumerate(messages):
        peers.move()
        extra = (("x-request-id", f"{number}"), ("traceparent", f"{chance.getrandbits(chance.choice([1, 99, 600])):x}"))
        stream_id = peers.client.get_next_available_stream_id()
        peers.client.send_headers(stream_id, [*HEADERS, *extra])
        body = framed(message)
        while body:
            size = min(len(body), chance.choice([1, 5, 9, 700]) if len(body) < 2_000 else 16_000)
            padding = chance.choice([None, 0, 9])
            peers.client.send_data(stream_id, body[:size], end_stream=size == len(body), pad_length=padding)
            body = body[size:]
        asked[stream_id] = message
        if chance.random() < 0.5:
            waiting = len(peers.client._data_to_send)  # noqa: SLF001 -- where to cut
            peers.move(*sorted(chance.randrange(waiting + 1) for _ in range(3)))
    peers.move()
    assert [(request.stream_id, request.message) for request in peers.requests] == list(asked.items())
    for stream_id in chance.sample(list(asked), len(asked)):
        peers.server.respond(stream_id, asked[stream_id][::-1])
    while peers.trailers.keys() != asked.keys():
        peers.back()
        peers.move()
    assert peers.answers == {stream_id: framed(message[::-1]) for stream_id, message in asked.items()}
    assert all(trailers == {"grpc-status": "0"} for trailers in peers.trailers.values())


@settings(max_examples=500, deadline=None)
@given(st.randoms(use_true_random=False), st.lists(MESSAGES, min_size=1, max_size=6), st.sampled_from([0, 64, 4096]))
def test_every_request_arrives_once_and_every_answer_reaches_its_stream(
    chance: random.Random, messages: list[bytes], table_size: int
) -> None:
    exchange(random.Random(chance.getrandbits(64)), messages, table_size)  # noqa: S311 -- a test's cuts


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 2**32), st.integers(0, 40))
def test_no_bytes_make_it_stumble_or_hoard(noise: bytes, seed: int, changes: int) -> None:
    chance = random.Random(seed)  # noqa: S311 -- a test's mutations
    valid = bytearray(
        HELLO + headers(1) + frame(DATA, END_STREAM, 1, framed(b"a")) + settings_frame({4: 7}) + headers(3)
    )
    for _ in range(changes):
        valid[chance.randrange(len(valid))] = chance.randrange(256)
    for data in (noise, HELLO + noise, bytes(valid)):
        connection = Connection(METHODS, Limits())
        for event in connection.receive(data, 0.0):
            if isinstance(event, Request):
                connection.respond(event.stream_id, b"x")
        assert len(connection.take_output()) < 2000


def test_with_many_calls_in_flight_each_answer_reaches_its_own() -> None:
    chance = random.Random(7)  # noqa: S311 -- a test's order
    peers = Peers()
    expected: dict[int, bytes] = {}
    for _ in range(40):
        ids = [peers.call(framed(b"q%d" % number)) for number in range(chance.randrange(1, 64))]
        peers.move()
        for stream_id in chance.sample(ids, len(ids) // 5):
            peers.client.reset_stream(stream_id)
        peers.move()
        chance.shuffle(ids)
        for request in sorted(peers.requests, key=lambda request: ids.index(request.stream_id)):
            peers.server.respond(request.stream_id, b"%d " % request.stream_id + request.message)
            expected[request.stream_id] = framed(b"%d " % request.stream_id + request.message)
        peers.requests.clear()
        peers.back()
    assert peers.answers.items() <= expected.items()
    assert len(peers.answers) > 500
