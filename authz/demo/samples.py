"""The sample responses of the demo backend, in the shapes that the clients of the API show.

The HTTP side is `backend.py`, the log stream is `log_stream.py`.
"""

import re
import secrets
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

LOG_LINES_DEFAULT, LOG_LINES_MAX = 100, 1000

_SERVER = {
    "id": "s1",
    "name": "spawn",
    "hostname": "spawn.play.example",
    "state": "running",
    "status": "running",
    "version": "1.21.4",
    "region": "eu-central",
}
_FILE = b"motd=hello\n"
_ENTRIES = [
    {"name": "server.properties", "size": len(_FILE), "kind": "file", "isDir": False},
    {"name": "world", "size": 0, "kind": "directory", "isDir": True},
]
_MOD_VERSIONS = [{"id": "mv1", "name": "lithium 0.14.3", "gameVersion": "1.21.4"}]
_MINUTES = [{"minute": minute, "tps": 20.0, "mspt": 8.0 + minute} for minute in range(3)]

# The last segment of the path of a GET; a path that ends in an id returns one server.
_READS: dict[str, Any] = {
    "servers": {"servers": [_SERVER]},
    "metrics": {"tps": 20.0, "memory_mib": 2048, "players": 3},
    "tick-history": {"minutes": _MINUTES},
    "files": {"entries": _ENTRIES},
    "file": {"name": "server.properties", "content": b64encode(_FILE).decode(), "encoding": "base64"},
    "backups": {"backups": [{"id": "b1", "name": "nightly", "kept": True, "sizeBytes": 1_048_576}]},
    "mods": {"mods": [{"id": "lithium", "name": "Lithium", "versionId": "mv1"}]},
    "versions": {"versions": ["1.21.4", "1.20.6"]},
    "templates": {"templates": [{"id": "survival", "name": "Survival"}]},
    "ledger": {"entries": []},
    "limits": {"serversMax": 5, "servers_max": 5},
    "regions": {"regions": ["eu-central"]},
    "capacity": {"eu-central": "available"},
    "players": {"players": [{"name": "ada", "op": True}]},
    "schedules": {"schedules": []},
    "worlds": {"worlds": ["world"]},
    "audit": {"events": []},
    "ports": {"ports": [25_565]},
    "databases": {"databases": []},
}
_WALLET = {"balanceMicros": 12_500_000, "balance_cents": 1250, "currency": "EUR"}


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """A request to the backend: `body` is its JSON object, empty without one."""

    method: str
    path: str
    account_id: str
    query: Mapping[str, str]
    body: Mapping[str, Any]


def sample(request: SampleRequest) -> dict[str, Any]:
    """Return the response body to a request."""
    return _read(request) if request.method == "GET" else _changed(request)


def log_lines(tail: str | None) -> list[str]:
    """Return the last lines of the log, 0 to 1000."""
    return [f"[Server] line {number}" for number in range(tail_lines(tail))]


def tail_lines(text: str | None) -> int:
    """Return the requested number of log lines within its limits; the default for anything else than a number."""
    if text is None or not re.fullmatch("-?[0-9]{1,9}", text):
        return LOG_LINES_DEFAULT
    return max(0, min(LOG_LINES_MAX, int(text)))


def _read(request: SampleRequest) -> dict[str, Any]:
    last = request.path.rpartition("/")[2]
    if request.path == "/v1/whoami":
        return {"accountId": request.account_id, "email": "ada@example.com", "emailVerified": True}
    if last == "wallet":
        return {"accountId": request.account_id or request.path.split("/")[3], **_WALLET}
    if last == "logs":
        return {"lines": log_lines(request.query.get("tail"))}
    if request.path.endswith("/mods/versions"):
        return {"versions": _MOD_VERSIONS}
    found: dict[str, Any] = _READS.get(last, _SERVER)
    return found


def _changed(request: SampleRequest) -> dict[str, Any]:
    if request.path.endswith("/checkout-link"):
        return {"ok": True, "checkoutUrl": f"https://checkout.example/{secrets.token_hex(8)}"}
    resource, colon, verb = request.path.rpartition("/")[2].partition(":")
    change = _CHANGES.get(verb) if colon else None
    if change is not None:
        return {"ok": True, **change(request)}
    return {"ok": True, "id": resource if colon and resource else _new_id(request.path)}


def _new_id(path: str) -> str:
    kind = path.rstrip("/").rpartition("/")[2]
    return f"{kind[:1] or 'x'}{secrets.token_hex(4)}"


def _ran(request: SampleRequest) -> dict[str, Any]:
    return {"output": f"ran: {str(request.body.get('command', ''))[:200]}"}


def _sftp(_request: SampleRequest) -> dict[str, Any]:
    return {"host": "sftp.play.example", "port": 2022, "username": "s1", "password": secrets.token_urlsafe(12)}


def _created(_request: SampleRequest) -> dict[str, Any]:
    return {"id": f"s{secrets.token_hex(4)}"}


_CHANGES: dict[str, Callable[[SampleRequest], dict[str, Any]]] = {
    "command": _ran,
    "enable-sftp": _sftp,
    "rotate-sftp": _sftp,
    "create": _created,
}
