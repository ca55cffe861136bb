"""What the use cases need from outside, as narrow protocols.

Who fulfils them is decided in `authz/app.py`; the stores' drivers never show here.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias

from authz.core.check import KeyRecord, Lookup, Take
from authz.core.errors import StoreUnavailable
from authz.core.limits import Limit

TakeReply: TypeAlias = Take | StoreUnavailable | None
"""A store's answer to a lookup: a take, None where it holds no record of the key, or the failure as a value."""


class KeyProjection(Protocol):
    """The fast copy of key records, with their buckets (Redis)."""

    @property
    def epoch(self) -> str:
        """Name the store's present life; a restart, failover or restore begins another, and voids every record in it.

        Empty while the store is out of reach.
        """
        ...

    def take(self, lookup: Lookup, default: Limit, reply: Callable[[TakeReply], None]) -> None:
        """Look a key up and take its cost from its bucket, in one atomic call.

        Never waits and never raises: `reply` is called exactly once, in a later turn of the event loop. `default` is
        the limit of keys that have none of their own.
        """
        ...

    async def put(self, digest: bytes, record: KeyRecord, *, epoch: str | None = None) -> bool:
        """Write a record unless the store holds a newer revision of it; tell whether the store now agrees with it.

        With an `epoch`, write only if the store is still in that life. Raises `StoreUnavailable`.
        """
        ...


class KeyDirectory(Protocol):
    """The truth about keys (Postgres)."""

    def hold(self, digest: bytes) -> AbstractAsyncContextManager[KeyRecord]:
        """Read a key's record and hold it still: no change of the key or its account commits before the block ends.

        A key that does not exist gives a record in the state `UNKNOWN`. Raises `StoreUnavailable`.
        """
        ...
