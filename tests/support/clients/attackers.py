"""Clients that take what they can of a port, in one process: `python -m support.clients.attackers PORT KIND:COUNT…`.

They hold what they got until they are terminated, and print a line once they have begun.
"""

import asyncio
import itertools
import os
import random
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from authz.core.keys import ENTROPY_BYTES, KeyFormat

_ROOT = Path(__file__).parents[3]
FORMAT = KeyFormat("ttk_")
_JSON = b"content-type: application/json\r\n"
# The largest that Envoy passes on: 60 KiB of headers, 64 KiB of body.
_COSTLY = (
    (b"GET /v1/servers?" + b"%&" * 29_400 + b";", b"", b""),
    (b"GET /v1/servers?" + b"%61ccount_id%5B%5D;" * 3_000, b"", b""),
    (b"GET /v1/servers?" + b"&_method" * 7_000, b"", b""),
    (b"GET /v1/" + b"a/" * 4_000, b"", b""),
    (b"GET /v1/servers/" + b"%CC%81" * 1_300, b"", b""),
    (b"POST /v1/servers", _JSON, b"[" * 32_000 + b"]" * 32_000),
    (b"POST /v1/servers", _JSON, b"{" + b'"account":{},' * 4_900 + b'"a":0}'),
    (b"POST /v1/servers", _JSON, b'{"a":' + b"9" * 65_000 + b"}"),
    (b"GET /v1/servers", b"".join(b"x-a%d: %b\r\n" % (number, b"b" * 600) for number in range(80)), b""),
    (b"GET /v1/servers", b"x-authz" * 7_000 + b": a\r\n", b""),
)
_SCRAPE = b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n"


@contextmanager
def attacking(target: str, *attacks: tuple[str, int]) -> Iterator[None]:
    """Attack `PORT` or the path of a unix socket from begin to end, each kind with its number of connections."""
    # Attackers have machines of their own; here they must not take the processors of the attacked one: four busy
    # processes that leave authz alone would triple the latencies on two of them.
    command = ["nice", "-n", "19", sys.executable, "-m", "support.clients.attackers", target]
    command += [f"{kind}:{count}" for kind, count in attacks]
    env = {"PYTHONPATH": f"{_ROOT / 'tests'}:{_ROOT}"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=env)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        yield
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


async def _open(target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if target.isdigit():
        return await asyncio.open_connection("127.0.0.1", int(target))
    return await asyncio.open_unix_connection(target)


async def scrape(target: str) -> None:
    """Ask for the metrics, again and again."""
    reader, writer = await _open(target)
    while True:
        writer.write(_SCRAPE)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(length)


async def pipeline(target: str) -> None:
    """Send requests without reading any response."""
    _, writer = await _open(target)
    while True:
        writer.write(_SCRAPE * 100)
        await writer.drain()
        await asyncio.sleep(0.01)


async def trickle(target: str) -> None:
    """Send a head that never ends, a byte at a time."""
    _, writer = await _open(target)
    writer.write(b"GET /metrics HTTP/1.1\r\nx: ")
    while True:
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.1)


async def fill(target: str) -> None:
    """Send a head that is too large."""
    _, writer = await _open(target)
    while True:
        writer.write(b"a" * 65_536)
        await writer.drain()
        await asyncio.sleep(0.02)


async def silent(target: str) -> None:
    """Connect, and send nothing."""
    reader, _ = await _open(target)
    await reader.read()
    await asyncio.sleep(5)


async def greet(target: str) -> None:
    """Complete the handshake of HTTP/2, and ask for nothing."""
    reader, writer = await _open(target)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
    while await reader.read(4_096):
        pass
    await asyncio.sleep(5)


async def upload(target: str) -> None:
    """Begin messages of a megabyte each, and end none."""
    _, writer = await _open(target)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
    path = b"/envoy.service.auth.v3.Authorization/Check"
    block = b"\x83\x86\x04" + bytes([len(path)]) + path + b"\x0f\x10\x10application/grpc"
    data = b"\0\0\x0f\xff\xfb" + bytes(16_379)
    with suppress(OSError):
        for stream_id in range(1, 128, 2):
            number = stream_id.to_bytes(4)
            writer.write(len(block).to_bytes(3) + b"\1\4" + number + block)
            for part in range(15):
                body = data if part == 0 else bytes(16_384)
                writer.write(len(body).to_bytes(3) + b"\0\0" + number + body)
                await writer.drain()
    await asyncio.sleep(60)


async def costly(target: str) -> None:
    """Send Envoy five costly requests a second, each with a key of its own that was never issued.

    All attackers together send at a steady rate, not all at the same moment.
    """
    await asyncio.sleep(random.uniform(0, 0.2))  # noqa: S311 -- not a secret
    reader, writer = await _open(target)
    for number in itertools.count():
        line, headers, body = _COSTLY[number % len(_COSTLY)]
        key = FORMAT.mint(os.urandom(ENTROPY_BYTES)).encode()
        length = b"content-length: %d\r\n" % len(body) if body else b""
        writer.write(line + b" HTTP/1.1\r\nhost: a\r\nx-api-key: " + key + b"\r\n" + headers + length + b"\r\n" + body)
        head = await reader.readuntil(b"\r\n\r\n")
        found = re.search(rb"content-length: (\d+)", head)
        await reader.readexactly(int(found[1]) if found else 0)
        if b"connection: close" in head:
            return
        await asyncio.sleep(0.2)


async def main(target: str, *attacks: str) -> None:
    async def again(kind: str) -> None:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                await globals()[kind](target)
            await asyncio.sleep(0.2)

    tasks = []
    for kind, count in (attack.split(":") for attack in attacks):
        for number in range(int(count)):
            tasks.append(asyncio.create_task(again(kind)))
            if number % 100 == 99:
                await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(main(*sys.argv[1:]))
