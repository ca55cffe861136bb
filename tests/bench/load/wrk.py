"""Envoy under wrk, where it is installed: the requests of `http.py` at a fraction of its cost.

wrk tells refused requests from others, not 403 from 429: what is verified is the share of refusals.
"""

import asyncio
import json
import shutil
from collections.abc import Sequence
from math import ceil
from pathlib import Path

from bench.load.http import Prepared
from bench.load.measured import Load

WRK = shutil.which("wrk")
MISSING = "wrk is not installed, so our own, costlier load generator drives Envoy (on Debian: apt-get install wrk)."

_REFUSED = 400
_PATIENCE_S = 2
_SCRIPT = """
local requests, number = {}, 0

function init(_)
  local file = io.open('%s', 'rb')
  while true do
    local size = file:read('*l')
    if not size then break end
    requests[#requests + 1] = file:read(tonumber(size))
  end
end

function request()
  number = number %% #requests + 1
  return requests[number]
end

function done(summary, latency, _)
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format('\\n[%%d, %%d, %%d, %%d, %%f, %%f, %%f]\\n',
    summary.requests, summary.duration, errors.status, broken,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
"""


class Wrk:
    """wrk with a list of requests that it sends in turn."""

    def __init__(self, folder: Path, name: str, requests: Sequence[Prepared]) -> None:
        requests_file = folder / f"{name}.requests"
        with requests_file.open("wb") as file:
            for request in requests:
                file.write(b"%d\n%b" % (len(request.data), request.data))
        self._script = folder / f"{name}.lua"
        self._script.write_text(_SCRIPT % requests_file)
        refused = sum(min(request.statuses) >= _REFUSED for request in requests)
        either = sum(len(request.statuses) > 1 for request in requests)
        self._refused_min = refused / len(requests)
        self._refused_max = (refused + either) / len(requests)

    async def load(self, url: str, *, seconds: float, connections: int) -> Load:
        """Send requests for so many seconds, of which wrk knows whole ones, one in flight a connection."""
        assert WRK is not None
        shape = ("-t1", f"-c{connections}", f"-d{ceil(seconds)}s", f"--timeout={_PATIENCE_S}s")
        process = await asyncio.create_subprocess_exec(
            WRK, *shape, "-s", self._script, url, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        calls, took_us, refused, broken, *latencies_us = json.loads(output.splitlines()[-1])
        p50, p99, p999 = (latency_us / 1000 for latency_us in latencies_us)
        # The end of a run cuts through the list, hence a little less or more is as right as any share.
        wrong = max(0.0, self._refused_min - refused / calls, refused / calls - self._refused_max)
        return Load(calls, took_us / 1e6, (p50, p99, p999), {_REFUSED: round(wrong * calls) + broken})
