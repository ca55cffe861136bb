"""A caller with a good key, whose success and latency show what an attack costs."""

import http.client
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from authz.demo.stack import Stack

PATH = "/v1/servers"
ROUNDS = 3
REQUESTS = 400


@dataclass(frozen=True)
class Experience:
    """What the caller met: the share of requests that succeeded, and the 99th percentile of their latency."""

    success: float
    p99_s: float


class GoodKey:
    """Asks for one thing through Envoy, one request at a time."""

    def __init__(self, stack: Stack, key: str) -> None:
        self._port = int(stack.url.rpartition(":")[2])
        self._key = key

    def experience(self, requests: int, pause_s: float = 0.002) -> Experience:
        """Send requests and return what happened."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        latencies: list[float] = []
        good = 0
        for _ in range(requests):
            started_s = time.perf_counter()
            try:
                connection.request("GET", PATH, headers={"x-api-key": self._key})
                answer = connection.getresponse()
                answer.read()
                good += answer.status == 200
            except OSError:
                connection.close()
            latencies.append(time.perf_counter() - started_s)
            time.sleep(pause_s)
        connection.close()
        return Experience(good / requests, sorted(latencies)[int(requests * 0.99)])


def compare(good: GoodKey, attack: Callable[[], AbstractContextManager[None]]) -> None:
    """Hold what the caller meets under an attack against what it meets without one, round after round."""
    idle: list[float] = []
    attacked: list[float] = []
    good.experience(REQUESTS)  # warm
    for _ in range(ROUNDS):
        idle.append(_undisturbed(good).p99_s)
        with attack():
            experience = good.experience(REQUESTS)
        assert experience.success == 1
        attacked.append(experience.p99_s)
    p99s_ms = {"idle": idle, "attacked": attacked}
    figures = f"p99 in ms: { {name: [round(each * 1000, 2) for each in p99] for name, p99 in p99s_ms.items()} }"
    print(figures)  # noqa: T201 -- the figure that this comparison is for
    assert statistics.median(attacked) <= 2 * statistics.median(idle), figures


def _undisturbed(good: GoodKey) -> Experience:
    """Measure without an attack, again while the machine is too busy for that."""
    for _ in range(5):
        experience = good.experience(REQUESTS)
        if experience.success == 1:
            break
    assert experience.success == 1
    return experience
