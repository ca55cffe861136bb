"""What tells whether a server still has the data that it had: a random mark in a key of its own.

A flush, an eviction and a restored snapshot take the mark away or replace it, while the replication id stays
(`epoch.py`). One mark serves all sidecars: the first that connects, or that notices the loss, writes it.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import TypeAlias

import hiredis

from authz.adapters.redis.connection.epoch import info_fields
from authz.adapters.redis.connection.scripts import Script
from authz.core.errors import StoreUnavailable

KEY = b"l:data"
"""The key of the mark; no account is named like this, because leases have a hash tag in their keys."""

Send: TypeAlias = Callable[[tuple[str | bytes, ...], Callable[[object], None]], None]
"""Sends one command, and calls the callback once with its reply or a `StoreUnavailable`."""

TRIAL = Script(files("authz.adapters.redis").joinpath("lua", "trial.lua").read_bytes())
"""Does what a check does, and changes nothing."""

_MARK_BYTES = 9


def keys_tried(tag: bytes = b"") -> tuple[bytes, bytes]:
    """Return names like those of a key and of an account, which nothing has: with a hash tag or with nothing."""
    return b"k:" + tag, b"a:" + tag


class DataMark:
    """The mark of one server's data, as this process knows it.

    `value` is what the server had at the last connection. `is_shared` is false for a node of a cluster, where the key
    belongs to one node only: then there is no mark, and `is_known` is always true. `tried` are keys on the server that
    nothing has, for a trial of what checks do.
    """

    def __init__(self, *, is_shared: bool) -> None:
        self._is_shared = is_shared
        self._confirmed = b""
        self._renewed = asyncio.Event()
        self._renewed.set()
        self._is_reported = False
        self.value = b""
        self.tried: Sequence[bytes] = (KEY, *keys_tried()) if is_shared else ()

    @property
    def questions(self) -> list[tuple[str | bytes, ...]]:
        """Return the commands that write the mark if there is none, and read it."""
        if not self._is_shared:
            return []
        return [("SET", KEY, secrets.token_urlsafe(_MARK_BYTES), "NX"), ("GET", KEY)]

    @property
    def probe(self) -> list[tuple[str | bytes, ...]]:
        """Return the commands that read the mark, and that a server refuses if it refuses checks."""
        mark: list[tuple[str | bytes, ...]] = [("GET", KEY)] if self._is_shared else []
        return [*mark, ("EVALSHA", TRIAL.sha, str(len(self.tried)), *self.tried)] if self.tried else mark

    @property
    def is_known(self) -> bool:
        """Return whether the server has the data of the connection before."""
        return not self._is_shared or self.value == self._confirmed != b""

    def read(self, replies: list[object]) -> None:
        """Take the mark from the replies to `questions`; a server that refuses writes may have none."""
        mark = replies[-1] if replies else b""
        self.value = mark if isinstance(mark, bytes) else b""
        self._is_reported = False

    def confirm(self) -> None:
        """Remember the mark as that of the present connection."""
        self._confirmed = self.value

    def is_lost(self, reply: object) -> bool:
        """Return whether a reply to `probe` shows other data than those of the present connection, or no mark yet."""
        if isinstance(reply, int | StoreUnavailable | hiredis.ReplyError):
            return False
        is_lost = not self.value or reply != self.value
        self._is_reported = self._is_reported and is_lost
        return is_lost

    def renew(self, send: Send) -> bool:
        """Write the mark if there is none, and read it; return whether a loss must be reported.

        The former mark stays until the reply, so that scripts that compare it refuse to run. A loss is reported once,
        until a probe finds the mark again.
        """
        if self._renewed.is_set():
            self._renewed.clear()
            write, read = self.questions
            send(write, lambda _reply: None)
            send(read, self._renew)
        is_news = bool(self.value) and not self._is_reported
        self._is_reported = self._is_reported or is_news
        return is_news

    async def renewed(self) -> None:
        """Return when no mark is being written: it is known, or the server refused it."""
        await self._renewed.wait()

    def _renew(self, reply: object) -> None:
        if isinstance(reply, bytes):
            self.value = self._confirmed = reply
        self._renewed.set()


def eviction_policy(info: object) -> str:
    """Return the eviction policy that `INFO memory` names; empty if there is no limit, or nothing is evicted."""
    fields = info_fields(info)
    policy = fields.get("maxmemory_policy", "noeviction").strip()
    return "" if policy == "noeviction" or fields.get("maxmemory", "0").strip() == "0" else policy
