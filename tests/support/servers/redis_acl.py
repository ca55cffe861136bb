"""The ACL users of docs/redis.md: tests connect with the documented rules."""

from pathlib import Path

_LINES = (Path(__file__).parents[3] / "docs" / "redis.md").read_text().splitlines()
_ORDERS = [line.split() for line in _LINES if line.startswith("ACL SETUSER")]

USER, PASSWORD = "authz", "password"
SERVER_USER, SENTINEL_USER, CLUSTER_USER, PORTAL_USER = _ORDERS
