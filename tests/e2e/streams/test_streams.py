"""Caps on open streams through real Envoy and two sidecars: exact at every moment, and freed by every kind of end."""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from statistics import median

import httpx
import pytest
import redis
from support.clients.sse import TARGET, LeaseCounts, Stream, opened, opened_at_once
from support.clients.stream_ends import ENDS, with_short_streams
from support.servers.stack import ROOMY

from authz.core.accounts import AuditEvent, NewApiKey
from authz.demo.backend import STREAM_COUNTS
from authz.demo.stack import Stack

LATENCIES: dict[str, list[float]] = {}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    stack = Stack(sidecars=2, ping_s=0.2, heartbeat_s=1, env={"AUTHZ_REDIS_DEADLINE_S": "0.15"})
    path = stack.folder / "envoy.yaml"
    path.write_text(json.dumps(with_short_streams(json.loads(path.read_text()), "0.7s")))
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture
def leases(stack: Stack) -> LeaseCounts:
    return LeaseCounts(stack)


@pytest.fixture
def key(stack: Stack) -> NewApiKey:
    return made(stack, stack.create_account("Streams"))


def made(stack: Stack, account_id: str) -> NewApiKey:
    return stack.create_key("streams", "servers:read", limit=ROOMY, account_id=account_id)


def test_the_fourth_stream_is_refused_and_each_that_closes_makes_room_within_a_second(
    stack: Stack, key: NewApiKey, leases: LeaseCounts
) -> None:
    streams = [opened(stack, key.secret)[0] for _ in range(3)]
    fourth = Stream(stack.url, key.secret)
    assert (fourth.status, fourth.received) == (429, b"too many concurrent log streams for this key\n")
    taken_s = []
    for turn in range(100):
        streams[turn % 3].close()
        streams[turn % 3], seconds = opened(stack, key.secret)
        taken_s.append(seconds)
    assert max(taken_s) < 1
    assert leases.count(key.key.account_id) == 3
    for stream in (*streams, fourth):
        stream.close()
    leases.wait_for(key.key.account_id, 0)


def test_the_eleventh_stream_of_an_account_is_refused(stack: Stack, leases: LeaseCounts) -> None:
    account_id = stack.create_account("Eleven")
    keys = [made(stack, account_id) for _ in range(4)]
    with ExitStack() as open_until_the_end:
        streams = [open_until_the_end.enter_context(opened(stack, keys[number % 4].secret)[0]) for number in range(10)]
        assert all(stream.status == 200 for stream in streams)
        eleventh = open_until_the_end.enter_context(Stream(stack.url, keys[3].secret))
        assert (eleventh.status, eleventh.received) == (429, b"too many concurrent log streams for this account\n")
    leases.wait_for(account_id, 0)


def test_the_cap_of_an_account_holds_when_redis_is_flushed(stack: Stack, leases: LeaseCounts) -> None:
    account_id = stack.create_account("Flushed")
    keys = [made(stack, account_id) for _ in range(4)]
    with ExitStack() as open_until_the_end:
        for number in range(10):
            open_until_the_end.enter_context(opened(stack, keys[number % 4].secret)[0])
        with redis.Redis.from_url(stack.redis.url) as client:
            client.flushall()
        statuses: Counter[int] = Counter()
        until_s = time.monotonic() + 4
        while time.monotonic() < until_s:
            with Stream(stack.url, keys[len(statuses) % 4].secret) as eleventh:
                statuses[eleventh.status] += 1
        assert statuses.keys() == {429, 503}
        assert peaks(stack)[account_id] == 10
        leases.wait_for(account_id, 10)
    leases.wait_for(account_id, 0)


@pytest.mark.timed
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_caps_hold_exactly_under_two_hundred_opens_at_once_on_two_sidecars(
    stack: Stack,
    leases: LeaseCounts,
    http2: bool,  # noqa: FBT001 -- parametrised
) -> None:
    account_id = stack.create_account("Two hundred")
    keys = [made(stack, account_id) for _ in range(4)]
    for made_key in keys:  # each is in Redis by then
        opened(stack, made_key.secret)[0].close()
        leases.wait_for(account_id, 0)
    before = peaks(stack)
    statuses = Counter(asyncio.run(opened_at_once(stack, [one.secret for one in keys] * 50, http2)))
    assert statuses == {200: 10, 429: 190}
    after = peaks(stack)
    assert after[account_id] == 10
    assert max(after[one.key.id] for one in keys) == 3
    assert before[account_id] == 1
    leases.wait_for(account_id, 0)


def peaks(stack: Stack) -> dict[str, int]:
    counts: dict[str, int] = httpx.get(stack.backend_url + STREAM_COUNTS, trust_env=False).json()["peak"]
    return counts


@pytest.mark.parametrize("cause", ENDS)
def test_a_stream_that_ends_frees_its_slot_within_a_second(
    stack: Stack, key: NewApiKey, leases: LeaseCounts, cause: str, record_property: Callable[[str, object], None]
) -> None:
    latencies_s = []
    for _ in range(3):
        ended_s = ENDS[cause](stack, key.secret)
        leases.wait_for(key.key.account_id, 0)
        latencies_s.append(time.monotonic() - ended_s)
    assert max(latencies_s) < 1
    record_property("end_to_release_ms", [round(latency_s * 1000, 1) for latency_s in latencies_s])
    LATENCIES[cause] = latencies_s


def test_slots_are_freed_in_milliseconds_as_a_rule() -> None:
    every = [latency_s for latencies_s in LATENCIES.values() for latency_s in latencies_s]
    assert not every or median(every) < 0.2


def test_every_event_and_every_ping_arrives_unchanged(stack: Stack, key: NewApiKey) -> None:
    query = "&tail=1".replace("tail=1", "ends_after_s=0.9")
    through, direct = (_whole(url, key.secret, query) for url in (stack.url, stack.backend_url))
    events = through.split(b"\n\n")
    assert events[0] == b"data: [Server] line 0"
    assert events[1:-1] == [b": ping"] * (len(events) - 2)
    assert len(events) > 4
    assert through == direct


def _whole(url: str, secret: str, query: str) -> bytes:
    answer = httpx.get(url + TARGET + query, headers={"x-api-key": secret}, trust_env=False, timeout=10)
    assert answer.status_code == 200
    return answer.content


def test_only_streams_are_reported(stack: Stack, key: NewApiKey, leases: LeaseCounts) -> None:
    before = reported(stack)
    for _ in range(20):
        assert httpx.get(f"{stack.url}/v1/servers", headers={"x-api-key": key.secret}, trust_env=False).is_success
    assert httpx.get(stack.url + TARGET, trust_env=False).status_code == 401
    assert reported(stack) == before
    Stream(stack.url, key.secret).close()
    leases.wait_for(key.key.account_id, 0)
    assert reported(stack) == before + 1


def reported(stack: Stack) -> int:
    stats = httpx.get(f"{stack.envoy.admin_url}/stats?filter=access_logs.grpc_access_log.logs_written", trust_env=False)
    return sum(int(line.rpartition(" ")[2]) for line in stats.text.splitlines())


def test_a_revoked_key_opens_nothing_and_its_open_streams_are_shown_until_they_end(
    stack: Stack, key: NewApiKey, leases: LeaseCounts
) -> None:
    other = made(stack, key.key.account_id)
    with Stream(stack.url, key.secret) as stream, Stream(stack.url, other.secret):
        leases.wait_for(key.key.account_id, 2)
        stack.change_key(key.key.id, AuditEvent.KEY_REVOKED)
        with Stream(stack.url, key.secret) as refused:
            assert (refused.status, refused.received) == (401, b"unauthorized\n")
        listed = command(stack, "list", "--account", key.key.account_id, "--json")
        assert {row["key_id"]: row["state"] for row in json.loads(listed.stdout)}[key.key.id] == "stopped"
        assert stream.read()  # it lives: Envoy has no way to cut it
    leases.wait_for(key.key.account_id, 0)


def test_an_operator_sees_streams_and_frees_a_slot(stack: Stack, key: NewApiKey, leases: LeaseCounts) -> None:
    account_id = key.key.account_id
    with Stream(stack.url, key.secret):
        (row,) = json.loads(command(stack, "list", "--account", account_id, "--json").stdout)
        assert (row["stream"], row["key_id"]) == ("logs", key.key.id)
        assert row["lease_id"] in command(stack, "list", "--account", account_id).stdout
        freed = command(stack, "release", row["lease_id"], "--account", account_id)
        assert (freed.returncode, freed.stdout) == (0, f"{row['lease_id']} released\n")
        leases.wait_for(account_id, 1)  # the stream lives, and takes its slot again
    leases.wait_for(account_id, 0)
    gone = command(stack, "release", row["lease_id"], "--account", account_id)
    assert (gone.returncode, gone.stderr) == (
        3,
        f"refused: account {account_id} has no open stream {row['lease_id']}\n",
    )


def command(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    where = {"AUTHZ_REDIS_URL": stack.redis.url, "AUTHZ_POLICY_FILE": str(stack.settings.policy_file)}
    return subprocess.run(
        [sys.executable, "-m", "authz", "streams", *arguments],
        env={"COLUMNS": "240", **where},
        capture_output=True,
        text=True,
        check=False,
    )
