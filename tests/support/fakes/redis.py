"""Servers in place of a Redis, for behaviour that a real one does not show on request."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from support.stream_server import aborted, stream_server

TLS_HANDSHAKE = b"\x16"
CERTIFICATE = Path(__file__).parents[2] / "data" / "tls" / "localhost.pem"


class ScriptedRedis:
    """Answers OK to every command except INFO, which gets `info`; closes the connection after that if `hangs_up`."""

    def __init__(self, info: bytes, *, hangs_up: bool) -> None:
        self.info = info
        self.hangs_up = hangs_up
        self.connected_at_s: list[float] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected_at_s.append(time.monotonic())
        while words := await self._words(reader):
            asks_info = words[0] == b"INFO"
            writer.write(b"$%d\r\n%b\r\n" % (len(self.info), self.info) if asks_info else b"+OK\r\n")
            if asks_info and self.hangs_up:
                break
        writer.close()

    async def _words(self, reader: asyncio.StreamReader) -> list[bytes]:
        if not (head := await reader.readline()):
            return []
        words = []
        for _ in range(int(head[1:])):
            length = int((await reader.readline())[1:])
            words.append((await reader.readexactly(length + 2))[:-2])
        return words


@asynccontextmanager
async def scripted_redis(info: bytes, *, hangs_up: bool = False) -> AsyncIterator[tuple[ScriptedRedis, int]]:
    """Yield a server and its port on loopback."""
    fake = ScriptedRedis(info, hangs_up=hangs_up)
    async with stream_server(fake.serve) as port:
        yield fake, port


@asynccontextmanager
async def tls_proxy(url: str) -> AsyncIterator[str]:
    """Yield the rediss:// URL of a TLS server that forwards to the Redis at `url`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    async with _proxy(lambda _first: urlsplit(url).port or 0, ssl=context) as port:
        yield f"rediss://localhost:{port}/0?ssl_ca_certs={CERTIFICATE}"


@asynccontextmanager
async def tls_or_plain_proxy(to_port: int, port: int = 0) -> AsyncIterator[int]:
    """Yield one port that accepts TLS and plain connections and forwards both to `to_port`."""
    async with tls_proxy(f"redis://127.0.0.1:{to_port}") as tls_url:
        tls_port = urlsplit(tls_url).port or 0
        async with _proxy(lambda first: tls_port if first.startswith(TLS_HANDSHAKE) else to_port, port=port) as either:
            yield either


@asynccontextmanager
async def _proxy(
    choose: Callable[[bytes], int], port: int = 0, ssl: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Yield the port of a proxy that chooses the target port by the first bytes of a connection."""

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
        sink.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(65536)
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", choose(first))
        except OSError:  # the target is gone
            writer.close()
            return
        try:
            there_writer.write(first)
            await asyncio.gather(copy(reader, there_writer), copy(there_reader, writer))
        finally:
            await aborted([there_writer])

    async with stream_server(forward, port, tls=ssl) as found:
        yield found
