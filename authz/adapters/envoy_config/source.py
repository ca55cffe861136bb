"""Reads the text of a configuration from a file, from standard input, or from an address, within bounds.

How the text is understood is `document.py`.
"""

import sys
import time
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from authz.adapters.envoy_config.document import TEXT_BYTES_MAX, UnreadableConfig

_CHUNK_BYTES = 262_144
STDIN = "-"


class _NoRedirect(HTTPRedirectHandler):
    """Follows no redirect: the operator names the address."""

    def redirect_request(self, *_args: object) -> None:
        """Return no request, so that the redirect is an error."""


def text_of(source: str, timeout_s: float = 10) -> str:
    """Return the text of a file, of `-` or of an http(s) address; raises `UnreadableConfig`."""
    try:
        return _bytes(source, timeout_s).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableConfig("not UTF-8") from None


def is_url(source: str) -> bool:
    """Tell whether a source is an address."""
    return "://" in source


def _bytes(source: str, timeout_s: float) -> bytes:
    deadline = time.monotonic() + timeout_s
    try:
        if source == STDIN:
            return _bounded(sys.stdin.buffer, float("inf"))
        if is_url(source):
            return _fetched(source, timeout_s, deadline)
        with Path(source).open("rb") as file:
            return _bounded(file, float("inf"))
    except HTTPError as error:
        error.close()
        raise UnreadableConfig(f"the server answered {error.code}") from None
    except URLError as error:
        raise UnreadableConfig(f"cannot be fetched: {error.reason}") from None
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableConfig(f"cannot be read: {reason.lower()}") from None


def _fetched(source: str, timeout_s: float, deadline: float) -> bytes:
    if not source.startswith(("http://", "https://")):
        raise UnreadableConfig("an address begins with http:// or https://")
    request = Request(source, headers={"accept": "application/json"})  # noqa: S310 -- the scheme is checked
    with build_opener(_NoRedirect).open(request, timeout=timeout_s) as answer:
        return _bounded(answer, deadline)


def _bounded(file: IO[bytes], deadline: float) -> bytes:
    """Read to the end; raises `UnreadableConfig` where that is too much or too late."""
    read = getattr(file, "read1", file.read)  # what has arrived, so that a slow server cannot hold the read
    parts: list[bytes] = []
    total = 0
    while part := read(_CHUNK_BYTES):
        parts.append(part)
        total += len(part)
        if total > TEXT_BYTES_MAX:
            raise UnreadableConfig(f"larger than {TEXT_BYTES_MAX >> 20} MiB")
        if time.monotonic() > deadline:
            raise UnreadableConfig("the server is too slow")
    return b"".join(parts)
