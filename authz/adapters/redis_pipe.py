"""One live connection to Redis: what is asked together leaves in one write, replies come in order.

It makes no connection and replaces none: that is `redis_link.py`. No task and no future is made for a command, because
they would cost more than the command.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import repeat
from typing import Any, TypeAlias

import hiredis

from authz.core.errors import StoreUnavailable

_ReplyError = hiredis.ReplyError
Reply: TypeAlias = Callable[[Any], None]
"""Called once with a parsed reply (an error reply is a `hiredis.ReplyError`) or a `StoreUnavailable`, never raises."""

Submit: TypeAlias = Callable[[bytes, Reply], None]
SubmitAll: TypeAlias = Callable[[list[bytes], Reply], None]
OnAnswered: TypeAlias = Callable[[float, int], None]
"""Told of every write once it is answered or past its deadline: the seconds that took, and the commands it held."""

_HUNG_AFTER_DEADLINES = 10
_TIMER_SLACK_S = 0.001  # uvloop counts in milliseconds and may be half of one early
# Errors of a server that is no longer, or not yet, the one to talk to. Before version 7 Redis quotes the first of them
# inside a longer error when a script met it, hence not only at the start. The last is our own scripts' in a cluster.
_WRONG_SERVER = ("READONLY ", "LOADING ", "MASTERDOWN ", "OTHERLIFE ")

_log = logging.getLogger("authz.redis")


class Pipe(asyncio.Protocol):
    """The protocol on a transport over which Redis already listens to us; `on_lost` is called once, when it ends.

    Every command is answered within `deadline_s` of its write, if need be with a `StoreUnavailable`. A reply that comes
    later is dropped in its place, so that it is never taken for another's; a server that says nothing for ten more
    deadlines is left.
    """

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        *,
        deadline_s: float,
        on_lost: Callable[[], None],
        on_answered: OnAnswered,
        in_flight_max: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._deadline_s = deadline_s
        self._on_lost = on_lost
        self._on_answered = on_answered
        self._in_flight_max = in_flight_max
        self._reader = hiredis.Reader()
        self._commands: list[bytes] = []
        # In the order asked, up to the present turn; None once refused. The numbers count commands from the first on.
        self._waiting: deque[Reply | None] = deque()
        self._answered = 0
        self._expired = 0
        # Each write's time on the loop's clock, and the number of its last command.
        self._writes: deque[tuple[float, int]] = deque()
        self._observed = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._hang_watch: asyncio.TimerHandle | None = None

    def submit(self, command: bytes, reply: Reply) -> None:
        """Queue a packed command for the write at the end of this turn, unless too many wait already."""
        if len(self._waiting) >= self._in_flight_max:
            refuse(reply, "too many commands wait for an answer")
            return
        if not self._commands:
            self._loop.call_soon(self._flush)
        self._commands.append(command)
        self._waiting.append(reply)

    def submit_all(self, commands: list[bytes], reply: Reply) -> None:
        """Write packed commands, at least one, all or none of them: none where too many wait already.

        `reply` is called once, with the list of their replies: one call where `submit` makes as many as there are. They
        do not wait for the end of the turn: Redis begins with them while the next connection of Envoy's is read.
        """
        if len(self._waiting) >= self._in_flight_max:
            refuse_all(len(commands), reply, "too many commands wait for an answer")
            return
        replies: list[Any] = []
        self._commands += commands
        self._waiting.extend(repeat(replies.append, len(commands) - 1))
        self._waiting.append(partial(_complete, replies, reply))
        self._flush()

    def abort(self) -> None:
        """Drop the connection; whoever waits is told in the next turn."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Hand each reply to whom it belongs (asyncio.Protocol)."""
        reader, waiting = self._reader, self._waiting
        reader.feed(data)
        try:
            while (value := reader.gets()) is not False:
                reply = waiting.popleft()
                self._answered += 1
                if reply is not None:
                    _deliver(reply, value)
                if type(value) is _ReplyError and any(word in str(value) for word in _WRONG_SERVER):
                    self.abort()
        except (hiredis.ProtocolError, IndexError):  # not Redis, or an answer that nobody asked for
            self.abort()
        while self._writes and self._writes[0][1] <= self._answered:
            self._observe(self._loop.time())

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio.Protocol
        """Refuse everything that waits (asyncio.Protocol)."""
        for timer in (self._sweeper, self._hang_watch):
            if timer is not None:
                timer.cancel()
        self._commands.clear()
        self._in_flight_max = 0  # for who still holds on to `submit`
        # First, so that whoever asks again on being refused is not asking here.
        self._on_lost()
        for reply in self._waiting:
            if reply is not None:
                _deliver(reply, StoreUnavailable("redis", "connection lost"))

    def _flush(self) -> None:
        if not self._commands:  # written already, or the connection was lost in this very turn
            return
        self._transport.write(b"".join(self._commands))
        self._commands.clear()
        self._writes.append((self._loop.time(), self._answered + len(self._waiting)))
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._deadline_s, self._sweep)

    def _sweep(self) -> None:
        """Refuse what is past its deadline: one timer for all writes, set for the oldest that is not answered."""
        now_s, self._sweeper = self._loop.time(), None
        while self._writes:
            sent_s, end = self._writes[0]
            if sent_s + self._deadline_s > now_s + _TIMER_SLACK_S:
                self._sweeper = self._loop.call_at(sent_s + self._deadline_s, self._sweep)
                return
            self._expire(end)
            self._observe(now_s)

    def _observe(self, now_s: float) -> None:
        sent_s, end = self._writes.popleft()
        self._on_answered(now_s - sent_s, end - self._observed)
        self._observed = end

    def _expire(self, end: int) -> None:
        for place in range(max(self._expired - self._answered, 0), end - self._answered):
            reply, self._waiting[place] = self._waiting[place], None
            if reply is not None:
                _deliver(reply, StoreUnavailable("redis", f"no answer within {self._deadline_s * 1000:g} ms"))
        self._expired = end
        if self._hang_watch is None:
            patience_s = self._deadline_s * _HUNG_AFTER_DEADLINES
            self._hang_watch = self._loop.call_later(patience_s, self._leave_if_hung, self._answered)

    def _leave_if_hung(self, answered: int) -> None:
        self._hang_watch = None
        if self._answered == answered:
            self.abort()


def refuse(reply: Reply, why: str) -> None:
    """Refuse a command in the next turn of the event loop: never before the asker has returned."""
    asyncio.get_running_loop().call_soon(reply, StoreUnavailable("redis", why))


def refuse_all(count: int, reply: Reply, why: str) -> None:
    """Refuse `count` commands that belong together."""
    asyncio.get_running_loop().call_soon(reply, [StoreUnavailable("redis", why)] * count)


def _complete(replies: list[Any], reply: Reply, last: object) -> None:
    replies.append(last)
    reply(replies)


def _deliver(reply: Reply, value: object) -> None:
    try:
        reply(value)
    except Exception:  # noqa: BLE001 -- one broken caller must not cost the others their answers
        _log.exception("a reply could not be delivered")
