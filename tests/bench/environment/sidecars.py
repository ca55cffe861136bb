"""Additional sidecars on the stack's stores, each with its own settings."""

import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import URLError

import yaml

from authz.demo.servers import Server, free_port
from authz.demo.stack import Stack

_OK = 200


class Sidecar(Server):
    """One `authz serve` without grpcio, on the stack's stores unless `env` says otherwise; it listens at `check_port`.

    Its policy is the sample one with a higher limit for bad keys, because a load comes from few addresses.
    """

    def __init__(self, stack: Stack, name: str, env: dict[str, str]) -> None:
        self.check_port, self._admin_port = free_port(), free_port()
        environment = {
            "AUTHZ_POLICY_FILE": str(_policy(stack)),
            "AUTHZ_REDIS_URL": stack.redis.socket_url,
            "AUTHZ_POSTGRES_URL": stack.postgres.url,
            "AUTHZ_CHECK_LISTEN": f"127.0.0.1:{self.check_port}",
            "AUTHZ_ADMIN_LISTEN": f"127.0.0.1:{self._admin_port}",
            "AUTHZ_DRAIN_DELAY_S": "0",
            **env,
        }
        super().__init__(name, [sys.executable, "-m", "authz", "serve"], stack.folder / f"{name}.log", env=environment)

    def serve(self) -> None:
        """Start and wait until it is ready."""
        self.start(self._is_ready)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._admin_port}/readyz", timeout=1) as answer:
                return bool(answer.status == _OK)
        except (URLError, OSError):
            return False


def _policy(stack: Stack) -> Path:
    path = stack.folder / "patient.yaml"
    policy: dict[str, Any] = yaml.safe_load(stack.settings.policy_file.read_text())
    policy["invalid_keys"] = {"capacity": 1_000_000, "refill_per_s": 1_000_000}
    path.write_text(yaml.safe_dump(policy))
    return path
