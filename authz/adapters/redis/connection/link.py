"""The one connection of a process to a Redis server: opened, monitored, replaced; and the scripts that use it.

redis-py opens it (TLS, AUTH, SELECT, client name); `pipe.py` then takes over its transport. `primary.py` finds the
server, the modules in the parent folder own the commands.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha1
from typing import Any, Protocol

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AuthenticationError, RedisError

from authz.adapters.redis.connection.epoch import OF_SERVER, Life
from authz.adapters.redis.connection.errors import failure, is_forgotten
from authz.adapters.redis.connection.pipe import OnAnswered, Pipe, Reply, Submit, SubmitAll, refuse, refuse_all
from authz.adapters.redis.connection.primary import find_primary
from authz.core.errors import StoreUnavailable

_SETUP_DEADLINE_S = 0.5
_BACKOFF_MIN_S = 0.02
_BACKOFF_MAX_S = 0.5
_WATCH_INTERVAL_S = 1.0

_log = logging.getLogger("authz.redis")


class Script:
    """A Lua script: its source and its SHA-1, which identifies it in Redis."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.sha = sha1(source, usedforsecurity=False).hexdigest()


class Caller(Protocol):
    """Runs scripts on the server of their key: a link to one server, or the links to a cluster."""

    async def call(self, script: Script, keys: bytes | tuple[bytes, ...], *arguments: bytes) -> Any:  # noqa: ANN401 -- any reply
        """Run a script on one key, or several of one hash slot; return its reply. Raises `StoreUnavailable`."""
        ...


class RedisLink:
    """A connection that is re-established after a loss, with a deadline on every reply.

    `in_flight_max` limits the pending commands; beyond it, and without a connection, commands are refused with
    `StoreUnavailable` in the next turn of the event loop. `reached` is set after the first connection. `submit` sends
    one packed command and calls its `Reply` in a later turn of the event loop; `submit_all` sends several commands and
    calls its `Reply` once, with the list of their replies.

    `epoch` identifies the data behind the connection, and is empty without a connection. It is taken from the
    replication id, which Redis replaces with every restart and every promotion of a replica. The run id is not
    sufficient: a primary that was demoted and promoted again keeps it, and may have missed writes in between
    (https://redis.io/docs/latest/operate/oss_and_stack/management/replication/). `connected_at_s` is the time of the
    latest connection, on the loop's clock; `reconnected_at_s` is the same if it replaced another.
    """

    def __init__(
        self,
        url: str,
        *,
        deadline_s: float,
        in_flight_max: int,
        scripts: Sequence[Script] = (),
        on_answered: OnAnswered = lambda _seconds, _commands: None,
        life: Life = OF_SERVER,
    ) -> None:
        self._primary = find_primary(url)
        self._deadline_s = deadline_s
        self._in_flight_max = in_flight_max
        self._scripts = scripts
        self._on_answered = on_answered
        self._life = life
        self._loading: set[Script] = set()
        self._pipe: Pipe | None = None
        # The methods of the pipe while there is one: this saves a call per command.
        self.submit: Submit = _not_connected
        self.submit_all: SubmitAll = _none_connected
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self.epoch = ""
        self.connected_at_s: float | None = None
        self.reconnected_at_s: float | None = None
        self.reached = asyncio.Event()

    @property
    def is_up(self) -> bool:
        """Return whether there is a connection."""
        return self._pipe is not None

    def start(self) -> None:
        """Connect, and reconnect after every loss until `close`."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep_connected())

    async def close(self) -> None:
        """Close the connection; pending commands are refused."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        if self._pipe is not None:
            self._pipe.abort()
            await self._lost.wait()
        await self._primary.close()

    def load(self, script: Script) -> None:
        """Load a script into a server that does not know it; commands submitted later can use it."""
        if script not in self._loading:
            self._loading.add(script)
            self.submit(packed("SCRIPT", "LOAD", script.source), lambda _: self._loading.discard(script))

    async def call(self, script: Script, keys: bytes | tuple[bytes, ...], *arguments: bytes) -> Any:  # noqa: ANN401 -- any reply
        """Run a script on one key, or several of one hash slot; return its reply. Raises `StoreUnavailable`."""
        keys = (keys,) if isinstance(keys, bytes) else keys
        command = packed("EVALSHA", script.sha, str(len(keys)), *keys, *arguments)
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.submit(command, partial(self._settle_or_load, script, answered))
        value = await answered
        return _checked(await self._reply(command) if is_forgotten(value) else value)

    async def ask(self, *words: str | bytes) -> Any:  # noqa: ANN401 -- any reply
        """Send one command; return its reply. Raises `StoreUnavailable`."""
        return _checked(await self._reply(packed(*words)))

    async def _reply(self, command: bytes) -> Any:  # noqa: ANN401 -- any reply
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.submit(command, partial(_settle, answered))
        return await answered

    def _settle_or_load(self, script: Script, answered: asyncio.Future[Any], value: Any) -> None:  # noqa: ANN401 -- any reply
        # In the same turn, before the reply to a pending load is read, so that the script is loaded once.
        if is_forgotten(value):
            self.load(script)
        _settle(answered, value)

    async def _keep_connected(self) -> None:
        delay_s, complaint = 0.0, ""
        while True:
            try:
                connection, epoch = await self._connect()
            except StoreUnavailable as error:
                if str(error) != complaint:
                    complaint = str(error)
                    _log.warning("redis is out of reach", extra={"error": complaint})
            else:
                complaint = ""
                self._take_over(connection, epoch)
                if await self._watch(epoch):
                    delay_s = 0.0
            # Jitter spreads the reconnections of many sidecars.
            await asyncio.sleep(delay_s * random.uniform(0.5, 1))  # noqa: S311 -- not a secret
            delay_s = min(_BACKOFF_MAX_S, delay_s * 2 or _BACKOFF_MIN_S)

    async def _connect(self) -> tuple[AbstractConnection, str]:
        """Open a connection and load the scripts; return it with the epoch of the server's data."""
        try:
            async with asyncio.timeout(_SETUP_DEADLINE_S):
                connection = await self._primary.connection()
                return connection, await self._set_up(connection)
        except Exception as error:
            transient = not isinstance(error, AuthenticationError)
            raise StoreUnavailable("redis", str(error) or "no answer in time", transient=transient) from error

    async def _set_up(self, connection: AbstractConnection) -> str:
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it bare
            await connection.send_command(*self._life.question)
            epoch = self._life.read(await connection.read_response(disable_decoding=True))
            for script in self._scripts:
                await connection.send_command("SCRIPT", "LOAD", script.source)
                await connection.read_response()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return epoch

    def _take_over(self, connection: AbstractConnection, epoch: str) -> None:
        # redis-py loses its stream. The reference to the writer stays: without it, the transport would close.
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
        self.submit, self.submit_all = self._pipe.submit, self._pipe.submit_all
        writer.transport.set_protocol(self._pipe)
        self.epoch = epoch
        self.connected_at_s = asyncio.get_running_loop().time()
        if self.reached.is_set():
            self.reconnected_at_s = self.connected_at_s
        self.reached.set()
        _log.info("redis connected", extra={"epoch": epoch, "server": _name_of(writer)})
        # A loss after redis-py's last read was reported to its protocol only.
        if writer.is_closing():
            self._drop(writer)

    def _drop(self, writer: asyncio.StreamWriter) -> None:
        self._pipe, self.epoch, self.submit, self.submit_all = None, "", _not_connected, _none_connected
        self._lost.set()
        _log.warning("redis connection lost", extra={"server": _name_of(writer)})

    async def _watch(self, epoch: str) -> bool:
        """Wait for the loss of the connection; close it if the epoch changes, or the server is replaced or a replica.

        Return whether the connection lasted for a while: after an immediate loss the next attempt needs a delay.
        """
        lasted = False
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_WATCH_INTERVAL_S):
                    await self._lost.wait()
            if self._pipe is None:
                return lasted
            lasted = True
            self._pipe.submit(packed(*self._life.question), partial(self._leave_unless, epoch))
            # A primary that a partition separates from its Sentinels does not know that it was replaced.
            if await self._primary.has_moved() and self._pipe is not None:
                self._pipe.abort()

    def _leave_unless(self, epoch: str, value: object) -> None:
        if self._pipe is not None and not isinstance(value, StoreUnavailable):
            try:
                changed = self._life.read(value) != epoch
            except RedisError:
                changed = True
            if changed:
                self._pipe.abort()


def _name_of(writer: asyncio.StreamWriter) -> str:
    """Return the address of the server; a unix socket has none on this side."""
    peer = writer.get_extra_info("peername")
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "unix"


def packed(*words: str | bytes) -> bytes:
    """Encode a command in the Redis protocol."""
    command: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub asks for a tuple of one
    return command


def _checked(value: Any) -> Any:  # noqa: ANN401 -- any reply
    if isinstance(value, hiredis.ReplyError):
        raise failure(value)
    if isinstance(value, StoreUnavailable):
        raise value
    return value


def _settle(answered: asyncio.Future[Any], value: Any) -> None:  # noqa: ANN401 -- any reply
    if not answered.done():
        answered.set_result(value)


def _not_connected(_command: bytes, reply: Reply) -> None:
    refuse(reply, "not connected")


def _none_connected(commands: list[bytes], reply: Reply) -> None:
    refuse_all(len(commands), reply, "not connected")
