"""After logins and key changes, no log, store or metric contains a secret."""

import asyncio
import base64
import json
from itertools import chain

import asyncpg
import httpx
from redis import Redis
from support.clients.portal_client import PASSWORD, PortalClient

from authz.demo.stack import Stack


def portal_session(stack: Stack) -> list[str]:
    """Sign up, log in, make and rotate keys, approve a device, fail some attempts; return every secret."""
    caller = PortalClient(stack.url)
    secrets = [PASSWORD, caller.sign_up()["api_key"], caller.public("login", caller.credentials()).json()["api_key"]]
    caller.log_in()
    secrets += [caller.cookie, caller.token]
    made = caller.session("POST", "/keys", {"name": "x", "scopes": ["servers:read"]}).json()
    rotated = caller.session("POST", f"/keys/{made['key']['id']}:rotate", {"overlap_s": 60}).json()
    started = caller.public("device/start", {}).json()
    caller.session("POST", f"/device/{started['user_code']}:approve", {"scopes": ["servers:read"]})
    polled = caller.public("device/poll", {"device_code": started["device_code"]}).json()
    waiting = caller.public("device/start", {}).json()
    secrets += [made["api_key"], rotated["api_key"], started["device_code"], polled["api_key"], waiting["device_code"]]
    for api_key in secrets:
        caller.client.get(f"/v1/servers?note={api_key}", headers={"x-api-key": api_key})
    caller.public("login", caller.credentials(email=made["api_key"], password=made["api_key"]))
    caller.public("device/poll", {"device_code": made["api_key"]})
    caller.client.get("/dashboard/verify", params={"code": "a-code-that-was-mailed"})
    caller.client.close()
    return [*secrets, "a-code-that-was-mailed"]


def in_redis(url: str) -> bytes:
    with Redis.from_url(url) as redis:
        keys = list(redis.scan_iter())
        hashes = [redis.hgetall(key) if redis.type(key) == b"hash" else {b"": redis.get(key)} for key in keys]
    return b"\n".join([*keys, *(bytes(value or b"") for value in chain.from_iterable(map(dict.values, hashes)))])


async def in_postgres(url: str) -> bytes:
    connection = await asyncpg.connect(url)
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    rows = [row for table in tables for row in await connection.fetch(f"SELECT * FROM {table['tablename']}")]  # noqa: S608 -- its own tables
    await connection.close()
    values = [value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row.values()]
    return b"\n".join(values)


def test_no_secret_is_written_anywhere(portal_stack: Stack) -> None:
    secrets = portal_session(portal_stack)
    metrics = httpx.get(f"{portal_stack.admin_url}/metrics", trust_env=False).content
    portals = httpx.get(f"{portal_stack.portal_admin_url}/metrics", trust_env=False).content
    envoys = httpx.get(f"{portal_stack.envoy.admin_url}/config_dump", trust_env=False).content
    places = {
        "redis": in_redis(portal_stack.redis.url),
        "postgres": asyncio.run(in_postgres(portal_stack.postgres.url)),
        "metrics": metrics,
        "the portal's metrics": portals,
        "envoy's configuration": envoys,
        **{path.name: path.read_bytes() for path in portal_stack.folder.glob("*.log")},
    }
    assert {"redis", "postgres", "portal.log", "authz.log", "envoy.log"} <= places.keys()
    assert b"key_minted_by_device" in places["postgres"]
    assert b"acct_" in places["redis"]
    assert b'device_grants_total{event="handed_out"} ' in places["the portal's metrics"]
    for secret in secrets:
        spellings = [secret, json.dumps(secret)[1:-1], base64.b64encode(secret.encode()).decode()]
        for place, held in places.items():
            assert not [spelling for spelling in spellings if spelling.encode() in held], place
