"""The whole house: real Envoy, Redis, Postgres, sidecar and backend, once for each of the two listeners."""

from collections.abc import Iterator

import pytest
from houses import ALL_SCOPES, ROOMY, Keys

from authz.demo.house import House


@pytest.fixture(scope="session", params=[False, True], ids=["check-listener", "grpc-server"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    house = House(ping_s=0.2, on_grpc=request.param, env={"AUTHZ_LAST_USE_INTERVAL_S": "0.5"})
    house.start()
    yield house
    house.stop()


@pytest.fixture(scope="session")
def keys(house: House) -> Keys:
    return Keys(
        reader=house.create_key("reader", "servers:read", limit=ROOMY).secret,
        all_scopes=house.create_key("all", *ALL_SCOPES, limit=ROOMY).secret,
    )
