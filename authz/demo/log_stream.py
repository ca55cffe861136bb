"""The demo backend's log stream: server-sent events, framed exactly, and a count of who had how many open.

What a stream can be asked to do by its query: `tail=N` lines of backlog, `ends_after_s=S` to end by itself, `breaks=1`
to break off instead of ending, `silent=1` to send no pings.
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

    It knows its callers by the identity headers that authz sets.
    """

    def __init__(self, ping_s: float) -> None:
        self._ping_s = ping_s
        self._open: Counter[str] = Counter()
        self._peak: Counter[str] = Counter()

    async def stream(self, request: Request) -> Response:
        """Answer with a stream."""
        return StreamingResponse(self._counted(request), media_type="text/event-stream")

    async def counts(self, _request: Request) -> Response:
        """Tell how many streams each key and each account has open, and the most that it had."""
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
        """Write the backlog and then pings: each event ends in LF LF, nothing else is between them."""
        query = request.query_params
        ends_s = time.monotonic() + float(query.get("ends_after_s", STREAM_MAX_S))
        for number in range(_tail(query.get("tail"))):
            yield b"data: [Server] line %d\n\n" % number
        while (left_s := ends_s - time.monotonic()) > 0:
            await asyncio.sleep(min(self._ping_s, left_s))
            if "silent" not in query and left_s > self._ping_s:
                yield b": ping\n\n"
        if "breaks" in query:
            raise ConnectionError("the stream was asked to break off")


def _tail(text: str | None) -> int:
    if text is None or not text.removeprefix("-").isdecimal():
        return TAIL_DEFAULT
    return max(0, min(TAIL_MAX, int(text)))
