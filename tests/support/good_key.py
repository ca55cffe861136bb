"""A caller with a good key, whose success and latency show what an attack costs."""

import http.client
import time
from dataclasses import dataclass

from authz.demo.stack import Stack

PATH = "/v1/servers"


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
