"""Callers: accounts with keys of many plans and scopes, some with an empty bucket, created through the use cases.

Their requests are in `traffic.py`.
"""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from authz.cli.session import open_admin
from authz.core.limits import Limit
from authz.demo.stack import ACTOR
from authz.service.keys.admin import KeyAdmin, KeyRequest
from authz.settings import Settings

EMPTY = Limit(1, 1e-6)
"""What one key in twenty has: a bucket that its first check empties."""

TIRELESS = Limit(1_000_000, 1_000_000)
"""What one key in eleven of the others has: more than any load takes from it."""

SCOPES = ("servers:read", "servers:write", "console", "files:read", "files:write", "backups", "billing:read")

_KEYS_PER_ACCOUNT = 20
_AT_ONCE = 8
_EMPTY_EVERY = 20
# Nothing measured here runs dry on its own; with a refill this slow, hardly two answers tell the same rate.
_PLANS = [*(Limit(capacity, 0.01) for capacity in range(100_000, 1_000_001, 100_000)), TIRELESS]


@dataclass(frozen=True, slots=True)
class Caller:
    """One key, and what authz knows about it."""

    secret: str = field(repr=False)
    account_id: str
    scopes: frozenset[str]
    limit: Limit


async def make_callers(settings: Settings, count: int, chance: random.Random) -> list[Caller]:
    """Make `count` keys in Postgres and Redis."""
    callers: list[Caller] = []
    numbers = iter(range(0, count, _KEYS_PER_ACCOUNT))
    async with open_admin(settings) as admin:
        await asyncio.gather(*(_accounts(admin, numbers, count, chance, callers) for _ in range(_AT_ONCE)))
    return callers


async def _accounts(
    admin: KeyAdmin, numbers: Iterator[int], count: int, chance: random.Random, callers: list[Caller]
) -> None:
    for first in numbers:
        account = await admin.create_account(f"bench {first}", None, ACTOR)
        for number in range(first, min(first + _KEYS_PER_ACCOUNT, count)):
            limit = chance.choice(_PLANS) if number % _EMPTY_EVERY else EMPTY
            request = KeyRequest(account.id, f"key {number}", _scopes(number, chance), limit)
            secret = (await admin.create_key(request, ACTOR)).secret
            callers.append(Caller(secret, account.id, request.scopes, limit))


def _scopes(number: int, chance: random.Random) -> frozenset[str]:
    # Every other key has all scopes, the rest what its owner happened to tick.
    return frozenset(SCOPES if number % 2 else chance.sample(SCOPES, chance.randint(1, 4)))
