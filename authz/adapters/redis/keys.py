"""The projection of key and account records in Redis: writes of records, and what confirms them.

Checks of keys, which charge their buckets, are in `checks.py`, the format in `records.py`. The connection belongs to
`connection/link.py`.
"""

from collections.abc import Awaitable, Callable, Sequence

from authz.adapters.clock_skew import OnSkew
from authz.adapters.redis.checks import OnUse, RedisChecks
from authz.adapters.redis.connection.errors import OtherData
from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.scripts import Caller
from authz.adapters.redis.connection.settling import confirm, until_others_left
from authz.adapters.redis.leases import note_account, note_key
from authz.adapters.redis.limit_checks import OnLate
from authz.adapters.redis.record_writes import noted, write
from authz.adapters.redis.records import (
    KEY_SCRIPTS,
    KeyScripts,
    account_header,
    account_key,
    header_of,
    record_words,
    redis_key,
    stay_of,
)
from authz.core.check import AccountRecord, KeyRecord, Lookup
from authz.core.errors import StoreUnavailable
from authz.core.limits import KeyLimits, Limit, LostBuckets
from authz.service.ports import Taken

_LOSSES_MAX = 3


class RedisKeys:
    """The projection of key and account records (`service.ports.KeyProjection`) over one link.

    `on_use` receives the id of a key on its first use in each half minute, in one of all sidecars, and `on_skew` the
    difference of the clocks at that time. `scripts` are those of one server, or of a `cluster`. There
    an account may be on another node: its record and its leases are not part of the check, and lost buckets are full.
    """

    def __init__(  # noqa: PLR0913 -- parts and settings, each by its name
        self,
        link: RedisLink,
        *,
        negative_ttl_s: float,
        on_use: OnUse = lambda _key_id: None,
        on_skew: OnSkew | None = None,
        scripts: KeyScripts = KEY_SCRIPTS,
        cluster: Caller | None = None,
        lost_buckets: LostBuckets = LostBuckets.FULL,
        on_unknown_plan: Callable[[], None] = lambda: None,
        on_late: OnLate | None = None,
    ) -> None:
        self._link = link
        self._all = cluster or link
        self._put = scripts.put
        self._negative_ttl_s = negative_ttl_s
        self._lost_buckets = lost_buckets
        self._checks = RedisChecks(
            link,
            scripts,
            has_accounts=cluster is None,
            on_use=on_use,
            on_skew=on_skew,
            on_unknown_plan=on_unknown_plan,
            on_late=on_late,
        )

    def epoch_of(self, digest: bytes) -> str:  # noqa: ARG002 -- all keys are on one server
        """Return the current epoch of the server's data; empty while it is unreachable."""
        link = self._link
        return link.epoch and f"{link.epoch} {link.data_mark.decode()}"

    async def put(self, digest: bytes, record: KeyRecord, *, epoch: str | None = None) -> bool:
        """Write a record unless Redis holds a newer one (`service.ports.KeyProjection`)."""

        async def put() -> bool:
            current = self._link.epoch
            arguments = (current, record.revision, header_of(current, record), *stay_of(record, self._negative_ttl_s))
            begins = self._lost_buckets
            if epoch is None and record.revision <= 1:
                begins = LostBuckets.FULL  # a new key has lost nothing
            words = record_words(record)
            written = write(self._link, self._put, redis_key(digest), arguments, *words, begins=begins)
            if record.revision > 1:  # otherwise never changed, or no key at all
                written = noted(written, note_key(self._all, record))
            return await written

        return await self._written(put, epoch)

    async def put_account(self, record: AccountRecord, *, epoch: str | None = None) -> bool:
        """Write an account's record unless Redis holds a newer one (`service.ports.KeyProjection`)."""

        async def put() -> bool:
            current = self._link.epoch
            arguments = (current, record.revision, account_header(current, record), 0, 0)
            name = account_key(record.account_id)
            written = write(self._link, self._put, name, arguments, b"", begins=self._lost_buckets)
            if record.revision > 1:  # otherwise never changed
                written = noted(written, note_account(self._all, record))
            return await written

        return await self._written(put, epoch)

    async def _written(self, put: Callable[[], Awaitable[bool]], epoch: str | None) -> bool:
        """Write what was read in an epoch, or a change (None): this again where the data were lost meanwhile."""
        for _ in range(_LOSSES_MAX):
            # One without a mark is of a node in a cluster.
            if epoch is not None and epoch not in {self._link.epoch, self.epoch_of(b"")}:
                return False
            connected_at_s = self._link.connected_at_s
            try:
                done = await put()
            except OtherData:
                await self._link.marked()
                continue
            if epoch is None:
                await confirm(self._link, connected_at_s)
            return done
        raise StoreUnavailable("redis", "the data were lost again and again")

    async def settled(self) -> None:
        """Return when no process uses a former primary (`service.ports.KeyProjection`)."""
        await until_others_left(self._link)

    def take(
        self,
        lookups: Sequence[Lookup],
        default: Limit,
        taken: Taken,
        *,
        account: Limit | None = None,
        limits: KeyLimits | None = None,
    ) -> None:
        """Look up keys and charge their buckets (`service.ports.KeyProjection`)."""
        self._checks.take(lookups, default, taken, account=account, limits=limits)
