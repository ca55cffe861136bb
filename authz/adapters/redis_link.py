"""One pipelined connection to Redis: what is asked in one turn of the event loop leaves in one write.

Set-up (TLS, AUTH, SELECT, the client's name) is redis-py's; afterwards its transport is taken over, because a task and
a future per command would cost more than the command. What commands mean is `redis_keys.py`.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha1
from typing import Any

import hiredis
import structlog
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import AuthenticationError, RedisError

from authz.core.errors import StoreUnavailable

Reply = Callable[[Any], None]
"""Called once with a parsed reply (an error reply is a `hiredis.ReplyError`) or a `StoreUnavailable`, never raises."""

_SETUP_DEADLINE_S = 0.5
_BACKOFF_MAX_S = 0.5
_HUNG_AFTER_DEADLINES = 10
# Errors of a server that is no longer, or not yet, the one to talk to.
_WRONG_SERVER = ("READONLY", "LOADING", "MASTERDOWN")

_log = structlog.stdlib.get_logger("authz.redis")


class Script:
    """A Lua script: its source and the hash by which Redis knows it."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.sha = sha1(source, usedforsecurity=False).hexdigest()


class RedisLink:
    """A connection that is kept up, with a deadline on every answer.

    `in_flight_max` bounds the commands that wait; beyond it, and while there is no connection, commands are refused at
    once. `epoch` names the life of the server behind the connection (from its run id): it changes with every restart
    and failover, and is empty while there is none.
    """

    def __init__(self, url: str, *, deadline_s: float, in_flight_max: int, scripts: Sequence[Script] = ()) -> None:
        self._pool = ConnectionPool.from_url(
            url,
            protocol=2,
            client_name="authz",
            socket_connect_timeout=_SETUP_DEADLINE_S,
            socket_timeout=_SETUP_DEADLINE_S,
            retry=None,
        )
        self._deadline_s = deadline_s
        self._in_flight_max = in_flight_max
        self._scripts = scripts
        self._pipe: _Pipe | None = None
        self._keeper: asyncio.Task[None] | None = None
        self.epoch = ""
        self.reached = asyncio.Event()

    @property
    def is_up(self) -> bool:
        """Tell whether there is a connection."""
        return self._pipe is not None

    def start(self) -> None:
        """Connect, and connect again whenever the connection is lost, until `close`."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep_connected())

    async def close(self) -> None:
        """Close the connection; what still waits is refused."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        if self._pipe is not None:
            self._pipe.abort()
            await self._pipe.lost.wait()

    def submit(self, command: bytes, reply: Reply) -> None:
        """Send one packed command; `reply` is called in a later turn of the event loop."""
        pipe = self._pipe
        if pipe is None:
            _refuse(reply, "not connected")
        elif pipe.in_flight >= self._in_flight_max:
            _refuse(reply, "too many commands wait for an answer")
        else:
            pipe.submit(command, reply)

    def run(self, script: Script, command: bytes, reply: Reply) -> None:
        """Send an EVALSHA of a script; a server that forgot the script gets it, and the command, once more."""
        self.submit(command, partial(self._ran, script, command, reply))

    async def call(self, script: Script, key: bytes, *arguments: bytes) -> Any:  # noqa: ANN401 -- any reply
        """Run a script on one key and wait for its reply; raises `StoreUnavailable`."""
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def answer(value: Any) -> None:  # noqa: ANN401 -- any reply
            if not answered.done():
                answered.set_result(value)

        self.run(script, _packed("EVALSHA", script.sha, b"1", key, *arguments), answer)
        value = await answered
        if isinstance(value, hiredis.ReplyError):
            raise StoreUnavailable("redis", str(value))
        if isinstance(value, StoreUnavailable):
            raise value
        return value

    def _ran(self, script: Script, command: bytes, reply: Reply, value: Any) -> None:  # noqa: ANN401 -- any reply
        if isinstance(value, hiredis.ReplyError) and str(value).startswith("NOSCRIPT"):
            self.submit(_packed("SCRIPT", "LOAD", script.source), _ignore)
            self.submit(command, reply)
        else:
            reply(value)

    async def _keep_connected(self) -> None:
        delay_s = 0.0
        while True:
            try:
                pipe, self.epoch = await self._connected()
            except StoreUnavailable as error:
                _log.warning("redis is out of reach", error=str(error))
                # Jitter keeps a fleet from arriving together when Redis returns.
                delay_s = min(_BACKOFF_MAX_S, delay_s * 2 or 0.02)
                await asyncio.sleep(delay_s * random.uniform(0.5, 1))  # noqa: S311 -- not a secret
                continue
            delay_s = 0.0
            self._pipe = pipe
            self.reached.set()
            _log.info("redis connected", epoch=self.epoch)
            await pipe.lost.wait()
            self._pipe, self.epoch = None, ""
            _log.warning("redis connection lost")

    async def _connected(self) -> tuple["_Pipe", str]:
        connection = self._pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py leaves it bare
        try:
            async with asyncio.timeout(_SETUP_DEADLINE_S):
                await connection.connect()
                await connection.send_command("INFO", "server")
                info = (await connection.read_response(disable_decoding=True)).decode()
                for script in self._scripts:
                    await connection.send_command("SCRIPT", "LOAD", script.source)
                    await connection.read_response()
        except (RedisError, OSError) as error:
            await connection.disconnect(nowait=True)
            transient = not isinstance(error, AuthenticationError)
            raise StoreUnavailable("redis", str(error) or "no answer in time", transient=transient) from error
        epoch = next(line[7:15] for line in info.splitlines() if line.startswith("run_id:"))
        return _Pipe(connection, self._deadline_s), epoch


class _Batch:
    """The commands of one write, in order, and how many of them are answered."""

    __slots__ = ("answered", "expired", "replies", "timer")

    def __init__(self, replies: list[Reply]) -> None:
        self.replies = replies
        self.answered = 0
        self.expired = False
        self.timer: asyncio.TimerHandle | None = None


class _Pipe(asyncio.Protocol):
    """One live connection: batches go out, replies come back in the same order."""

    def __init__(self, connection: AbstractConnection, deadline_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline_s = deadline_s
        self._reader = hiredis.Reader()
        self._commands: list[bytes] = []
        self._replies: list[Reply] = []
        self._batches: deque[_Batch] = deque()
        self.in_flight = 0
        self.lost = asyncio.Event()
        # redis-py's stream is left without its transport; the writer is kept, since it would close that when dropped.
        self._writer, connection._writer, connection._reader = connection._writer, None, None  # noqa: SLF001
        assert self._writer is not None  # noqa: S101 -- a connected connection has one
        self._transport: Any = self._writer.transport
        self._transport.set_protocol(self)

    def submit(self, command: bytes, reply: Reply) -> None:
        """Queue a command for the write at the end of this turn."""
        if not self._commands:
            self._loop.call_soon(self._flush)
        self._commands.append(command)
        self._replies.append(reply)
        self.in_flight += 1

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Hand each reply to whom it belongs (asyncio.Protocol)."""
        self._reader.feed(data)
        try:
            while (value := self._reader.gets()) is not False:
                self._answer(value)
        except (hiredis.ProtocolError, IndexError):  # not Redis, or an answer that nobody asked for
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio.Protocol
        """Refuse everything that waits (asyncio.Protocol)."""
        self.lost.set()
        waiting, self._batches = self._batches, deque()
        waiting.append(_Batch(self._replies))
        for batch in waiting:
            self._expire(batch, "connection lost")

    def _flush(self) -> None:
        if self.lost.is_set():
            return
        batch = _Batch(self._replies)
        self._transport.write(b"".join(self._commands))
        self._commands, self._replies = [], []
        self._batches.append(batch)
        batch.timer = self._loop.call_later(self._deadline_s, self._late, batch)

    def _answer(self, value: Any) -> None:  # noqa: ANN401 -- any reply
        batch = self._batches[0]
        reply = batch.replies[batch.answered]
        batch.answered += 1
        if batch.answered == len(batch.replies):
            self._batches.popleft()
            if batch.timer is not None:
                batch.timer.cancel()
        if not batch.expired:
            self.in_flight -= 1
            _call(reply, value)
        if isinstance(value, hiredis.ReplyError) and str(value).startswith(_WRONG_SERVER):
            self.abort()

    def _late(self, batch: _Batch) -> None:
        self._expire(batch, f"no answer within {self._deadline_s * 1000:g} ms")
        # Its replies may still come and are then dropped in order; if they don't, the server hangs.
        batch.timer = self._loop.call_later(self._deadline_s * _HUNG_AFTER_DEADLINES, self.abort)

    def _expire(self, batch: _Batch, why: str) -> None:
        if batch.timer is not None:
            batch.timer.cancel()
        if batch.expired:
            return
        batch.expired = True
        waiting = batch.replies[batch.answered :]
        self.in_flight -= len(waiting)
        for reply in waiting:
            _call(reply, StoreUnavailable("redis", why))


def _packed(*words: str | bytes) -> bytes:
    command: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub asks for a tuple of one
    return command


def _call(reply: Reply, value: Any) -> None:  # noqa: ANN401 -- any reply
    try:
        reply(value)
    except Exception:  # noqa: BLE001 -- one broken caller must not cost the others their answers
        _log.exception("a reply could not be delivered")


def _refuse(reply: Reply, why: str) -> None:
    asyncio.get_running_loop().call_soon(_call, reply, StoreUnavailable("redis", why))


def _ignore(_value: object) -> None:
    return
