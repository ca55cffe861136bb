"""The pool of connections to Postgres: opened in the background, bounded, each for one transaction at a time.

`connecting.py` opens a connection, `session.py` runs its transaction, `failures.py` describes failures.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from authz.adapters.clock_skew import OnSkew
from authz.adapters.postgres.connecting import Connector
from authz.adapters.postgres.failures import FAILURES, is_gone, is_outage, is_wrong_server, unavailable
from authz.adapters.postgres.session import Session
from authz.core.errors import StoreUnavailable

WARM_MIN: Final = 2
"""Connections that are kept although nobody uses them."""

_GRACE_S: Final = 0.1  # the server's own limits come first: a statement that it ended costs no connection
_WAITING_MAX: Final = 1000
_SPARE_S: Final = 60.0
# A transaction begins in one round trip, and no lock is needed for it: what takes longer is a dead connection.
_BEGIN_ROUNDS: Final = 4
_BEGIN_SLACK_S: Final = 0.03


class Postgres:
    """Connections to the primary of a URL. Every use raises `StoreUnavailable`.

    `url` is a text, or what reads one for each connection. `deadline_s` bounds one transaction, the wait for a
    connection included; `connect_s` bounds connecting to one server, where `on_skew` receives the difference of the
    clocks; a connection lives for `life_s` seconds. `is_up` tells whether Postgres answered last, and `reached` is set
    by the first transaction that succeeds.
    """

    def __init__(
        self,
        url: str | Callable[[], str],
        *,
        deadline_s: float,
        pool_max: int,
        connect_s: float = 2.0,
        life_s: float = 600.0,
        on_skew: OnSkew | None = None,
        on_connected: Callable[[float], None] | None = None,
    ) -> None:
        self._deadline_s = deadline_s
        self._pool_max = pool_max
        self._life_s = life_s
        self._connector = Connector(url, connect_s=connect_s, on_skew=on_skew, on_connected=on_connected)
        self._idle: deque[Session] = deque()
        self._used: set[Session] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._recovering: set[asyncio.Task[None]] = set()
        self._waiting: deque[asyncio.Future[Session]] = deque()
        self._retry: asyncio.TimerHandle | None = None
        self._begin_s = deadline_s  # the shortest time that the beginning of a transaction took
        self._spare_since_s = 0.0
        self._spare = 0
        self._is_closed = True
        self.is_up = False
        self.reached = asyncio.Event()

    def connections(self) -> dict[str, int]:
        """Count the connections that are idle, used and being made, and the transactions that wait for one."""
        counted = {"idle": self._idle, "used": self._used, "connecting": self._connecting, "waiting": self._waiting}
        return {state: len(each) for state, each in counted.items()}

    def prime(self, query: str) -> None:
        """Let every new connection learn a query, so that its first use takes one round trip like the others."""
        self._connector.queries.append(query)

    async def start(self) -> None:
        """Begin to connect, in the background."""
        self._is_closed = False
        self._connect_some()

    async def close(self) -> None:
        """Close every connection, at once."""
        self._is_closed = True
        if self._retry is not None:
            self._retry.cancel()
        tasks = [*self._connecting, *self._recovering]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session in [*self._idle, *self._used]:
            session.terminate()
        self._idle.clear()
        self._fail_waiting(StoreUnavailable("postgres", "closed"))

    @asynccontextmanager
    async def transaction(self, *, durable: bool = True) -> AsyncIterator[Session]:
        """Run the block in a transaction, and commit it unless the block raises; a crash may lose one not `durable`."""
        session: Session | None = None
        acquired: list[Session] = []
        try:
            async with asyncio.timeout(self._deadline_s + _GRACE_S):
                session = await self._begun(acquired, durable=durable)
                yield session
                await session.commit()
        except FAILURES as error:
            await self._take_back(session, error)
            if not acquired and isinstance(error, TimeoutError):
                raise self._none_free() from None
            raise unavailable(error) from error
        except BaseException as error:
            await self._take_back(session, error)
            raise
        self._release(session)
        self.is_up = True
        self.reached.set()

    def keep_warm(self) -> None:
        """Close connections that are old or not needed; call it every second.

        The next transaction gets the connection that was idle longest, so that regular ones find out which of them the
        network has dropped.
        """
        now_s = asyncio.get_running_loop().time()
        if now_s - self._spare_since_s > _SPARE_S:
            for _ in range(min(self._spare - WARM_MIN, len(self._idle))):
                self._idle.popleft().terminate()
            self._spare_since_s, self._spare = now_s, len(self._idle)
        for session in [one for one in self._idle if self._is_old(one)]:
            self._idle.remove(session)
            session.terminate()
        self._idle.rotate(-1)
        self._connect_some()

    async def _begun(self, acquired: list[Session], *, durable: bool) -> Session:
        """Return a connection with a transaction begun; one that does not answer is left for another.

        Each that was tried is added to `acquired`.
        """
        loop = asyncio.get_running_loop()
        while True:
            session = await self._acquired()
            acquired.append(session)
            started_s = loop.time()
            beginning = loop.create_task(session.begin(self._deadline_s, durable=durable))
            patience_s = _BEGIN_ROUNDS * self._begin_s + _BEGIN_SLACK_S if self._has_other() else None
            try:
                await asyncio.wait({beginning}, timeout=patience_s)
            except asyncio.CancelledError:
                self._recover(session, beginning)
                raise
            if not beginning.done():
                self._recover(session, beginning)
                continue
            error = beginning.exception()
            if error is None:
                self._begin_s = min(self._begin_s, loop.time() - started_s)
                return session
            await self._take_back(session, error)
            # A connection that was closed while it was idle says nothing about the others.
            if not session.is_closed or is_wrong_server(error) or not self._has_other():
                raise error

    def _has_other(self) -> bool:
        return bool(self._idle) or (self._room() > 0 and self._connector.fault is None)

    def _is_old(self, session: Session) -> bool:
        return session.is_closed or asyncio.get_running_loop().time() - session.born_s > self._life_s

    def _room(self) -> int:
        return self._pool_max - len(self._idle) - len(self._used) - len(self._connecting)

    async def _acquired(self) -> Session:
        while self._idle:
            session = self._idle.pop()
            self._spare = min(self._spare, len(self._idle))
            if not session.is_closed:
                self._used.add(session)
                return session
        self._connect_some()
        refusal = self._refusal()
        if refusal is not None:
            await asyncio.sleep(0)  # a caller that retries at once must let the connection be opened
            raise refusal
        waiter: asyncio.Future[Session] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._connect_some()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._release(waiter.result())
            raise
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def _refusal(self) -> StoreUnavailable | None:
        if self._is_closed:
            return StoreUnavailable("postgres", "closed")
        if not self._used and self._connector.fault is not None and self._connector.is_down:
            return self._connector.fault.as_error()
        if len(self._waiting) >= _WAITING_MAX:
            return StoreUnavailable("postgres", "too many transactions wait for a connection")
        return None

    def _none_free(self) -> StoreUnavailable:
        cause = f"all {self._pool_max} connections are in use (AUTHZ_POSTGRES_POOL_MAX)"
        if self._room() > 0 or self._connecting:
            cause = "connecting takes longer than AUTHZ_POSTGRES_DEADLINE_S"
        return StoreUnavailable("postgres", f"no answer in time: {cause}")

    def _connect_some(self) -> None:
        """Connect for everybody who waits and to stay warm, within the pool's bound; one at a time after a failure."""
        self._retry = None
        if self._is_closed:
            return
        loop = asyncio.get_running_loop()
        wanted = max(len(self._waiting), min(WARM_MIN, self._pool_max) - len(self._idle) - len(self._used))
        if self._connector.fault is not None:
            wanted = min(wanted, 1)
        for _ in range(min(wanted - len(self._connecting), self._room())):
            task = loop.create_task(self._connect(self._connector.pause_s))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self, pause_s: float) -> None:
        try:
            await asyncio.sleep(pause_s)
            session = await self._connector.connect()
        except StoreUnavailable as error:
            if not self._used and not self._idle and self._connector.is_down:
                self.is_up = False
                self._fail_waiting(error)
            self._retry = asyncio.get_running_loop().call_later(0, self._connect_some)
            return
        self._release(session)

    def _release(self, session: Session) -> None:
        """Give a connection to the transaction that waits longest, or keep it."""
        self._used.discard(session)
        if self._is_closed or self._is_old(session):
            session.terminate()
            self._connect_some()
            return
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._used.add(session)
                waiter.set_result(session)
                return
        self._idle.append(session)

    async def _take_back(self, session: Session | None, error: BaseException) -> None:
        """Take a connection back after a transaction that failed: rolled back if it can be, and else closed."""
        if is_outage(error):
            self.is_up = False
        if is_wrong_server(error):
            # The others lead to the same server, or to the one that was the primary before.
            for one in self._idle:
                one.terminate()
            self._idle.clear()
        if session is None:
            return
        if is_gone(error) or is_wrong_server(error):
            session.terminate()
        if session.is_closed:
            self._release(session)
            return
        recovering = self._recover(session)
        if not isinstance(error, TimeoutError | asyncio.CancelledError | GeneratorExit):
            await asyncio.wait({recovering}, timeout=self._deadline_s)

    def _recover(self, session: Session, beginning: asyncio.Task[None] | None = None) -> asyncio.Task[None]:
        """Roll back in the background; the connection counts as used until that is done."""
        task = asyncio.get_running_loop().create_task(self._recovered(session, beginning))
        self._recovering.add(task)
        task.add_done_callback(self._recovering.discard)
        return task

    async def _recovered(self, session: Session, beginning: asyncio.Task[None] | None) -> None:
        try:
            async with asyncio.timeout(self._connector.connect_s):
                if beginning is not None:
                    await beginning
                await session.rollback()
        except FAILURES:
            session.terminate()
        except asyncio.CancelledError:
            session.terminate()
            raise
        finally:
            self._release(session)

    def _fail_waiting(self, error: StoreUnavailable) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(error)
