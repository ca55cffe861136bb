"""The link in trouble: deadlines, hangs, crashes, promotions, and servers that are not the Redis to talk to."""

import asyncio
import time
from signal import SIGCONT, SIGSTOP
from typing import Any

import pytest
from support.contracts.redis_commands import (
    DEADLINE_S,
    ECHO,
    IN_FLIGHT_MAX,
    encode_command,
    send,
    started_link,
    wait_until_down,
    wait_until_up,
)
from support.fakes.redis import scripted_redis

from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.scripts import Script
from authz.core.errors import StoreUnavailable
from authz.demo.servers import RedisServer

PRIMARY = b"role:master\r\nmaster_replid:0123456789abcdef\r\n"
WRITE = Script(b"return redis.call('SET', KEYS[1], '1')")
NOWHERE = ("127.0.0.1", "1")


async def test_a_hang_is_an_answer_within_the_deadline(own_link: RedisLink, server: RedisServer) -> None:
    server.signal(SIGSTOP)
    started_s = time.monotonic()
    assert "within 50 ms" in str(await send(own_link, "PING"))
    assert DEADLINE_S * 0.9 < time.monotonic() - started_s < 0.2


async def test_every_write_has_a_deadline_of_its_own(own_link: RedisLink, server: RedisServer) -> None:
    server.signal(SIGSTOP)
    took_s = []
    for _ in range(3):
        started_s = time.monotonic()
        first = send(own_link, "PING")
        await asyncio.sleep(0.02)
        second = send(own_link, "PING")
        assert isinstance(await first, StoreUnavailable)
        assert not second.done()
        assert isinstance(await second, StoreUnavailable)
        took_s.append(time.monotonic() - started_s)
    assert max(took_s) < 0.2


async def test_late_replies_are_not_taken_for_others(own_link: RedisLink, server: RedisServer) -> None:
    server.signal(SIGSTOP)
    late = [await send(own_link, "ECHO", f"late-{number}") for number in range(3)]
    assert all(isinstance(reply, StoreUnavailable) for reply in late)
    waiting = [send(own_link, "ECHO", str(number)) for number in range(50)]
    await asyncio.sleep(0)
    server.signal(SIGCONT)
    assert await asyncio.gather(*waiting) == [str(number).encode() for number in range(50)]


async def test_a_long_hang_is_met_with_a_new_connection(own_link: RedisLink, server: RedisServer) -> None:
    assert own_link.reconnected_at_s is None
    server.signal(SIGSTOP)
    await send(own_link, "PING")
    await wait_until_down(own_link)
    started_s = time.monotonic()
    assert "not connected" in str(await send(own_link, "PING"))
    assert time.monotonic() - started_s < DEADLINE_S
    server.signal(SIGCONT)
    assert await wait_until_up(own_link) < 2
    assert own_link.reconnected_at_s is None  # the same data, and not away for long
    assert await send(own_link, "ECHO", "back") == b"back"


async def test_a_hang_is_noticed_without_any_request(own_link: RedisLink, server: RedisServer) -> None:
    server.signal(SIGSTOP)
    assert await wait_until_down(own_link) < 3


async def test_a_crash_is_an_answer_at_once_and_a_restart_is_another_epoch(
    own_link: RedisLink, server: RedisServer
) -> None:
    before = own_link.epoch
    server.signal(SIGSTOP)
    waiting = [send(own_link, "PING") for _ in range(10)]
    await asyncio.sleep(0)
    started_s = time.monotonic()
    server.kill()
    assert all("connection lost" in str(reply) for reply in await asyncio.gather(*waiting))
    assert time.monotonic() - started_s < DEADLINE_S
    assert (own_link.is_up, own_link.epoch) == (False, "")
    with pytest.raises(StoreUnavailable, match="not connected"):
        await own_link.call(ECHO, b"k", b"x")
    server.start()
    assert await wait_until_up(own_link) < 2
    assert own_link.epoch not in {"", before}
    assert await own_link.call(ECHO, b"k", b"back") == b"back"


async def test_a_command_during_the_end_of_the_connection_is_answered(own_link: RedisLink) -> None:
    loop, answers, faults = asyncio.get_running_loop(), [], []
    loop.set_exception_handler(lambda _loop, context: faults.append(context))

    def submit_again(times: int, value: Any) -> None:  # noqa: ANN401 -- any reply
        answers.append(value)
        if times:
            own_link.submit(encode_command("PING"), lambda value: submit_again(times - 1, value))
            loop.call_soon(own_link.submit, encode_command("PING"), answers.append)

    # The first reply makes the link drop the connection, so that the others ask in the turns in which it ends.
    own_link.submit(encode_command("EVAL", "return redis.error_reply('READONLY at all')", "0"), answers.append)
    own_link.submit(encode_command("PING"), lambda value: submit_again(5, value))
    async with asyncio.timeout(2):
        while len(answers) < 2 + 5 * 2:
            await asyncio.sleep(0)
    assert any(isinstance(answer, StoreUnavailable) for answer in answers)
    assert not faults


async def test_more_than_may_wait_is_refused_with_a_reason(own_link: RedisLink, server: RedisServer) -> None:
    server.signal(SIGSTOP)
    replies = await asyncio.gather(*(send(own_link, "PING") for _ in range(IN_FLIGHT_MAX + 10)))
    assert sum("too many commands" in str(reply) for reply in replies) == 10
    # What Redis still owes a reply takes up room, or a hang would be a queue without an end.
    assert "too many commands" in str(await send(own_link, "PING"))
    server.signal(SIGCONT)
    async with asyncio.timeout(2):
        while await send(own_link, "ECHO", "on") != b"on":
            await asyncio.sleep(0)


async def test_a_primary_that_is_demoted_is_left_until_it_is_promoted(own_link: RedisLink, server: RedisServer) -> None:
    before = own_link.epoch
    await send(own_link, "REPLICAOF", *NOWHERE)
    assert await wait_until_down(own_link) < 3
    async with started_link(server.url) as other:
        assert "not connected" in str(await send(other, "PING"))
        assert not other.reached.is_set()
        await execute(server, "REPLICAOF", "NO", "ONE")
        assert await wait_until_up(own_link) < 2
        assert own_link.epoch not in {"", before}
        await wait_until_up(other)
        assert other.epoch == own_link.epoch


async def test_a_script_that_meets_a_replica_leaves_it_at_once(own_link: RedisLink) -> None:
    await send(own_link, "REPLICAOF", *NOWHERE)
    with pytest.raises(StoreUnavailable, match="READONLY"):
        await own_link.call(WRITE, b"k")
    assert await wait_until_down(own_link) < 0.1


async def test_a_promotion_is_another_epoch_also_for_a_connection_that_lasts(own_link: RedisLink) -> None:
    before = own_link.epoch
    # Back again before anyone looked at the role.
    await asyncio.gather(send(own_link, "REPLICAOF", *NOWHERE), send(own_link, "REPLICAOF", "NO", "ONE"))
    async with asyncio.timeout(3):
        while own_link.epoch in {"", before}:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("info", [b"", b"role:master\r\n", b"\xff\xfe", b"role:master\r\nmaster_replid:?\r\n"])
async def test_a_server_without_a_readable_epoch_is_not_used(info: bytes) -> None:
    async with scripted_redis(info) as (fake, port), started_link(f"redis://127.0.0.1:{port}") as link:
        while len(fake.connected_at_s) < 3:
            await asyncio.sleep(0.005)
        assert not link.reached.is_set()
        fake.info = PRIMARY
        assert await wait_until_up(link) < 2


async def test_a_connection_that_breaks_at_once_is_not_made_again_at_once() -> None:
    async with scripted_redis(PRIMARY, hangs_up=True) as (fake, port), started_link(f"redis://127.0.0.1:{port}"):
        while len(fake.connected_at_s) < 8:
            await asyncio.sleep(0.005)
    # Half of 20, 40, 80, 160, 320 and 500 ms at the least.
    assert fake.connected_at_s[7] - fake.connected_at_s[0] > 0.5


async def test_a_connection_lost_while_it_is_taken_over_counts_as_lost(server: RedisServer) -> None:
    link = RedisLink(server.url, deadline_s=1, in_flight_max=10)
    connection, replication_id = await link._handshake.connect()  # noqa: SLF001 -- the moment cannot be met from outside
    assert connection._writer is not None  # noqa: SLF001 -- the same
    connection._writer.transport.abort()  # noqa: SLF001 -- the same
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    link._take_over(connection, replication_id)  # noqa: SLF001 -- the same
    assert not link.is_up
    assert isinstance(await send(link, "PING"), StoreUnavailable)


async def execute(server: RedisServer, *words: str) -> None:
    """Send a command over a separate connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(encode_command(*words))
    assert await reader.readline() == b"+OK\r\n"
    writer.close()
    await writer.wait_closed()
