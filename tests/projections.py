"""A projection in memory, for tests of what is written to it."""

from collections.abc import Callable

from authz.core.check import KeyRecord, Lookup
from authz.core.errors import StoreUnavailable
from authz.core.limits import Limit
from authz.service.ports import TakeReply


class MemoryProjection:
    """Keeps the newest record of each key, as Redis does; `is_down` makes it fail."""

    epoch = "e1"

    def __init__(self) -> None:
        self.records: dict[bytes, KeyRecord] = {}
        self.is_down = False

    def take(self, lookup: Lookup, default: Limit, reply: Callable[[TakeReply], None]) -> None:
        raise NotImplementedError  # administration takes no tokens

    async def put(self, digest: bytes, record: KeyRecord, *, epoch: str | None = None) -> bool:
        if self.is_down:
            raise StoreUnavailable("redis", "not connected")
        if epoch not in {None, self.epoch}:
            return False
        held = self.records.get(digest)
        if held is not None and held.revision > record.revision:
            return False
        self.records[digest] = record
        return True
