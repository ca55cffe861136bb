"""The lease of a stream's check: acquired with the token or separately, and released when the caller has left."""

import asyncio

import pytest
from msgspec.structs import replace
from support.builders import KEY, LOGS, request, take
from support.fakes.checker_dependencies import CheckerUnderTest, assert_denied

from authz.core.check import Allow, Deny
from authz.core.errors import DenyReason, StoreUnavailable
from authz.core.streams import AcquireOutcome, Acquisition, Lease, Opening, ReleaseCause, StreamUse
from authz.service.check.failure_modes import FailureMode, FailureModes
from authz.service.ports import Decided

STREAM = request("GET", "/v1/servers/s1/logs/stream", KEY)


async def test_a_stream_passes_with_a_lease_in_envoys_own_id_of_the_request() -> None:
    stack = CheckerUnderTest(take("servers:read"))
    decision = await stack.decide(STREAM)
    assert isinstance(decision, Allow)
    assert decision.streams is not None
    assert (decision.streams.lease_id, decision.streams.of_key) == (STREAM.request_id, 1)
    assert [held.lease for held in stack.streams.held] == [Lease(STREAM.request_id, "acct_1", "key_1", "logs")]


async def test_the_stream_beyond_the_cap_is_refused() -> None:
    stack = CheckerUnderTest(*[take("servers:read")] * 5)
    requests = [replace(STREAM, request_id=str(number)) for number in (1, 2, 3, 3, 4)]
    decisions = await stack.decide_all(*requests)
    assert [isinstance(decision, Allow) for decision in decisions] == [True, True, True, True, False]
    assert_denied(decisions[4], DenyReason.STREAMS_OF_KEY)
    assert stack.observed.decisions == decisions


async def test_a_lease_acquired_with_the_token_is_not_requested_again() -> None:
    granted, full = (Acquisition(outcome, 2, 5, 1) for outcome in (AcquireOutcome.GRANTED, AcquireOutcome.KEY_FULL))
    stack = CheckerUnderTest(*(replace(take("servers:read"), acquired=acquired) for acquired in (granted, full)))
    allow = await stack.decide(STREAM)
    assert isinstance(allow, Allow)
    assert allow.streams == StreamUse(LOGS, 2, 5, STREAM.request_id)
    assert assert_denied(await stack.decide(STREAM), DenyReason.STREAMS_OF_KEY).streams == StreamUse(LOGS, 2, 5)
    assert [lookup.opening for lookup in stack.projection.lookups] == [Opening(STREAM.request_id, LOGS, 15)] * 2
    assert stack.streams.held == []
    assert stack.counted.acquisitions == [granted.outcome, full.outcome]
    assert stack.counted.releases == [ReleaseCause.EXPIRY] * 2


async def test_no_lease_is_to_come_with_the_token_where_none_could_be_given() -> None:
    stack = CheckerUnderTest(*[take("servers:read")] * 3)
    assert isinstance(await stack.decide(), Allow)
    assert_denied(await stack.decide(replace(STREAM, request_id="")), DenyReason.INTERNAL)
    stack.streams.reconnected_at_s = asyncio.get_running_loop().time()
    assert_denied(await stack.decide(STREAM), DenyReason.STORE_UNAVAILABLE)
    assert [lookup.opening for lookup in stack.projection.lookups] == [None] * 3


async def test_a_lease_that_came_with_the_token_and_nobody_waited_for_is_undone() -> None:
    stack = CheckerUnderTest(replace(take("servers:read"), acquired=Acquisition(AcquireOutcome.GRANTED, 1, 1)))
    await stack.streams.acquire(Lease(STREAM.request_id, "acct_1", "key_1", "logs"), LOGS, 15)
    stack.checker.check([(1, STREAM)], lambda _decided: False)
    await asyncio.sleep(0)
    await stack.checker.close()
    assert stack.streams.held == []


async def test_an_ordinary_request_and_a_refused_stream_take_no_lease() -> None:
    stack = CheckerUnderTest(take("servers:read"), take("console"))
    assert isinstance(await stack.decide(), Allow)
    assert_denied(await stack.decide(STREAM), DenyReason.SCOPE_MISSING)
    assert stack.streams.held == []


async def test_a_lease_that_nobody_waited_for_is_undone() -> None:
    stack = CheckerUnderTest(take("servers:read"))
    answered: list[Decided] = []
    stack.checker.check([(1, STREAM)], lambda decided: bool(answered.extend(decided)))  # type: ignore[func-returns-value]
    await asyncio.sleep(0)
    await stack.checker.close()
    assert isinstance(answered[0][2], Allow)
    assert stack.streams.held == []


async def test_a_stream_without_a_lease_store_is_a_503_also_in_degrade() -> None:
    failure = StoreUnavailable("redis", "closed")
    modes = FailureModes(redis=FailureMode.DEGRADE)
    stack = CheckerUnderTest(
        take("servers:read"), take("servers:read"), failure, take("console"), failure, failure=modes
    )
    assert isinstance(await stack.decide(), Allow)
    stack.streams.is_down = True
    assert assert_denied(await stack.decide(STREAM), DenyReason.STORE_UNAVAILABLE).retry_after_s == 1
    assert_denied(await stack.decide(STREAM), DenyReason.STORE_UNAVAILABLE)
    assert isinstance(await stack.decide(request("GET", "/v1/servers/s1", KEY)), Deny)
    assert_denied(await stack.decide(STREAM), DenyReason.SCOPE_MISSING)


async def test_a_stream_without_envoys_id_is_no_stream() -> None:
    stack = CheckerUnderTest(take("servers:read"))
    assert_denied(await stack.decide(replace(STREAM, request_id="")), DenyReason.INTERNAL)


async def test_a_lease_that_is_cut_short_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    stack, acquiring = CheckerUnderTest(take("servers:read")), asyncio.Event()

    async def acquire(*_arguments: object) -> None:
        acquiring.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(stack.streams, "acquire", acquire)
    deciding = asyncio.create_task(stack.decide(STREAM))
    await acquiring.wait()
    for task in stack.checker._streams._tasks.running:  # noqa: SLF001 -- what a closing event loop does
        task.cancel()
    assert_denied(await deciding, DenyReason.STORE_UNAVAILABLE)
    await stack.checker.close()
