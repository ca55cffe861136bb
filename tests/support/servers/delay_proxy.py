"""A TCP proxy in front of a store: it delays each direction, follows a failover, and forgets connections as a NAT does.

As a program it serves until it is stopped; tests that need no load of their own run it in their event loop.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

Address = tuple[str, int] | str

_READ_BYTES = 65_536


class DelayProxy:
    """Forwards to `target`: (host, port), or the path of a unix socket. `delay_s` is of one round trip."""

    def __init__(self, target: Address, delay_s: float = 0.0) -> None:
        self.target = target
        self.delay_s = delay_s
        self.port = 0
        self.accepted = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._deaf: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # As `support.stream_server.aborted`, which this module, as a program of its own, cannot import.
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    def forget(self) -> None:
        """Drop every connection silently: nothing that is sent on it arrives, and nobody is told."""
        self._deaf |= self._writers

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            # A handshake takes a round trip.
            await asyncio.sleep(self.delay_s)
            if isinstance(self.target, str):
                far_reader, far_writer = await asyncio.open_unix_connection(self.target)
            else:
                far_reader, far_writer = await asyncio.open_connection(*self.target)
            self._writers.add(far_writer)
            await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        async def deliver() -> None:
            while True:
                at_s, data = await queue.get()
                await asyncio.sleep(max(0.0, at_s - loop.time()))
                if writer in self._deaf:
                    continue
                if not data:
                    writer.close()
                    return
                writer.write(data)

        delivering = loop.create_task(deliver())
        try:
            with suppress(ConnectionError):
                while data := await reader.read(_READ_BYTES):
                    queue.put_nowait((loop.time() + self.delay_s / 2, data))
            queue.put_nowait((loop.time() + self.delay_s / 2, b""))
            await delivering
        finally:
            delivering.cancel()


@asynccontextmanager
async def delayed(target: Address, delay_s: float = 0.0) -> AsyncIterator[DelayProxy]:
    proxy = DelayProxy(target, delay_s)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--to", required=True, help="HOST:PORT, or the path of a unix socket")
    parser.add_argument("--delay-ms", type=float, default=0.0)
    given = parser.parse_args()
    host, _, port = given.to.rpartition(":")
    proxy = DelayProxy(given.to if given.to.startswith("/") else (host, int(port)), given.delay_ms / 1000)
    await proxy.start(given.port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
