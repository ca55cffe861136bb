"""A steady load of requests over the ready pods, each on one of its kept connections; every answer is recorded.

The pods are `pod_runner.py`. `Stalls` measures for how long this machine let a process wait for a CPU.
"""

import asyncio
import random
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

_TIMEOUT_S = 5.0
_WATCH = """
import time
while True:
    began_s = time.monotonic()
    time.sleep(0.005)
    late_s = time.monotonic() - began_s - 0.005
    if late_s > 0.02:
        print(began_s, late_s, flush=True)
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, or the failure to get one; `status` is then the exception's name. Times are monotonic, in seconds."""

    sent_s: float
    took_s: float
    port: int
    status: str
    body: str


class Stalls:
    """The times at which a process that was due did not run for more than 20 ms, seen by a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", _WATCH], stdout=subprocess.PIPE, text=True)
        self.seen: list[tuple[float, float]] = []

    def end(self) -> None:
        self._process.terminate()
        lines = self._process.communicate()[0].splitlines()
        self.seen = [(float(began), float(late)) for began, late in map(str.split, lines)]

    def longest_s(self, from_s: float, to_s: float) -> float:
        """Return the longest stall that touches an interval, 0 if there was none."""
        return max((late for began, late in self.seen if began < to_s and began + late > from_s), default=0.0)


@dataclass
class Load:
    """Requests at a fixed rate to the ports in `endpoints`, which the test changes as a cluster would."""

    key: str
    rate: int
    endpoints: list[int] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    _idle: dict[int, list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]] = field(default_factory=dict)
    _ended: bool = False

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        next_s, tasks = loop.time(), set[asyncio.Task[None]]()
        while not self._ended:
            next_s += 1 / self.rate
            await asyncio.sleep(max(0.0, next_s - loop.time()))
            task = loop.create_task(self._one(random.choice(self.endpoints)))  # noqa: S311 -- no secret
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
        for _, writer in [pair for pairs in self._idle.values() for pair in pairs]:
            writer.close()

    @property
    def statuses(self) -> Counter[str]:
        return Counter(answer.status for answer in self.answers)

    def end(self) -> None:
        self._ended = True

    def leave(self, port: int) -> None:
        """Send nothing more to a pod; its idle connections are closed, as clients of a Service do sooner or later."""
        self.endpoints.remove(port)
        for _, writer in self._idle.pop(port, []):
            writer.close()

    async def _one(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        sent_s = loop.time()
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                status, body = await self._answer(port)
        except (OSError, TimeoutError, EOFError) as error:
            status, body = type(error).__name__, ""
        self.answers.append(Answer(sent_s, loop.time() - sent_s, port, status, body))

    async def _answer(self, port: int) -> tuple[str, str]:
        idle = self._idle.get(port, [])
        reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
        try:
            return await self._exchanged(port, reader, writer)
        except BaseException:
            writer.close()
            raise

    async def _exchanged(
        self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[str, str]:
        writer.write(f"GET /v1/servers HTTP/1.1\r\nhost: api.example\r\nx-api-key: {self.key}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next((int(line[16:]) for line in head.split("\r\n") if line.startswith("content-length: ")), None)
        if length is None:
            body = (await reader.readuntil(b"0\r\n\r\n")).decode()
        else:
            body = (await reader.readexactly(length)).decode()
        if port in self.endpoints and "connection: close" not in head:
            self._idle.setdefault(port, []).append((reader, writer))
        else:
            with suppress(OSError):
                writer.close()
        return head.split(" ", 2)[1], body[:80]
