"""Do two releases work together on one Redis and one Postgres? Every use case, done by either and seen by both.

The other release is a commit of this repository, taken into a folder of its own and run with the packages of this one.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import grpc
import redis

from authz._pb.base_pb2 import HeaderMap
from authz._pb.check_pb2 import CheckRequest, CheckResponse
from authz.demo.servers import PostgresServer, RedisServer, Server, free_port
from authz.edge.check.messages import SERVICE

ROOT = Path(__file__).parents[2]
_SETTLED_S = 5.0
_STREAM = "/v1/servers/s1/logs/stream"
_PER_KEY = 3  # streams of the shipped policy


class Release:
    """One release: its tree, its sidecar, and its command, on stores that both share."""

    def __init__(self, name: str, tree: Path, folder: Path, stores: dict[str, str]) -> None:
        self.name = name
        self.account_id = self.key_id = ""  # of the key that was created last
        self._port, self._admin_port = free_port(), free_port()
        self._environment = {
            **stores,
            "PYTHONPATH": str(tree),
            "AUTHZ_POLICY_FILE": str(tree / "policies/truetick.yaml"),
            "AUTHZ_CHECK_LISTEN": f"127.0.0.1:{self._port}",
            "AUTHZ_ADMIN_LISTEN": f"127.0.0.1:{self._admin_port}",
            "AUTHZ_DRAIN_DELAY_S": "0",
        }
        self._tree = tree
        command = [sys.executable, "-P", "-m", "authz", "serve"]
        self.sidecar = Server(f"sidecar of {name}", command, folder / f"{name}.log", env=self._environment)

    def start(self) -> None:
        self.sidecar.start(self._is_ready)

    def _is_ready(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self._admin_port}/readyz", timeout=1):
            return True
        return False

    def run(self, *arguments: str) -> str:
        """Run one command of the release and return what it prints; ends the test where it fails."""
        command = [sys.executable, "-P", "-m", "authz", *arguments]
        ended = subprocess.run(
            command,
            env={"PATH": "/usr/bin:/bin", **self._environment},
            cwd=self._tree,
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            raise Failed(f"authz {' '.join(arguments[:2])} of {self.name}: {ended.stderr.strip()[-300:]}")
        return ended.stdout + ended.stderr

    def check(self, key: str, path: str = "/v1/servers") -> str:
        """Return the code of one check, in lower case."""
        request = CheckRequest()
        http = request.attributes.request.http
        http.method, http.path = "GET", path
        http.id = str(time.monotonic_ns())
        headers = HeaderMap()
        for name, value in (("x-api-key", key), ("x-request-id", http.id)):
            headers.headers.add(key=name, raw_value=value.encode())
        http.header_map = headers.SerializeToString()
        with grpc.insecure_channel(f"127.0.0.1:{self._port}") as channel:
            call = channel.unary_unary(
                f"/{SERVICE}/Check",
                request_serializer=CheckRequest.SerializeToString,
                response_deserializer=CheckResponse.FromString,
            )
            code = call(request, timeout=5).status.code
        return next(str(each.name).lower() for each in grpc.StatusCode if each.value[0] == code)


class Failed(Exception):  # noqa: N818 -- named for what happened
    """What does not work between the two."""


def main() -> None:
    """Run every step, print a line for each, and exit with 1 if one failed."""
    parser = argparse.ArgumentParser(description="Run two releases on the same stores.")
    parser.add_argument("--old", default="", help="the commit or tag of the older release; the newest tag by default")
    old = parser.parse_args().old or _git("describe", "--tags", "--abbrev=0").decode().strip()
    with tempfile.TemporaryDirectory(prefix="authz-two-") as name, stores(Path(name)) as (urls, server):
        folder = Path(name)
        tree = folder / "old"
        tree.mkdir()
        subprocess.run(["tar", "-x", "-C", tree], input=_git("archive", old), check=True)  # noqa: S607 -- from PATH
        older, newer = Release("old", tree, folder, urls), Release("new", ROOT, folder, urls)
        _say(f"old: {old}, {_git('log', '-1', '--format=%h', old).decode().strip()}; new: this tree")
        try:
            failed = [title for title, step in steps(older, newer, server) if not _works(title, step)]
        finally:
            for release in (older, newer):
                release.sidecar.stop()
    sys.exit(1 if failed else 0)


def steps(old: Release, new: Release, server: redis.Redis) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield the title of each step and what performs it."""
    yield "the old release migrates and serves; the new one migrates over it", partial(_migrated, old, new)
    for by in (old, new):
        yield (
            f"a key that {by.name} creates passes in both, and is refused in both after {by.name} revokes it",
            partial(_key, by, old, new),
        )
        yield (
            f"an account that {by.name} suspends is refused in both, and passes after the other reinstates it",
            partial(_account, by, new if by is old else old, old, new),
        )
    yield "one limit counts the checks of both", partial(_limit, old, new)
    yield "the cap on streams counts the streams of both", partial(_streams, old, new)
    yield "after Redis lost everything, both load the same keys again", partial(_flushed, old, new, server)
    yield (
        "the old release starts again on the new schema (a rollback), and passes what new created",
        partial(_rolled_back, old, new),
    )


def _migrated(old: Release, new: Release) -> None:
    old.run("migrate")
    old.start()
    key = _new_key(old)
    _expect(key, "ok", old)
    new.run("migrate")
    _expect(key, "ok", old)
    new.start()
    _expect(key, "ok", old, new)


def _key(by: Release, *both: Release) -> None:
    key = _new_key(by)
    _expect(key, "ok", *both)
    by.run("keys", "revoke", by.key_id)
    _expect(key, "unauthenticated", *both)


def _account(by: Release, other: Release, *both: Release) -> None:
    key = _new_key(by)
    _expect(key, "ok", *both)
    by.run("accounts", "suspend", by.account_id)
    refused = {each.check(key) for each in both}
    if "ok" in refused:
        raise Failed(f"after the suspension: {refused}")
    other.run("accounts", "reinstate", by.account_id)
    _expect(key, "ok", *both)


def _limit(*both: Release) -> None:
    key = _new_key(both[0], "--capacity", "20", "--refill-per-s", "0.01")
    passed = sum(both[number % 2].check(key) == "ok" for number in range(40))
    if passed not in {20, 21}:
        raise Failed(f"{passed} of 40 checks passed a limit of 20")


def _streams(*both: Release) -> None:
    key = _new_key(both[0])
    opened = [both[number % 2].check(key, _STREAM) for number in range(_PER_KEY + 2)]
    if opened.count("ok") != _PER_KEY:
        raise Failed(f"of a cap of {_PER_KEY}: {opened}")


def _flushed(old: Release, new: Release, server: redis.Redis) -> None:
    keys = [_new_key(old), _new_key(new)]
    server.flushall()
    for key in keys:
        _expect(key, "ok", old, new)


def _rolled_back(old: Release, new: Release) -> None:
    key = _new_key(new)
    old.sidecar.stop()
    new.sidecar.stop()
    old.start()
    _expect(key, "ok", old)
    old.run("keys", "revoke", new.key_id)
    _expect(key, "unauthenticated", old)


def _new_key(release: Release, *options: str) -> str:
    """Create an account and a key, whose ids the release has afterwards."""
    account = re.search(r"acct_\w+", release.run("accounts", "create", "Two releases"))
    assert account is not None
    release.account_id = account.group()
    arguments = ("--name", "two", "--scope", "servers:read", *options)
    printed = release.run("keys", "create", account.group(), *arguments)
    secret, key_id = re.search(r"ttk_\w+", printed), re.search(r"key_\w+", printed)
    assert secret is not None
    assert key_id is not None
    release.key_id = key_id.group()
    return secret.group()


def _expect(key: str, code: str, *releases: Release) -> None:
    """Wait until every release says `code`: the first check may meet a connection that just opened."""
    deadline_s = time.monotonic() + _SETTLED_S
    for release in releases:
        while (said := release.check(key)) != code:
            if time.monotonic() > deadline_s:
                raise Failed(f"{release.name} says {said} instead of {code}")
            time.sleep(0.05)


@contextmanager
def stores(folder: Path) -> Iterator[tuple[dict[str, str], redis.Redis]]:
    """Start Redis and Postgres; yield the settings of their URLs, and a client of Redis."""
    server, postgres = RedisServer(folder), PostgresServer(folder)
    try:
        server.start()
        postgres.start()
        with redis.Redis.from_url(server.url) as client:
            yield {"AUTHZ_REDIS_URL": server.url, "AUTHZ_POSTGRES_URL": postgres.url}, client
    finally:
        postgres.stop()
        server.stop()


def _works(title: str, step: Callable[[], None]) -> bool:
    try:
        step()
    except Failed as failed:
        _say(f"no   {title}: {failed}")
        return False
    _say(f"yes  {title}")
    return True


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", ROOT, *arguments], check=True, capture_output=True).stdout  # noqa: S607 -- from PATH


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
