"""The servers that tests run against: containers where a Docker engine answers, packaged ones elsewhere."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from authz.demo.servers import PostgresServer, RedisServer


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A folder with a path short enough for unix sockets."""
    folder = Path(tempfile.mkdtemp(prefix="authz-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_url(scratch: Path) -> Iterator[str]:
    server = RedisServer(scratch)
    server.start()
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def postgres_url(scratch: Path) -> Iterator[str]:
    server = PostgresServer(scratch)
    server.start()
    yield server.url
    server.stop()
