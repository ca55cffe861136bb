"""One connection to Postgres: transactions with verified limits, and statements that no pooler can mix up.

`pool.py` selects the connection of a caller.

A pooler in transaction mode shares server connections between clients, and a statement that has a name stays on the
server connection for the next client. So no statement here has a name: each is parsed and run in the same round trip.
The description of its columns is cached, because it does not depend on the server connection.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import asyncpg

from authz.adapters.clock_skew import OnSkew, certain_skew
from authz.adapters.postgres.failures import NotPrimary
from authz.adapters.postgres.url import PostgresUrl, Server

FROZEN_MS: Final = 1000
"""A running process ends its transaction by its deadline; the server ends that of a frozen process so much later."""

_STATEMENTS_MAX = 256
_CHECK_INTERVAL_SINCE = (14,)
# The isolation level is named because a database or a role can have another default, under which the count of an
# account's keys would not see the keys that were added while it waited for its turn.
_BEGIN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED; "
    "SET LOCAL statement_timeout = {deadline}; SET LOCAL lock_timeout = {lock}; "
    "SET LOCAL idle_in_transaction_session_timeout = {idle}; {more}"
    # The first fails where the server takes no writes, the second where a limit was not taken over. Neither is decided
    # when the statement is planned, because the functions are not immutable.
    "SELECT 1 / (NOT (pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean))::int; "
    "SELECT CASE WHEN current_setting('statement_timeout')::interval = interval '{deadline} ms' "
    "AND current_setting('lock_timeout')::interval = interval '{lock} ms' "
    "AND current_setting('idle_in_transaction_session_timeout')::interval = interval '{idle} ms' "
    "AND current_setting('transaction_isolation') = 'read committed' "
    "THEN 0 ELSE ('not in force: ' || current_setting('statement_timeout'))::int END"
)
_CHECKED = "SET LOCAL client_connection_check_interval = 500; "
_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"
_UNFLUSHED = "SET LOCAL synchronous_commit = off; "
# A change that was reported as done survives a crash of the server, whatever the default of a role or a database.
_FLUSHED = "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'; "
# The limits below bound a transaction. That of a role or a database could end one in between, or a long migration.
_UNTIMED_SINCE = (17,)
_UNTIMED = "SET LOCAL transaction_timeout = 0; "


class Session:
    """A connection with its transaction. Raises the driver's errors; the pool turns them into `StoreUnavailable`."""

    def __init__(self, connection: Any, born_s: float) -> None:  # noqa: ANN401 -- untyped driver
        self._connection = connection
        self._statements: dict[str, Any] = {}
        version = connection.get_server_version()
        self._checks_client = (version.major,) >= _CHECK_INTERVAL_SINCE
        self._more = _UNTIMED if (version.major,) >= _UNTIMED_SINCE else ""
        self.born_s = born_s
        self.idle_since_s = born_s

    @property
    def is_closed(self) -> bool:
        """Tell whether the connection is gone."""
        return bool(self._connection.is_closed())

    async def begin(self, deadline_s: float, *, durable: bool = True) -> None:
        """Begin a transaction in which no statement and no wait for a lock takes longer than the deadline.

        One round trip. Raises `NotPrimary` where the server takes no writes. A transaction that is not `durable` does
        not wait until the server's disk has what it wrote.
        """
        deadline_ms = max(1, int(deadline_s * 1000))
        more = self._more + (_CHECKED if self._checks_client else "") + (_FLUSHED if durable else _UNFLUSHED)
        lock_ms = max(1, deadline_ms * 9 // 10)  # the first to end, because it says more than that time was up
        script = _BEGIN.format(deadline=deadline_ms, lock=lock_ms, idle=deadline_ms + FROZEN_MS, more=more)
        try:
            await self._connection.execute(script)
        except asyncpg.DivisionByZeroError:
            await self._connection.execute("ROLLBACK")
            raise NotPrimary from None
        except (asyncpg.CantChangeRuntimeParamError, asyncpg.InvalidParameterValueError, asyncpg.UndefinedObjectError):
            if not self._checks_client:
                raise
            # Not every system can look after a client that has gone.
            self._checks_client = False
            await self._connection.execute("ROLLBACK")
            await self.begin(deadline_s, durable=durable)

    async def commit(self) -> None:
        """Commit; raises `asyncpg.InterfaceError` where the server rolled back instead."""
        done = await self._connection.execute("COMMIT")
        if done != "COMMIT":
            raise asyncpg.InterfaceError("the transaction was rolled back")

    async def rollback(self) -> None:
        """Roll back, also after a statement that was cancelled."""
        await self._connection.execute("ROLLBACK")

    async def fetch(self, query: str, *arguments: object) -> list[Any]:
        """Run a query and return its rows."""
        return list(await (await self._statement(query)).fetch(*arguments))

    async def fetchrow(self, query: str, *arguments: object) -> Any:  # noqa: ANN401 -- the driver's row
        """Run a query and return its first row, None where there is none."""
        rows = await self.fetch(query, *arguments)
        return rows[0] if rows else None

    async def fetchval(self, query: str, *arguments: object) -> Any:  # noqa: ANN401 -- any column
        """Run a query and return the first column of its first row, None where there is none."""
        row = await self.fetchrow(query, *arguments)
        return None if row is None else row[0]

    async def execute(self, query: str, *arguments: object) -> None:
        """Run a statement for what it does."""
        await self.fetch(query, *arguments)

    async def run(self, script: str) -> None:
        """Run one statement or several, without arguments, in one round trip."""
        await self._connection.execute(script)

    def terminate(self) -> None:
        """Close the connection at once."""
        self._connection.terminate()

    async def learn(self, query: str) -> None:
        """Learn the columns and parameters of a query, which takes one round trip; done by its first use otherwise."""
        await self._statement(query)

    async def _statement(self, query: str) -> Any:  # noqa: ANN401 -- untyped driver
        statement = self._statements.get(query)
        if statement is None:
            if len(self._statements) >= _STATEMENTS_MAX:
                self._statements.clear()
            statement = await self._connection.prepare(query, name="")
            self._statements[query] = statement
        return statement


class _Directed:
    """The event loop, whose connections lead to one address of a host: the driver uses the first one that answers."""

    def __init__(self, loop: asyncio.AbstractEventLoop, address: str) -> None:
        self._loop = loop
        self._address = address

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- any method
        return getattr(self._loop, name)

    async def create_connection(self, factory: Any, host: str, port: int, **options: Any) -> Any:  # noqa: ANN401 -- the loop's
        if options.get("ssl"):
            options.setdefault("server_hostname", host)
        return await self._loop.create_connection(factory, self._address, port, **options)


async def connect(
    url: PostgresUrl,
    server: Server,
    within_s: float,
    queries: Sequence[str] = (),
    on_skew: OnSkew | None = None,
) -> Session:
    """Connect to one server of a URL, learn queries, and measure its clock; raises the driver's errors.

    Raises `NotPrimary` if the server takes no writes.
    """
    where: dict[str, Any] = {}
    if server.host is not None:
        where = {"host": server.host.name, "port": server.host.port}
    if server.address:
        where["loop"] = _Directed(asyncio.get_running_loop(), server.address)
    connection = await asyncpg.connect(
        url.dsn,
        **where,
        timeout=within_s,
        statement_cache_size=0,  # which also keeps the driver from giving its statements names
        server_settings=dict(url.startup),
        target_session_attrs="any",
    )
    session = Session(connection, asyncio.get_running_loop().time())
    try:
        url.keepalive.apply(connection._transport.get_extra_info("socket"))  # noqa: SLF001 -- it has no public name
        async with asyncio.timeout(within_s):
            await session.begin(within_s)
            with suppress(asyncpg.SyntaxOrAccessError):  # the schema is missing: the query itself will say so
                for query in queries:
                    await session.learn(query)
            if on_skew is not None:
                await session.learn(_CLOCK)
                asked_s = time.time()
                on_skew(certain_skew(await session.fetchval(_CLOCK), asked_s, time.time()))
            await session.rollback()
    except BaseException:
        session.terminate()
        raise
    return session
