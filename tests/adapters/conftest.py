"""A link to the real Redis and the projection over it."""

from collections.abc import AsyncIterator

import pytest

from authz.adapters.redis_keys import CHECK, PUT, RedisKeys
from authz.adapters.redis_link import RedisLink


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[RedisLink]:
    link = RedisLink(redis_url, deadline_s=1, in_flight_max=20_000, scripts=(CHECK, PUT))
    link.start()
    await link.reached.wait()
    yield link
    await link.close()


@pytest.fixture
def keys(link: RedisLink) -> RedisKeys:
    return RedisKeys(link, negative_ttl_s=5)
