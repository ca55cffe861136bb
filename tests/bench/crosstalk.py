"""Verify that every response goes to its own call: a million checks on a slow Redis that loses keys.

Each key has its own account, whose id its responses carry. Many calls run at once, some are reset, some have a timeout
that is too short. No call may get the response of another account, two responses, or none.
"""

import argparse
import asyncio
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import uvloop
from bench.environment.sidecars import Sidecar
from bench.environment.slow_redis import forgetful, slowed
from bench.load.callers import TIRELESS
from bench.load.capture import ID, Call
from bench.load.checks import HELLO, Framed, code_of, framed
from hpack import Encoder

from authz._pb.base_pb2 import HeaderMap, HeaderValue
from authz._pb.check_pb2 import CheckRequest
from authz.adapters import logs
from authz.cli.session import open_admin
from authz.core.errors import GrpcCode
from authz.demo.stack import ACTOR, Stack
from authz.edge.check.messages import SERVICE
from authz.edge.h2 import wire
from authz.service.keys.admin import KeyRequest
from authz.settings import Settings

CONNECTIONS, IN_FLIGHT = 4, 64

_KEYS = 400
_RESET_SHARE, _HURRIED_SHARE = 0.03, 0.03
_PATIENCE_S = 0.004
_HURRY = "1m"  # a grpc-timeout of one millisecond
_ACCOUNT = re.compile(rb"acct_[a-z2-7]{16}")
_ABANDONED_MAX = 4_096


@dataclass(slots=True)
class Tally:
    """Counts of how calls ended. `foreign` responses were for another account, of another kind, or for no call.

    `refused` calls met a store that was too slow, `expired` calls exceeded their own timeout, `reset` calls were
    cancelled by their caller.
    """

    right: int = 0
    refused: int = 0
    expired: int = 0
    reset: int = 0
    foreign: int = 0
    unanswered: int = 0


@dataclass(frozen=True, slots=True)
class ExpectedCall:
    """A call, the account that its answer has to name (empty where none may), and its code."""

    call: Framed
    account: bytes
    code: int
    is_hurried: bool


@dataclass(slots=True)
class SentCall:
    """A call on its way."""

    call: ExpectedCall
    is_answered: bool = False


class Caller(asyncio.Protocol):
    """One client connection that sends calls, cancels some, and compares every response with its call."""

    def __init__(self, calls: Iterator[ExpectedCall], tally: Tally, chance: random.Random) -> None:
        self._expected_calls = calls
        self._tally = tally
        self._chance = chance
        self._loop = asyncio.get_running_loop()
        self._next_id = 1
        self._rest = b""
        self.asked: dict[int, SentCall] = {}
        # Calls that were reset, the latest only: their answers may be on their way.
        self._abandoned: dict[int, SentCall] = {}
        self.done: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # TCP gives a full transport
        self._transport.write(HELLO)
        self._send_next(IN_FLIGHT)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the connection was closed"))

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        position, before = 0, len(self.asked)
        while (body := position + wire.FRAME_HEAD_BYTES) <= len(data):
            word, flags, stream_id = wire.FRAME_HEAD.unpack_from(data, position)
            if body + (word >> 8) > len(data):
                break
            position = body + (word >> 8)
            kind = word & 0xFF
            if kind == wire.DATA:
                self._answered(stream_id, data[body:position])
            elif kind == wire.RST_STREAM or (kind == wire.HEADERS and flags & wire.END_STREAM):
                self._ended(stream_id)
            elif kind == wire.GOAWAY:
                self.done.set_exception(ConnectionError(f"the server takes its leave: {data[body:position]!r}"))
                return
        self._rest = data[position:]
        self._send_next(before - len(self.asked))

    def _answered(self, stream_id: int, payload: bytes) -> None:
        asked = self.asked.get(stream_id) or self._abandoned.get(stream_id)
        if asked is None or asked.is_answered:
            self._tally.foreign += 1
            return
        asked.is_answered = True
        call, code, accounts = asked.call, code_of(payload, 0), set(_ACCOUNT.findall(payload))
        if code == GrpcCode.UNAVAILABLE and call.account and not accounts:
            self._tally.refused += 1
        elif code == call.code and accounts == ({call.account} if call.account else set()):
            self._tally.right += 1
        else:
            self._tally.foreign += 1

    def _ended(self, stream_id: int) -> None:
        asked = self.asked.pop(stream_id, None)
        if asked is None:
            self._abandoned.pop(stream_id, None)
        elif not asked.is_answered:
            if asked.call.is_hurried:
                self._tally.expired += 1
            else:
                self._tally.unanswered += 1

    def _reset(self, stream_id: int) -> None:
        asked = self.asked.pop(stream_id, None)
        if asked is None:
            return
        self._tally.reset += 1
        self._abandoned[stream_id] = asked
        if len(self._abandoned) > _ABANDONED_MAX:
            del self._abandoned[next(iter(self._abandoned))]
        self._transport.write(wire.rst_stream(stream_id, wire.ErrorCode.CANCEL))
        self._send_next(1)

    def _send_next(self, count: int) -> None:
        out: list[bytes] = []
        for call in islice(self._expected_calls, count):
            call.call.append_to(out, self._next_id)
            self.asked[self._next_id] = SentCall(call)
            if self._chance.random() < _RESET_SHARE:
                self._loop.call_later(self._chance.uniform(0, _PATIENCE_S), self._reset, self._next_id)
            self._next_id += 2
        if out:
            self._transport.write(b"".join(out))
        elif not self.asked and not self.done.done():
            self.done.set_result(None)
            self._transport.close()


async def cross(checks: int, chance: random.Random) -> Tally:
    """Make `checks` checks on its own servers; returns how they ended."""
    stack, tally = Stack(), Tally()
    await asyncio.to_thread(stack.start)
    try:
        calls = await _expected_calls(stack.settings, chance)
        asked = islice(iter(lambda: chance.choice(calls), None), checks)
        async with slowed(stack.redis.url, chance) as redis_url, forgetful(stack.redis.url):
            # Loads that take long and succeed mix answers more than loads that fail.
            env = {"AUTHZ_REDIS_URL": redis_url, "AUTHZ_POSTGRES_DEADLINE_S": "1"}
            sidecar = Sidecar(stack, "sidecar", env)
            await asyncio.to_thread(sidecar.serve)
            try:
                await _send_all(sidecar.check_port, asked, tally, chance)
            finally:
                await asyncio.to_thread(sidecar.stop)
    finally:
        await asyncio.to_thread(stack.stop)
    return tally


async def _send_all(port: int, calls: Iterator[ExpectedCall], tally: Tally, chance: random.Random) -> None:
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Caller(calls, tally, chance), "127.0.0.1", port)
        for _ in range(CONNECTIONS)
    ]
    await asyncio.gather(*(client.done for _, client in made))


async def _expected_calls(settings: Settings, chance: random.Random) -> list[ExpectedCall]:
    """Make the keys, and for each an allowed call, one that lacks a scope, and one with a broken key."""
    calls = []
    async with open_admin(settings) as admin:
        for number in range(_KEYS):
            account = await admin.create_account(f"account {number}", None, ACTOR)
            request = KeyRequest(account.id, "key", frozenset({"servers:read"}), TIRELESS)
            secret = (await admin.create_key(request, ACTOR)).secret
            broken = secret[:-1] + ("0" if secret[-1] != "0" else "1")
            for method, target, key, code in (
                ("GET", f"/v1/servers/s{number}", secret, 0),
                ("POST", f"/v1/servers/s{number}:start", secret, GrpcCode.PERMISSION_DENIED),
                ("GET", f"/v1/servers/s{number}", broken, GrpcCode.UNAUTHENTICATED),
            ):
                is_hurried = chance.random() < _HURRIED_SHARE
                owner = account.id.encode() if key is secret else b""
                calls.append(ExpectedCall(_call(method, target, key, is_hurried=is_hurried), owner, code, is_hurried))
    return calls


def _call(method: str, target: str, secret: str, *, is_hurried: bool) -> Framed:
    encoder = Encoder()
    encoder.header_table_size = 0
    fields = (
        (":method", "POST"),
        (":path", f"/{SERVICE}/Check"),
        (":authority", "authz"),
        (":scheme", "http"),
        ("te", "trailers"),
        ("grpc-timeout", _HURRY if is_hurried else "5S"),
        ("content-type", "application/grpc"),
    )
    request = CheckRequest()
    http = request.attributes.request.http
    http.id, http.method, http.path = (ID % 0).decode(), method, target
    key = HeaderValue(key="x-api-key", raw_value=secret.encode())
    http.header_map = HeaderMap(headers=[key]).SerializeToString()
    before, _, after = request.SerializeToString().partition(ID % 0)
    return framed(Call(encoder.encode(fields).removeprefix(b"\x20"), before, after, frozenset()))


def main() -> int:
    """Run with the options of the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Look for answers that reach another call than their own.")
    parser.add_argument("--checks", type=int, default=1_000_000)
    logs.configure("error", "")
    tally = uvloop.run(cross(parser.parse_args().checks, random.Random()))  # noqa: S311 -- another mix in every run
    sys.stdout.write(f"{tally}\n")
    return 0 if tally.foreign == tally.unanswered == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
