"""The moment of each write: together for responses decided together, at once when nothing else is pending."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from h2.connection import H2Connection
from h2.events import TrailersReceived
from support.fakes.allowing_checker import ROUTE, AllowingChecker, check_request, listener_on

from authz.core.check import Allow, RequestAttributes
from authz.edge.check.messages import SERVICE
from authz.service.check.batch import Answer


class Writes(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bytes] = []

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.seen.append(data)

    def close(self) -> None:
        self.seen.append(b"closed")


class HeldChecker(AllowingChecker):
    """Allows /now at once, and all others when a test releases them."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: Callable[[], object] = bool

    def check(self, asked: Sequence[tuple[int, RequestAttributes]], answer: Answer, *_: object) -> bool:  # type: ignore[override]
        decided = [(number, request, Allow(ROUTE)) for number, request in asked]
        if now := [one for one in decided if one[1].target == "/now"]:
            answer(now)
        later = [one for one in decided if one[1].target != "/now"]
        self.answer = lambda: answer(later)
        return bool(later)


def alone(checker: AllowingChecker) -> tuple[Any, Writes, H2Connection]:
    """Make the protocol of one connection, by itself, with its transport and its peer."""
    peer, writes, client = listener_on(checker, "127.0.0.1:0")._peer(), Writes(), H2Connection()  # noqa: SLF001 -- as it says
    peer.connection_made(writes)
    client.initiate_connection()
    peer.data_received(client.data_to_send())
    writes.seen.clear()
    return peer, writes, client


def encoded_calls(client: H2Connection, *targets: str) -> bytes:
    for target in targets:
        stream_id, message = client.get_next_available_stream_id(), check_request(target).SerializeToString()
        fields = {":method": "POST", ":scheme": "http", ":path": f"/{SERVICE}/Check", ":authority": "a"}
        client.send_headers(stream_id, [*fields.items(), ("content-type", "application/grpc")])
        client.send_data(stream_id, b"\0" + len(message).to_bytes(4) + message, end_stream=True)
    return client.data_to_send()


async def test_what_is_decided_at_once_leaves_with_the_rest_or_at_once_where_there_is_none() -> None:
    checker = HeldChecker()
    peer, writes, client = alone(checker)
    peer.data_received(encoded_calls(client, "/now"))
    assert len(writes.seen) == 1
    peer.data_received(encoded_calls(client, "/later", "/now"))
    assert len(writes.seen) == 1
    checker.answer()
    assert len(writes.seen) == 2
    events = [event for data in writes.seen for event in client.receive_data(data)]
    assert sorted(event.stream_id for event in events if isinstance(event, TrailersReceived)) == [1, 3, 5]


async def test_a_faulty_peer_is_disconnected_at_once_even_during_a_store_call() -> None:
    peer, writes, client = alone(HeldChecker())
    peer.data_received(encoded_calls(client, "/later") + b"\0\0\0\x05\0\0\0\0\1")  # a push, from a client
    assert writes.seen[-1] == b"closed"
