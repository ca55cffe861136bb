"""Plans of keys over the real Postgres: those of the policy only, effective at once, kept by a rotation, listed."""

import os
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pytest
from support.builders import policy
from support.fakes.projection import MemoryProjection

from authz.adapters.postgres.keys import PostgresKeys
from authz.adapters.postgres.pool import Postgres
from authz.core.accounts import Actor, AuditEvent, NewApiKey
from authz.core.errors import Refused
from authz.core.keys import digest
from authz.core.limits import KeyLimits, Limit, NamedLimit
from authz.service.keys.admin import KeyAdmin, KeyRequest

ME = Actor("operator:ada", "203.0.113.9")


async def created(admin: KeyAdmin, plan: str = "") -> NewApiKey:
    account_id = (await admin.create_account("Ada", None, ME)).id
    return await admin.create_key(KeyRequest(account_id, "key", frozenset({"servers:read"}), plan=plan), ME)


GOLD = NamedLimit("gold", Limit(1000, 10))


@pytest.fixture
def planned(postgres: Postgres, projection: MemoryProjection) -> KeyAdmin:
    """The use cases with a policy that has the plan gold."""
    limits = KeyLimits((NamedLimit("default", Limit(120, 2)),), {"gold": (GOLD,)}, 100)
    with_plans = replace(policy(), key_limits=limits)
    now = partial(datetime.now, UTC)
    return KeyAdmin(PostgresKeys(postgres), projection, with_plans, entropy=os.urandom, now=now)


async def test_a_plan_is_effective_when_the_change_returns_and_a_rotation_keeps_it(
    planned: KeyAdmin, projection: MemoryProjection
) -> None:
    made = await created(planned, plan="gold")
    record = projection.records[digest(made.secret.encode())]
    assert (record.plan, (await planned.key(made.key.id)).plan) == ("gold", "gold")
    rotated = await planned.rotate(made.key.id, 60, ME)
    assert projection.records[digest(rotated.made.secret.encode())].plan == "gold"
    await planned.change_key(made.key.id, AuditEvent.KEY_PLAN_SET, ME, "")
    record = projection.records[digest(made.secret.encode())]
    assert (record.plan, record.revision) == ("", 3)
    assert ("gold", 1, True) in await planned.plans()


async def test_a_plan_that_the_policy_lacks_is_refused_and_listed(planned: KeyAdmin, admin: KeyAdmin) -> None:
    with pytest.raises(Refused, match="no plan silver"):
        await created(planned, plan="silver")
    made = await created(planned)
    with pytest.raises(Refused, match="no plan silver"):
        await planned.change_key(made.key.id, AuditEvent.KEY_PLAN_SET, ME, "silver")
    await planned.change_key(made.key.id, AuditEvent.KEY_PLAN_SET, ME, "gold")
    # The policy of the other one has no plans.
    assert {it[2] for it in await admin.plans()} == {False}
    await planned.change_key(made.key.id, AuditEvent.KEY_REVOKED, ME)
    before = dict(it[:2] for it in await planned.plans())
    await created(planned, plan="gold")
    after = dict(it[:2] for it in await planned.plans())
    assert after["gold"] == before.get("gold", 0) + 1
