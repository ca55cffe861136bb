"""When a key was last used, as its owner sees it: soon, and after the sidecar that saw it has died."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from wire import send_settled

from authz.core.ownership import ApiKey, AuditEvent
from authz.demo.house import House


@pytest.fixture(scope="module")
def own_house() -> Iterator[House]:
    """A house whose sidecar may be killed."""
    house = House(env={"AUTHZ_LAST_USE_INTERVAL_S": "0.5"})
    house.start()
    yield house
    house.stop()


def shown(house: House, key_id: str) -> ApiKey:
    return house.administer(lambda admin: admin.key(key_id))


def used(house: House, key_id: str) -> datetime:
    """Wait until a key's last use is known."""
    while (at := shown(house, key_id).last_used_at) is None:
        time.sleep(0.1)
    return at


def test_a_keys_last_use_is_known_soon_and_a_refused_key_has_none(house: House) -> None:
    made, idle = house.create_key("used", "servers:read"), house.create_key("idle", "servers:read")
    house.change_key(idle.key.id, AuditEvent.KEY_DISABLED)
    started = datetime.now(UTC)
    for key in (idle, made):
        send_settled(house.url, "GET", "/v1/servers", ("x-api-key", key.secret))
    assert started <= used(house, made.key.id) <= datetime.now(UTC)
    assert shown(house, idle.key.id).last_used_at is None


def test_a_use_that_was_seen_survives_the_sidecar_and_redis(own_house: House) -> None:
    made = own_house.create_key("used", "servers:read")
    send_settled(own_house.url, "GET", "/v1/servers", ("x-api-key", made.secret))
    at = used(own_house, made.key.id)
    own_house.sidecars[0].kill()
    own_house.redis.kill()
    own_house.redis.start()
    assert shown(own_house, made.key.id).last_used_at == at
    own_house.start_sidecar(0)
    # Redis has forgotten the first use of this half minute, so that this one counts as it.
    send_settled(own_house.url, "GET", "/v1/servers", ("x-api-key", made.secret))
    while shown(own_house, made.key.id).last_used_at == at:
        time.sleep(0.1)
    assert datetime.now(UTC) - used(own_house, made.key.id) < timedelta(seconds=15)


def test_a_drain_writes_what_was_seen(own_house: House) -> None:
    made = own_house.create_key("drained", "servers:read")
    send_settled(own_house.url, "GET", "/v1/servers", ("x-api-key", made.secret))
    own_house.sidecars[0].stop()
    assert shown(own_house, made.key.id).last_used_at is not None
    own_house.start_sidecar(0)
