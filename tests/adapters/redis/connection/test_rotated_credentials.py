"""A rotated password is read from its file for the next connection, whichever form the URL has."""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import redis
from support.contracts.key_lookups import put, record, start_take
from support.contracts.redis_commands import started_link, wait_until_up
from support.servers.redis_cluster import Cluster
from support.servers.redis_sentinel import NAME, Sentinels, SentinelServer

from authz.adapters.redis.connection.url import UrlSource
from authz.adapters.redis.store import redis_store
from authz.core.check import Take, TakeOutcome
from authz.core.errors import StoreUnavailable
from authz.demo.servers import RedisServer
from authz.settings import Settings

USER = "rotated"
WITHIN_S = 5


def of_file(file: Path, url: str) -> Callable[[], str]:
    """Return what reads the URL, as the sidecar does with AUTHZ_REDIS_URL_FILE."""
    file.write_text(f"{url}\n")
    return Settings(redis_url_file=file).reader("redis_url")


def rotate(ports: Sequence[int], password: str) -> None:
    """Replace the password of a user on some servers, and end its connections."""
    for port in ports:
        with redis.Redis(port=port) as client:
            client.execute_command("ACL", "SETUSER", USER, "on", "resetpass", f">{password}", "~*", "+@all")
            client.execute_command("CLIENT", "KILL", "USER", USER)


@pytest.mark.parametrize("form", ["server", "sentinel", "cluster"])
async def test_a_rotated_password_needs_no_restart(
    form: str,
    folder: Path,
    redis_url: str,
    redis_sentinels: Sentinels,
    redis_cluster: Cluster,
    caplog: pytest.LogCaptureFixture,
) -> None:
    urls = {"server": redis_url, "sentinel": redis_sentinels.url, "cluster": redis_cluster.url}
    servers = redis_sentinels.first, redis_sentinels.second
    ports = {
        "server": [int(redis_url.rpartition(":")[2].partition("/")[0])],
        "sentinel": [server.port for server in servers],
        "cluster": [node.port for node in redis_cluster.primaries],
    }[form]

    def url(password: str) -> str:
        return urls[form].replace("://", f"://{USER}:{password}@", 1)

    await asyncio.to_thread(rotate, ports, "former-1")
    reader = of_file(folder / "redis-url", url("former-1"))
    store = redis_store(reader, deadline_s=1, in_flight_max=100, negative_ttl_s=5)
    store.link.start()
    digest = os.urandom(32)
    try:
        async with asyncio.timeout(WITHIN_S):
            await store.link.reached.wait()
            await put(store.keys, digest, record())
        for password, is_file_first in (("later-2", False), ("last-3", True)):
            if is_file_first:
                (folder / "redis-url").write_text(url(password))
            await asyncio.to_thread(rotate, ports, password)
            if not is_file_first:
                await asyncio.sleep(0.1)
                assert isinstance(await start_take(store.keys, digest), StoreUnavailable)
                (folder / "redis-url").write_text(url(password))
            async with asyncio.timeout(WITHIN_S):
                while not isinstance(take := await start_take(store.keys, digest), Take):
                    await asyncio.sleep(0.02)
            assert take.outcome is TakeOutcome.GRANTED
    finally:
        await store.link.close()
    assert not any(password in caplog.text for password in ("former-1", "later-2", "last-3"))


async def test_requirepass_is_rotated_under_a_link(folder: Path) -> None:
    server = RedisServer(folder, 0, "--requirepass", "former")
    server.start()
    try:
        reader = of_file(folder / "redis-url", server.url.replace("//", "//:former@"))
        async with started_link(reader) as link:
            await link.reached.wait()
            with redis.Redis(port=server.port, password="former") as client:
                client.config_set("requirepass", "later")
                (folder / "redis-url").write_text(server.url.replace("//", "//:later@"))
                client.execute_command("CLIENT", "KILL", "TYPE", "normal")
            async with asyncio.timeout(WITHIN_S):
                await asyncio.sleep(0.05)
                await wait_until_up(link)
            assert await link.ask("PING") == b"PONG"
    finally:
        server.stop()


async def test_a_sentinel_with_another_password_is_asked_without_a_new_connection_to_the_server(
    server: RedisServer, folder: Path
) -> None:
    sentinel = SentinelServer(folder, 0, server.port, "requirepass former")
    sentinel.start_up()
    url = f"redis+sentinel://127.0.0.1:{sentinel.port}/{NAME}?sentinel_password="
    try:
        async with started_link(of_file(folder / "redis-url", f"{url}former")) as link:
            await link.reached.wait()
            connected_at_s = link.connected_at_s
            with redis.Redis(port=sentinel.port, password="former") as client:
                client.execute_command("ACL", "SETUSER", "default", "resetpass", ">later")
                client.execute_command("CLIENT", "KILL", "TYPE", "normal")
            await until(lambda: link._handshake.primary.trusted_until_s is None)  # noqa: SLF001 -- nobody answers
            (folder / "redis-url").write_text(f"{url}later")
            await until(lambda: link._handshake.primary.trusted_until_s is not None)  # noqa: SLF001 -- the same
            assert link.connected_at_s == connected_at_s
    finally:
        sentinel.kill()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not holds():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("redis://:hunter2@[::1:7/0", "is no URL of a Redis"),
        ("redis+cluster://:hunter2@127.0.0.1:1", "another form of URL needs a restart"),
        (None, "cannot be read: FileNotFoundError"),
        (b"redis://:hunter2\xff@127.0.0.1:1", "cannot be read: UnicodeDecodeError"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_without_its_text(folder: Path, text: str | bytes | None, why: str) -> None:
    file = folder / "redis-url"
    source = UrlSource(of_file(file, "redis://127.0.0.1:1/0"))
    assert not source.renew()
    if text is None:
        file.unlink()
    else:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(StoreUnavailable, match=why) as raised:
        source.renew()
    assert "hunter2" not in str(raised.value)
    file.write_text("redis://:hunter2@127.0.0.1:2/0")
    assert source.renew()
    assert "hunter2" not in repr(source.url)
