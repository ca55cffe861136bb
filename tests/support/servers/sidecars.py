"""A sidecar of its own, on stores that the test chooses, and what its probes and its log say."""

import json
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.error import HTTPError, URLError

from authz.demo.servers import Server, accepts, free_port, shipped


class OwnSidecar:
    """A sidecar process. `port` is that of checks; the log has level info."""

    def __init__(self, folder: Path, postgres_url: str, redis_url: str, **env: str) -> None:
        self.port, self._admin = free_port(), free_port()
        environment = {
            "AUTHZ_POLICY_FILE": str(shipped("policies/truetick.yaml")),
            "AUTHZ_POSTGRES_URL": postgres_url,
            "AUTHZ_REDIS_URL": redis_url,
            "AUTHZ_CHECK_LISTEN": f"127.0.0.1:{self.port}",
            "AUTHZ_ADMIN_LISTEN": f"127.0.0.1:{self._admin}",
            "AUTHZ_DRAIN_DELAY_S": "0",
            **env,
        }
        command = [sys.executable, "-m", "authz", "serve"]
        self.server = Server("authz", command, folder / f"authz-{self.port}.log", env=environment)

    def readiness(self) -> tuple[int, Any]:
        """Return the status and the document of /readyz; 0 without an answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._admin}/readyz", timeout=1) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            return error.code, json.load(error)
        except (URLError, OSError):
            return 0, None

    def until_ready(self, within_s: float = 20) -> float:
        """Wait until it is ready; returns the seconds that took."""
        started_s = monotonic()
        while self.readiness()[0] != 200:
            assert monotonic() < started_s + within_s, self.server.log_end()
            sleep(0.01)
        return monotonic() - started_s

    def log(self) -> list[dict[str, Any]]:
        """Return the lines of its log."""
        return [json.loads(line) for line in self.server.log.read_text().splitlines()]

    def warnings(self) -> list[dict[str, Any]]:
        """Return the lines above level info."""
        return [line for line in self.log() if line["level"] not in {"debug", "info"}]


@contextmanager
def own_sidecar(folder: Path, postgres_url: str, redis_url: str, **env: str) -> Iterator[OwnSidecar]:
    """Run a sidecar; it listens, and may not be ready."""
    made = OwnSidecar(folder, postgres_url, redis_url, **env)
    made.server.start(lambda: accepts(made.port))
    try:
        yield made
    finally:
        made.server.stop()
