"""What an operator sees of open streams and can do about them."""

import pytest
from support.builders import LOGS, policy
from support.fakes.leases import MemoryLeases

from authz.core.errors import Refused
from authz.core.streams import Lease, RenewOutcome
from authz.service.keys.stream_admin import StreamAdmin

FIRST, SECOND = (Lease(str(number), "acct_1", f"key_{number}", "logs") for number in (1, 2))


@pytest.fixture
async def store() -> MemoryLeases:
    store = MemoryLeases()
    await store.acquire(SECOND, LOGS, 15)
    store.now_s -= 10
    await store.acquire(FIRST, LOGS, 25)
    store.now_s += 10
    return store


async def test_an_accounts_streams_are_listed_oldest_first(store: MemoryLeases) -> None:
    admin = StreamAdmin(store, policy())
    assert [stream.lease for stream in await admin.streams("acct_1")] == [FIRST, SECOND]
    assert await admin.streams("acct_2") == []


async def test_a_slot_released_by_an_operator_is_acquired_again_by_an_open_stream(store: MemoryLeases) -> None:
    admin = StreamAdmin(store, policy())
    assert (await admin.release("acct_1", "1")).lease == FIRST
    assert [stream.lease for stream in await admin.streams("acct_1")] == [SECOND]
    assert (await store.renew(FIRST, LOGS, 0)).outcome is RenewOutcome.RETAKEN


async def test_what_is_not_open_cannot_be_freed(store: MemoryLeases) -> None:
    with pytest.raises(Refused, match="account acct_2 has no open stream 1"):
        await StreamAdmin(store, policy()).release("acct_2", "1")
