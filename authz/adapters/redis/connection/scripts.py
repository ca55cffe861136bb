"""Scripts of Redis, commands in its protocol, and what can run a script.

The scripts themselves are in `lua/`, and the modules that use them read them.
"""

from hashlib import sha1
from typing import Any, Protocol

import hiredis


class Script:
    """A Lua script: its source and its SHA-1, which identifies it in Redis."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.sha = sha1(source, usedforsecurity=False).hexdigest()


class Caller(Protocol):
    """Runs scripts on the server of their key: a link to one server, or the links to a cluster."""

    async def call(self, script: Script, keys: bytes | tuple[bytes, ...], *arguments: bytes) -> Any:  # noqa: ANN401 -- any reply
        """Run a script on one key, or several of one hash slot; return its reply. Raises `StoreUnavailable`."""
        ...


def packed(*words: str | bytes) -> bytes:
    """Encode a command in the Redis protocol."""
    command: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub asks for a tuple of one
    return command
