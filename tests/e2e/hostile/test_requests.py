"""Requests that are made to cost much: good keys go on as if nothing happened."""

from collections.abc import Iterator

import pytest
from support.clients.attackers import attacking
from support.good_key import GoodKey, compare
from support.servers.stack import ROOMY

from authz.demo.stack import Stack

pytestmark = [pytest.mark.timed, pytest.mark.timeout(180)]

ATTACKERS = 20
"""Each sends five requests a second."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    stack = Stack(env={"AUTHZ_REDIS_DEADLINE_S": "1", "AUTHZ_POSTGRES_DEADLINE_S": "1"})
    stack.start()
    yield stack
    stack.stop()


def test_a_hundred_costly_requests_a_second_cost_good_keys_nothing(stack: Stack) -> None:
    good = GoodKey(stack, stack.create_key("good", "servers:read", limit=ROOMY).secret)
    port = stack.url.rpartition(":")[2]
    compare(good, lambda: attacking(port, ("costly", ATTACKERS)))
