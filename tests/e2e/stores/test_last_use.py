"""When a key was last used, as its owner sees it: soon, and after the sidecar that saw it has died."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from support.clients.raw_http import send_settled

from authz.core.accounts import ApiKey, AuditEvent
from authz.demo.stack import Stack


@pytest.fixture(scope="module")
def own_stack() -> Iterator[Stack]:
    """A stack whose sidecar may be killed."""
    stack = Stack(env={"AUTHZ_LAST_USE_INTERVAL_S": "0.5"})
    stack.start()
    yield stack
    stack.stop()


def shown(stack: Stack, key_id: str) -> ApiKey:
    return stack.administer(lambda admin: admin.key(key_id))


def used(stack: Stack, key_id: str) -> datetime:
    """Wait until a key's last use is known."""
    while (at := shown(stack, key_id).last_used_at) is None:
        time.sleep(0.1)
    return at


def test_a_keys_last_use_is_known_soon_and_a_refused_key_has_none(stack: Stack) -> None:
    made, idle = stack.create_key("used", "servers:read"), stack.create_key("idle", "servers:read")
    stack.change_key(idle.key.id, AuditEvent.KEY_DISABLED)
    started = datetime.now(UTC)
    for key in (idle, made):
        send_settled(stack.url, "GET", "/v1/servers", ("x-api-key", key.secret))
    assert started <= used(stack, made.key.id) <= datetime.now(UTC)
    assert shown(stack, idle.key.id).last_used_at is None


def test_a_use_that_was_seen_survives_the_sidecar_and_redis(own_stack: Stack) -> None:
    made = own_stack.create_key("used", "servers:read")
    send_settled(own_stack.url, "GET", "/v1/servers", ("x-api-key", made.secret))
    at = used(own_stack, made.key.id)
    own_stack.sidecars[0].kill()
    own_stack.redis.kill()
    own_stack.redis.start()
    assert shown(own_stack, made.key.id).last_used_at == at
    own_stack.start_sidecar(0)
    # Redis has forgotten the first use of this half minute, so that this one counts as it.
    send_settled(own_stack.url, "GET", "/v1/servers", ("x-api-key", made.secret))
    while shown(own_stack, made.key.id).last_used_at == at:
        time.sleep(0.1)
    assert datetime.now(UTC) - used(own_stack, made.key.id) < timedelta(seconds=15)


def test_a_drain_writes_what_was_seen(own_stack: Stack) -> None:
    made = own_stack.create_key("drained", "servers:read")
    send_settled(own_stack.url, "GET", "/v1/servers", ("x-api-key", made.secret))
    own_stack.sidecars[0].stop()
    assert shown(own_stack, made.key.id).last_used_at is not None
    own_stack.start_sidecar(0)
