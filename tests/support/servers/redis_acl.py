"""The ACL users that docs/redis.md tells operators to make: what it says is what the tests connect with."""

from pathlib import Path

_LINES = (Path(__file__).parents[3] / "docs" / "redis.md").read_text().splitlines()
_ORDERS = [line.split() for line in _LINES if line.startswith("ACL SETUSER")]

USER, PASSWORD = "authz", "password"
SERVER_USER, SENTINEL_USER, CLUSTER_USER, PORTAL_USER = _ORDERS
