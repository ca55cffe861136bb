"""What a link says of its server: faults on an open connection, lost data, and eviction."""

import asyncio
from collections.abc import Callable
from signal import SIGCONT, SIGSTOP

import pytest
from support.contracts.redis_commands import DEADLINE_S, send, started_link, wait_until_up

from authz.adapters.redis.connection.link import RedisLink, Script
from authz.demo.servers import RedisServer

WRITE = Script(b"return redis.call('SET', KEYS[1], '1')")


async def eventually(holds: Callable[[], object], within_s: float = 3) -> None:
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("fault", "refuse", "accept"),
    [
        ("OOM", ("maxmemory", "1"), ("maxmemory", "0")),
        ("NOREPLICAS", ("min-replicas-to-write", "1"), ("min-replicas-to-write", "0")),
    ],
)
async def test_a_server_that_refuses_writes_is_a_fault_without_any_traffic(
    own_link: RedisLink, fault: str, refuse: tuple[str, str], accept: tuple[str, str]
) -> None:
    assert own_link.fault == ""
    await own_link.ask("CONFIG", "SET", *refuse)
    await eventually(lambda: fault in own_link.fault)
    assert own_link.is_up
    await own_link.ask("CONFIG", "SET", *accept)
    await eventually(lambda: own_link.fault == "")


async def test_a_server_that_answers_too_late_is_a_fault_until_it_answers_in_time(
    own_link: RedisLink, server: RedisServer
) -> None:
    server.signal(SIGSTOP)
    await send(own_link, "PING")
    assert own_link.fault == f"no answer within {DEADLINE_S * 1000:g} ms"
    server.signal(SIGCONT)
    await eventually(lambda: own_link.fault == "")


async def test_without_a_connection_that_is_the_fault(own_link: RedisLink, server: RedisServer) -> None:
    server.kill()
    await eventually(lambda: not own_link.is_up)
    assert own_link.fault == "not connected"


@pytest.mark.parametrize("loss", [("FLUSHALL",), ("DEL", "l:data"), ("SET", "l:data", "of an older snapshot")])
async def test_lost_data_counts_as_a_reconnection(own_link: RedisLink, loss: tuple[str, ...]) -> None:
    before = own_link.data_mark
    assert before
    await own_link.ask(*loss)
    await eventually(lambda: own_link.reconnected_at_s is not None)
    await wait_until_up(own_link)
    assert own_link.data_mark not in {b"", before}


async def test_all_links_to_the_same_data_have_the_same_mark(own_link: RedisLink, server: RedisServer) -> None:
    async with started_link(server.url) as other:
        await wait_until_up(other)
        assert other.data_mark == own_link.data_mark != b""


async def test_a_short_loss_of_the_connection_is_no_loss_of_data(own_link: RedisLink) -> None:
    before = own_link.connected_at_s
    own_link.submit(b"*1\r\n$4\r\nQUIT\r\n", lambda _reply: None)
    await eventually(lambda: own_link.connected_at_s != before)
    assert own_link.reconnected_at_s is None


async def test_a_long_outage_may_have_lost_what_was_kept_alive(
    own_link: RedisLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authz.adapters.redis.connection.link.SHORT_OUTAGE_S", 0.0)
    own_link.submit(b"*1\r\n$4\r\nQUIT\r\n", lambda _reply: None)
    await eventually(lambda: own_link.reconnected_at_s is not None)


async def test_eviction_is_known_where_there_is_a_memory_limit(
    own_link: RedisLink, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    await own_link.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    async with started_link(server.url) as unlimited:
        await wait_until_up(unlimited)
        assert unlimited.memory_policy == ""
    await own_link.ask("CONFIG", "SET", "maxmemory", "1gb")
    async with started_link(server.url) as limited:
        await wait_until_up(limited)
        assert limited.memory_policy == "allkeys-lru"
    assert "redis evicts keys" in caplog.text


async def test_a_link_that_is_closed_reports_no_loss(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async with started_link(server.url) as link:
        await wait_until_up(link)
    assert "connection lost" not in caplog.text


async def test_a_reply_that_arrived_during_a_stall_of_this_process_is_in_time(own_link: RedisLink) -> None:
    reply = send(own_link, "ECHO", "there")
    await asyncio.sleep(0)
    stalled_until = asyncio.get_running_loop().time() + 2 * DEADLINE_S
    while asyncio.get_running_loop().time() < stalled_until:
        pass
    assert await reply == b"there"
