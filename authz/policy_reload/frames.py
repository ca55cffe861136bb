"""A policy as bytes, in frames of some rows each, for transport between processes of one version.

The policy in force cannot be read from its file again: the file may have changed. Files are `adapters/policy_file/`.
"""

import pickle
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import fields
from sys import intern
from typing import Any, TypeAlias

from authz.core.hosts.table import router_of
from authz.core.policy.policy import Policy
from authz.core.policy.route import Route

Frames: TypeAlias = tuple[bytes, ...]

# One frame is unpickled by one call, which holds the interpreter lock: for less than a millisecond.
_ROWS = 200
_ROW = tuple(item.name for item in fields(Route) if item.init)
_PARTS = tuple(item.name for item in fields(Policy) if item.init and item.name not in {"routes", "router"})


def framed(policy: Policy) -> Frames:
    """Serialise a policy: a frame of everything except the table, then the rows."""
    router = policy.router
    options = {"head_follows_get": router.head_follows_get, "ignores_slash": router.ignores_slash}
    head = {name: getattr(policy, name) for name in _PARTS}, options
    rows = [tuple(getattr(route, name) for name in _ROW) for route in policy.routes]
    parts: list[object] = [head, *(rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS))]
    return tuple(zlib.compress(pickle.dumps(part), 1) for part in parts)


def unframed(frames: Sequence[bytes]) -> Policy:
    """Build the policy again. The frames must come from `framed` in this process or in its child."""
    head, options = _part(frames[0])
    routes = tuple(route for frame in frames[1:] for route in _routes(frame))
    return Policy(**head, routes=routes, router=router_of(routes, **options))


def _routes(frame: bytes) -> Iterator[Route]:
    for values in _part(frame):
        # Interned words are one object for many rows, which is then in the processor's caches.
        words: Any = (intern(value) if type(value) is str else value for value in values)
        yield Route(*words)


def _part(frame: bytes) -> Any:  # noqa: ANN401 -- whatever was serialised
    return pickle.loads(zlib.decompress(frame))  # noqa: S301 -- our own bytes, see `unframed`
