"""Servers that stand where a Redis should, for what a Redis does not do on request."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

CERTIFICATE = Path(__file__).parent / "data" / "tls" / "localhost.pem"


class SpeakingServer:
    """Answers OK to everything but INFO, for which it has an answer of its own; then, if told so, hangs up."""

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
async def speaking(info: bytes, *, hangs_up: bool = False) -> AsyncIterator[tuple[SpeakingServer, int]]:
    """Yield a server and its port on loopback; what is connected to it must be closed by then."""
    fake = SpeakingServer(info, hangs_up=hangs_up)
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    yield fake, server.sockets[0].getsockname()[1]
    server.close()


@asynccontextmanager
async def behind_tls(url: str) -> AsyncIterator[str]:
    """Yield the rediss:// URL of a TLS server that passes everything on to the Redis at `url`."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        redis_reader, redis_writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
        await asyncio.gather(copy(reader, redis_writer), copy(redis_reader, writer))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    yield f"rediss://localhost:{port}/0?ssl_ca_certs={CERTIFICATE}"
    server.close()
