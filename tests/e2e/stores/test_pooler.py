"""The whole product behind PgBouncer in both modes: the tour is as without it, and a revoke is effective."""

from collections.abc import Iterator

import pytest
from rich.console import Console
from support.clients.raw_http import send
from support.servers.postgres_variants import PooledPostgres, SessionPooledPostgres
from support.servers.stack import ROOMY

from authz.core.accounts import AuditEvent
from authz.demo.servers import PostgresServer
from authz.demo.stack import Stack
from authz.demo.tour import walk


@pytest.fixture(scope="module", params=[PooledPostgres, SessionPooledPostgres], ids=["transaction", "session"])
def pooled(request: pytest.FixtureRequest) -> Iterator[Stack]:
    server: type[PostgresServer] = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("authz.demo.stack.PostgresServer", server)
        stack = Stack(portal=True)
    stack.start()
    yield stack
    stack.stop()


@pytest.mark.timeout(120)
def test_the_tour_is_all_green(pooled: Stack) -> None:
    assert walk(pooled, Console(quiet=True)) == 0


def test_a_revoke_is_effective_when_it_returns(pooled: Stack) -> None:
    made = pooled.create_key("pooled", "servers:read", limit=ROOMY)
    assert send(pooled.url, "GET", "/v1/servers", ("x-api-key", made.secret)).status == 200
    pooled.change_key(made.key.id, AuditEvent.KEY_REVOKED)
    assert send(pooled.url, "GET", "/v1/servers", ("x-api-key", made.secret)).status == 401
