"""Opens connections to Redis that are ready for use: redis-py's set-up, the server's state, and the scripts.

`link.py` keeps a connection open and replaces it; `primary.py` finds the server.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from importlib.resources import files
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AuthenticationError, ResponseError

from authz.adapters.redis.connection.data_mark import DataMark, eviction_policy
from authz.adapters.redis.connection.epoch import Life
from authz.adapters.redis.connection.errors import failure, shown
from authz.adapters.redis.connection.primary import Sight, find_primary
from authz.adapters.redis.connection.scripts import Script, packed
from authz.adapters.redis.connection.server_clock import QUESTION, ServerClock
from authz.adapters.redis.connection.url import Source, UrlSource
from authz.core.errors import StoreUnavailable

CONNECT_S = 1.0
"""How long a connection may take to open, set-up included, unless a setting says otherwise."""

_log = logging.getLogger("authz.redis")


EPOCH_AGE = Script(files("authz.adapters.redis").joinpath("lua", "epoch_age.lua").read_bytes())
"""Returns the age of the server's epoch in ms, on `EPOCH_KEY`."""

EPOCH_KEY = b"l:epoch"
"""The key of the start of the epoch; no account is named like this, as with the data mark."""


class Handshake:
    """Opens connections for one link. The URL is read again for each, and while no Sentinel answers.

    `memory_policy` is the eviction policy of the server of the latest connection, if it has a memory limit; empty if it
    evicts nothing. `clock` is the clock of that server.
    """

    def __init__(self, url: Source, *, connect_s: float, life: Life, mark: DataMark, scripts: Sequence[Script]) -> None:
        self._source = UrlSource(url)
        self.primary = find_primary(self._source.url)
        self.clock = ServerClock()
        self.memory_policy = ""
        self._connect_s = connect_s
        self._life = life
        self._mark = mark
        self._scripts = scripts
        # Where a primary can be replaced under running processes, the first to use an epoch notes when that was.
        self._epoch_scripts = () if self.primary.is_fixed else (EPOCH_AGE,)

    async def connect(self) -> tuple[AbstractConnection, str]:
        """Return an open connection and the epoch of the server's data. Raises `StoreUnavailable`."""
        try:
            async with asyncio.timeout(self._connect_s):
                await self._renew_url()
                connection = await self.primary.connection()
                return connection, await self._set_up(connection)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 -- whatever it is, Redis cannot be used
            transient = not isinstance(error, AuthenticationError)
            why = shown(error) or f"no connection within {self._connect_s:g} s (AUTHZ_REDIS_CONNECT_S)"
            raise StoreUnavailable("redis", why, transient=transient) from None  # its reply may quote a password

    async def look(self) -> Sight:
        """Query whether the primary is that of the latest connection."""
        sight = await self.primary.look()
        if sight is Sight.NO_ANSWER:
            with suppress(StoreUnavailable):
                await self._renew_url()
        return sight

    async def _renew_url(self) -> None:
        if self._source.renew():
            await self.primary.use(self._source.url)

    async def _set_up(self, connection: AbstractConnection) -> str:
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it bare
            # All in one write: with a distant server each round trip counts against the time limit.
            state = [self._life.question, *self._mark.questions, ("INFO", "memory"), QUESTION]
            loads = [("SCRIPT", "LOAD", script.source) for script in (*self._scripts, *self._epoch_scripts)]
            notes = [("EVALSHA", script.sha, "1", EPOCH_KEY) for script in self._epoch_scripts]
            await connection.send_packed_command(b"".join(packed(*words) for words in (*state, *loads, *notes)))
            epoch_reply, *marks, memory, now = [await _reply_on(connection) for _ in state]
            self.clock.read(now)
            for reply in [await _reply_on(connection) for _ in loads]:
                checked(reply)
            for _ in notes:
                await _reply_on(connection)  # a server that refuses writes has no note: its epoch counts as new
            self._mark.read(marks)
            self._note_memory(eviction_policy(memory))
            return self._life.read(epoch_reply)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

    def _note_memory(self, policy: str) -> None:
        if policy and policy != self.memory_policy:
            text = "redis evicts keys: buckets and leases may be lost; set maxmemory-policy to noeviction"
            _log.warning(text, extra={"maxmemory_policy": policy})
        self.memory_policy = policy


def checked(value: Any) -> Any:  # noqa: ANN401 -- any reply
    """Return a reply; raise `StoreUnavailable` for an error."""
    if isinstance(value, hiredis.ReplyError):
        raise failure(value)
    if isinstance(value, StoreUnavailable):
        raise value
    return value


def name_of(writer: asyncio.StreamWriter) -> str:
    """Return the address of the server; a unix socket has none on this side."""
    peer = writer.get_extra_info("peername")
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "unix"


async def _reply_on(connection: AbstractConnection) -> Any:  # noqa: ANN401 -- any reply
    """Read one reply; return an error as a value, because the replies behind it must be read too."""
    try:
        return await connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return hiredis.ReplyError(str(error))
