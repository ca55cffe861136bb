"""One check from attributes to decision: everything that waits, and what happens when something does not answer.

The rules are `core/decision.py`; sockets, protobuf and the metrics' names are elsewhere. No task and no future is made
for a check whose key is in the projection: replies arrive by callback, a batch at a time.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from time import perf_counter
from typing import Any, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from authz.core.check import Allow, Decision, Deny, KeyState, Lookup, RequestAttributes, Take, TakeOutcome
from authz.core.decision import admit, conclude, enforce, plan
from authz.core.errors import DenyReason, StoreUnavailable
from authz.core.policy import Policy
from authz.core.route import Route
from authz.core.streams import Acquisition, Lease
from authz.service.failure_modes import FailureMode, FailureModes, RecentKeys
from authz.service.invalid_keys import InvalidKeys
from authz.service.leases import Leases
from authz.service.ports import CheckObserver, Decided, KeyDirectory, KeyProjection, TakeReply

FILLS_MAX = 1000
"""Keys being loaded from the directory at once; beyond it, checks of keys unknown to the projection are refused."""

_RETRY_AFTER_S = 1

_log = logging.getLogger("authz.check")

Answer: TypeAlias = Callable[[Sequence[Decided]], bool | None]
"""Takes decisions on some of the requests that came together; returns False where nobody waited for the only one."""


class _Batch(Struct):
    """Checks that came together; of those that ask the projection, who asked and what, side by side.

    Their policy is the one they began with: a reload changes nothing for them. `filled` once their key was loaded.
    """

    policy: Policy
    answer: Answer
    started_s: float
    asked: list[tuple[int, RequestAttributes]]
    lookups: list[Lookup]
    filled: bool = False


class _Check(Struct):
    """One of them, that has to wait longer than the others."""

    batch: _Batch
    number: int
    attributes: RequestAttributes
    lookup: Lookup

    def alone(self, *, filled: bool = False) -> _Batch:
        """Return a batch of this check only."""
        asked = [(self.number, self.attributes)]
        return _Batch(self.batch.policy, self.batch.answer, self.batch.started_s, asked, [self.lookup], filled)


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
        self._fills: dict[bytes, list[_Check]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def check(self, asked: Sequence[tuple[int, RequestAttributes]], answer: Answer) -> bool:
        """Decide requests that came together, given with their numbers; tell whether a store had to be asked.

        `answer` is called with each of them exactly once, before or after this returns; also once the projection has
        answered, with whatever could be decided then, if anything. One plan after the other, then one question after
        the other: a processor that does the same again finds what it needs where it left it, which is worth a tenth of
        the check.
        """
        policy = self.policy
        batch = _Batch(policy, answer, perf_counter(), [], [])
        decided: list[Decided] = []
        for one in asked:
            attributes = one[1]
            try:
                planned = plan(policy, attributes)
                if isinstance(planned, Lookup):
                    route = planned.route
                    if route is not None and route.stream:
                        planned = self._with_opening(batch, attributes, planned, route.stream)
                    batch.asked.append(one)
                    batch.lookups.append(planned)
                    continue
                decision = self._judge(batch, attributes, planned) if isinstance(planned, Deny) else planned
            except Exception:  # noqa: BLE001 -- what one request breaks must not cost the others their answers
                decision = _broken(attributes)
            decided.append((*one, decision))
        if batch.lookups:
            self._take(batch.lookups, batch.policy.limit, partial(self._taken, batch))
        if decided:
            self._finish(batch, decided)
        return bool(batch.lookups)

    async def close(self) -> None:
        """Let the loads under way end; every check gets its answer."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _taken(self, batch: _Batch, places: Sequence[int], replies: Sequence[TakeReply]) -> None:
        decided: list[Decided] = []
        for place, reply in zip(places, replies, strict=True):
            (number, attributes), lookup = batch.asked[place], batch.lookups[place]
            try:
                if isinstance(reply, Take):
                    if self._remembers:
                        self._recent.remember(lookup.digest, reply)
                    decision = conclude(lookup, reply)
                    route = decision.route
                    if route is not None and route.stream:
                        self._finish_stream(_Check(batch, number, attributes, lookup), decision, reply.acquired)
                        continue
                    if isinstance(decision, Deny):
                        decision = self._judge(batch, attributes, decision)
                    decided.append((number, attributes, decision))
                elif reply is None:
                    self._miss(_Check(batch, number, attributes, lookup))
                else:
                    self._store_failed(_Check(batch, number, attributes, lookup), reply)
            except Exception:  # noqa: BLE001 -- as in `check`
                decided.append((number, attributes, _broken(attributes)))
        self._finish(batch, decided)

    def _with_opening(self, batch: _Batch, attributes: RequestAttributes, lookup: Lookup, stream: str) -> Lookup:
        """Let the lease of a stream be taken together with the token, where that is possible."""
        if not attributes.request_id:  # Envoy's, without which streams could not be told apart
            return lookup
        return replace(lookup, opening=self.leases.opening(attributes.request_id, batch.policy.streams[stream]))

    def _finish_stream(self, check: _Check, decision: Decision, acquired: Acquisition | None = None) -> None:
        if not isinstance(decision, Allow):
            self._finish_one(check, decision)
        elif acquired is None:
            self._begin(self._lease(check, decision))
        else:
            stream = check.batch.policy.streams[decision.route.stream]
            self.leases.acquired(stream, acquired)
            self._finish_leased(check, admit(decision, stream, check.attributes.request_id, acquired))

    async def _lease(self, check: _Check, allow: Allow) -> None:
        """Let a stream pass once it holds a lease."""
        route, principal, request_id = allow.route, allow.principal, check.attributes.request_id
        if principal is None or not request_id:
            self._finish_one(check, Deny(DenyReason.INTERNAL, route, principal, detail="a stream without an id"))
            return
        stream = check.batch.policy.streams[route.stream]
        lease = Lease(request_id, principal.account_id, principal.key_id, stream.name)
        decision: Decision = _unanswered(route, StoreUnavailable("redis", "the lease was cut short"))
        try:
            decision = admit(allow, stream, request_id, await self.leases.acquire(lease, stream))
        except StoreUnavailable as failure:
            self._observer.store_failed(failure.store)
            decision = _unanswered(route, failure)
        finally:
            self._finish_leased(check, decision)

    def _finish_leased(self, check: _Check, decision: Decision) -> None:
        """Answer; a lease is given back where nobody waited for the answer."""
        is_wanted, use, principal = self._finish_one(check, decision), decision.streams, decision.principal
        if is_wanted is False and use is not None and use.lease_id and principal is not None:
            lease = Lease(use.lease_id, principal.account_id, principal.key_id, use.stream.name)
            self._begin(self.leases.undo(lease))

    def _miss(self, check: _Check) -> None:
        digest = check.lookup.digest
        if check.batch.filled:
            self._store_failed(check, StoreUnavailable("redis", "lost a record that was just written"))
            return
        waiting = self._fills.get(digest)
        if waiting is not None:
            waiting.append(check)
        elif len(self._fills) >= FILLS_MAX:
            self._store_failed(check, StoreUnavailable("postgres", "too many keys are being loaded"))
        elif refusal := self._invalid_keys.refuse_load(check.batch.policy.invalid_keys, check.attributes, check.lookup):
            self._finish_one(check, refusal)
        else:
            self._fills[digest] = [check]
            self._begin(self._fill(digest))

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
                if record.state is KeyState.UNKNOWN:
                    self._answer_waiting(digest, Take(TakeOutcome.UNKNOWN, record))
                await self._projection.put(digest, record, epoch=epoch)
            filled = True
        except StoreUnavailable as error:
            failure = error
        finally:
            self._invalid_keys.loaded(digest)
            for check in self._fills.pop(digest):
                if filled:
                    again = check.alone(filled=True)
                    self._take(again.lookups, again.policy.limit, partial(self._taken, again))
                else:
                    self._store_failed(check, failure)

    def _answer_waiting(self, digest: bytes, take: Take) -> None:
        """Answer what waits for a key that does not exist, which need not wait until the projection knows that."""
        checks, self._fills[digest] = self._fills[digest], []
        for check in checks:
            self._taken(check.alone(), [0], [take])

    def _store_failed(self, check: _Check, failure: StoreUnavailable) -> None:
        lookup = check.lookup
        self._observer.store_failed(failure.store)
        if self._failure.degrades(failure.store):
            take = self._recent.take(lookup, check.batch.policy.limit)
            if take is not None:
                self._observer.degraded(failure.store)
                decision = conclude(lookup, take)
                # Caps are over all sidecars: no memory of one's own keeps them.
                finish = self._finish_stream if lookup.route is not None and lookup.route.stream else self._finish_one
                finish(check, decision)
                return
        self._finish_one(check, _unanswered(lookup.route, failure))

    def _finish_one(self, check: _Check, decision: Decision) -> bool | None:
        if isinstance(decision, Deny):
            decision = self._judge(check.batch, check.attributes, decision)
        return self._finish(check.batch, [(check.number, check.attributes, decision)])

    def _finish(self, batch: _Batch, decided: Sequence[Decided]) -> bool | None:
        """Answer, then note it: who asked need not wait for that."""
        took_s = perf_counter() - batch.started_s
        is_wanted = batch.answer(decided)
        try:
            self._observer.decided(decided, took_s)
        except Exception:  # noqa: BLE001 -- whatever broke, the answers are out and stand
            _log.exception("checks were answered and could not be noted")
        return is_wanted

    def _judge(self, batch: _Batch, attributes: RequestAttributes, deny: Deny) -> Decision:
        return enforce(self._invalid_keys.judge(batch.policy.invalid_keys, attributes, deny))


def _broken(attributes: RequestAttributes) -> Deny:
    """Note what has just been raised, and refuse."""
    _log.exception("a check failed", extra={"request_id": attributes.request_id})
    return Deny(DenyReason.INTERNAL, retry_after_s=_RETRY_AFTER_S)


def _unanswered(route: Route | None, failure: StoreUnavailable) -> Deny:
    return Deny(DenyReason.STORE_UNAVAILABLE, route, retry_after_s=_RETRY_AFTER_S, detail=str(failure))
