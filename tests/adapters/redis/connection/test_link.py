"""The link at work: how it is set up, order, batches, scripts, and callers that break or leave."""

import asyncio
import re
from pathlib import Path
from signal import SIGSTOP

import hiredis
import pytest
from support.contracts.redis_commands import ECHO, encode_command, send, started_link
from support.fakes.redis import tls_proxy

from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.pipe import Pipe
from authz.adapters.redis.connection.scripts import Script
from authz.adapters.redis.connection.slots import find_layout
from authz.adapters.redis.connection.url import read_url
from authz.core.errors import StoreUnavailable
from authz.demo.servers import RedisServer

COUNT = Script(b"return redis.call('INCR', KEYS[1])")


async def test_each_reply_goes_to_its_own_command(own_link: RedisLink) -> None:
    replies = await asyncio.gather(*(send(own_link, "ECHO", str(number)) for number in range(1000)))
    assert replies == [str(number).encode() for number in range(1000)]


async def test_commands_of_one_loop_turn_leave_in_one_write(link: RedisLink, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []
    transport = link._pipe._transport  # type: ignore[union-attr]  # noqa: SLF001 -- counting writes

    class Counting:
        def write(self, data: bytes) -> None:
            writes.append(data)
            transport.write(data)

    monkeypatch.setattr(link._pipe, "_transport", Counting())  # noqa: SLF001 -- counting writes
    replies = await asyncio.gather(*(send(link, "PING") for _ in range(10_000)))
    assert replies == [b"PONG"] * 10_000
    assert sum(b"PING" in data for data in writes) == 1  # a probe may be another


async def test_an_error_reply_is_a_value_for_one_and_an_exception_for_the_other(own_link: RedisLink) -> None:
    assert isinstance(await send(own_link, "NOSUCHCOMMAND"), hiredis.ReplyError)
    with pytest.raises(StoreUnavailable, match="wrong"):
        await own_link.call(Script(b"return redis.error_reply('wrong')"), b"k")


async def test_scripts_that_redis_forgot_are_sent_once_and_run_once_each(own_link: RedisLink) -> None:
    assert await own_link.call(COUNT, b"counter") == 1
    await send(own_link, "SCRIPT", "FLUSH")
    await send(own_link, "CONFIG", "RESETSTAT")
    assert sorted(await asyncio.gather(*(own_link.call(COUNT, b"counter") for _ in range(200)))) == [*range(2, 202)]
    statistics = (await send(own_link, "INFO", "commandstats")).decode()
    assert re.search(r"cmdstat_script(\|load)?:calls=1,", statistics)


async def test_a_script_is_sent_once_however_the_replies_arrive(own_link: RedisLink) -> None:
    """The second read of the socket holds refusals that are older than the answer to the load, and that answer too."""
    pipe: Pipe = own_link._pipe  # type: ignore[assignment]  # noqa: SLF001 -- between the socket and the pipe
    held = bytearray()
    reads: list[bytes] = []

    class HoldingBack(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            held.extend(data)
            at = held.index(b"\n") + 1 if not reads else len(held)
            if len(reads) != 1 or COUNT.sha.encode() in held:
                reads.append(bytes(held[:at]))
                del held[:at]
                pipe.data_received(reads[-1])

        def connection_lost(self, exc: Exception | None) -> None:
            pipe.connection_lost(exc)

    await send(own_link, "SCRIPT", "FLUSH")
    pipe._transport.set_protocol(HoldingBack())  # noqa: SLF001 -- between the socket and the pipe
    assert sorted(await asyncio.gather(*(own_link.call(COUNT, b"parted") for _ in range(200)))) == [*range(1, 201)]
    assert [read.count(b"NOSCRIPT") for read in reads[:2]] == [1, 199]
    assert b"".join(reads).count(COUNT.sha.encode()) == 1


async def test_a_caller_that_breaks_costs_nobody_else_an_answer(own_link: RedisLink) -> None:
    def breaks(_value: object) -> None:
        raise RuntimeError("a caller's own fault")

    own_link.submit(encode_command("PING"), breaks)
    assert await send(own_link, "ECHO", "after") == b"after"


async def test_a_caller_that_left_costs_nobody_else_an_answer(own_link: RedisLink) -> None:
    call = asyncio.create_task(own_link.call(ECHO, b"k", b"gone"))
    await asyncio.sleep(0)
    call.cancel()
    assert await own_link.call(ECHO, b"k", b"here") == b"here"


async def test_a_command_to_a_closed_link_is_answered(server: RedisServer) -> None:
    async with started_link(server.url) as link:
        await link.reached.wait()
        waiting = send(link, "PING")
    assert waiting.done()
    assert isinstance(await send(link, "PING"), StoreUnavailable)


async def test_a_link_closes_at_whatever_moment_of_its_set_up(server: RedisServer) -> None:
    for turns in range(30):
        async with asyncio.timeout(1), started_link(server.url) as link:
            for _ in range(turns):
                await asyncio.sleep(0)
        assert not link.is_up


async def test_a_link_that_never_connected_closes(folder: Path) -> None:
    async with started_link(f"unix://{folder}/none.sock") as link:
        assert isinstance(await send(link, "PING"), StoreUnavailable)
    assert not link.is_up


async def test_user_database_and_name_are_set_up(server: RedisServer) -> None:
    async with started_link(server.url) as admin:
        await admin.reached.wait()
        await send(admin, "ACL", "SETUSER", "sidecar", "on", ">right", "~*", "+@all")
        async with started_link(server.url.replace("//", "//sidecar:right@").replace("/0", "/3")) as link:
            await link.reached.wait()
            assert await send(link, "ACL", "WHOAMI") == b"sidecar"
            assert await send(link, "CLIENT", "GETNAME") == b"authz"
            await send(link, "SET", "here", "1")
        await send(admin, "SELECT", "3")
        assert await send(admin, "GET", "here") == b"1"


async def test_a_wrong_password_is_named_without_the_password(folder: Path) -> None:
    server = RedisServer(folder, 0, "--requirepass", "right")
    server.start()
    try:
        link = RedisLink(server.url.replace("//", "//:hunter2@"), deadline_s=1, in_flight_max=10)
        with pytest.raises(StoreUnavailable) as raised:
            await link._handshake.connect()  # noqa: SLF001 -- one attempt, without the loop around it
        assert not raised.value.transient
        assert "hunter2" not in str(raised.value)
    finally:
        server.stop()


@pytest.mark.parametrize("url", ["redis://authz:hunter2@{}/0", "redis+sentinel://{}/main?sentinel_password=hunter2"])
async def test_a_server_without_passwords_is_named_without_the_password(folder: Path, url: str) -> None:
    server = RedisServer(folder, 0, "--rename-command", "AUTH", "")
    server.start()
    try:
        link = RedisLink(url.format(f"127.0.0.1:{server.port}"), deadline_s=1, in_flight_max=10)
        with pytest.raises(StoreUnavailable, match=r"unknown command .AUTH.$"):
            await link._handshake.connect()  # noqa: SLF001 -- one attempt, without the loop around it
        with pytest.raises(StoreUnavailable, match=r"unknown command .AUTH.$"):
            await find_layout(read_url(f"redis+cluster://:hunter2@127.0.0.1:{server.port}"), {})
    finally:
        server.stop()


async def test_a_unix_socket_serves(folder: Path) -> None:
    server = RedisServer(folder, 0, "--unixsocket", str(folder / "redis.sock"))
    server.start()
    try:
        async with started_link(f"unix://{folder}/redis.sock") as link:
            await link.reached.wait()
            assert await link.call(ECHO, b"k", b"through a socket") == b"through a socket"
    finally:
        server.stop()


async def test_tls_serves_and_its_end_is_noticed(server: RedisServer) -> None:
    async with tls_proxy(server.url) as url, started_link(url) as link:
        await link.reached.wait()
        assert await link.call(ECHO, b"k", b"x" * 100_000) == b"x" * 100_000
        server.signal(SIGSTOP)
        waiting = send(link, "PING")
        await asyncio.sleep(0)
        server.kill()
        assert "connection lost" in str(await waiting)


async def test_a_certificate_of_another_is_not_accepted(server: RedisServer) -> None:
    async with tls_proxy(server.url) as url:
        link = RedisLink(url.partition("?")[0], deadline_s=1, in_flight_max=10)
        with pytest.raises(StoreUnavailable, match="certificate"):
            await link._handshake.connect()  # noqa: SLF001 -- one attempt, without the loop around it
