"""The whole house: real Envoy, Redis, Postgres, sidecar and backend, once for all end-to-end tests."""

from collections.abc import Iterator

import pytest
from houses import ALL_SCOPES, ROOMY, Keys

from authz.demo.house import House


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    house = House(ping_s=0.2)
    house.start()
    yield house
    house.stop()


@pytest.fixture(scope="session")
def keys(house: House) -> Keys:
    return Keys(
        reader=house.create_key("reader", "servers:read", limit=ROOMY).secret,
        all_scopes=house.create_key("all", *ALL_SCOPES, limit=ROOMY).secret,
    )
