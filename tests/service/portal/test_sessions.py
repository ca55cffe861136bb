"""Sessions over the real stores: always a new secret, an end that use does not put off, over with a new password."""

import asyncio

from support.portal_use_cases import PASSWORD, PortalUseCases, random_address, random_email

from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.scripts import Script
from authz.adapters.redis.sessions import RedisSessions
from authz.core.owners import Owner

DUMP = Script(b"return redis.call('HGETALL', KEYS[1])")
ALL = Script(b"return redis.call('KEYS', 's:*')")
TTL = Script(b"return redis.call('PTTL', KEYS[1])")


async def an_owner(use_cases: PortalUseCases) -> Owner:
    return await use_cases.accounts.sign_up(random_email(), PASSWORD, random_address())


async def test_a_session_is_its_owners_until_it_is_ended(use_cases: PortalUseCases) -> None:
    owner = await an_owner(use_cases)
    secret = await use_cases.sessions.open(owner)
    assert await use_cases.sessions.owner(secret) == owner
    await use_cases.sessions.end(secret)
    assert await use_cases.sessions.owner(secret) is None


async def test_an_unknown_session_has_no_owner(use_cases: PortalUseCases) -> None:
    for secret in ("", "x", use_cases.sessions.new_secret()):
        assert await use_cases.sessions.owner(secret) is None


async def test_every_login_has_a_secret_of_its_own_which_is_not_kept(
    use_cases: PortalUseCases, link: RedisLink
) -> None:
    owner = await an_owner(use_cases)
    secrets = {await use_cases.sessions.open(owner) for _ in range(3)}
    assert len(secrets) == 3
    kept = b"".join([key + b"".join(await link.call(DUMP, key)) for key in await link.call(ALL, b"-")])
    assert not [secret for secret in secrets if secret.encode() in kept]


async def test_a_new_password_ends_every_session_of_before(use_cases: PortalUseCases) -> None:
    owner = await an_owner(use_cases)
    before = await use_cases.sessions.open(owner)
    changed = await use_cases.accounts.change_password(owner, PASSWORD, "another horse battery", random_address())
    assert await use_cases.sessions.owner(before) is None
    assert await use_cases.sessions.owner(await use_cases.sessions.open(changed)) == changed


async def test_use_puts_off_the_idle_end_and_never_the_last(link: RedisLink) -> None:
    store, digest = RedisSessions(link, idle_s=600, life_s=3600), b"a" * 32
    await store.open(digest, "acct_1", 1)
    (key,) = [key for key in await link.call(ALL, b"-") if key.startswith(b"s:YWFhYWFh")]
    await link.call(Script(b"return redis.call('PEXPIRE', KEYS[1], 5000)"), key)
    assert await store.use(digest) == ("acct_1", 1)
    assert await link.call(TTL, key) > 500_000
    soon = Script(b"return redis.call('HSET', KEYS[1], 'ends_ms', redis.call('TIME')[1] * 1000 + ARGV[1])")
    await link.call(soon, key, b"9000")
    await store.use(digest)
    assert await link.call(TTL, key) <= 9_000
    await link.call(soon, key, b"-1000")
    assert await asyncio.gather(*(store.use(digest) for _ in range(3))) == [None] * 3
