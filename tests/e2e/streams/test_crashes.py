"""Envoy, sidecars and Redis crash while streams are open: slots come free in time, and none while its stream lives."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Self

import httpx
import pytest
from support.clients.sse import LeaseCounts, Stream, counted, opened
from support.measurements import Figures
from support.servers.stack import ROOMY

from authz.demo.servers import shipped
from authz.demo.stack import Stack

HEARTBEAT_S = 0.5
TTL_S = 4
SUSPECT_S = 2.5 * HEARTBEAT_S
MARGIN_S = 0.75  # for a machine that is busy


def started(folder: Path, *, sidecars: int = 2, on_grpc: bool = False, drain_delay_s: float = 1.5) -> Stack:
    policy = folder / "policy.yaml"
    policy.write_text(shipped("policies/truetick.yaml").read_text().replace("ttl_s: 60", f"ttl_s: {TTL_S}"))
    # The drain begins, as it does by default, once Envoy's health checks have noticed.
    drain = {"AUTHZ_DRAIN_DELAY_S": str(drain_delay_s)}
    env = {"AUTHZ_POLICY_FILE": str(policy), "AUTHZ_REDIS_DEADLINE_S": "0.15", **drain}
    stack = Stack(sidecars=sidecars, ping_s=0.2, heartbeat_s=HEARTBEAT_S, env=env, on_grpc=on_grpc)
    stack.start()
    return stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = started(tmp_path_factory.mktemp("policy"))
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def figures() -> Iterator[Figures]:
    """Write the figures of this module to `build/streams/crashes.md`."""
    made = Figures()
    yield made
    made.write("crashes", "what happened")


@pytest.fixture
def leases(stack: Stack) -> LeaseCounts:
    return LeaseCounts(stack)


class ThreeStreams:
    """A key with three open streams, its cap, and a thread that keeps trying to open a fourth."""

    def __init__(self, stack: Stack) -> None:
        self.account_id = stack.create_account("Three streams")
        made = stack.create_key("streams", "servers:read", limit=ROOMY, account_id=self.account_id)
        self._stack, self.secret = stack, made.secret
        self.streams = [opened(stack, self.secret)[0] for _ in range(3)]
        self.refusals: list[int] = []
        self.admitted = 0
        self._stopping = threading.Event()
        self._wanting = threading.Thread(target=self._want)

    def __enter__(self) -> Self:
        self._wanting.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stopping.set()
        self._wanting.join()
        for stream in self.streams:
            stream.close()

    def _want(self) -> None:
        while not self._stopping.is_set():
            try:
                with Stream(self._stack.url, self.secret) as fourth:
                    self.refusals.append(fourth.status)
                    self.admitted += fourth.status == 200
            except OSError:  # Envoy is not there
                self.refusals.append(0)
            time.sleep(0.02)


def kept(leases: LeaseCounts, streams: ThreeStreams, for_s: float) -> int:
    """Assert for some seconds that three slots are taken at every moment and that their streams stay open.

    Returns the number of samples.
    """
    until_s, looks = time.monotonic() + for_s, 0
    while time.monotonic() < until_s:
        assert leases.count(streams.account_id) == 3
        time.sleep(0.02)
        looks += 1
    assert streams.admitted == 0
    assert all(stream.read() for stream in streams.streams)
    return looks


def test_streams_outlive_their_lease_ttl_without_losing_their_slots(stack: Stack, leases: LeaseCounts) -> None:
    with ThreeStreams(stack) as streams:
        kept(leases, streams, TTL_S + 1)
        assert set(streams.refusals) == {429}


def test_no_slot_is_freed_while_each_sidecar_is_killed_and_restarted(
    stack: Stack, leases: LeaseCounts, figures: Figures
) -> None:
    looks = 0
    with ThreeStreams(stack) as streams:
        for number in (0, 1):
            stack.sidecars[number].kill()
            looks += kept(leases, streams, 0.5)
            stack.start_sidecar(number)
        looks += kept(leases, streams, TTL_S)
        assert set(streams.refusals) <= {429, 503}
    freed_s = leases.wait_for(streams.account_id, 0, 1)
    figures.note("each sidecar killed and started again", freed_s=freed_s, looks=looks, early=0, over=streams.admitted)


def open_thirty_streams(stack: Stack) -> tuple[list[str], list[Stream]]:
    """Open as many streams as ten accounts may have with one key each; returns the accounts and the streams."""
    account_ids, streams = [], []
    for _ in range(10):
        account_ids.append(stack.create_account("Restart"))
        secret = stack.create_key("r", "servers:read", limit=ROOMY, account_id=account_ids[-1]).secret
        streams += [opened(stack, secret)[0] for _ in range(3)]
    return account_ids, streams


def close_all(streams: list[Stream], every_s: float) -> None:
    for stream in streams:
        stream.close()
        time.sleep(every_s)


def test_sidecars_that_shut_down_lose_no_end(stack: Stack, leases: LeaseCounts, figures: Figures) -> None:
    account_ids, streams = open_thirty_streams(stack)
    thread = threading.Thread(target=close_all, args=(streams, 0.15))
    thread.start()
    for number in (0, 1):
        assert stack.sidecars[number].stop() == 0
        stack.start_sidecar(number)
        until_found_again(stack, number)
    thread.join()
    freed_s = max(leases.wait_for(account_id, 0, 1) for account_id in account_ids)
    figures.note("each sidecar shut down, 30 streams ending", freed_s=freed_s)


def test_sidecars_that_hang_up_before_envoy_has_noticed_lose_no_end(tmp_path: Path, figures: Figures) -> None:
    stack, freed_s = started(tmp_path, drain_delay_s=0), 0.0
    try:
        for number in (0, 1):
            account_ids, streams = open_thirty_streams(stack)
            thread = threading.Thread(target=close_all, args=(streams, 0.01))
            thread.start()
            assert stack.sidecars[number].stop() == 0
            thread.join()
            freed_s = max(freed_s, *(LeaseCounts(stack).wait_for(account_id, 0, 1) for account_id in account_ids))
            stack.start_sidecar(number)
            until_found_again(stack, number)
        figures.note("each sidecar hung up unnoticed, 60 streams ending", freed_s=freed_s)
    finally:
        stack.stop()


def until_found_again(stack: Stack, number: int) -> None:
    """Wait until Envoy's health checks have noticed that a sidecar is back: before that, the other is its only one."""
    host = f"authz-streams::127.0.0.1:{stack.check_ports[number]}::health_flags::healthy"
    while host not in httpx.get(f"{stack.envoy.admin_url}/clusters", trust_env=False).text:
        time.sleep(0.02)


def test_a_stream_that_ends_without_a_sidecar_is_freed_when_its_lease_expires(
    stack: Stack, leases: LeaseCounts, figures: Figures
) -> None:
    with ThreeStreams(stack) as streams:
        kept(leases, streams, 2 * HEARTBEAT_S)
        for sidecar in stack.sidecars:
            sidecar.kill()
        streams.streams.pop().close()
        ended_s = time.monotonic()
        for number in (0, 1):
            stack.start_sidecar(number)
        leases.wait_for(streams.account_id, 2, TTL_S + MARGIN_S)
        figures.note("all sidecars killed, a stream ending meanwhile", freed_s=time.monotonic() - ended_s)
        time.sleep(HEARTBEAT_S)
        assert all(stream.read() for stream in streams.streams)


def test_slots_of_a_killed_envoy_are_free_soon(stack: Stack, leases: LeaseCounts, figures: Figures) -> None:
    with ThreeStreams(stack) as streams:
        looks = kept(leases, streams, 2 * HEARTBEAT_S)
        stack.envoy.kill()
        freed_s = leases.wait_for(streams.account_id, 0, SUSPECT_S + MARGIN_S)
        stack.start_envoy()
    figures.note("Envoy killed", freed_s=freed_s, looks=looks, early=0, over=streams.admitted)


@pytest.mark.parametrize("on_grpc", [False, True], ids=["check-listener", "grpc-server"])
def test_slots_of_an_envoy_that_shuts_down_are_free_at_once(
    tmp_path: Path,
    figures: Figures,
    on_grpc: bool,  # noqa: FBT001 -- parametrised
) -> None:
    stack = started(tmp_path, sidecars=1, on_grpc=on_grpc)
    try:
        with ExitStack() as streams:
            for _ in range(4):
                secret = stack.create_key("k", "servers:read", limit=ROOMY).secret
                for _ in range(2):
                    streams.enter_context(opened(stack, secret)[0])
            time.sleep(2 * HEARTBEAT_S)
            stack.envoy.stop()
            freed_s = LeaseCounts(stack).wait_for(stack.account_id, 0, SUSPECT_S + MARGIN_S)
        ends = ended(stack)
        figures.note(f"Envoy shut down, 8 streams, {'grpc.aio' if on_grpc else 'own core'}", freed_s=freed_s, ends=ends)
        if not on_grpc:  # grpcio drops what has arrived when the connection closes behind it
            assert (ends, freed_s < 0.2) == (8, True)
    finally:
        stack.stop()


def ended(stack: Stack) -> int:
    return counted(stack.admin_url, 'authz_stream_releases_total{cause="end",stream="logs"}')


def test_an_emptied_redis_learns_of_open_streams_before_it_admits_more(stack: Stack, figures: Figures) -> None:
    exceeding = 'authz_stream_retakes_total{exceeds="true",stream="logs"}'
    before = sum(counted(url, exceeding) for url in stack.admin_urls)
    with ThreeStreams(stack) as streams:
        time.sleep(2 * HEARTBEAT_S)
        stack.redis.kill()
        stack.redis.start()
        reported_s = LeaseCounts(stack).wait_for(streams.account_id, 3, 2 * HEARTBEAT_S + MARGIN_S)
        looks = kept(LeaseCounts(stack), streams, 2 * HEARTBEAT_S)
        figures.note("Redis killed and started empty", reported_s=reported_s, looks=looks, over=streams.admitted)
        assert set(streams.refusals) <= {429, 503}
    assert sum(counted(url, exceeding) for url in stack.admin_urls) == before


def test_late_reports_of_a_hung_sidecar_acquire_nothing_again(
    stack: Stack, leases: LeaseCounts, figures: Figures
) -> None:
    with ThreeStreams(stack) as streams:
        kept(leases, streams, HEARTBEAT_S)
        for sidecar in stack.sidecars:
            sidecar.signal(SIGSTOP)
        time.sleep(2 * HEARTBEAT_S)
        for stream in streams.streams:
            stream.close()
        for sidecar in stack.sidecars:
            sidecar.signal(SIGCONT)
        streams.streams.clear()
    figures.note("all sidecars hung for 1 s, 3 streams ending", freed_s=leases.wait_for(streams.account_id, 0, 1.5))
    time.sleep(2 * HEARTBEAT_S)
    assert leases.count(streams.account_id) == 0


def test_clients_that_vanish_during_their_check_leave_no_slot_taken(stack: Stack, leases: LeaseCounts) -> None:
    account_id = stack.create_account("Hasty")
    secret = stack.create_key("h", "servers:read", limit=ROOMY, account_id=account_id).secret
    opened(stack, secret)[0].close()
    leases.wait_for(account_id, 0)

    def unwanted() -> int:
        name = 'authz_stream_releases_total{cause="unwanted",stream="logs"}'
        return sum(counted(url, name) for url in stack.admin_urls)

    before = unwanted()
    for turn in range(60):
        stack.redis.signal(SIGSTOP)
        hasty = [threading.Thread(target=vanish, args=(stack.url, secret)) for _ in range(3)]
        for thread in hasty:
            thread.start()
        for thread in hasty:
            thread.join()
        stack.redis.signal(SIGCONT)
        if turn > 8 and unwanted() > before:
            break
    # Where the client's leaving and authz' answer cross, the lease waits in vain for a sign of life.
    leases.wait_for(account_id, 0, TTL_S + MARGIN_S)
    assert unwanted() > before


def vanish(url: str, secret: str) -> None:
    """Request a stream and close the connection before the response."""
    with httpx.Client(base_url=url, trust_env=False, timeout=0.03) as client:
        try:
            client.get("/v1/servers/s1/logs/stream", headers={"x-api-key": secret})
        except httpx.TimeoutException:
            return
