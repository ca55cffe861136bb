"""A steady load of requests over the ready pods, each on one of its kept connections; every failure is recorded."""

import asyncio
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

_TIMEOUT_S = 5.0


@dataclass
class Load:
    """Requests at a fixed rate to the ports in `endpoints`, which the test changes as a cluster would."""

    key: str
    rate: int
    endpoints: list[int] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[float, int, str]] = field(default_factory=list)
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

    def end(self) -> None:
        self._ended = True

    def leave(self, port: int) -> None:
        """Send nothing more to a pod; its idle connections are closed, as clients of a Service do sooner or later."""
        self.endpoints.remove(port)
        for _, writer in self._idle.pop(port, []):
            writer.close()

    async def _one(self, port: int) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                self.statuses[await self._answer(port)] += 1
        except (OSError, TimeoutError, EOFError) as error:
            self.statuses[type(error).__name__] += 1

    async def _answer(self, port: int) -> str:
        idle = self._idle.get(port, [])
        reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
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
        status = head.split(" ", 2)[1]
        if status != "200":
            self.failures.append((round(asyncio.get_running_loop().time(), 2), port, body[:80]))
        return status
