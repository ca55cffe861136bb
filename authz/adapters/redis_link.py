"""The one connection to Redis that a process keeps up: made, watched, replaced; and the scripts that run over it.

Set-up (TLS, AUTH, SELECT, the client's name) is redis-py's, whose transport is then taken over by `redis_pipe.py`. What
commands mean is `redis_keys.py`.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha1
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import AuthenticationError, RedisError

from authz.adapters.redis_pipe import OnAnswered, Pipe, Reply, Submit, refuse
from authz.core.errors import StoreUnavailable

_SETUP_DEADLINE_S = 0.5
_BACKOFF_MIN_S = 0.02
_BACKOFF_MAX_S = 0.5
_WATCH_INTERVAL_S = 1.0
_EPOCH_CHARS = 8

_log = logging.getLogger("authz.redis")


class Script:
    """A Lua script: its source and the hash by which Redis knows it."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.sha = sha1(source, usedforsecurity=False).hexdigest()


class RedisLink:
    """A connection that is kept up, with a deadline on every answer.

    `in_flight_max` bounds the commands that wait; beyond it, and while there is no connection, commands are refused
    with a `StoreUnavailable` in the next turn of the event loop. `reached` is set once Redis was reached at all.
    `submit` sends one packed command, whose `Reply` is called in a later turn of the event loop.

    `epoch` names the present life of the data behind the connection, and is empty while there is none. It is taken from
    the replication id, which Redis replaces with every restart and every promotion of a replica; its run id would not
    do, because a primary that was demoted and promoted again keeps it and may have missed what was written meanwhile
    (https://redis.io/docs/latest/operate/oss_and_stack/management/replication/). `connections` counts those made.
    """

    def __init__(
        self,
        url: str,
        *,
        deadline_s: float,
        in_flight_max: int,
        scripts: Sequence[Script] = (),
        on_answered: OnAnswered = lambda _seconds, _commands: None,
    ) -> None:
        self._pool = ConnectionPool.from_url(
            url,
            protocol=2,
            client_name="authz",
            # Ours alone limits the set-up: redis-py's uses asyncio.wait_for, which on Python 3.11 loses cancellations.
            socket_connect_timeout=None,
            socket_timeout=None,
            retry=None,
        )
        self._deadline_s = deadline_s
        self._in_flight_max = in_flight_max
        self._scripts = scripts
        self._on_answered = on_answered
        self._loading: set[Script] = set()
        self._pipe: Pipe | None = None
        # The pipe's own while there is one: a call less for every check.
        self.submit: Submit = _not_connected
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self.epoch = ""
        self.connections = 0
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
            await self._lost.wait()

    def load(self, script: Script) -> None:
        """Give a script to a server that has forgotten it; commands submitted from now on find it there."""
        if script not in self._loading:
            self._loading.add(script)
            self.submit(_packed("SCRIPT", "LOAD", script.source), lambda _: self._loading.discard(script))

    async def call(self, script: Script, keys: bytes | tuple[bytes, ...], *arguments: bytes) -> Any:  # noqa: ANN401 -- any reply
        """Run a script on one key, or several of one hash slot, and wait for its reply; raises `StoreUnavailable`."""
        keys = (keys,) if isinstance(keys, bytes) else keys
        command = _packed("EVALSHA", script.sha, str(len(keys)), *keys, *arguments)
        value = await self._reply(command)
        if is_forgotten(value):
            self.load(script)
            value = await self._reply(command)
        if isinstance(value, hiredis.ReplyError):
            raise StoreUnavailable("redis", str(value))
        if isinstance(value, StoreUnavailable):
            raise value
        return value

    async def _reply(self, command: bytes) -> Any:  # noqa: ANN401 -- any reply
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.submit(command, partial(_settle, answered))
        return await answered

    async def _keep_connected(self) -> None:
        delay_s, complaint = 0.0, ""
        while True:
            try:
                connection, replication_id = await self._connect()
            except StoreUnavailable as error:
                if str(error) != complaint:
                    complaint = str(error)
                    _log.warning("redis is out of reach", extra={"error": complaint})
            else:
                complaint = ""
                self._take_over(connection, replication_id)
                if await self._watch(replication_id):
                    delay_s = 0.0
            # Jitter keeps a fleet from arriving together when Redis returns.
            await asyncio.sleep(delay_s * random.uniform(0.5, 1))  # noqa: S311 -- not a secret
            delay_s = min(_BACKOFF_MAX_S, delay_s * 2 or _BACKOFF_MIN_S)

    async def _connect(self) -> tuple[AbstractConnection, str]:
        """Make a connection that is ready for use; returns it with the server's replication id."""
        connection = self._pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py leaves it bare
        try:
            async with asyncio.timeout(_SETUP_DEADLINE_S):
                return connection, await self._set_up(connection)
        except Exception as error:
            transient = not isinstance(error, AuthenticationError)
            raise StoreUnavailable("redis", str(error) or "no answer in time", transient=transient) from error

    async def _set_up(self, connection: AbstractConnection) -> str:
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it bare
            await connection.send_command("INFO", "replication")
            replication_id = _replication_id(await connection.read_response(disable_decoding=True))
            for script in self._scripts:
                await connection.send_command("SCRIPT", "LOAD", script.source)
                await connection.read_response()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return replication_id

    def _take_over(self, connection: AbstractConnection, replication_id: str) -> None:
        # redis-py is left without its stream. The writer is held on to: dropped, it would close the transport.
        writer, connection._writer, connection._reader = connection._writer, None, None  # noqa: SLF001
        assert writer is not None  # noqa: S101 -- a connected connection has one
        self._lost.clear()
        self._pipe = Pipe(
            writer.transport,
            deadline_s=self._deadline_s,
            on_lost=partial(self._drop, writer),
            on_answered=self._on_answered,
            in_flight_max=self._in_flight_max,
        )
        self.submit = self._pipe.submit
        writer.transport.set_protocol(self._pipe)
        self.epoch = replication_id[:_EPOCH_CHARS]
        self.connections += 1
        self.reached.set()
        _log.info("redis connected", extra={"epoch": self.epoch})
        # Lost since redis-py last read: that was told to its protocol, and never will be to ours.
        if writer.is_closing():
            self._drop(writer)

    def _drop(self, _writer: asyncio.StreamWriter) -> None:
        self._pipe, self.epoch, self.submit = None, "", _not_connected
        self._lost.set()
        _log.warning("redis connection lost")

    async def _watch(self, replication_id: str) -> bool:
        """Wait until the connection is lost, and leave a server that has begun another life, or become a replica.

        Returns whether it was good for a while: one that breaks at once must not be made again at once.
        """
        lasted = False
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_WATCH_INTERVAL_S):
                    await self._lost.wait()
            if self._pipe is None:
                return lasted
            lasted = True
            self._pipe.submit(_packed("INFO", "replication"), partial(self._leave_unless, replication_id))

    def _leave_unless(self, replication_id: str, value: object) -> None:
        if self._pipe is not None and not isinstance(value, StoreUnavailable):
            try:
                changed = _replication_id(value) != replication_id
            except RedisError:
                changed = True
            if changed:
                self._pipe.abort()


def is_forgotten(reply: object) -> bool:
    """Tell whether Redis does not know the script: the one error after which a command has certainly done nothing."""
    return isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT")


def _replication_id(info: object) -> str:
    """Return the id from an INFO of the section replication; raises `RedisError` where there is none to trust."""
    text = info.decode(errors="replace") if isinstance(info, bytes) else ""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    if fields.get("role") != "master":
        raise RedisError("not a primary")
    if len(fields.get("master_replid", "")) < _EPOCH_CHARS:
        raise RedisError("no replication id")
    return fields["master_replid"]


def _packed(*words: str | bytes) -> bytes:
    command: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub asks for a tuple of one
    return command


def _settle(answered: asyncio.Future[Any], value: Any) -> None:  # noqa: ANN401 -- any reply
    if not answered.done():
        answered.set_result(value)


def _not_connected(_command: bytes, reply: Reply) -> None:
    refuse(reply, "not connected")
