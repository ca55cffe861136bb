"""Revocations around ordered failovers of Redis: `make failovers` (FORM=sentinel or cluster, ROUNDS=100).

Two sidecars, and operators who revoke keys before, during and after each failover. No request that is sent after a
revocation was reported done may pass. What a change costs in time is in the report.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import httpx
from support.servers.redis_cluster import Cluster, cluster
from support.servers.redis_sentinel import sentinels
from support.servers.stack import ROOMY

from authz.adapters import logs
from authz.cli.session import open_admin
from authz.core.accounts import AuditEvent, NewApiKey
from authz.core.errors import NotEffectiveYet, StoreUnavailable
from authz.demo.stack import ACTOR, Stack
from authz.service.keys.admin import KeyRequest

REPORT = Path("build/failovers")
KEYS_PER_ACCOUNT = 20
ASKED_FOR_S = 2.0
PAUSE_S = 0.02
_DEGRADED_S = 1.0  # what docs/redis.md states for `degrade`
_DICE = random.Random()  # noqa: S311 -- not a secret


@dataclass
class Outcome:
    """What the rounds showed. `wrong` lists the seconds between a revocation's end and each wrong allow."""

    form: str
    rounds: int = 0
    revoked: int = 0
    not_yet: int = 0
    wrong: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    revoke_s: list[float] = field(default_factory=list)

    def save(self) -> None:
        """Write the report, also of a run that goes on."""
        REPORT.mkdir(parents=True, exist_ok=True)
        (REPORT / f"{self.form}.json").write_text(json.dumps(asdict(self), indent=1))


class Rounds:
    """Failovers one after the other; `fail_over` orders one, `until_ready` waits until the next can be ordered."""

    def __init__(
        self, stack: Stack, outcome: Outcome, fail_over: Callable[[], None], until_ready: Callable[[], None]
    ) -> None:
        self._stack = stack
        self.outcome = outcome
        self._fail_over = fail_over
        self._until_ready = until_ready

    async def run(self, rounds: int) -> None:
        """Run some rounds."""
        limits = httpx.Limits(max_connections=64)
        # An address of its own: so many refusals count as a flood of bad keys.
        transport = httpx.AsyncHTTPTransport(local_address="127.0.0.9", limits=limits)
        async with httpx.AsyncClient(
            base_url=self._stack.url, trust_env=False, timeout=5, transport=transport
        ) as client:
            for _ in range(rounds):
                await asyncio.to_thread(self._until_ready)
                keys = await self._keys()
                await self._until_admitted(client, keys)
                ordered = asyncio.create_task(self._order())
                await asyncio.gather(*(self._revoke(client, key) for key in keys), ordered)
                self.outcome.rounds += 1
                await asyncio.to_thread(self.outcome.save)

    async def _keys(self) -> list[NewApiKey]:
        while True:
            try:
                return await self._created()
            except (NotEffectiveYet, StoreUnavailable):  # a busy machine, or the failover before
                await asyncio.sleep(PAUSE_S)

    async def _created(self) -> list[NewApiKey]:
        async with open_admin(self._stack.settings) as admin:
            account = await admin.create_account("failover", None, ACTOR)
            request = KeyRequest(account.id, "k", frozenset({"servers:read"}), ROOMY)
            return [await admin.create_key(request, ACTOR) for _ in range(KEYS_PER_ACCOUNT)]

    async def _until_admitted(self, client: httpx.AsyncClient, keys: list[NewApiKey]) -> None:
        for key in keys:
            while await self._ask(client, key) != 200:
                await asyncio.sleep(PAUSE_S)

    async def _order(self) -> None:
        await asyncio.sleep(_DICE.uniform(0.2, 0.6))
        await asyncio.to_thread(self._fail_over)

    async def _revoke(self, client: httpx.AsyncClient, key: NewApiKey) -> None:
        await asyncio.sleep(_DICE.uniform(0, 2))
        started_s = time.monotonic()
        try:
            async with open_admin(self._stack.settings) as admin:  # a connection of its own, as a command has
                await admin.change_key(key.key.id, AuditEvent.KEY_REVOKED, ACTOR)
        except (NotEffectiveYet, StoreUnavailable):
            self.outcome.not_yet += 1
            return
        done_s = time.monotonic()
        self.outcome.revoked += 1
        self.outcome.revoke_s.append(done_s - started_s)
        while time.monotonic() - done_s < ASKED_FOR_S:
            status = await self._ask(client, key)
            self.outcome.statuses[status] = self.outcome.statuses.get(status, 0) + 1
            if status == 200:
                self.outcome.wrong.append(round(time.monotonic() - done_s, 3))
            await asyncio.sleep(PAUSE_S)

    async def _ask(self, client: httpx.AsyncClient, key: NewApiKey) -> int:
        return (await client.get("/v1/servers", headers={"x-api-key": key.secret})).status_code


@contextmanager
def rounds(form: str, env: dict[str, str] | None = None) -> Iterator[Rounds]:
    """Start the stores and two sidecars of a form: `sentinel` or `cluster`."""
    with tempfile.TemporaryDirectory(prefix="authz-failovers-") as name:
        folder = Path(name)
        if form == "sentinel":
            with sentinels(folder) as watched, _stack(watched.url, env) as stack:
                yield Rounds(stack, Outcome(form), watched.fail_over_when_possible, watched.until_replicated)
        else:
            with cluster(folder, replicated=True) as made, _stack(made.url, env) as stack:
                yield Rounds(stack, Outcome(form), partial(_fail_over_and_back, made), made.until_replicated)


def _fail_over_and_back(made: Cluster) -> None:
    """Order a failover, after which the former primary is the replica of the next round."""
    made.fail_over()
    assert made.replica is not None
    made.primaries[0], made.replica = made.replica, made.primaries[0]


@contextmanager
def _stack(redis_url: str, env: dict[str, str] | None) -> Iterator[Stack]:
    stack = Stack(sidecars=2, redis_url=redis_url, env=env)
    stack.start()
    try:
        yield stack
    finally:
        stack.stop()


def main() -> None:
    """Run the rounds; exit with 1 if a revoked key passed, in `degrade` later than it may."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--form", choices=("sentinel", "cluster"), default="sentinel")
    arguments.add_argument("--rounds", type=int, default=100)
    arguments.add_argument("--degrade", action="store_true", help="with AUTHZ_REDIS_FAILURE=degrade")
    options = arguments.parse_args()
    logs.silence()
    with rounds(options.form, {"AUTHZ_REDIS_FAILURE": "degrade"} if options.degrade else None) as run:
        asyncio.run(run.run(options.rounds))
        outcome = run.outcome
    outcome.save()
    took_s = sorted(outcome.revoke_s)
    print(f"{outcome.rounds} failovers, {outcome.revoked} revocations done, {outcome.not_yet} reported as not done yet")  # noqa: T201
    median_s, most_s = (median(took_s), took_s[-1]) if took_s else (0.0, 0.0)
    print(f"a revocation took {median_s:.2f} s, {most_s:.2f} s at most; responses {outcome.statuses}")  # noqa: T201
    print(f"wrong allows: {len(outcome.wrong)}, the latest {max(outcome.wrong, default=0)} s after the end")  # noqa: T201
    bound_s = _DEGRADED_S if options.degrade else 0.0
    sys.exit(any(after_s > bound_s for after_s in outcome.wrong))


if __name__ == "__main__":
    main()
