"""The whole stack over Sentinel and over a cluster: a primary crashes under load, and no revoked key is admitted."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Self

import pytest
from redis.crc import key_slot
from support.clients.raw_http import send
from support.servers.redis_cluster import cluster
from support.servers.redis_sentinel import sentinels
from support.servers.stack import ROOMY

from authz.adapters.redis.records import account_key, redis_key
from authz.core.accounts import AuditEvent, NewApiKey
from authz.core.errors import NotEffectiveYet
from authz.core.keys import digest
from authz.demo.servers import RedisServer
from authz.demo.stack import Stack

# So many requests with keys that do not work may count as a flood, which is refused with a 429.
REFUSED = {401, 429, 503}


@dataclass
class Form:
    """A stack whose keys are all on the primary, which has a replica."""

    stack: Stack
    primary: RedisServer
    replica: RedisServer
    is_hit: Callable[[bytes], bool]

    @contextmanager
    def crashed(self) -> Iterator[None]:
        """Kill the primary, and let the replica take over only after the block."""
        self.replica.signal(SIGSTOP)
        self.primary.kill()
        try:
            yield
        finally:
            self.replica.signal(SIGCONT)

    def create_key(self, name: str) -> NewApiKey:
        while True:
            account_id = self.stack.create_account(name)
            if not self.is_hit(account_key(account_id)):
                continue
            made = self.stack.create_key(name, "servers:read", limit=ROOMY, account_id=account_id)
            if self.is_hit(redis_key(digest(made.secret.encode()))):
                return made


@contextmanager
def in_stack(redis_url: str) -> Iterator[Stack]:
    stack = Stack(redis_url=redis_url)
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(params=["sentinel", "cluster"])
def form(request: pytest.FixtureRequest, folder: Path) -> Iterator[Form]:
    if request.param == "sentinel":
        with sentinels(folder) as watched, in_stack(watched.url) as stack:
            yield Form(stack, watched.first, watched.second, lambda _key: True)
    else:
        with cluster(folder, replicated=True) as made, in_stack(made.url) as stack:
            first = made.primaries[0]
            assert made.replica is not None
            yield Form(stack, first, made.replica, lambda key: made.primary_of(key_slot(key)) is first)


class ContinuousRequests:
    """Sends requests with every key in turn, in its own thread; `statuses` are each key's responses in order."""

    def __init__(self, url: str, *secrets: str) -> None:
        self.statuses: dict[str, list[int]] = {secret: [] for secret in secrets}
        self._url = url
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self._stopping.set()
        self._thread.join()

    def until(self, secret: str, status: int) -> None:
        """Wait for an answer that is given from now on."""
        seen, wanted = len(self.statuses[secret]), {401, 429} if status == 401 else {status}
        while wanted.isdisjoint(self.statuses[secret][seen:]):
            time.sleep(0.01)

    def _run(self) -> None:
        while not self._stopping.is_set():
            for secret, statuses in self.statuses.items():
                statuses.append(send(self._url, "GET", "/v1/servers", ("x-api-key", secret)).status)


def test_a_crash_of_the_primary_is_a_503_then_service_and_never_a_wrong_allow(form: Form) -> None:
    steady, gone, late = (form.create_key(name) for name in ("steady", "gone", "late"))
    with ContinuousRequests(form.stack.url, steady.secret, gone.secret, late.secret) as requests:
        requests.until(gone.secret, 200)
        form.stack.change_key(gone.key.id, AuditEvent.KEY_REVOKED)
        effective = len(requests.statuses[gone.secret]) + 1  # but for the one that is under way
        requests.until(steady.secret, 200)
        with form.crashed():
            requests.until(steady.secret, 503)
            with pytest.raises(NotEffectiveYet):
                form.stack.change_key(late.key.id, AuditEvent.KEY_REVOKED)
        requests.until(steady.secret, 200)
        requests.until(late.secret, 401)
        requests.until(gone.secret, 401)
        form.stack.change_key(steady.key.id, AuditEvent.KEY_REVOKED)
        requests.until(steady.secret, 401)
        for _ in range(20):
            requests.until(late.secret, 401)
    assert {200, 503} <= set(requests.statuses[steady.secret]) <= {200, 401, 429, 503}
    assert set(requests.statuses[gone.secret][effective:]) <= REFUSED
    late_answers = requests.statuses[late.secret]
    assert set(late_answers[late_answers.index(503) :]) <= REFUSED


@pytest.mark.timeout(60)
def test_a_crash_of_the_primary_undoes_no_suspension_and_a_late_one_is_retried(form: Form) -> None:
    steady, gone, late = (form.create_key(name) for name in ("steady", "gone", "late"))
    with ContinuousRequests(form.stack.url, steady.secret, gone.secret, late.secret) as asking:
        asking.until(gone.secret, 200)
        form.stack.change_account(gone.key.account_id, AuditEvent.ACCOUNT_SUSPENDED)
        effective = len(asking.statuses[gone.secret]) + 1  # but for the one that is under way
        asking.until(steady.secret, 200)
        with form.crashed():
            asking.until(steady.secret, 503)
            with pytest.raises(NotEffectiveYet):
                form.stack.change_account(late.key.account_id, AuditEvent.ACCOUNT_SUSPENDED)
        asking.until(steady.secret, 200)
        asking.until(late.secret, 401)
        for _ in range(20):
            asking.until(gone.secret, 401)
    assert set(asking.statuses[gone.secret][effective:]) <= REFUSED
    late_answers = asking.statuses[late.secret]
    assert set(late_answers[late_answers.index(503) :]) <= REFUSED
