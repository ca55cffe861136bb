"""The check listener under h2load, where it is installed: one check again and again.

It sees HTTP statuses and not what answers say, so it is a second opinion on cost and speed, and no ratio comes from it.
"""

import asyncio
import shutil
import time
from collections import Counter
from pathlib import Path

from bench.load.capture import Call
from bench.load.measured import Load

from authz.edge.check.messages import SERVICE

H2LOAD = shutil.which("h2load")
MISSING = "h2load is not installed, so its rows are left out (on Debian: apt-get install nghttp2-client)."

CONTENT_LENGTH = (
    "h2load announces a content-length, as Envoy never does; that takes our HTTP/2 core off its fastest path."
)

_HEADERS = ("te: trailers", "content-type: application/grpc", "grpc-timeout: 200m")
_OK = 200
_US_PER_S = 1e6


async def h2load(port: int, call: Call, folder: Path, *, seconds: float, in_flight: int = 64) -> Load:
    """Make one call again and again for so many seconds, over one connection."""
    assert H2LOAD is not None
    body, log = folder / "h2load.body", folder / "h2load.log"
    body.write_bytes(b"\0" + len(call.message).to_bytes(4) + call.message)
    log.unlink(missing_ok=True)
    headers = [part for header in _HEADERS for part in ("-H", header)]
    options = ["-c1", f"-m{in_flight}", f"-D{seconds * 1000:.0f}ms", "-d", str(body), f"--log-file={log}", *headers]
    started_s = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        H2LOAD, *options, f"http://127.0.0.1:{port}/{SERVICE}/Check", stdout=asyncio.subprocess.DEVNULL
    )
    if await process.wait():
        raise RuntimeError("h2load failed")
    took_s = time.perf_counter() - started_s
    # Start, status and duration of every request, times in microseconds.
    rows = [line.split("\t") for line in log.read_text().splitlines()]
    unexpected = Counter(int(status) for _, status, _ in rows if int(status) != _OK)
    return Load.of(took_s, [int(duration) / _US_PER_S for _, _, duration in rows], unexpected)
