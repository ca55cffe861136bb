"""One check from attributes to decision: everything that waits, and what happens when something does not answer.

The rules are `core/decision.py`; sockets, protobuf and the metrics' names are elsewhere. No task and no future is made
for a check whose key is in the projection: replies arrive by callback, a batch at a time.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from time import perf_counter
from typing import Any

from msgspec import Struct

from authz.core.check import Allow, Decision, Deny, Lookup, RequestAttributes, Take
from authz.core.decision import Plan, admit, conclude, enforce, plan
from authz.core.errors import DenyReason, StoreUnavailable
from authz.core.policy import Policy
from authz.core.route import Route
from authz.core.streams import Lease
from authz.service.invalid_keys import InvalidKeys
from authz.service.leases import Leases
from authz.service.ports import CheckObserver, KeyDirectory, KeyProjection, TakeReply
from authz.service.recent_keys import RecentKeys

FILLS_MAX = 1000
"""Keys being loaded from the directory at once; beyond it, checks of keys unknown to the projection are refused."""

_RETRY_AFTER_S = 1

_log = logging.getLogger("authz.check")

Answer = Callable[[Decision], bool | None]
"""Takes the decision; returns False where nobody waited for it any more."""


class FailureMode(StrEnum):
    """What a store out of reach means for a check."""

    DENY = "deny"
    DEGRADE = "degrade"


@dataclass(frozen=True, slots=True)
class FailureModes:
    """The failure mode of each store."""

    redis: FailureMode = FailureMode.DENY
    postgres: FailureMode = FailureMode.DENY

    def degrades(self, store: str) -> bool:
        """Tell whether recently seen keys keep working while `store` is out of reach."""
        return {"redis": self.redis, "postgres": self.postgres}[store] is FailureMode.DEGRADE


class _Check(Struct):
    """A check on its way. The policy is the one it began with: a reload in between changes nothing for it."""

    policy: Policy
    attributes: RequestAttributes
    answer: Answer
    started_s: float
    filled: bool = False


class Checker:
    """Decides checks against the policy of the moment, the projection and, on a miss, the directory."""

    def __init__(
        self,
        policy: Policy,
        projection: KeyProjection,
        directory: KeyDirectory,
        observer: CheckObserver,
        *,
        leases: Leases,
        failure: FailureModes,
        recent: RecentKeys,
        invalid_keys: InvalidKeys | None = None,
    ) -> None:
        self.policy = policy
        self._projection = projection
        self._take = projection.take
        self._directory = directory
        self._observer = observer
        self.leases = leases
        self._failure = failure
        self._remembers = FailureMode.DEGRADE in {failure.redis, failure.postgres}
        self._recent = recent
        self._invalid_keys = invalid_keys or InvalidKeys()
        self._taken: list[tuple[_Check, Lookup, Take]] = []
        self._fills: dict[bytes, list[tuple[_Check, Lookup]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def check(self, asked: Sequence[tuple[RequestAttributes, Answer]]) -> None:
        """Decide requests that came together; each `answer` is called exactly once, before or after this returns.

        One request's plan after the other, then one question after the other: a processor that does the same again
        finds what it needs where it left it, which is worth a tenth of the check.
        """
        policy, started_s = self.policy, perf_counter()
        plans: list[Plan] = []
        for attributes, _ in asked:
            try:
                plans.append(plan(policy, attributes))
            except Exception:  # noqa: BLE001 -- what one request breaks must not cost the others their answers
                plans.append(_broken(attributes))
        for (attributes, answer), planned in zip(asked, plans, strict=True):
            check = _Check(policy, attributes, answer, started_s)
            if isinstance(planned, Lookup):
                self._take(planned, policy.limit, partial(self._replied, check, planned))
            else:
                self._finish(check, planned)

    async def close(self) -> None:
        """Let the loads under way end; every check gets its answer."""
        self.settle()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def settle(self) -> None:
        """Conclude the checks that the store has answered, a step at a time as in `check`.

        Nobody has to call this: it happens in the next turn of the event loop. Who knows that all answers which came
        together are there saves them that turn.
        """
        if not self._taken:
            return
        taken, self._taken = self._taken, []
        decided: list[tuple[_Check, Decision]] = []
        for check, lookup, take in taken:
            if self._remembers:
                self._recent.remember(lookup.digest, take)
            try:
                decision = conclude(lookup, take)
            except Exception:  # noqa: BLE001 -- as in `check`
                decision = _broken(check.attributes)
            if lookup.route is not None and lookup.route.stream:
                self._finish_stream(check, decision)
            else:
                decided.append((check, decision))
        try:
            self._finish_all(decided)
        except Exception:  # noqa: BLE001 -- whatever broke, the answer is an error; who has one ignores a second
            for check, _ in decided:
                check.answer(_broken(check.attributes))

    def _replied(self, check: _Check, lookup: Lookup, reply: TakeReply) -> None:
        if isinstance(reply, Take):
            if not self._taken:
                asyncio.get_running_loop().call_soon(self.settle)
            self._taken.append((check, lookup, reply))
        elif reply is None:
            self._miss(check, lookup)
        else:
            self._store_failed(check, lookup, reply)

    def _finish_stream(self, check: _Check, decision: Decision) -> None:
        if isinstance(decision, Allow):
            self._begin(self._lease(check, decision))
        else:
            self._finish(check, decision)

    async def _lease(self, check: _Check, allow: Allow) -> None:
        """Let a stream pass once it holds a lease, which is given back where nobody waited for the answer."""
        route, principal, request_id = allow.route, allow.principal, check.attributes.request_id
        if principal is None or not request_id:  # without Envoy's id of the request, streams could not be told apart
            self._finish(check, Deny(DenyReason.INTERNAL, route, principal, detail="a stream without an id"))
            return
        stream = check.policy.streams[route.stream]
        lease = Lease(request_id, principal.account_id, principal.key_id, stream.name)
        decision: Decision = _unanswered(route, StoreUnavailable("redis", "the lease was cut short"))
        try:
            decision = admit(allow, stream, request_id, await self.leases.acquire(lease, stream))
        except StoreUnavailable as failure:
            self._observer.store_failed(failure.store)
            decision = _unanswered(route, failure)
        finally:
            is_wanted = self._finish(check, decision)
        if is_wanted is False and isinstance(decision, Allow):
            await self.leases.undo(lease)

    def _miss(self, check: _Check, lookup: Lookup) -> None:
        if check.filled:
            self._store_failed(check, lookup, StoreUnavailable("redis", "lost a record that was just written"))
            return
        check.filled = True
        waiting = self._fills.get(lookup.digest)
        if waiting is not None:
            waiting.append((check, lookup))
        elif len(self._fills) >= FILLS_MAX:
            self._store_failed(check, lookup, StoreUnavailable("postgres", "too many keys are being loaded"))
        elif refusal := self._invalid_keys.refuse_load(check.policy.invalid_keys, check.attributes, lookup):
            self._finish(check, refusal)
        else:
            self._fills[lookup.digest] = [(check, lookup)]
            self._begin(self._fill(lookup.digest))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fill(self, digest: bytes) -> None:
        """Load one key for all the checks that wait for it, then ask for each of them again."""
        failure = StoreUnavailable("postgres", "the load was cut short")
        filled = False
        started_s = perf_counter()
        try:
            # The epoch is noted before the row is read: a store that restarts in between must not be given what may
            # have changed meanwhile.
            epoch = self._projection.epoch_of(digest)
            async with self._directory.hold(digest) as record:
                self._observer.store_answered("postgres", perf_counter() - started_s)
                await self._projection.put(digest, record, epoch=epoch)
            filled = True
        except StoreUnavailable as error:
            failure = error
        finally:
            self._invalid_keys.loaded(digest)
            for check, lookup in self._fills.pop(digest):
                if filled:
                    self._take(lookup, check.policy.limit, partial(self._replied, check, lookup))
                else:
                    self._store_failed(check, lookup, failure)

    def _store_failed(self, check: _Check, lookup: Lookup, failure: StoreUnavailable) -> None:
        self._observer.store_failed(failure.store)
        if self._failure.degrades(failure.store):
            take = self._recent.take(lookup, check.policy.limit)
            if take is not None:
                self._observer.degraded(failure.store)
                decision = conclude(lookup, take)
                # Caps are over all sidecars: no memory of one's own keeps them.
                finish = self._finish_stream if lookup.route is not None and lookup.route.stream else self._finish
                finish(check, decision)
                return
        self._finish(check, _unanswered(lookup.route, failure))

    def _finish_all(self, decided: Iterable[tuple[_Check, Decision]]) -> None:
        judged = [(check, self._judge(check, decision)) for check, decision in decided]
        now_s = perf_counter()
        for check, decision in judged:
            self._observer.decided(check.attributes, decision, now_s - check.started_s)
        for check, decision in judged:
            check.answer(decision)

    def _finish(self, check: _Check, decision: Decision) -> bool | None:
        decision = self._judge(check, decision)
        self._observer.decided(check.attributes, decision, perf_counter() - check.started_s)
        return check.answer(decision)

    def _judge(self, check: _Check, decision: Decision) -> Decision:
        if isinstance(decision, Allow):
            return decision
        return enforce(self._invalid_keys.judge(check.policy.invalid_keys, check.attributes, decision))


def _broken(attributes: RequestAttributes) -> Deny:
    """Note what has just been raised, and refuse."""
    _log.exception("a check failed", extra={"request_id": attributes.request_id})
    return Deny(DenyReason.INTERNAL, retry_after_s=_RETRY_AFTER_S)


def _unanswered(route: Route | None, failure: StoreUnavailable) -> Deny:
    return Deny(DenyReason.STORE_UNAVAILABLE, route, retry_after_s=_RETRY_AFTER_S, detail=str(failure))
