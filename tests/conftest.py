"""The servers that tests run against: containers where a Docker engine answers, packaged ones elsewhere.

Tests that kill or stop a server bring their own packaged one, since they need its process.
"""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import hypothesis
import pytest
from support.clients.golden_terminal import Goldens
from support.observability.exposition import assert_valid, assert_within_limits
from support.servers.containers import POSTGRES_IMAGE, REDIS_IMAGE
from support.servers.postgres import migrated_database
from support.servers.redis_cluster import Cluster, cluster
from support.servers.redis_sentinel import Sentinels, sentinels
from testcontainers.community.postgres import PostgresContainer
from testcontainers.community.redis import RedisContainer

from authz.demo.servers import PostgresServer, RedisServer, Server, redis_binary
from authz.demo.stack import Stack

# Machines are shared, so the duration of one example proves nothing. Each test has a time limit by kind.
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")

# Tests with the `server` marker start real servers: those below these paths, and those that use one of these fixtures.
# Elsewhere a test that starts servers by itself sets the marker itself.
SERVER_PATHS = (
    "adapters/postgres/",
    "adapters/redis/",
    "bench/",
    "cli/doctor/test_stores.py",
    "cli/test_top.py",
    "client/test_contract.py",
    "contracts/",
    "demo/",
    "e2e/",
    "portal/test_process.py",
)
SERVER_FIXTURES = {"postgres_url", "portal_stack", "redis_cluster", "redis_sentinels", "redis_url", "server", "stack"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-goldens", action="store_true", help="Write tests/data/terminal/ from what commands show.")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what starts servers."""
    path = item.path.relative_to(Path(__file__).parent).as_posix()
    if path.startswith(SERVER_PATHS) or SERVER_FIXTURES & set(getattr(item, "fixturenames", ())):
        item.add_marker(pytest.mark.server)


def pytest_report_header() -> str:
    """Name the server that the tests of Redis run against."""
    version = subprocess.run([redis_binary(), "--version"], capture_output=True, text=True, check=True).stdout
    return version.strip()


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to start servers where they were excluded: a missing marker is an error."""
    if "not server" in config.option.markexpr:

        def refuse(self: Server, _is_ready: object = None) -> None:
            raise RuntimeError(f"a test without the marker `server` starts {self.name}")

        Server.start = refuse  # type: ignore[assignment, method-assign]


# A limit ends a test that hangs; idle, the slowest of each kind takes less than a third. So a busy machine has enough
# time; parallel workers share the cores and have more. Limits hold for the test's function (`timeout_func_only`): one
# that ended while a worker sends its report would end the run.
PARALLEL_FACTOR = 3 if "PYTEST_XDIST_WORKER" in os.environ else 1
TIME_LIMIT_S = 20
TIME_LIMITS_S = {
    "bench": 60,
    "e2e": 60,
    "demo": 60,
    "client/test_contract.py": 60,
    "cli/test_policy_import.py": 60,  # policies of a thousand rows
    "edge/h2/test_exchange.py": 60,  # thousands of generated conversations
}
_TESTS = Path(__file__).parent


def time_limit_s(path: Path) -> int:
    """Return the limit of a test file below `tests/`, in seconds."""
    names = path.relative_to(_TESTS).parts
    folders = ["/".join(names[:count]) for count in range(len(names), 0, -1)]
    return next((TIME_LIMITS_S[folder] for folder in folders if folder in TIME_LIMITS_S), TIME_LIMIT_S)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the files, and set the time limits unless the command line sets one for all.

    The files that take longest come first, so that no parallel worker is left alone with one of them at the end.
    """
    items.sort(key=lambda item: ("e2e" not in item.path.parts, item.get_closest_marker("server") is None))
    if config.getoption("timeout") is not None:
        return
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(time_limit_s(item.path) * PARALLEL_FACTOR, func_only=True))


@cache
def docker_answers() -> bool:
    client = shutil.which("docker")
    return client is not None and subprocess.run([client, "info"], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A folder with a path short enough for unix sockets."""
    folder = Path(tempfile.mkdtemp(prefix="authz-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of a test's own, outside of pytest's, whose permissions every other run of pytest sets anew."""
    folder = Path(tempfile.mkdtemp(prefix="authz-test-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def goldens(pytestconfig: pytest.Config) -> Goldens:
    """What commands show, in files."""
    return Goldens(is_written=bool(pytestconfig.getoption("--write-goldens")))


@pytest.fixture(scope="session")
def redis_url(scratch: Path) -> Iterator[str]:
    if docker_answers():
        with RedisContainer(REDIS_IMAGE) as container:
            yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"
        return
    server = RedisServer(scratch)
    server.start()
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def redis_sentinels(scratch: Path) -> Iterator[Sentinels]:
    """A primary, its replica and three sentinels, always packaged ones; tests may order failovers."""
    (scratch / "sentinels").mkdir()
    with sentinels(scratch / "sentinels") as watched:
        yield watched


@pytest.fixture(scope="session")
def redis_cluster(scratch: Path) -> Iterator[Cluster]:
    """A cluster of three, always packaged ones; tests may start new epochs in it."""
    (scratch / "cluster").mkdir()
    with cluster(scratch / "cluster") as made:
        yield made


@pytest.fixture(scope="session")
def postgres_url(scratch: Path) -> Iterator[str]:
    if docker_answers():
        with PostgresContainer(POSTGRES_IMAGE, driver=None) as container:
            yield container.get_connection_url()
        return
    server = PostgresServer(scratch)
    server.start()
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def portal_database_url(postgres_url: str) -> str:
    """A database with the schema, for all tests of the portal."""
    return asyncio.run(migrated_database(postgres_url, "portal_tests"))


@pytest.fixture(scope="session")
def portal_stack() -> Iterator[Stack]:
    """The stack with the portal in it, and Envoy's routes to it. After all tests its series are within their limits."""
    stack = Stack(portal=True, env={"AUTHZ_LAST_USE_INTERVAL_S": "0.5"})
    stack.start()
    try:
        yield stack
        assert_within_limits(stack.admin_url)
        assert_valid(stack.portal_admin_url)
    finally:
        stack.stop()
