"""Every way in which a stream can end, over HTTP/1.1 and HTTP/2; `sse.LeaseCounts` shows the freed slot."""

import copy
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import httpx
from support.clients.sse import TARGET, Stream

from authz.demo.stack import Stack

IDLE, SHORT = "idle", "short"
"""Servers whose streams have a limit that can be waited for."""

End = Callable[[Stack, str], float]
"""Opens a stream with a key's secret and sees it end; returns when that was (monotonic, in seconds)."""

_HTTP2 = (
    "import sys; sys.path.insert(0, 'tests'); import httpx; from support.clients.sse import TARGET; "
    "c = httpx.Client(base_url={url!r}, trust_env=False, http1=False, http2=True); "
    "s = c.send(c.build_request('GET', TARGET, headers={{'x-api-key': {secret!r}}}), stream=True); "
)
_HTTP1 = (
    "import sys; sys.path.insert(0, 'tests'); from support.clients.sse import Stream; "
    "s = Stream({url!r}, {secret!r}); s.status_code = s.status; "
)
_TELL = "print(s.status_code, flush=True); sys.stdin.read()"


def with_short_streams(config: Any, limit: str) -> Any:  # noqa: ANN401 -- YAML
    """Limit the streams of two servers, in Envoy's configuration: how long one may be idle, and the other may last."""
    limits = {IDLE: {"idle_timeout": limit}, SHORT: {"max_stream_duration": {"max_stream_duration": limit}}}
    (listener,) = config["static_resources"]["listeners"]
    (host,) = listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
    stream = next(route for route in host["routes"] if route["name"] == "log-stream")
    for server, its in limits.items():
        short = copy.deepcopy(stream)
        short["name"], short["match"] = server, {"path": f"/v1/servers/{server}/logs/stream"}
        short["route"] |= its
        host["routes"].insert(0, short)
    return config


def _closed(stack: Stack, secret: str) -> float:
    stream = Stream(stack.url, secret)
    assert stream.status == 200
    ended_s = time.monotonic()
    stream.close()
    return ended_s


def _reset(stack: Stack, secret: str) -> float:
    stream = Stream(stack.url, secret)
    assert stream.status == 200
    ended_s = time.monotonic()
    stream.reset()
    return ended_s


def _left_over_http2(stack: Stack, secret: str, *, hangs_up: bool) -> float:
    """Reset a stream, or drop its connection."""
    client = httpx.Client(base_url=stack.url, trust_env=False, http1=False, http2=True)
    answer = client.send(client.build_request("GET", TARGET, headers={"x-api-key": secret}), stream=True)
    assert answer.status_code == 200
    ended_s = time.monotonic()
    if not hangs_up:
        answer.close()
    client.close()
    return ended_s


def _vanished(stack: Stack, secret: str, program: str) -> float:
    """Open a stream in a process of its own and kill that."""
    command = [sys.executable, "-c", program.format(url=stack.url, secret=secret) + _TELL]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    assert client.stdin is not None
    assert client.stdout.readline() == "200\n"
    ended_s = time.monotonic()
    client.kill()
    client.wait()
    client.stdout.close()
    client.stdin.close()
    return ended_s


def _read(stack: Stack, secret: str, query: str, server: str) -> float:
    """Read a stream until it ends by itself."""
    with Stream(stack.url, secret, query, server) as stream:
        assert stream.status == 200
        stream.read_to_the_end()
        return time.monotonic()


def _read_over_http2(stack: Stack, secret: str, query: str, server: str) -> float:
    target = TARGET.replace("s1", server) + query
    with (
        httpx.Client(base_url=stack.url, trust_env=False, http1=False, http2=True) as client,
        client.stream("GET", target, headers={"x-api-key": secret}) as answer,
    ):
        assert answer.status_code == 200
        with suppress(httpx.RemoteProtocolError):  # which says that it broke off
            answer.read()
        return time.monotonic()


# By what it is asked for, and of which server.
_ENDING = {
    "the backend ends": ("&ends_after_s=0.1", "s1"),
    "the backend breaks off": ("&ends_after_s=0.1&breaks=1", "s1"),
    "the stream is idle": ("&silent=1", IDLE),
    "the stream has lasted long enough": ("", SHORT),
}

ENDS: dict[str, End] = {
    "the client closes, HTTP/1.1": _closed,
    "the client resets, HTTP/1.1": _reset,
    "the client is killed, HTTP/1.1": partial(_vanished, program=_HTTP1),
    "the client resets, HTTP/2": partial(_left_over_http2, hangs_up=False),
    "the client closes, HTTP/2": partial(_left_over_http2, hangs_up=True),
    "the client is killed, HTTP/2": partial(_vanished, program=_HTTP2),
    **{f"{cause}, HTTP/1.1": partial(_read, query=it, server=server) for cause, (it, server) in _ENDING.items()},
    **{
        f"{cause}, HTTP/2": partial(_read_over_http2, query=it, server=server)
        for cause, (it, server) in _ENDING.items()
    },
}
