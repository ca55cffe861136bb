"""Queries for the epoch of a Redis server's data, which every record names.

`link.py` sends the queries and disconnects when the epoch changes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

import hiredis
from redis.exceptions import RedisError

_EPOCH_CHARS = 8

IN_CLUSTER = files("authz.adapters.redis").joinpath("lua", "epoch.lua").read_bytes()
"""Lua that stores the epoch of a cluster node in the local `life`."""


@dataclass(frozen=True, slots=True)
class Life:
    """A command, and a parser that returns the epoch or raises `RedisError` if the reply contains none."""

    question: tuple[str | bytes, ...]
    read: Callable[[object], str]


def info_fields(info: object) -> dict[str, str]:
    """Return the fields of a reply to INFO; none of another reply."""
    text = info.decode(errors="replace") if isinstance(info, bytes) else ""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def _replication_id(info: object) -> str:
    fields = info_fields(info)
    if fields.get("role") != "master":
        raise RedisError("not a primary")
    if len(fields.get("master_replid", "")) < _EPOCH_CHARS:
        raise RedisError("no replication id")
    return fields["master_replid"][:_EPOCH_CHARS]


def _told(reply: object) -> str:
    if isinstance(reply, hiredis.ReplyError):
        raise RedisError(str(reply))
    if not isinstance(reply, bytes):
        raise RedisError("not a primary")
    return reply.decode(errors="replace")


OF_SERVER = Life(("INFO", "replication"), _replication_id)
OF_NODE = Life(("EVAL", IN_CLUSTER + b"return life", "0"), _told)
