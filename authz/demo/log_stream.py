"""The log stream of the demo backend: server-sent events, and counts of open streams.

Query parameters: `tail=N` lines of backlog, `ends_after_s=S` to end, `breaks=1` to abort instead of ending,
`silent=1` for a stream without pings.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

TAIL_DEFAULT, TAIL_MAX = 100, 1000
STREAM_MAX_S = 1800.0


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
        """Yield the backlog and then pings; each event ends in LF LF."""
        query = request.query_params
        ends_s = time.monotonic() + float(query.get("ends_after_s", STREAM_MAX_S))
        for number in range(_tail(query.get("tail"))):
            yield b"data: [Server] line %d\n\n" % number
        while (left_s := ends_s - time.monotonic()) > 0:
            await asyncio.sleep(min(self._ping_s, left_s))
            if "silent" not in query and left_s > self._ping_s:
                yield b": ping\n\n"
        if "breaks" in query:
            raise ConnectionError("the query asked for an abort")


def _tail(text: str | None) -> int:
    if text is None or not text.removeprefix("-").isdecimal():
        return TAIL_DEFAULT
    return max(0, min(TAIL_MAX, int(text)))
