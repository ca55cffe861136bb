"""Fixtures of the tests of the check listener: one over a socket whose checker allows, and a channel to it."""

from collections.abc import AsyncIterator

import grpc
import pytest
from support.fakes.allowing_checker import AllowingChecker, listener_on

from authz.edge.check.listener import CheckListener


@pytest.fixture
def checker() -> AllowingChecker:
    return AllowingChecker()


@pytest.fixture
async def listener(checker: AllowingChecker) -> AsyncIterator[CheckListener]:
    listener = listener_on(checker, "127.0.0.1:0")
    await listener.start()
    listener.serve_health(serving=True)
    yield listener
    await listener.stop(0)


@pytest.fixture
async def channel(listener: CheckListener) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}") as channel:
        yield channel
