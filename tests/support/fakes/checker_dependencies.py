"""A checker with scripted dependencies: projection, directory, observer, clock and leases."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from support.builders import KEY, policy, record, request
from support.fakes.leases import LeaseCounters, MemoryLeases

from authz.core.check import AccountRecord, Decision, Deny, Held, KeyRecord, Lookup, RequestAttributes
from authz.core.errors import DenyReason, StoreUnavailable
from authz.core.limits import KeyLimits, Limit
from authz.service.check.checker import Checker
from authz.service.check.failure_modes import FailureModes, RecentKeys
from authz.service.check.leases import Leases
from authz.service.check.steps import OnSampled
from authz.service.ports import Decided, Taken, TakeReply

REQUEST = request("GET", "/v1/servers/s1", KEY)


class ScriptedProjection:
    """Answers lookups from a list; a record that was put is found from then on."""

    def __init__(self, *replies: TakeReply) -> None:
        self.replies = list(replies)
        self.puts: list[tuple[KeyRecord, str | None]] = []
        self.account_puts: list[tuple[AccountRecord, str | None]] = []
        self.account_limit: Limit | None = None
        self.limits: KeyLimits | None = None
        self.put_fails = False
        self.epoch = "e1"
        self.lookups: list[Lookup] = []

    def epoch_of(self, _digest: bytes) -> str:
        return self.epoch

    def take(
        self,
        lookups: Sequence[Lookup],
        _default: Limit,
        taken: Taken,
        *,
        account: Limit | None = None,
        limits: KeyLimits | None = None,
    ) -> None:
        self.account_limit = account
        self.limits = limits
        self.lookups += lookups
        replies, self.replies = self.replies[: len(lookups)], self.replies[len(lookups) :]
        asyncio.get_running_loop().call_soon(taken, range(len(replies)), replies)

    async def put(self, _digest: bytes, record: KeyRecord, *, epoch: str | None = None) -> bool:
        if self.put_fails:
            raise StoreUnavailable("redis", "closed")
        self.puts.append((record, epoch))
        return True

    async def put_account(self, record: AccountRecord, *, epoch: str | None = None) -> bool:
        self.account_puts.append((record, epoch))
        return True

    async def settled(self) -> None:
        """Return at once: there is one process only."""


class ScriptedDirectory:
    """Holds one record for every key; loads wait for `ready`, take their keys, and wait for `gate`."""

    def __init__(self, found: KeyRecord | StoreUnavailable) -> None:
        self.found = found
        self.loads = 0
        self.loading = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.ready = asyncio.Event()
        self.ready.set()
        self.unavailable: StoreUnavailable | None = None
        self.batches: list[int] = []
        self.changing: set[bytes] = set()
        self.at_once = self.most_at_once = 0

    @asynccontextmanager
    async def hold(self, next_digests: Callable[[], Sequence[bytes]]) -> AsyncIterator[Mapping[bytes, Held]]:
        await self.ready.wait()
        if self.unavailable is not None:
            raise self.unavailable
        digests = next_digests()
        self.loads += len(digests)
        self.batches.append(len(digests))
        self.loading.set()
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        await self.gate.wait()
        self.at_once -= 1
        if isinstance(self.found, StoreUnavailable):
            raise self.found
        account = AccountRecord(self.found.account_id) if self.found.account_id else None
        yield {digest: Held(self.found, account) for digest in digests if digest not in self.changing}


class RecordingObserver:
    """Records the calls of the checker."""

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


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class CheckerUnderTest:
    """A checker with its scripted dependencies."""

    def __init__(
        self,
        *replies: TakeReply,
        found: KeyRecord | StoreUnavailable | None = None,
        failure: FailureModes | None = None,
        on_sampled: OnSampled | None = None,
    ) -> None:
        self.projection = ScriptedProjection(*replies)
        self.directory = ScriptedDirectory(found or record("servers:read"))
        self.observed = RecordingObserver()
        self.clock = FakeClock()
        recent = RecentKeys(size=2, window_s=60, now_s=self.clock, steady_s=self.clock)
        self.streams = MemoryLeases()
        self.counted = LeaseCounters()
        leases = Leases(self.streams, self.counted, stream_class=policy().streams.get, heartbeat_s=5)
        self.checker = Checker(
            policy(),
            self.projection,
            self.directory,
            self.observed,
            leases=leases,
            failure=failure or FailureModes(),
            recent=recent,
            on_sampled=on_sampled,
        )

    async def decide(self, attributes: RequestAttributes = REQUEST) -> Decision:
        return (await self.decide_all(attributes))[0]

    async def decide_all(self, *requests: RequestAttributes) -> list[Decision]:
        answers: list[asyncio.Future[Decision]] = [asyncio.get_running_loop().create_future() for _ in requests]

        def answer(decided: Sequence[Decided]) -> None:
            for number, attributes, decision in decided:
                assert attributes is requests[number]
                answers[number].set_result(decision)

        self.checker.check(list(enumerate(requests)), answer)
        return await asyncio.gather(*answers)


def assert_denied(decision: Decision, reason: DenyReason) -> Deny:
    assert isinstance(decision, Deny)
    assert decision.reason is reason
    return decision
