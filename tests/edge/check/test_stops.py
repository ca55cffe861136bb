"""The end of connections at a stop of the listener: no response is lost, and no peer is waited for in vain."""

import asyncio
import socket
import threading
import time

from h2.connection import H2Connection
from support.fakes.allowing_checker import GRPC_CALL, AllowingChecker, check_request

from authz.edge.check.listener import CheckListener
from authz.edge.h2 import wire

PING = wire.frame(wire.PING, 0, 0, b"")[3:]


def pong(seen: bytes) -> bytes:
    """Return the answer to the ping in what was received; nothing without one."""
    _, found, rest = seen.partition(b"\0\0\x08" + PING)
    return wire.frame(wire.PING, wire.ACK, 0, rest[:8]) if found else b""


def read_late(port: int, is_sent: threading.Event) -> bytes:
    """Call once; from the ping of a stop on, send without reading for a while. Return what there is to read then."""
    ours = H2Connection()
    ours.initiate_connection()
    ours.send_headers(1, [*GRPC_CALL.items(), ("grpc-timeout", "5S")])
    message = check_request("/late").SerializeToString()
    ours.send_data(1, b"\0" + len(message).to_bytes(4) + message, end_stream=True)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as peer:
        peer.sendall(ours.data_to_send())
        while not (answer := pong(peer.recv(65_536))):
            is_sent.set()
        peer.sendall(answer)
        for _ in range(100):
            peer.sendall(wire.window_update(0, 1))
            time.sleep(0.003)
        return b"".join(iter(lambda: peer.recv(65_536), b""))


async def test_a_stop_resets_no_connection_with_responses_on_their_way(
    listener: CheckListener, checker: AllowingChecker
) -> None:
    checker.delay_s = lambda: 0.1
    is_sent = threading.Event()
    read = asyncio.get_running_loop().run_in_executor(None, read_late, listener.port, is_sent)
    await asyncio.to_thread(is_sent.wait, 5)
    await listener.stop(5)
    assert b"/late" in await read


async def test_a_peer_that_does_not_close_is_left_a_second_after_its_last_response(
    listener: CheckListener, checker: AllowingChecker
) -> None:
    checker.delay_s = lambda: 0
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    peer = H2Connection()
    peer.initiate_connection()
    writer.write(peer.data_to_send())
    await reader.read(65_536)
    started_s = time.monotonic()
    stop = asyncio.ensure_future(listener.stop(10))
    while data := await reader.read(65_536):
        writer.write(pong(data))
    await stop
    assert 0.5 < time.monotonic() - started_s < 4
    writer.close()
