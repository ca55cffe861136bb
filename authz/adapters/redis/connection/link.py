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
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from authz.adapters.redis.connection.data_mark import TRIAL, DataMark
from authz.adapters.redis.connection.epoch import OF_SERVER, Life
from authz.adapters.redis.connection.errors import is_forgotten
from authz.adapters.redis.connection.handshake import CONNECT_S, Handshake, checked, name_of
from authz.adapters.redis.connection.link_counts import LinkCounts
from authz.adapters.redis.connection.pipe import OnAnswered, Pipe, Submit, SubmitAll, none_connected, not_connected
from authz.adapters.redis.connection.primary import Sight
from authz.adapters.redis.connection.scripts import Script, packed
from authz.adapters.redis.connection.server_clock import QUESTION, ServerClock
from authz.adapters.redis.connection.url import Source
from authz.core.errors import StoreUnavailable

SHORT_OUTAGE_S = 2.0
"""A reconnection to the same data within this time lost nothing that was kept alive from here: leases last longer."""

_BACKOFF_MIN_S = 0.02
_BACKOFF_MAX_S = 0.5
_PROBE_INTERVAL_S = 1.0

_log = logging.getLogger("authz.redis")


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
    latest connection, on the loop's clock; `reconnected_at_s` is that of the latest one after which data may be lost:
    the server has other data than before (`DataMark`), or the outage was longer than `SHORT_OUTAGE_S`. `complaint` says
    why the latest attempt to connect failed; it is empty after a success.
    """

    def __init__(
        self,
        url: Source,
        *,
        deadline_s: float,
        in_flight_max: int,
        scripts: Sequence[Script] = (),
        on_answered: OnAnswered = lambda _seconds, _commands, _late: None,
        life: Life = OF_SERVER,
        connect_s: float = CONNECT_S,
    ) -> None:
        self.deadline_s = deadline_s
        self._in_flight_max = in_flight_max
        self._on_answered = on_answered
        self._loading: set[Script] = set()
        self._pipe: Pipe | None = None
        # The methods of the pipe while there is one: this saves a call per command.
        self.submit: Submit = not_connected
        self.submit_all: SubmitAll = none_connected
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._mark = DataMark(is_shared=life is OF_SERVER)
        self._life = life
        self._handshake = Handshake(url, connect_s=connect_s, life=life, mark=self._mark, scripts=scripts)
        self._last_epoch = ""
        self._lost_at_s = 0.0
        self._is_closing = False
        self._connections = self._epoch_changes = 0
        self.complaint = self.epoch = ""
        self.connected_at_s: float | None = None
        self.reconnected_at_s: float | None = None
        self.reached = asyncio.Event()

    @property
    def is_up(self) -> bool:
        """Return whether there is a connection."""
        return self._pipe is not None

    @property
    def fault(self) -> str:
        """Return why commands fail now; empty if they succeed."""
        return "not connected" if self._pipe is None else self._pipe.fault

    def counts(self) -> LinkCounts:
        """Return how often the connection and the epoch were replaced, and the commands in flight."""
        in_flight = 0 if self._pipe is None else self._pipe.in_flight
        return LinkCounts(max(0, self._connections - 1), self._epoch_changes, in_flight, self._in_flight_max)

    @property
    def memory_policy(self) -> str:
        """Return the eviction policy of the server, if it has a memory limit; empty if it evicts nothing."""
        return self._handshake.memory_policy

    @property
    def is_fixed(self) -> bool:
        """Return whether the primary has one address, so that no other process uses another one."""
        return self._handshake.primary.is_fixed

    @property
    def clock(self) -> ServerClock:
        """Return the clock of the server of the latest connection."""
        return self._handshake.clock

    @property
    def data_mark(self) -> bytes:
        """Return the mark of the server's data, which scripts compare; empty in a cluster."""
        return self._mark.value

    def try_on(self, keys: Sequence[bytes]) -> None:
        """Find out once a second whether the server does on these keys, which nothing has, what checks do."""
        self._mark.tried = keys

    async def marked(self) -> None:
        """Return when the mark of lost data was renewed, or could not be."""
        await self._mark.renewed()

    def start(self) -> None:
        """Connect, and reconnect after every loss until `close`."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep_connected())

    async def close(self) -> None:
        """Close the connection; pending commands are refused."""
        self._is_closing = True
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        if self._pipe is not None:
            self._pipe.abort()
            await self._lost.wait()
        await self._handshake.primary.close()

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
        return checked(await self._reply(command) if is_forgotten(value) else value)

    async def ask(self, *words: str | bytes) -> Any:  # noqa: ANN401 -- any reply
        """Send one command; return its reply. Raises `StoreUnavailable`."""
        return checked(await self._reply(packed(*words)))

    def read_clock(self) -> None:
        """Ask the server for its time, which `clock` then continues."""
        self.submit(packed(*QUESTION), self.clock.read)

    async def look(self) -> Sight:
        """Query whether the primary is the same, and leave one that is not."""
        pipe, primary = self._pipe, self._handshake.primary
        sight = await self._handshake.look()
        if pipe is not None and pipe is self._pipe:
            pipe.trusted_until_s = primary.trusted_until_s
            if sight is Sight.MOVED:
                pipe.abort()
        return sight

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
        delay_s = 0.0
        while True:
            try:
                connection, epoch = await self._handshake.connect()
            except StoreUnavailable as error:
                if str(error) != self.complaint:
                    self.complaint = str(error)
                    _log.warning("redis is unavailable", extra={"error": self.complaint})
            else:
                self.complaint = ""
                self._take_over(connection, epoch)
                if await self._watch(epoch):
                    delay_s = 0.0
            # Jitter spreads the reconnections of many sidecars.
            await asyncio.sleep(delay_s * random.uniform(0.5, 1))  # noqa: S311 -- not a secret
            delay_s = min(_BACKOFF_MAX_S, delay_s * 2 or _BACKOFF_MIN_S)

    def _take_over(self, connection: AbstractConnection, epoch: str) -> None:
        # redis-py loses its stream. The reference to the writer stays: without it, the transport would close.
        writer, connection._writer, connection._reader = connection._writer, None, None  # noqa: SLF001
        assert writer is not None  # noqa: S101 -- a connected connection has one
        self._lost.clear()
        self._pipe = Pipe(
            writer.transport,
            deadline_s=self.deadline_s,
            on_lost=partial(self._drop, writer),
            on_answered=self._on_answered,
            in_flight_max=self._in_flight_max,
            on_other_data=self._mark_again,
        )
        self._pipe.trusted_until_s = self._handshake.primary.trusted_until_s
        self.submit, self.submit_all = self._pipe.submit, self._pipe.submit_all
        writer.transport.set_protocol(self._pipe)
        self.connected_at_s = asyncio.get_running_loop().time()
        is_same = self._mark.is_known and epoch == self._last_epoch
        was_short = self.connected_at_s - self._lost_at_s < SHORT_OUTAGE_S
        if self.reached.is_set() and not (is_same and was_short):
            self.reconnected_at_s = self.connected_at_s
        self._mark.confirm()
        self._connections += 1
        self._epoch_changes += bool(self._last_epoch) and epoch != self._last_epoch
        self.epoch = self._last_epoch = epoch
        self.reached.set()
        _log.info("redis connected", extra={"epoch": epoch, "server": name_of(writer)})
        # A loss after redis-py's last read was reported to its protocol only.
        if writer.is_closing():
            self._drop(writer)

    def _drop(self, writer: asyncio.StreamWriter) -> None:
        self._pipe, self.epoch, self.submit, self.submit_all = None, "", not_connected, none_connected
        self._lost_at_s = asyncio.get_running_loop().time()
        self._lost.set()
        if not self._is_closing:
            _log.warning("redis connection lost", extra={"server": name_of(writer)})

    async def _watch(self, epoch: str) -> bool:
        """Wait for the loss of the connection; close it if the epoch changes, or the server is replaced or a replica.

        Return whether the connection lasted for a while: after an immediate loss the next attempt needs a delay.
        """
        probed_at_s, lasted, now_s = self.connected_at_s or 0.0, False, asyncio.get_running_loop().time
        while True:
            # A primary that a partition separates from its Sentinels does not know that it was replaced.
            await self.look()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._handshake.primary.watch_interval_s):
                    await self._lost.wait()
            if self._pipe is None:
                return lasted
            lasted = True
            if now_s() - probed_at_s >= _PROBE_INTERVAL_S:
                probed_at_s = now_s()
                self._probe(self._pipe, epoch)

    def _probe(self, pipe: Pipe, epoch: str) -> None:
        """Ask what only the server knows: its time, its epoch, its data mark, and whether it accepts writes."""
        self.read_clock()
        pipe.submit(packed(*self._life.question), partial(self._leave_unless, epoch))
        for words in self._mark.probe:
            pipe.submit(packed(*words), self._compare_mark)

    def _compare_mark(self, value: object) -> None:
        if is_forgotten(value):
            self.load(TRIAL)
        elif self._mark.is_lost(value):
            self._mark_again()

    def _mark_again(self) -> None:
        """Go on with data that replaced the former ones, as after a reconnection, but without refusing commands."""
        self.reconnected_at_s = asyncio.get_running_loop().time()
        if self._mark.renew(lambda words, reply: self.submit(packed(*words), reply)):
            _log.warning("redis has lost its data")

    def _leave_unless(self, epoch: str, value: object) -> None:
        if self._pipe is not None and not isinstance(value, StoreUnavailable):
            try:
                changed = self._life.read(value) != epoch
            except RedisError:
                changed = True
            if changed:
                self._pipe.abort()


def _settle(answered: asyncio.Future[Any], value: Any) -> None:  # noqa: ANN401 -- any reply
    if not answered.done():
        answered.set_result(value)
