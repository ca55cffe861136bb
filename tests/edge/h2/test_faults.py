"""Every way in which a peer can break RFC 9113 or RFC 7541: the code it is answered with, and who else feels it."""

import pytest
from support.clients.h2_peers import HELLO, METHODS, SETTLED, block, call, codes, data, framed, frames, headers

from authz.edge.h2 import Cancelled, Connection, Limits, Request, wire
from authz.edge.h2.wire import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
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

FRAME_SIZE = ErrorCode.FRAME_SIZE_ERROR
PROTOCOL = ErrorCode.PROTOCOL_ERROR
FLOW = ErrorCode.FLOW_CONTROL_ERROR
COMPRESSION = ErrorCode.COMPRESSION_ERROR
CALM = ErrorCode.ENHANCE_YOUR_CALM
CLOSED = ErrorCode.STREAM_CLOSED

# Stream 1 is a call in flight; the subject is stream 3.
OPEN = headers(3)
UNFINISHED = headers(3, flags=0)
FULL = b"\0\0\x0f\xff\xff" + b"x" * 16_379  # the first frame of a message of a megabyte

CONNECTION_FAULTS: dict[str, tuple[bytes, ErrorCode]] = {
    "frame too large": (frame(DATA, 0, 3, b"x" * 16_385), FRAME_SIZE),
    "unknown frame too large": (frame(0x42, 0, 0, b"x" * 16_385), FRAME_SIZE),
    "data on stream 0": (data(0, b"x"), PROTOCOL),
    "data on an idle stream": (data(5, b"x"), PROTOCOL),
    "data on an even stream": (OPEN + data(2, b"x"), PROTOCOL),
    "data with as much padding as payload": (OPEN + data(3, b"\x05abcd", PADDED), PROTOCOL),
    "data padded without a length": (OPEN + data(3, b"", PADDED), FRAME_SIZE),
    "data over the connection's window": (
        b"".join(headers(number) + data(number, FULL, 0) for number in range(3, 200, 2)), FLOW,
    ),
    "headers on stream 0": (headers(0), PROTOCOL),
    "headers on an even stream": (headers(4), PROTOCOL),
    "headers on a lower stream than the last": (headers(7) + headers(5), PROTOCOL),
    "headers with more padding than payload": (headers(3, b"\xff" + block(), END_HEADERS | PADDED), PROTOCOL),
    "headers padded without a length": (headers(3, b"", END_HEADERS | PADDED), FRAME_SIZE),
    "headers with half a priority": (headers(3, b"\0\0\0\0", END_HEADERS | PRIORITISED), FRAME_SIZE),
    "continuation of nothing": (OPEN + frame(CONTINUATION, END_HEADERS, 3), PROTOCOL),
    "continuation on stream 0": (UNFINISHED + frame(CONTINUATION, END_HEADERS, 0), PROTOCOL),
    "continuation of another stream": (UNFINISHED + frame(CONTINUATION, END_HEADERS, 5), PROTOCOL),
    "block interrupted by headers": (UNFINISHED + headers(5), PROTOCOL),
    "block interrupted by data": (UNFINISHED + data(3, framed(b"")), PROTOCOL),
    "block interrupted by a ping": (UNFINISHED + frame(PING, 0, 0, b"12345678"), PROTOCOL),
    "block interrupted by an unknown frame": (UNFINISHED + frame(0x42, 0, 3), PROTOCOL),
    "block without end": (UNFINISHED + frame(CONTINUATION, 0, 3, b"x" * 16_384) * 8, CALM),
    "index 0": (headers(3, b"\x80"), COMPRESSION),
    "index beyond the table": (headers(3, b"\xff\x00"), COMPRESSION),
    "index that never ends": (headers(3, b"\xff" * 20), COMPRESSION),
    "literal cut short": (headers(3, b"\x00\x05ab"), COMPRESSION),
    "huffman padding too long": (headers(3, b"\x00\x01a\x81\x07\x00\x01b\x82\x07\xff"), COMPRESSION),
    "table larger than allowed": (headers(3, b"\x3f\xe2\x1f" + block()), COMPRESSION),
    "table size after a field": (headers(3, b"\x82\x20"), COMPRESSION),
    "trailers that cannot be decoded": (OPEN + headers(3, b"\x80", END_HEADERS | END_STREAM), COMPRESSION),
    "priority on stream 0": (frame(PRIORITY, 0, 0, b"\0\0\0\0\1"), PROTOCOL),
    "priority of a wrong size on an idle stream": (frame(PRIORITY, 0, 9, b"\0"), FRAME_SIZE),
    "reset on stream 0": (frame(RST_STREAM, 0, 0, b"\0\0\0\0"), PROTOCOL),
    "reset of an idle stream": (frame(RST_STREAM, 0, 7, b"\0\0\0\0"), PROTOCOL),
    "reset of an even stream": (OPEN + frame(RST_STREAM, 0, 2, b"\0\0\0\0"), PROTOCOL),
    "reset of a wrong size": (OPEN + frame(RST_STREAM, 0, 3, b"\0\0\0"), FRAME_SIZE),
    "settings on a stream": (frame(SETTINGS, 0, 1), PROTOCOL),
    "settings of a wrong size": (frame(SETTINGS, 0, 0, b"\0" * 7), FRAME_SIZE),
    "settings acknowledged with content": (frame(SETTINGS, ACK, 0, b"\0" * 6), FRAME_SIZE),
    "push neither on nor off": (wire.settings({wire.ENABLE_PUSH: 2}), PROTOCOL),
    "initial window over the maximum": (wire.settings({wire.INITIAL_WINDOW_SIZE: 2**31}), FLOW),
    "initial window that lifts a stream over the maximum": (
        OPEN + window_update(3, 2) + wire.settings({wire.INITIAL_WINDOW_SIZE: 2**31 - 2}), FLOW,
    ),
    "frame size under the minimum": (wire.settings({wire.MAX_FRAME_SIZE: 16_383}), PROTOCOL),
    "frame size over the maximum": (wire.settings({wire.MAX_FRAME_SIZE: 2**24}), PROTOCOL),
    "push from a client": (frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2"), PROTOCOL),
    "push on stream 0": (frame(PUSH_PROMISE, END_HEADERS, 0, b"\0\0\0\2"), PROTOCOL),
    "ping on a stream": (frame(PING, 0, 1, b"12345678"), PROTOCOL),
    "ping of a wrong size": (frame(PING, 0, 0, b"1234567"), FRAME_SIZE),
    "goaway on a stream": (frame(GOAWAY, 0, 1, b"\0" * 8), PROTOCOL),
    "goaway cut short": (frame(GOAWAY, 0, 0, b"\0" * 7), FRAME_SIZE),
    "window update of 0": (window_update(0, 0), PROTOCOL),
    "window update of a wrong size": (frame(WINDOW_UPDATE, 0, 0, b"\0\0\1"), FRAME_SIZE),
    "window update of a wrong size on a stream": (frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\0\1"), FRAME_SIZE),
    "window update on an idle stream": (window_update(9, 1), PROTOCOL),
    "connection window over its maximum": (window_update(0, 2**31 - 1), FLOW),
}  # fmt: skip

STREAM_FAULTS: dict[str, tuple[bytes, ErrorCode]] = {
    **{f"without {name}": (headers(3, block(without=name)), PROTOCOL) for name in (":method", ":scheme", ":path")},
    "empty path": (headers(3, block(_path="")), PROTOCOL),
    "unknown pseudo-header": (headers(3, b"\x20\x00\x02:x\x01y" + block()[1:]), PROTOCOL),
    "pseudo-header of a response": (headers(3, b"\x20\x88" + block()[1:]), PROTOCOL),
    "pseudo-header after a field": (headers(3, block((":authority", "b"), without=":authority")), PROTOCOL),
    "pseudo-header twice": (headers(3, b"\x20\x83" + block()[1:]), PROTOCOL),
    "content-type twice": (headers(3, block(("content-type", "application/grpc"))), PROTOCOL),
    "timeout twice": (headers(3, block(("grpc-timeout", "1S"), ("grpc-timeout", "2S"))), PROTOCOL),
    "content-length that is no number": (headers(3, block(("content-length", "+1"))), PROTOCOL),
    "host that contradicts": (headers(3, block(("host", "other"))), PROTOCOL),
    "te that is not trailers": (headers(3, block(te="gzip")), PROTOCOL),
    **{
        f"field {name}": (headers(3, block((name, "x"))), PROTOCOL)
        for name in ("connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade")
    },
    **{
        f"name {name!r}": (headers(3, block() + b"\x00" + bytes([len(name)]) + name + b"\x01x"), PROTOCOL)
        for name in (b"", b"X-Upper", b"a b", b"a:b", b"a\x00", b"a\x7f", b"\xe9")
    },
    **{
        f"value {value!r}": (headers(3, block() + b"\x00\x01x" + bytes([len(value)]) + value), PROTOCOL)
        for value in (b"a\nb", b"a\rb", b"a\0b", b" a", b"a ", b"\ta", b"a\t", b"a\n")
    },
    "data beyond content-length": (
        headers(3, block(("content-length", "1"))) + data(3, framed(b"abc")), PROTOCOL,
    ),
    "data short of content-length": (
        headers(3, block(("content-length", "99"))) + data(3, framed(b"abc")), PROTOCOL,
    ),
    "no data despite content-length": (
        headers(3, block(("content-length", "5")), END_HEADERS | END_STREAM), PROTOCOL,
    ),
    "trailers that do not end the stream": (OPEN + headers(3, b"\x20\x00\x01a\x01b"), PROTOCOL),
    "pseudo-header among trailers": (OPEN + headers(3, b"\x20\x82", END_HEADERS | END_STREAM), PROTOCOL),
    "bad field among trailers": (OPEN + headers(3, b"\x20\x00\x01A\x01b", END_HEADERS | END_STREAM), PROTOCOL),
    "data after the end": (call(3) + data(3, framed(b"")), CLOSED),
    "headers after the end": (call(3) + headers(3), CLOSED),
    "priority of a wrong size": (OPEN + frame(PRIORITY, 0, 3, b"\0\0\0\0"), FRAME_SIZE),
    "window update of 0": (OPEN + window_update(3, 0), PROTOCOL),
    "window over its maximum": (OPEN + window_update(3, 2**31 - 1), FLOW),
}  # fmt: skip


def in_flight(hello: bytes) -> Connection:
    connection = Connection(METHODS, Limits())
    assert len(connection.receive(hello + call(1, b"first"), 0.0)) == 1
    connection.take_output()
    return connection


@pytest.mark.parametrize("hello", [HELLO, SETTLED], ids=["greeted", "settled"])
@pytest.mark.parametrize("name", CONNECTION_FAULTS)
def test_fault_of_the_connection_ends_it_with_its_code(name: str, hello: bytes) -> None:
    sent, code = CONNECTION_FAULTS[name]
    connection = in_flight(hello)
    events = connection.receive(sent, 0.0)
    assert Cancelled(1) in events
    output = connection.take_output()
    assert codes(output)[1] == code
    assert frames(output)[-1][0] == GOAWAY
    assert connection.is_closed
    connection.respond(1, b"late")
    assert connection.receive(call(1_001), 0.0) == []
    assert connection.take_output() == b""


@pytest.mark.parametrize("hello", [HELLO, SETTLED], ids=["greeted", "settled"])
@pytest.mark.parametrize("name", STREAM_FAULTS)
def test_fault_of_a_stream_resets_that_stream_alone(name: str, hello: bytes) -> None:
    sent, code = STREAM_FAULTS[name]
    connection = in_flight(hello)
    connection.receive(sent, 0.0)
    assert codes(connection.take_output()) == ({3: code}, None)
    connection.respond(3, b"late")
    assert connection.take_output() == b""
    connection.respond(1, b"answer")
    assert b"answer" in connection.take_output()
    (request,) = connection.receive(call(101, b"next"), 0.0)
    assert isinstance(request, Request)
    assert (request.stream_id, request.message) == (101, b"next")


@pytest.mark.parametrize(
    "opening",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        PREFACE + headers(1),
        PREFACE + frame(PING, 0, 0, b"12345678"),
        PREFACE + frame(SETTINGS, ACK, 0),
    ],
)
def test_what_does_not_open_as_http_2_is_refused(opening: bytes) -> None:
    connection = Connection(METHODS, Limits())
    connection.receive(opening, 0.0)
    assert codes(connection.take_output()) == ({}, PROTOCOL)


@pytest.mark.parametrize(
    "first",
    [block()[1:], b"\x3f\x01" + block()[1:], b"\x20\xbe" + block()[1:]],
    ids=["table kept", "table larger than 0", "entry of a table that is gone"],
)
def test_dynamic_table_is_gone_once_the_settings_are_acknowledged(first: bytes) -> None:
    connection = Connection(METHODS, Limits())
    connection.receive(SETTLED + headers(1, first), 0.0)
    assert codes(connection.take_output()) == ({}, COMPRESSION)


def test_entry_of_a_table_that_is_gone_is_a_fault_among_known_blocks_too() -> None:
    connection = Connection(METHODS, Limits())
    connection.receive(SETTLED + call(1) + call(3) + headers(5, b"\xbe" + block()[1:]), 0.0)
    assert codes(connection.take_output()) == ({}, COMPRESSION)


def test_large_header_list_costs_its_call_and_before_the_acknowledgement_the_connection() -> None:
    for size, extra in ((9_000, 2), (60_000, 1)):
        large = block(*((f"x-{number}", "~" * size) for number in range(extra)))
        pieces = [large[start : start + 16_000] for start in range(0, len(large), 16_000)]
        sent = headers(3, pieces[0], 0) + b"".join(
            frame(CONTINUATION, END_HEADERS if piece is pieces[-1] else 0, 3, piece) for piece in pieces[1:]
        )
        for hello, expected in ((SETTLED, ({3: CALM}, None)), (HELLO, ({}, CALM))):
            connection = in_flight(hello)
            connection.receive(sent, 0.0)
            assert codes(connection.take_output()) == expected


def test_reserved_bit_of_a_stream_id_is_ignored() -> None:
    connection = in_flight(SETTLED)
    reserved = [bytes([*sent[:5], sent[5] | 0x80, *sent[6:]]) for sent in (headers(3), data(3, framed(b"x")))]
    (request,) = connection.receive(b"".join(reserved), 0.0)
    assert isinstance(request, Request)
    assert request.stream_id == 3


def test_data_for_an_answered_call_is_a_fault_of_that_stream() -> None:
    connection = in_flight(SETTLED)
    connection.respond(1, b"answer")
    connection.take_output()
    connection.receive(data(1, b"more"), 0.0)
    assert codes(connection.take_output()) == ({1: CLOSED}, None)


def test_what_was_sent_before_a_reset_was_known_is_no_fault() -> None:
    connection = in_flight(SETTLED)
    connection.receive(headers(3, block(te="gzip"), END_HEADERS), 0.0)
    assert codes(connection.take_output()) == ({3: PROTOCOL}, None)
    late = data(3, framed(b"x"), 0) + headers(3, flags=END_HEADERS | END_STREAM) + window_update(3, 1)
    assert connection.receive(late + frame(RST_STREAM, 0, 3, b"\0\0\0\x08"), 0.0) == []
    assert connection.take_output() == b""


def test_unknown_frames_padding_priorities_and_late_frames_are_taken_in_good_part() -> None:
    connection = in_flight(SETTLED)
    connection.respond(1, b"answer")
    connection.take_output()
    events = connection.receive(
        frame(0x42, 0xFF, 7, b"?")
        + frame(0x42, 0xFF, 0, b"?")
        + frame(PRIORITY, 0, 3, b"\0\0\0\0\1")
        + window_update(1, 5)
        + frame(RST_STREAM, 0, 1, b"\0\0\0\x08")
        + headers(3, b"\x02\0\0\0\0\x10" + block() + b"\0\0", END_HEADERS | PRIORITISED | PADDED)
        + data(3, b"\x03" + framed(b"hi") + b"\0\0\0", END_STREAM | PADDED)
        + wire.settings({0x99: 1, wire.MAX_FRAME_SIZE: 20_000, wire.ENABLE_PUSH: 1})
        + frame(SETTINGS, ACK, 0)
        + frame(PING, ACK, 0, b"12345678"),
        0.0,
    )
    assert [event.message for event in events if isinstance(event, Request)] == [b"hi"]
    assert frames(connection.take_output()) == [(SETTINGS, ACK, 0, b"")]
