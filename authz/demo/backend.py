"""A small API behind Envoy: JSON for the routes of the sample policy, a log stream, and an echo of requests.

It trusts the identity headers, as a backend behind authz may, and does not check keys.
"""

import argparse
import json
import re
import sys
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from authz.demo.log_stream import LogStreams
from authz.demo.samples import SampleRequest, sample

STREAM_COUNTS = "/demo/streams"
"""The path that reports the open streams of the backend; no policy routes a request here."""

_BODY_BYTES_MAX = 65_536
_REQUEST_ID = re.compile(r"[0-9A-Za-z-]{1,64}")  # nothing else is logged: a caller may choose it


def application(ping_s: float) -> Starlette:
    """Create the ASGI application; a quiet log stream sends a comment every `ping_s` seconds."""
    streams = LogStreams(ping_s)
    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    return Starlette(
        routes=[
            Route("/v1/servers/{id}/logs/stream", streams.stream, methods=["GET"]),
            Route(STREAM_COUNTS, streams.counts),
            Route("/{path:path}", _answer, methods=methods),
        ]
    )


async def _answer(request: Request) -> Response:
    _log(request)
    path = request.url.path
    if "x-demo-echo" in request.headers or not path.startswith("/v1/"):
        return JSONResponse(await _echo(request))
    account_id = request.headers.get("x-authz-account-id", "")
    return JSONResponse(
        sample(SampleRequest(request.method, path, account_id, request.query_params, await _document(request)))
    )


def _log(request: Request) -> None:
    """Write one line about a request that Envoy sent, by the id that is in the logs of Envoy and authz as well."""
    request_id = request.headers.get("x-request-id", "")
    if _REQUEST_ID.fullmatch(request_id):
        line = {"event": "request", "request_id": request_id, "key_id": request.headers.get("x-authz-key-id")}
        sys.stdout.write(json.dumps(line) + "\n")


async def _document(request: Request) -> dict[str, Any]:
    """Return the JSON object of a body; an empty one for anything else."""
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > _BODY_BYTES_MAX:
            return {}
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


async def _echo(request: Request) -> dict[str, Any]:
    """Return the request exactly as it arrived."""
    query = request.scope["query_string"]
    target = request.scope["raw_path"] + (b"?" + query if query else b"")
    return {
        "method": request.method,
        "target": target.decode("latin-1"),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers.raw],
        "body": (await request.body()).decode("latin-1"),
    }


def main() -> None:
    """Serve on loopback until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ping-s", type=float, default=15.0)
    options = parser.parse_args()
    sys.stdout = open(1, "w", buffering=1)  # noqa: SIM115 -- one write for each line
    uvicorn.run(
        application(options.ping_s),
        host="127.0.0.1",
        port=options.port,
        log_level="warning",
        timeout_keep_alive=60,  # longer than the idle timeout of Envoy
        timeout_graceful_shutdown=1,
        server_header=False,
    )


if __name__ == "__main__":
    main()
