"""The log stream of the demo backend: server-sent events, and counts of open streams.

Query parameters: `tail=N` lines of backlog, `ends_after_s=S` to end, `breaks=1` to abort instead of ending,
`silent=1` for a stream without pings.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from authz.demo.samples import log_lines

STREAM_MAX_S = 1800.0
_LIVE_LINE_S = 5.0


class LogStreams:
    """The streams of one backend; a quiet one sends a comment every `ping_s` seconds.

    Streams are counted by the identity headers that authz sets.
    """

    def __init__(self, ping_s: float) -> None:
        self._ping_s = ping_s
        self._open: Counter[str] = Counter()
        self._peak: Counter[str] = Counter()

    async def stream(self, request: Request) -> Response:
        """Respond with a stream."""
        return StreamingResponse(self._counted(request), media_type="text/event-stream")

    async def counts(self, _request: Request) -> Response:
        """Return the open streams of each key and account, and their maximum so far."""
        return JSONResponse({"open": +self._open, "peak": self._peak})

    async def _counted(self, request: Request) -> AsyncIterator[bytes]:
        whose = [request.headers.get(name, "") for name in ("x-authz-key-id", "x-authz-account-id")]
        for name in whose:
            self._open[name] += 1
            self._peak[name] = max(self._peak[name], self._open[name])
        try:
            async for event in self._events(request):
                yield event
        finally:
            self._open.subtract(whose)

    async def _events(self, request: Request) -> AsyncIterator[bytes]:
        """Yield the backlog, then live lines and pings; each event ends in LF LF."""
        query = request.query_params
        ends_s = time.monotonic() + float(query.get("ends_after_s", STREAM_MAX_S))
        line_s = time.monotonic() + _LIVE_LINE_S
        for line in log_lines(query.get("tail")):
            yield f"data: {line}\n\n".encode()
        while (left_s := ends_s - time.monotonic()) > 0:
            await asyncio.sleep(min(self._ping_s, left_s, max(0.01, line_s - time.monotonic())))
            if "silent" in query:
                continue
            if time.monotonic() >= line_s:
                line_s += _LIVE_LINE_S
                yield f"data: [Server] {datetime.now(UTC):%H:%M:%S} 3 players online\n\n".encode()
            elif left_s > self._ping_s:
                yield b": ping\n\n"
        if "breaks" in query:
            raise ConnectionError("the query asked for an abort")
