"""Mutated HTTP/2 sessions against the check listener for a given time: `make fuzz SECONDS=600`.

Whatever a peer sends, nothing may be raised, held or written without bound, and no check may be allowed: the checker
behind it allows none. Seeds are sessions that exercise every kind of frame; each is damaged, and cut into reads.
"""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Sequence
from typing import Any

from support.builders import policy
from support.clients.h2_peers import HELLO, SETTLED, block, call, data, framed, frames, headers

from authz._pb.base_pb2 import HeaderMap, HeaderValue
from authz._pb.check_pb2 import CheckRequest, CheckResponse
from authz.core.check import Deny, RequestAttributes
from authz.core.errors import DenyReason
from authz.edge.check.listener import CheckListener
from authz.edge.h2 import wire
from authz.service.check.batch import Answer
from authz.service.ports import Decided

REST_BYTES_MAX = wire.FRAME_HEAD_BYTES + wire.FRAME_BYTES_MAX
"""What may be held back of a read: one frame that is not whole yet."""

ANSWER_BYTES_MAX = 2_048
"""What one frame from the peer may make us write."""

_SESSIONS_PER_CHECK = 500
_DAMAGES = 6


class NoChecker:
    """Refuses every check, at once or in a later turn."""

    policy = policy()

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def check(self, asked: Sequence[tuple[int, RequestAttributes]], answer: Answer, *_: object) -> None:
        denied: list[Decided] = [(number, attributes, Deny(DenyReason.KEY_MISSING)) for number, attributes in asked]
        at_once = self._chance.randint(0, len(denied))
        answer(denied[:at_once])
        asyncio.get_running_loop().call_soon(answer, denied[at_once:])


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True


def message() -> bytes:
    request = CheckRequest()
    http = request.attributes.request.http
    http.id, http.method, http.path = "7", "GET", "/v1/servers/s1?limit=9"
    key = HeaderValue(key="x-api-key", raw_value=b"ttk_" + b"a" * 49)
    http.header_map = HeaderMap(headers=[key]).SerializeToString()
    return request.SerializeToString()


def seeds() -> list[bytes]:
    body, fields = framed(message()), block()
    late = wire.frame(wire.SETTINGS, wire.ACK, 0)
    return [
        SETTLED + b"".join(call(stream_id, message()) for stream_id in (1, 3, 5)),
        HELLO + call(1, message()) + late + call(3, message()) + wire.frame(wire.PING, 0, 0, b"12345678"),
        SETTLED + headers(1, fields[:9], flags=0) + wire.frame(wire.CONTINUATION, wire.END_HEADERS, 1, fields[9:])
        + data(1, body[:7], flags=0) + data(1, body[7:]),
        SETTLED + headers(1) + wire.rst_stream(1, wire.ErrorCode.CANCEL) + call(3, message())
        + wire.window_update(0, 9) + wire.window_update(3, 9) + wire.goaway(0, wire.ErrorCode.NO_ERROR),
        SETTLED + wire.settings({wire.INITIAL_WINDOW_SIZE: 3, wire.HEADER_TABLE_SIZE: 0}) + call(1, message())
        + wire.window_update(1, 5_000) + wire.settings({wire.INITIAL_WINDOW_SIZE: 70_000}),
        SETTLED + wire.frame(wire.HEADERS, wire.END_HEADERS | wire.PADDED | wire.PRIORITISED, 1,
                             b"\x03" + b"\0\0\0\0\x10" + fields + b"\0\0\0")
        + wire.frame(wire.DATA, wire.END_STREAM | wire.PADDED, 1, b"\x02" + body + b"\0\0")
        + wire.frame(wire.PRIORITY, 0, 3, b"\0\0\0\0\x10") + headers(3, block(("grpc-timeout", "1n")))
        + data(3, body),
    ]  # fmt: skip


def damaged(chance: random.Random, session: bytes, others: list[bytes]) -> bytes:
    """Change a session at random places, often enough in a way that leaves its frames whole."""
    work = bytearray(session)
    for _ in range(chance.randrange(_DAMAGES)):
        at = chance.randrange(len(work) + 1)
        match chance.randrange(6):
            case 0 if at < len(work):
                work[at] ^= 1 << chance.randrange(8)
            case 1:
                work[at:at] = chance.randbytes(chance.randrange(1, 12))
            case 2:
                del work[at : at + chance.randrange(1, 12)]
            case 3:
                start = chance.randrange(len(work) + 1)
                work[at:at] = work[start : start + chance.randrange(1, 200)]
            case 4:
                work += chance.choice(others)[len(wire.PREFACE) :]
            case _:
                kind, stream_id = chance.randrange(12), chance.choice([0, 1, 2, 3, 5, 7, 2**31 - 1])
                work += wire.frame(kind, chance.randrange(256), stream_id, chance.randbytes(chance.randrange(40)))
    return bytes(work)


async def attack(listener: CheckListener, chance: random.Random, session: bytes) -> int:
    """Play one session and verify what came of it; returns how many checks were answered."""
    peer: Any = listener._peer()  # noqa: SLF001 -- the protocol alone, on a transport that keeps what it is given
    transport = Transport()
    peer.connection_made(transport)
    start = 0
    while start < len(session) and not transport.is_closed:
        stop = start + chance.choice([1, 9, 40, 400, 4_000])
        peer.data_received(session[start:stop])
        if chance.random() < 0.3:
            await asyncio.sleep(0)
        start = stop
    await asyncio.sleep(0)
    assert len(peer._connection._unparsed) <= REST_BYTES_MAX, "held back more than a frame"  # noqa: SLF001
    assert len(transport.written) <= ANSWER_BYTES_MAX * (2 + len(session) // wire.FRAME_HEAD_BYTES), "wrote too much"
    peer.connection_lost(None)
    answered = 0
    for kind, _flags, _stream_id, payload in frames(bytes(transport.written)):
        # A part of an answer that its window cut short is no message; one that is whole must refuse.
        if kind == wire.DATA and int.from_bytes(payload[1:5]) == len(payload) - 5:
            assert CheckResponse.FromString(payload[5:]).status.code, "allowed a check"
            answered += 1
    return answered


async def fuzz(seconds: float, seed: int) -> tuple[int, int]:
    """Play damaged sessions for so long; returns how many, and how many checks they got answered.

    Raises for the first that did harm.
    """
    chance = random.Random(seed)  # noqa: S311 -- a run that can be repeated
    loop, faults = asyncio.get_running_loop(), list[dict[str, Any]]()
    loop.set_exception_handler(lambda _loop, context: faults.append(context))
    listener = CheckListener(NoChecker(chance), "127.0.0.1:0", check_s_max=1)  # type: ignore[arg-type]  # all it asks of
    corpus, played, answered, until_s = seeds(), 0, 0, time.monotonic() + seconds
    while time.monotonic() < until_s:
        for _ in range(_SESSIONS_PER_CHECK):
            session = damaged(chance, chance.choice(corpus), corpus)
            try:
                answered += await attack(listener, chance, session)
            except Exception as error:
                error.add_note(f"seed {seed}, session {session.hex()}")
                raise
            played += 1
        assert not faults, faults[0]
    return played, answered


def main() -> None:
    parser = argparse.ArgumentParser(description="Attack the check listener's HTTP/2.")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    played, answered = asyncio.run(fuzz(options.seconds, options.seed))
    sys.stdout.write(f"seed {options.seed}: {played:,} sessions, {answered:,} checks refused, no harm done\n")


if __name__ == "__main__":
    main()
