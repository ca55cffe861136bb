"""The whole stack: real Envoy, Redis, Postgres, sidecar and backend, once for each of the two listeners."""

import os
from collections.abc import Iterator
from functools import partial

import pytest
from support.servers.containers import ContainerPostgres, ContainerRedis, sidecar
from support.servers.postgres_variants import PooledPostgres, SessionPooledPostgres
from support.servers.stack import ALL_SCOPES, ROOMY, Keys

from authz.demo.servers import PostgresServer
from authz.demo.stack import Stack


@pytest.fixture(scope="session", autouse=True)
def _pooler() -> Iterator[None]:
    """Put PgBouncer in front of every stack's Postgres, in the mode that TEST_POOLER names."""
    modes = {"transaction": PooledPostgres, "session": SessionPooledPostgres, "": PostgresServer}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("authz.demo.stack.PostgresServer", modes[os.environ.get("TEST_POOLER", "")])
        yield


@pytest.fixture(scope="session", autouse=True)
def _image(_pooler: None) -> Iterator[None]:
    """Run every stack's sidecars from the image that TEST_IMAGE names, and its stores in containers."""
    with pytest.MonkeyPatch.context() as patch:
        if image := os.environ.get("TEST_IMAGE"):
            patch.setattr("authz.demo.stack.RedisServer", ContainerRedis)
            patch.setattr("authz.demo.stack.PostgresServer", ContainerPostgres)
            patch.setattr("authz.demo.stack.SidecarServer", partial(sidecar, image))
        yield


@pytest.fixture(scope="session", params=[False, True], ids=["check-listener", "grpc-server"])
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    stack = Stack(ping_s=0.2, on_grpc=request.param, env={"AUTHZ_LAST_USE_INTERVAL_S": "0.5"})
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="session")
def keys(stack: Stack) -> Keys:
    return Keys(
        reader=stack.create_key("reader", "servers:read", limit=ROOMY).secret,
        all_scopes=stack.create_key("all", *ALL_SCOPES, limit=ROOMY).secret,
    )
