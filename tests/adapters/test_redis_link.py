"""One connection, kept up: deadlines, order, hangs, crashes, and what happens to those who wait."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Any

import hiredis
import pytest

from authz.adapters.redis_link import RedisLink, Script
from authz.core.errors import StoreUnavailable
from authz.demo.servers import RedisServer

ECHO = Script(b"return ARGV[1]")
DEADLINE_S = 0.05


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.signal(SIGCONT)
    server.stop()


@pytest.fixture
async def link(server: RedisServer) -> AsyncIterator[RedisLink]:
    link = RedisLink(server.url, deadline_s=DEADLINE_S, in_flight_max=2000, scripts=(ECHO,))
    link.start()
    await link.reached.wait()
    yield link
    await link.close()


def asked(link: RedisLink, *words: bytes | str) -> asyncio.Future[Any]:
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    link.submit(hiredis.pack_command(words), answer.set_result)  # type: ignore[arg-type]
    return answer


async def until_up(link: RedisLink) -> float:
    started_s = time.monotonic()
    while not link.is_up:
        await asyncio.sleep(0.005)
    return time.monotonic() - started_s


async def test_replies_reach_those_who_asked(link: RedisLink) -> None:
    replies = await asyncio.gather(*(asked(link, "ECHO", str(number)) for number in range(1000)))
    assert replies == [str(number).encode() for number in range(1000)]


async def test_what_is_asked_in_one_turn_leaves_in_one_write(link: RedisLink, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []
    transport = link._pipe._transport  # type: ignore[union-attr]  # noqa: SLF001 -- counting writes

    class Counting:
        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- a transport
            return getattr(transport, name)

        def write(self, data: bytes) -> None:
            writes.append(data)
            transport.write(data)

    monkeypatch.setattr(link._pipe, "_transport", Counting())  # noqa: SLF001 -- counting writes
    await asyncio.gather(*(asked(link, "PING") for _ in range(500)))
    assert len(writes) == 1


async def test_an_error_reply_is_a_value_for_one_and_an_exception_for_the_other(link: RedisLink) -> None:
    assert isinstance(await asked(link, "NOSUCHCOMMAND"), hiredis.ReplyError)
    with pytest.raises(StoreUnavailable, match="wrong"):
        await link.call(Script(b"return redis.error_reply('wrong')"), b"k")


async def test_a_script_that_redis_forgot_runs_once_all_the_same(link: RedisLink) -> None:
    await asked(link, "SCRIPT", "FLUSH")
    count = Script(b"return redis.call('INCR', KEYS[1])")
    assert await link.call(count, b"counter") == 1
    assert await link.call(count, b"counter") == 2


async def test_a_caller_that_breaks_costs_nobody_else_an_answer(link: RedisLink) -> None:
    def breaks(_value: object) -> None:
        raise RuntimeError("a caller's own fault")

    link.submit(hiredis.pack_command(("PING",)), breaks)
    assert await asked(link, "ECHO", "after") == b"after"


async def test_a_caller_that_left_costs_nobody_else_an_answer(link: RedisLink) -> None:
    call = asyncio.create_task(link.call(ECHO, b"k", b"gone"))
    await asyncio.sleep(0)
    call.cancel()
    assert await link.call(ECHO, b"k", b"here") == b"here"


async def test_a_hang_is_an_answer_within_the_deadline(link: RedisLink, server: RedisServer) -> None:
    server.signal(SIGSTOP)
    started_s = time.monotonic()
    reply = await asked(link, "PING")
    assert isinstance(reply, StoreUnavailable)
    assert time.monotonic() - started_s < 0.2


async def test_late_replies_are_not_taken_for_others(link: RedisLink, server: RedisServer) -> None:
    server.signal(SIGSTOP)
    late = [await asked(link, "ECHO", f"late-{number}") for number in range(3)]
    assert all(isinstance(reply, StoreUnavailable) for reply in late)
    server.signal(SIGCONT)
    await until_up(link)
    replies = await asyncio.gather(*(asked(link, "ECHO", str(number)) for number in range(50)))
    assert replies == [str(number).encode() for number in range(50)]


async def test_a_long_hang_is_met_with_a_new_connection(link: RedisLink, server: RedisServer) -> None:
    server.signal(SIGSTOP)
    await asked(link, "PING")
    while link.is_up:
        await asyncio.sleep(0.01)
    started_s = time.monotonic()
    assert isinstance(await asked(link, "PING"), StoreUnavailable)
    assert time.monotonic() - started_s < DEADLINE_S
    server.signal(SIGCONT)
    assert await until_up(link) < 2
    assert await asked(link, "ECHO", "back") == b"back"


async def test_a_crash_is_an_answer_at_once_and_a_restart_is_another_epoch(
    link: RedisLink, server: RedisServer
) -> None:
    before = link.epoch
    server.signal(SIGSTOP)
    waiting = [asked(link, "PING") for _ in range(10)]
    await asyncio.sleep(0)
    server.kill()
    assert all(isinstance(reply, StoreUnavailable) for reply in await asyncio.gather(*waiting))
    while link.is_up:
        await asyncio.sleep(0.005)
    assert link.epoch == ""
    with pytest.raises(StoreUnavailable, match="not connected"):
        await link.call(ECHO, b"k", b"x")
    server.start()
    assert await until_up(link) < 2
    assert link.epoch not in {"", before}
    assert await link.call(ECHO, b"k", b"back") == b"back"


async def test_more_than_may_wait_is_refused_with_a_reason(link: RedisLink, server: RedisServer) -> None:
    server.signal(SIGSTOP)
    replies = await asyncio.gather(*(asked(link, "PING") for _ in range(2010)))
    refused = [reply for reply in replies if "too many commands" in str(reply)]
    assert len(refused) == 10
    server.signal(SIGCONT)
    await until_up(link)
    # What was given up on still counts until Redis has answered it.
    while isinstance(reply := await asked(link, "ECHO", "on"), StoreUnavailable):
        pass
    assert reply == b"on"


async def test_a_server_that_is_not_the_one_any_more_is_left(link: RedisLink) -> None:
    with pytest.raises(StoreUnavailable, match="READONLY"):
        await link.call(Script(b"return redis.error_reply('READONLY You can not write against a replica')"), b"k")
    while link.is_up:
        await asyncio.sleep(0)
    assert await until_up(link) < 2


async def test_a_wrong_password_is_named_without_the_password(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, 0, "--requirepass", "right")
    server.start()
    try:
        link = RedisLink(
            server.url.replace("redis://", "redis://:hunter2@"), deadline_s=1, in_flight_max=10, scripts=(ECHO,)
        )
        with pytest.raises(StoreUnavailable) as raised:
            await link._connect()  # noqa: SLF001 -- one attempt, without the loop around it
        assert not raised.value.transient
        assert "hunter2" not in str(raised.value)
        good = RedisLink(server.url.replace("redis://", "redis://:right@"), deadline_s=1, in_flight_max=10)
        good.start()
        await good.reached.wait()
        assert await asked(good, "PING") == b"PONG"
        await good.close()
    finally:
        server.stop()


async def test_a_link_that_never_connected_closes(tmp_path: Path) -> None:
    link = RedisLink(f"unix://{tmp_path}/none.sock", deadline_s=1, in_flight_max=10)
    link.start()
    assert isinstance(await asked(link, "PING"), StoreUnavailable)
    await link.close()
    assert not link.is_up


async def test_what_is_asked_while_the_connection_ends_is_answered(link: RedisLink, server: RedisServer) -> None:
    late: list[asyncio.Future[Any]] = []

    def ask_again(_refusal: object) -> None:
        late.append(asked(link, "PING"))

    server.signal(SIGSTOP)
    link.submit(hiredis.pack_command(("PING",)), ask_again)
    await asyncio.sleep(0)
    server.kill()
    while not late:
        await asyncio.sleep(0)
    assert isinstance(await late[0], StoreUnavailable)


async def test_a_server_that_became_a_replica_is_left(link: RedisLink) -> None:
    assert await asked(link, "REPLICAOF", "127.0.0.1", "1") == b"OK"
    while link.is_up:
        await asyncio.sleep(0.01)
    with pytest.raises(StoreUnavailable, match="not a primary"):
        await link._connect()  # noqa: SLF001 -- one attempt, without the loop around it


async def test_a_promotion_is_another_epoch(link: RedisLink) -> None:
    before = link.epoch
    await asked(link, "REPLICAOF", "127.0.0.1", "1")
    await asked(link, "REPLICAOF", "NO", "ONE")
    while link.epoch in {"", before}:
        await asyncio.sleep(0.01)
    assert await asked(link, "PING") == b"PONG"
