"""What happens between plan and conclude: misses, loads, stores out of reach, and that every check gets one answer."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from builders import KEY, policy, record, request, take
from msgspec.structs import replace
from open_streams import Counted, MemoryLeases

from authz.core.check import Allow, Decision, Deny, KeyRecord, KeyState, Lookup, RequestAttributes, Take, TakeOutcome
from authz.core.errors import DenyReason, StoreUnavailable
from authz.core.limits import Limit
from authz.core.streams import Lease
from authz.service import checker as checker_module
from authz.service.checker import Checker, FailureMode, FailureModes
from authz.service.leases import Leases
from authz.service.ports import Decided, Taken, TakeReply
from authz.service.recent_keys import RecentKeys

ASK = request("GET", "/v1/servers/s1", KEY)


class ScriptedProjection:
    """Answers lookups from a list; a record that was put is found from then on."""

    def __init__(self, *replies: TakeReply) -> None:
        self.replies = list(replies)
        self.puts: list[tuple[KeyRecord, str | None]] = []
        self.put_fails = False
        self.epoch = "e1"

    def epoch_of(self, _digest: bytes) -> str:
        return self.epoch

    def take(self, lookups: Sequence[Lookup], _default: Limit, taken: Taken) -> None:
        replies, self.replies = self.replies[: len(lookups)], self.replies[len(lookups) :]
        asyncio.get_running_loop().call_soon(taken, range(len(replies)), replies)

    async def put(self, _digest: bytes, record: KeyRecord, *, epoch: str | None = None) -> bool:
        if self.put_fails:
            raise StoreUnavailable("redis", "closed")
        self.puts.append((record, epoch))
        return True


class ScriptedDirectory:
    """Holds one record; loads wait for `gate`."""

    def __init__(self, found: KeyRecord | StoreUnavailable) -> None:
        self.found = found
        self.loads = 0
        self.loading = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    @asynccontextmanager
    async def hold(self, _digest: bytes) -> AsyncIterator[KeyRecord]:
        self.loads += 1
        self.loading.set()
        await self.gate.wait()
        if isinstance(self.found, StoreUnavailable):
            raise self.found
        yield self.found


class Observed:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self.failed: list[str] = []
        self.degrades: list[str] = []
        self.answered: list[str] = []

    def decided(self, decided: Sequence[Decided], latency_s: float) -> None:
        assert latency_s >= 0
        self.decisions += [decision for _, _, decision in decided]

    def store_answered(self, store: str, latency_s: float) -> None:
        assert latency_s >= 0
        self.answered.append(store)

    def store_failed(self, store: str) -> None:
        self.failed.append(store)

    def degraded(self, store: str) -> None:
        self.degrades.append(store)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class House:
    """A checker with its scripted surroundings."""

    def __init__(
        self,
        *replies: TakeReply,
        found: KeyRecord | StoreUnavailable | None = None,
        failure: FailureModes | None = None,
    ) -> None:
        self.projection = ScriptedProjection(*replies)
        self.directory = ScriptedDirectory(found or record("servers:read"))
        self.observed = Observed()
        self.clock = Clock()
        recent = RecentKeys(size=2, window_s=60, now_s=self.clock)
        self.streams = MemoryLeases()
        leases = Leases(self.streams, Counted(), stream_class=policy().streams.get, heartbeat_s=5)
        self.checker = Checker(
            policy(),
            self.projection,
            self.directory,
            self.observed,
            leases=leases,
            failure=failure or FailureModes(),
            recent=recent,
        )

    async def decide(self, attributes: RequestAttributes = ASK) -> Decision:
        return (await self.decide_all(attributes))[0]

    async def decide_all(self, *asked: RequestAttributes) -> list[Decision]:
        answers: list[asyncio.Future[Decision]] = [asyncio.get_running_loop().create_future() for _ in asked]

        def answer(decided: Sequence[Decided]) -> None:
            for number, attributes, decision in decided:
                assert attributes is asked[number]
                answers[number].set_result(decision)

        self.checker.check(list(enumerate(asked)), answer)
        return await asyncio.gather(*answers)


def refused(decision: Decision, reason: DenyReason) -> Deny:
    assert isinstance(decision, Deny)
    assert decision.reason is reason
    return decision


async def test_a_key_in_the_projection_is_decided_without_the_directory() -> None:
    house = House(take("servers:read"))
    assert isinstance(await house.decide(), Allow)
    assert house.directory.loads == 0


async def test_a_request_that_needs_no_key_asks_no_store() -> None:
    house = House()
    refused(await house.decide(request()), DenyReason.KEY_MISSING)
    assert isinstance(await house.decide(request("POST", "/v1/public/login")), Allow)
    assert len(house.observed.decisions) == 2


async def test_a_miss_loads_the_key_and_asks_again() -> None:
    house = House(None, take("servers:read"))
    assert isinstance(await house.decide(), Allow)
    assert house.projection.puts == [(record("servers:read"), "e1")]
    assert house.observed.answered == ["postgres"]


async def test_a_key_is_loaded_once_for_all_checks_that_wait_for_it() -> None:
    house = House(*[None] * 50, *[take("servers:read")] * 50)
    decisions = await house.decide_all(*[ASK] * 50)
    assert all(isinstance(decision, Allow) for decision in decisions)
    assert house.directory.loads == 1


async def test_a_load_writes_only_into_the_epoch_it_began_in() -> None:
    house = House(None, take("servers:read"))
    house.directory.gate.clear()
    deciding = asyncio.create_task(house.decide())
    await house.directory.loading.wait()
    house.projection.epoch = "e2"
    house.directory.gate.set()
    await deciding
    assert house.projection.puts[0][1] == "e1"


async def test_an_unknown_key_is_remembered_as_unknown() -> None:
    unknown = KeyRecord(KeyState.UNKNOWN)
    house = House(None, found=unknown)
    refused(await house.decide(), DenyReason.KEY_UNKNOWN)
    assert house.projection.puts[0][0] == unknown


async def test_the_answer_to_an_unknown_key_waits_for_no_writing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = KeyRecord(KeyState.UNKNOWN)
    house, written = House(None, None, None, Take(TakeOutcome.UNKNOWN, unknown), found=unknown), asyncio.Event()

    async def put(*_arguments: object, epoch: str) -> bool:
        assert epoch == "e1"
        await written.wait()
        return True

    monkeypatch.setattr(house.projection, "put", put)
    for decision in await house.decide_all(ASK, ASK):
        refused(decision, DenyReason.KEY_UNKNOWN)
    # Who comes between the answer and the writing is answered from what was written.
    late = asyncio.create_task(house.decide())
    await asyncio.sleep(0.01)
    assert not late.done()
    written.set()
    refused(await late, DenyReason.KEY_UNKNOWN)
    assert house.directory.loads == 1


async def test_a_record_that_vanishes_again_is_an_outage_not_a_loop() -> None:
    house = House(None, None)
    refused(await house.decide(), DenyReason.STORE_UNAVAILABLE)
    assert house.directory.loads == 1


@pytest.mark.parametrize("store", ["redis", "postgres"])
async def test_a_store_out_of_reach_is_a_503_that_says_when_to_come_back(store: str) -> None:
    failure = StoreUnavailable(store, "closed")
    house = House(failure) if store == "redis" else House(None, found=failure)
    assert refused(await house.decide(), DenyReason.STORE_UNAVAILABLE).retry_after_s == 1
    assert house.observed.failed == [store]


async def test_a_projection_that_cannot_be_written_is_a_503_for_all_who_wait() -> None:
    house = House(None, None)
    house.projection.put_fails = True
    for decision in await house.decide_all(ASK, ASK):
        refused(decision, DenyReason.STORE_UNAVAILABLE)


async def test_a_load_that_is_cancelled_still_answers() -> None:
    house = House(None)
    house.directory.gate.clear()
    deciding = asyncio.create_task(house.decide())
    await house.directory.loading.wait()
    for task in house.checker._tasks:  # noqa: SLF001 -- what a closing event loop does
        task.cancel()
    refused(await deciding, DenyReason.STORE_UNAVAILABLE)
    await house.checker.close()


async def test_too_many_loads_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker_module, "FILLS_MAX", 0)
    house = House(None)
    refused(await house.decide(), DenyReason.STORE_UNAVAILABLE)
    assert house.directory.loads == 0


async def test_a_check_keeps_the_policy_it_began_with() -> None:
    house = House(None, take("servers:read"))
    house.directory.gate.clear()
    deciding = asyncio.create_task(house.decide())
    await house.directory.loading.wait()
    house.checker.policy = policy(*(route for route in policy().routes if route.template == "/v1/whoami"))
    house.directory.gate.set()
    assert isinstance(await deciding, Allow)


async def test_degrade_admits_keys_seen_lately_and_nobody_else() -> None:
    failure = StoreUnavailable("redis", "closed")
    house = House(take("servers:read"), failure, failure, failure=FailureModes(redis=FailureMode.DEGRADE))
    assert isinstance(await house.decide(), Allow)
    assert isinstance(await house.decide(), Allow)
    assert house.observed.degrades == ["redis"]
    house.clock.now_s += 61
    refused(await house.decide(), DenyReason.STORE_UNAVAILABLE)


async def test_degrade_of_one_store_says_nothing_about_the_other() -> None:
    failure = StoreUnavailable("postgres", "closed")
    house = House(take("servers:read"), None, found=failure, failure=FailureModes(redis=FailureMode.DEGRADE))
    assert isinstance(await house.decide(), Allow)
    refused(await house.decide(), DenyReason.STORE_UNAVAILABLE)


async def test_degrade_limits_each_key_to_its_bucket() -> None:
    failure = StoreUnavailable("redis", "closed")
    last = take("servers:read", remaining=1)
    house = House(last, failure, failure, failure=FailureModes(redis=FailureMode.DEGRADE))
    decisions = [await house.decide() for _ in range(3)]
    assert [isinstance(decision, Allow) for decision in decisions] == [True, True, False]
    refused(decisions[2], DenyReason.RATE_LIMITED)


async def test_degrade_forgets_a_key_once_it_was_refused() -> None:
    failure = StoreUnavailable("redis", "closed")
    revoked = Take(TakeOutcome.REVOKED, record(state=KeyState.REVOKED))
    house = House(take("servers:read"), revoked, failure, failure=FailureModes(redis=FailureMode.DEGRADE))
    assert isinstance(await house.decide(), Allow)
    refused(await house.decide(), DenyReason.KEY_REVOKED)
    refused(await house.decide(), DenyReason.STORE_UNAVAILABLE)


def test_recent_keys_are_bounded_and_expire() -> None:
    clock = Clock()
    recent = RecentKeys(size=1, window_s=60, now_s=clock)
    expiring = Take(
        TakeOutcome.GRANTED,
        KeyRecord(KeyState.ACTIVE, 1, "key_1", "acct_1", frozenset(), None, int(clock.now_s * 1000) + 1),
        take().bucket,
    )
    first, second = (Lookup(bytes([number]) * 32, 1, None) for number in (1, 2))
    recent.remember(first.digest, expiring)
    clock.now_s += 1
    expired = recent.take(first, Limit(1, 1))
    assert expired is not None
    assert expired.outcome is TakeOutcome.EXPIRED
    recent.remember(second.digest, take())
    assert recent.take(first, Limit(1, 1)) is None


STREAM = request("GET", "/v1/servers/s1/logs/stream", KEY)


async def test_a_stream_passes_with_a_lease_in_envoys_own_id_of_the_request() -> None:
    house = House(take("servers:read"))
    decision = await house.decide(STREAM)
    assert isinstance(decision, Allow)
    assert decision.streams is not None
    assert (decision.streams.lease_id, decision.streams.of_key) == (STREAM.request_id, 1)
    assert [held.lease for held in house.streams.held] == [Lease(STREAM.request_id, "acct_1", "key_1", "logs")]


async def test_the_stream_beyond_the_cap_is_refused() -> None:
    house = House(*[take("servers:read")] * 5)
    asked = [replace(STREAM, request_id=str(number)) for number in (1, 2, 3, 3, 4)]
    decisions = await house.decide_all(*asked)
    assert [isinstance(decision, Allow) for decision in decisions] == [True, True, True, True, False]
    refused(decisions[4], DenyReason.STREAMS_OF_KEY)
    assert house.observed.decisions == decisions


async def test_an_ordinary_request_and_a_refused_stream_take_no_lease() -> None:
    house = House(take("servers:read"), take("console"))
    assert isinstance(await house.decide(), Allow)
    refused(await house.decide(STREAM), DenyReason.SCOPE_MISSING)
    assert house.streams.held == []


async def test_a_lease_that_nobody_waited_for_is_undone() -> None:
    house = House(take("servers:read"))
    answered: list[Decided] = []
    house.checker.check([(1, STREAM)], lambda decided: bool(answered.extend(decided)))  # type: ignore[func-returns-value]
    await asyncio.sleep(0)
    await house.checker.close()
    assert isinstance(answered[0][2], Allow)
    assert house.streams.held == []


async def test_a_stream_without_a_lease_store_is_a_503_also_in_degrade() -> None:
    failure = StoreUnavailable("redis", "closed")
    modes = FailureModes(redis=FailureMode.DEGRADE)
    house = House(take("servers:read"), take("servers:read"), failure, take("console"), failure, failure=modes)
    assert isinstance(await house.decide(), Allow)
    house.streams.is_down = True
    assert refused(await house.decide(STREAM), DenyReason.STORE_UNAVAILABLE).retry_after_s == 1
    refused(await house.decide(STREAM), DenyReason.STORE_UNAVAILABLE)
    assert isinstance(await house.decide(request("GET", "/v1/servers/s1", KEY)), Deny)
    refused(await house.decide(STREAM), DenyReason.SCOPE_MISSING)


async def test_a_stream_without_envoys_id_is_no_stream() -> None:
    house = House(take("servers:read"))
    refused(await house.decide(replace(STREAM, request_id="")), DenyReason.INTERNAL)


async def test_a_lease_that_is_cut_short_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    house, asked = House(take("servers:read")), asyncio.Event()

    async def acquire(*_arguments: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(house.streams, "acquire", acquire)
    deciding = asyncio.create_task(house.decide(STREAM))
    await asked.wait()
    for task in house.checker._tasks:  # noqa: SLF001 -- what a closing event loop does
        task.cancel()
    refused(await deciding, DenyReason.STORE_UNAVAILABLE)
    await house.checker.close()


async def test_a_request_that_breaks_its_plan_costs_the_others_of_its_batch_nothing() -> None:
    house = House(take("servers:read"), take("servers:read"))
    broken = replace(ASK, target=None)
    before, error, behind = await house.decide_all(ASK, broken, ASK)
    assert isinstance(before, Allow)
    assert isinstance(behind, Allow)
    refused(error, DenyReason.INTERNAL)


async def test_a_reply_that_breaks_its_check_is_an_error_and_no_allow() -> None:
    house = House(replace(take("servers:read"), record=None), take("servers:read"))
    error, behind = await house.decide_all(ASK, ASK)
    refused(error, DenyReason.INTERNAL)
    assert isinstance(behind, Allow)
