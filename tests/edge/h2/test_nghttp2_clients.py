"""nghttp2's clients as the check listener's peers: `nghttp` with what HTTP/2 allows of it, `h2load` with many calls."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.fakes.allowing_checker import AllowingChecker, check_request, listener_on
from support.servers.programs import program

from authz._pb.check_pb2 import CheckResponse
from authz.edge.check.listener import CheckListener
from authz.edge.check.messages import SERVICE

TARGET = "/v1/servers/" + "s" * 300
HEADERS = [part for header in ("te: trailers", "content-type: application/grpc") for part in ("-H", header)]
PREFIX_BYTES = 5


@pytest.fixture
async def listener() -> AsyncIterator[CheckListener]:
    listener = listener_on(AllowingChecker(), "127.0.0.1:0")
    await listener.start()
    yield listener
    await listener.stop(0)


@pytest.fixture
def body(folder: Path) -> Path:
    message = check_request(TARGET).SerializeToString()
    path = folder / "body"
    path.write_bytes(b"\0" + len(message).to_bytes(4) + message)
    return path


async def output_of(name: str, *options: str, port: int, body: Path) -> bytes:
    """Run a client and return what it printed."""
    client = await asyncio.create_subprocess_exec(
        *(program(name), *options, *HEADERS, "-d", str(body), f"http://127.0.0.1:{port}/{SERVICE}/Check"),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await client.communicate()
    assert client.returncode == 0
    return output


def accounts(output: bytes) -> list[str]:
    """Read the account that each answer names, out of gRPC messages one after the other."""
    found = []
    while output:
        end = PREFIX_BYTES + int.from_bytes(output[1:PREFIX_BYTES])
        answer = CheckResponse.FromString(output[PREFIX_BYTES:end])
        found.append(answer.ok_response.headers[0].header.value)
        output = output[end:]
    return found


@pytest.mark.parametrize(
    "options",
    [
        "--multiply=20",
        "--multiply=20 --no-content-length",
        "--multiply=20 --padding=255",
        "--multiply=20 --trailer=checksum:1",
        "--multiply=20 --header-table-size=0 --encoder-header-table-size=0",
        "--multiply=20 --encoder-header-table-size=65536",
        "--multiply=20 --max-concurrent-streams=1 --no-dep",
        # It prints what it reads as it comes, so that small parts of several answers would be mixed.
        "--multiply=1 --window-bits=6 --connection-window-bits=30",
        "--multiply=1 --window-bits=1",
    ],
)
async def test_nghttp_is_answered_with_every_option(listener: CheckListener, body: Path, options: str) -> None:
    output = await output_of("nghttp", *options.split(), port=listener.port, body=body)
    assert accounts(output) == [TARGET] * (20 if "=20" in options else 1)


async def test_every_call_of_h2load_is_answered(listener: CheckListener, body: Path) -> None:
    output = await output_of("h2load", "-n4000", "-c4", "-m100", port=listener.port, body=body)
    assert re.search(rb"4000 succeeded, 0 failed, 0 errored, 0 timeout", output)
    assert re.search(rb"status codes: 4000 2xx", output)
