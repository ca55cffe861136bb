"""Checks from attributes to decision, a batch at a time, with the failure mode for a store that does not respond.

The rules are `core/decision.py`; loads of missing keys are `loads.py`, streams `streams.py`. A check whose
key is in the projection creates no task and no future: replies arrive by callback.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from time import perf_counter

from msgspec.structs import replace

from authz.core.check import Decision, Deny, Lookup, RequestAttributes, Take
from authz.core.decision import conclude, enforce, plan
from authz.core.errors import StoreUnavailable
from authz.core.policy.policy import Policy
from authz.service.check.batch import Answer, Batch, PendingCheck, broken, unavailable
from authz.service.check.failure_modes import FailureMode, FailureModes, RecentKeys
from authz.service.check.invalid_keys import InvalidKeys
from authz.service.check.leases import Leases
from authz.service.check.loads import KeyLoads, LoadLimits
from authz.service.check.steps import OnSampled, Steps
from authz.service.check.streams import StreamOpenings
from authz.service.ports import CheckObserver, Decided, KeyDirectory, KeyProjection, Taken, TakeReply

_log = logging.getLogger("authz.check")


class Checker:
    """Decides checks against the policy in force, the projection and, on a miss, the directory."""

    def __init__(  # noqa: PLR0913 -- what a checker is made of, each by name
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
        loads: LoadLimits = LoadLimits(),  # noqa: B008 -- a frozen value
        on_sampled: OnSampled | None = None,
    ) -> None:
        self.policy = policy
        self.leases = leases
        self._take = projection.take
        self._observer = observer
        self._failure = failure
        self._remembers = FailureMode.DEGRADE in {failure.redis, failure.postgres}
        self._recent = recent
        self._invalid_keys = invalid_keys or InvalidKeys()
        self._loads = KeyLoads(projection, directory, observer, self._invalid_keys, self._loaded, limits=loads)
        self._on_sampled = on_sampled
        self._streams = StreamOpenings(leases, observer, self._finish_one)

    def loads(self) -> Mapping[str, int]:
        """Return the number of loads of missing keys, by outcome."""
        return {outcome.value: count for outcome, count in self._loads.outcomes.items()}

    def check(
        self,
        requests: Sequence[tuple[int, RequestAttributes]],
        answer: Answer,
        sampled: Collection[int] | None = None,
    ) -> bool:
        """Decide numbered requests that arrived together; tell whether a store was queried.

        `answer` is called with each of them exactly once, before or after this returns. It is also called after every
        reply of the projection, with the decisions that are then ready, possibly none. All plans are made before the
        first query: repeating one step keeps its code and data in the processor's caches, which saves a tenth of a
        check. `sampled` has the numbers of those whose callers record their traces, if that is known: to look at each
        call again costs a hundredth.
        """
        if sampled is None:
            sampled = [number for number, it in requests if it.call is not None and it.call.is_sampled]
        steps = Steps(frozenset(sampled)) if sampled and self._on_sampled is not None else None
        policy = self.policy
        batch = Batch(policy, answer, perf_counter(), [], [], steps)
        decided: list[Decided] = []
        for request in requests:
            attributes = request[1]
            try:
                planned = plan(policy, attributes)
                if isinstance(planned, Lookup):
                    route = planned.route
                    if route is not None and route.stream:
                        planned = self._streams.with_opening(policy, attributes, planned, route.stream)
                    batch.requests.append(request)
                    batch.lookups.append(planned)
                    continue
                decision = self._judge(batch, attributes, planned) if isinstance(planned, Deny) else planned
            except Exception:  # noqa: BLE001 -- a fault in one request must not affect the others
                decision = broken(attributes)
            decided.append((*request, decision))
        if batch.lookups:
            self._query(batch)
        if decided:
            # These have not waited for the projection, which may have failed already.
            self._finish(batch if steps is None else replace(batch, steps=Steps(steps.sampled)), decided)
        return bool(batch.lookups)

    async def close(self) -> None:
        """Wait for the pending loads and leases; every check is answered."""
        await self._loads.close()
        await self._streams.close()

    def _taken(self, batch: Batch, indices: Sequence[int], replies: Sequence[TakeReply]) -> None:
        if batch.steps is not None:
            batch.steps.replied()
        decided: list[Decided] = []
        requests, lookups = batch.requests, batch.lookups
        for index, reply in zip(indices, replies, strict=True):
            (number, attributes), lookup = requests[index], lookups[index]
            try:
                if isinstance(reply, Take):
                    if self._remembers:
                        self._recent.remember(lookup.digest, reply)
                    decision = conclude(lookup, reply)
                    route = decision.route
                    if route is not None and route.stream:
                        self._streams.conclude(
                            PendingCheck(batch, number, attributes, lookup), decision, reply.acquired
                        )
                        continue
                    if isinstance(decision, Deny):
                        decision = self._judge(batch, attributes, decision)
                    decided.append((number, attributes, decision))
                elif reply is None:
                    self._miss(PendingCheck(batch, number, attributes, lookup))
                else:
                    self._store_failed(PendingCheck(batch, number, attributes, lookup), reply)
            except Exception:  # noqa: BLE001 -- as in `check`
                decided.append((number, attributes, broken(attributes)))
        self._finish(batch, decided)

    def _query(self, batch: Batch) -> None:
        """Query the projection for the lookups of a batch."""
        taken: Taken = partial(self._taken, batch)
        if batch.steps is not None:
            batch.steps.asked()
        policy = batch.policy
        self._take(batch.lookups, policy.limit, taken, account=policy.account_limit, limits=policy.key_limits)

    def _miss(self, check: PendingCheck) -> None:
        check.begin("postgres")
        refusal = self._loads.begin(check)
        if isinstance(refusal, Deny):
            self._finish_one(check, refusal)
        elif refusal is not None:
            self._store_failed(check, refusal)

    def _loaded(self, checks: Sequence[PendingCheck], result: StoreUnavailable | Take | None) -> None:
        """Continue the checks that waited for a load."""
        for check in checks:
            check.end()
            if isinstance(result, StoreUnavailable):
                self._store_failed(check, result)
            elif result is not None:
                self._taken(check.alone(), [0], [result])
            else:
                self._query(check.alone(loaded=True))

    def _store_failed(self, check: PendingCheck, failure: StoreUnavailable) -> None:
        lookup = check.lookup
        self._observer.store_failed(failure.store)
        if self._failure.degrades(failure.store):
            policy = check.batch.policy
            take = self._recent.take(lookup, policy.limit, account=policy.account_limit, limits=policy.key_limits)
            if take is not None:
                self._observer.degraded(failure.store)
                decision = conclude(lookup, take)
                # Caps hold over all sidecars, so local memory cannot enforce them.
                is_stream = lookup.route is not None and lookup.route.stream
                finish = self._streams.conclude if is_stream else self._finish_one
                finish(check, decision)
                return
        self._finish_one(check, unavailable(lookup.route, failure))

    def _finish_one(self, check: PendingCheck, decision: Decision) -> bool | None:
        if isinstance(decision, Deny):
            decision = self._judge(check.batch, check.attributes, decision)
        return self._finish(check.batch, [(check.number, check.attributes, decision)])

    def _finish(self, batch: Batch, decided: Sequence[Decided]) -> bool | None:
        """Answer, then count and log, so that the caller does not wait for that."""
        took_s = perf_counter() - batch.started_s
        is_wanted = batch.answer(decided)
        try:
            self._observer.decided(decided, took_s)
            if batch.steps is not None and self._on_sampled is not None:
                self._on_sampled(batch.steps.traced(decided), took_s)
        except Exception:  # noqa: BLE001 -- the answers have been sent
            _log.exception("checks were answered but could not be counted")
        return is_wanted

    def _judge(self, batch: Batch, attributes: RequestAttributes, deny: Deny) -> Decision:
        return enforce(self._invalid_keys.judge(batch.policy.invalid_keys, attributes, deny))
