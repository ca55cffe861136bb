"""One open connection to Redis: commands of one turn leave in one write, replies arrive in order.

`link.py` opens and replaces connections. A command creates no task and no future, because these would cost more than
the command itself.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any, Protocol, TypeAlias

import hiredis
from msgspec import Struct

from authz.adapters.redis.connection.errors import OTHER_DATA
from authz.core.errors import StoreUnavailable

_ReplyError = hiredis.ReplyError
Reply: TypeAlias = Callable[[Any], None]
"""Called once with a parsed reply (an error reply is a `hiredis.ReplyError`) or a `StoreUnavailable`; never raises."""

Late: TypeAlias = Callable[[int, list[Any]], None]
"""Called with the replies that arrived after the deadline, and the number of those of the same call before it."""

Submit: TypeAlias = Callable[[bytes, Reply], None]
OnAnswered: TypeAlias = Callable[[float, int, int], None]
"""Receives the duration of every write in s, until its replies or its deadline, its number of commands, and how many
of them had no reply by then."""

_HUNG_AFTER_DEADLINES = 10
_TIMER_SLACK_S = 0.001  # uvloop counts in milliseconds and may be half of one early
# Errors of a server that is not, or not yet, the writable primary. Redis before version 7 quotes the first of them
# inside a longer error of a script. The scripts for clusters return OTHERLIFE.
_WRONG_SERVER = ("READONLY ", "LOADING ", "MASTERDOWN ", "OTHERLIFE ")
# Errors of a server that is reachable and answers no check: out of memory, unable to save, too few replicas, a user
# without the rights, somebody else's endless script, or a command that was renamed. The last ones are of scripts, in
# Redis from version 7 on and before.
_REFUSING = (
    *("OOM ", "MISCONF ", "NOREPLICAS ", "NOPERM ", "NOAUTH ", "CLUSTERDOWN ", "BUSY ", "ERR unknown command"),
    *("ACL failure in script", "can't run this command or subcommand", "can't access at least one of the keys"),
)

_log = logging.getLogger("authz.redis")


class _Asked(Struct):
    """Commands that were submitted together: their number, the replies so far, and the callback.

    `reply` is None once they were refused: replies after the first `in_time` are for `late` only, if that is set.
    """

    count: int
    reply: Reply | None
    replies: list[Any] = []
    late: Late | None = None
    in_time: int = 0


class SubmitAll(Protocol):
    """Sends several commands in one write (`Pipe.submit_all`)."""

    def __call__(self, commands: list[bytes], reply: Reply, late: Late | None = None) -> None:
        """Submit packed commands."""


class Pipe(asyncio.Protocol):
    """The protocol on an open transport to Redis; `on_lost` is called once, when the connection ends.

    `on_other_data` is called when a script finds another mark of the data than the caller knows (`data_mark.py`).

    Every command is answered within `deadline_s` of its write, possibly with `StoreUnavailable`. A later reply is read
    in its order, so that no other command receives it. After ten more deadlines without a reply the connection
    closes.

    `fault` says why commands fail on a connection that is open: replies are late, or the server refuses them. It is
    empty while they succeed.

    After `trusted_until_s` on the monotonic clock, if it is not None, nothing is written and the connection closes:
    another process may use another primary already.
    """

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        *,
        deadline_s: float,
        on_lost: Callable[[], None],
        on_answered: OnAnswered,
        in_flight_max: int,
        on_other_data: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._deadline_s = deadline_s
        self._on_lost = on_lost
        self._on_answered = on_answered
        self._on_other_data = on_other_data
        self._in_flight_max = in_flight_max
        self._reader = hiredis.Reader()
        self._commands: list[bytes] = []
        # In the order of submission, the current turn included. The numbers count commands from the first on.
        self._waiting: deque[_Asked] = deque()
        self._asked = 0
        self._answered = 0
        # The number of pending entries that were refused, and the number of their last command.
        self._refused = 0
        self._expired = 0
        # The time of each write on the loop's clock, and the number of its last command.
        self._writes: deque[tuple[float, int]] = deque()
        self._observed = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._hang_watch: asyncio.TimerHandle | None = None
        self.fault = ""
        self.trusted_until_s: float | None = None

    @property
    def in_flight(self) -> int:
        """The number of commands without a reply, the expired ones included."""
        return self._asked - self._answered

    def submit(self, command: bytes, reply: Reply) -> None:
        """Queue a packed command for the write at the end of this turn, unless too many are pending."""
        if self._asked - self._answered >= self._in_flight_max:
            refuse(reply, "too many commands wait for an answer")
            return
        if not self._commands:
            self._loop.call_soon(self._flush)
        self._commands.append(command)
        self._waiting.append(_Asked(1, lambda replies: reply(replies[0])))
        self._asked += 1

    def submit_all(self, commands: list[bytes], reply: Reply, late: Late | None = None) -> None:
        """Write packed commands, at least one, all or none of them: none if too many are pending.

        `reply` is called once, with the list of their replies, and `late` with those that arrive later. The write does
        not wait for the end of the turn: Redis works on the commands while the next connection of Envoy is read.
        """
        if self._asked - self._answered >= self._in_flight_max:
            refuse_all(len(commands), reply, "too many commands wait for an answer")
            return
        self._commands += commands
        asked = _Asked(len(commands), reply)
        if late is not None:
            asked.late = late
        self._waiting.append(asked)
        self._asked += len(commands)
        self._flush()

    def abort(self) -> None:
        """Abort the connection; pending commands are refused in the next turn."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse replies and call their callbacks (asyncio.Protocol)."""
        if self._hang_watch is not None:
            self._hang_watch.cancel()
            self._hang_watch = None
        self._reader.feed(data)
        read, waiting = self._reader.gets, self._waiting
        try:
            while (value := read()) is not False:
                asked = waiting[0]
                asked.replies.append(value)
                if len(asked.replies) == asked.count:
                    self._complete(waiting.popleft())
        except (hiredis.ProtocolError, IndexError):  # not the Redis protocol, or a reply without a command
            self.abort()
        while self._writes and self._writes[0][1] <= self._answered:
            self._observe(self._loop.time())

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio.Protocol
        """Refuse all pending commands (asyncio.Protocol)."""
        for timer in (self._sweeper, self._hang_watch):
            if timer is not None:
                timer.cancel()
        self._commands.clear()
        self._in_flight_max = 0  # for callers that kept a reference to `submit`
        # First, so that a callback that submits again does not submit here.
        self._on_lost()
        for asked in self._waiting:
            _refuse_rest(asked, "connection lost")

    def _complete(self, asked: _Asked) -> None:
        self._answered += asked.count
        if asked.reply is not None:
            self.fault = ""
            _deliver(asked.reply, asked.replies)
        else:
            self._refused -= 1
            if asked.late is not None:
                _deliver(partial(asked.late, asked.in_time), asked.replies[asked.in_time :])
        if _ReplyError in map(type, asked.replies):
            self._inspect(asked.replies)

    def _inspect(self, replies: list[Any]) -> None:
        """Note an error that concerns the server and not the command."""
        errors = [str(value) for value in replies if isinstance(value, _ReplyError)]
        self.fault = next((error for error in errors if any(word in error for word in _REFUSING)), self.fault)
        if any(word in error for error in errors for word in _WRONG_SERVER):
            self.abort()
        elif any(OTHER_DATA in error for error in errors):
            self._on_other_data()

    def _flush(self) -> None:
        if not self._commands:  # already written, or the connection was lost in this turn
            return
        # Not the loop's clock: uvloop's stands still during a turn, in which this process may have been frozen.
        if self.trusted_until_s is not None and time.monotonic() > self.trusted_until_s:
            self._commands.clear()
            self.abort()
            return
        self._transport.write(b"".join(self._commands))
        self._commands.clear()
        self._writes.append((self._loop.time(), self._asked))
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._deadline_s, self._read_first)

    def _read_first(self) -> None:
        """Let the loop read the socket once more: after a stall of this process, replies in time wait there unread."""
        self._sweeper = self._loop.call_later(_TIMER_SLACK_S, self._sweep)

    def _sweep(self) -> None:
        """Refuse the commands past their deadline: one timer for all writes, set for the oldest pending one."""
        now_s, self._sweeper = self._loop.time(), None
        while self._writes:
            sent_s, end = self._writes[0]
            if sent_s + self._deadline_s > now_s + _TIMER_SLACK_S:
                self._sweeper = self._loop.call_at(sent_s + self._deadline_s, self._read_first)
                return
            self._observe(now_s, self._expire(end))

    def _observe(self, now_s: float, late: int = 0) -> None:
        sent_s, end = self._writes.popleft()
        self._on_answered(now_s - sent_s, end - self._observed, late)
        self._observed = end

    def _expire(self, end: int) -> int:
        """Refuse the commands up to number `end` that have no reply; return how many they were."""
        number = self._expired if self._refused else self._answered
        late: list[_Asked] = []
        for asked in islice(self._waiting, self._refused, None):
            number += asked.count
            if number > end:
                break
            late.append(asked)
        count = sum(asked.count - len(asked.replies) for asked in late)
        self._refused += len(late)
        self._expired = end
        why = f"no answer within {self._deadline_s * 1000:g} ms (AUTHZ_REDIS_DEADLINE_S)"
        if late:
            self.fault = why
        for asked in late:  # a callback may submit again
            _refuse_rest(asked, why)
        if self._hang_watch is None:
            self._hang_watch = self._loop.call_later(self._deadline_s * _HUNG_AFTER_DEADLINES, self.abort)
        return count


def refuse(reply: Reply, why: str) -> None:
    """Refuse a command in the next turn of the event loop: never before the caller has returned."""
    asyncio.get_running_loop().call_soon(reply, StoreUnavailable("redis", why))


def refuse_all(count: int, reply: Reply, why: str) -> None:
    """Refuse `count` commands that were submitted together."""
    asyncio.get_running_loop().call_soon(reply, [StoreUnavailable("redis", why)] * count)


def not_connected(_command: bytes, reply: Reply) -> None:
    """Refuse a command: the `Submit` of a link without a connection."""
    refuse(reply, "not connected")


def none_connected(commands: list[bytes], reply: Reply, late: Late | None = None) -> None:  # noqa: ARG001 -- nothing comes
    """Refuse commands: the `SubmitAll` of a link without a connection."""
    refuse_all(len(commands), reply, "not connected")


def _refuse_rest(asked: _Asked, why: str) -> None:
    """Call the callback, unless it was called: received replies stay, missing ones are refused."""
    reply, asked.reply = asked.reply, None
    if reply is not None:
        asked.in_time = len(asked.replies)
        missing = asked.count - asked.in_time
        _deliver(reply, [*asked.replies, *[StoreUnavailable("redis", why)] * missing])


def _deliver(reply: Reply, value: object) -> None:
    try:
        reply(value)
    except Exception:  # noqa: BLE001 -- one faulty callback must not affect the others
        _log.exception("a reply could not be delivered")
