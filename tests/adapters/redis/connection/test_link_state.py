"""What a link says of its server: faults on an open connection, lost data, and eviction."""

import asyncio
from collections.abc import Callable
from signal import SIGCONT, SIGSTOP

import pytest
from support.contracts.key_projections import connected_store
from support.contracts.redis_commands import DEADLINE_S, encode_command, send, started_link, wait_until_up
from support.servers.redis_cluster import Cluster

from authz.adapters.redis.connection.errors import OtherData
from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.scripts import Script
from authz.demo.servers import RedisServer

OTHER_DATA = Script(b"return redis.error_reply('OTHERDATA redis has lost its data')")


@pytest.fixture(autouse=True)
def _frequent_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let links ask their server ten times a second instead of once."""
    monkeypatch.setattr("authz.adapters.redis.connection.link._PROBE_INTERVAL_S", 0.1)
    monkeypatch.setattr("authz.adapters.redis.connection.primary.OneServer.watch_interval_s", 0.1)


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


@pytest.mark.parametrize("missing", [("-evalsha",), ("-get",), ("-setrange",), ("resetkeys", "~l:*", "~a:*")])
async def test_a_user_without_a_right_that_checks_need_is_a_fault_that_lasts(
    own_link: RedisLink, server: RedisServer, missing: tuple[str, ...]
) -> None:
    await own_link.ask("ACL", "SETUSER", "authz", "on", ">password", "~*", "+@all", *missing)
    async with started_link(server.url.replace("//", "//authz:password@")) as limited:
        await wait_until_up(limited)
        await eventually(lambda: limited.fault)
        for _ in range(5):  # what the user may do does not hide it
            assert await limited.ask("PING") == b"PONG"
            await asyncio.sleep(0)
        limited.read_clock()
        await eventually(lambda: limited.fault)
        await own_link.ask("ACL", "SETUSER", "authz", "~*", "+@all")
        await eventually(lambda: limited.fault == "")


async def test_an_endless_script_of_somebody_else_is_a_fault_until_it_is_killed(
    own_link: RedisLink, server: RedisServer
) -> None:
    await own_link.ask("CONFIG", "SET", "busy-reply-threshold", "20")
    own_link.submit(encode_command("EVAL", "while true do end", "0"), lambda _reply: None)
    await eventually(lambda: own_link.fault)
    async with started_link(server.url) as late:
        await eventually(lambda: "BUSY" in late.complaint)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(encode_command("SCRIPT", "KILL"))
        assert await reader.readline() == b"+OK\r\n"
        writer.close()
        await writer.wait_closed()
        await eventually(lambda: late.is_up and own_link.is_up and not own_link.fault)


async def test_a_trial_survives_forgotten_scripts_and_writes_nothing(own_link: RedisLink) -> None:
    await own_link.ask("SCRIPT", "FLUSH")
    await own_link.ask("CONFIG", "RESETSTAT")
    async with asyncio.timeout(4):
        while await own_link.ask("EXISTS", "l:data") and b"cmdstat_setrange:calls=3" not in await own_link.ask(
            "INFO", "commandstats"
        ):
            await asyncio.sleep(0.02)
    assert await own_link.ask("DBSIZE") == 1


async def test_a_full_node_of_a_cluster_is_a_fault_without_any_traffic(redis_cluster: Cluster) -> None:
    node = redis_cluster.primaries[1]
    async with connected_store(redis_cluster.url) as store:
        assert store.link.fault == ""
        node.execute("CONFIG", "SET", "maxmemory", "1")
        try:
            await eventually(lambda: "OOM" in store.link.fault)
        finally:
            node.execute("CONFIG", "SET", "maxmemory", "0")
        await eventually(lambda: store.link.fault == "")


async def test_a_server_that_answers_too_late_is_a_fault_until_it_answers_in_time(
    own_link: RedisLink, server: RedisServer
) -> None:
    server.signal(SIGSTOP)
    await send(own_link, "PING")
    assert own_link.fault == f"no answer within {DEADLINE_S * 1000:g} ms (AUTHZ_REDIS_DEADLINE_S)"
    server.signal(SIGCONT)
    await eventually(lambda: own_link.fault == "")


async def test_without_a_connection_that_is_the_fault(own_link: RedisLink, server: RedisServer) -> None:
    server.kill()
    await eventually(lambda: not own_link.is_up)
    assert own_link.fault == "not connected"


LOSSES = [("FLUSHALL",), ("DEL", "l:data"), ("SET", "l:data", "of an older snapshot")]


@pytest.mark.parametrize("loss", LOSSES)
async def test_lost_data_counts_as_a_reconnection_and_refuses_no_command(
    own_link: RedisLink, loss: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    before, connected_at_s = own_link.data_mark, own_link.connected_at_s
    assert before
    await own_link.ask(*loss)
    async with asyncio.timeout(3):
        while own_link.data_mark == before:
            assert await send(own_link, "ECHO", "there") == b"there"
    assert own_link.reconnected_at_s is not None
    assert own_link.data_mark == await own_link.ask("GET", "l:data")
    assert own_link.connected_at_s == connected_at_s
    assert caplog.text.count("redis has lost its data") == 1


async def test_a_script_that_meets_other_data_renews_the_mark_at_once(own_link: RedisLink) -> None:
    before = own_link.data_mark
    await own_link.ask("FLUSHALL")
    waiting = send(own_link, "ECHO", "there")
    with pytest.raises(OtherData):
        await own_link.call(OTHER_DATA, b"k")
    await own_link.marked()
    assert own_link.data_mark not in {b"", before}
    assert own_link.reconnected_at_s is not None
    assert await waiting == b"there"


async def test_a_mark_that_was_refused_is_written_when_the_server_accepts_writes(
    own_link: RedisLink, server: RedisServer
) -> None:
    await own_link.ask("FLUSHALL")
    await own_link.ask("CONFIG", "SET", "maxmemory", "1")
    async with started_link(server.url) as late:
        await wait_until_up(late)
        await eventually(lambda: own_link.reconnected_at_s is not None)
        await own_link.marked()
        assert await own_link.ask("GET", "l:data") is None
        assert late.data_mark == b""
        await own_link.ask("CONFIG", "SET", "maxmemory", "0")
        await eventually(lambda: late.data_mark == own_link.data_mark != b"")
        assert late.data_mark == await own_link.ask("GET", "l:data")


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
