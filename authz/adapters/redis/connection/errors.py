"""The error replies of Redis, by the action that they require: a redirection, a script load, or none.

Errors that end a connection belong to `pipe.py`.
"""

import re

import hiredis

from authz.core.errors import StoreUnavailable

OTHER_DATA = "OTHERDATA "
"""The error of scripts that find another mark of the data than their caller knows."""

# A server without a command quotes its arguments, which are a password for AUTH.
_ARGUMENTS = re.compile(r",? with args beginning with.*", re.DOTALL)
_REDIRECT = re.compile(r"(MOVED|ASK) (\d+) (.*):(\d+)")


class Redirected(StoreUnavailable):
    """A cluster node redirects a slot to another node: permanently (MOVED), or once and after ASKING (ASK).

    The command had no effect. `host` is empty if it is that of the node itself
    (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#moved-redirection).
    """

    def __init__(self, slot: int, host: str, port: int, *, asking: bool) -> None:
        super().__init__("redis", "a cluster node sends its keys elsewhere, where only redis+cluster:// follows")
        self.slot = slot
        self.host = host
        self.port = port
        self.asking = asking


class OtherData(StoreUnavailable):
    """Redis has lost its data since the caller read their mark. The command had no effect."""


def is_forgotten(reply: object) -> bool:
    """Return whether Redis does not know the script: the one error after which a command certainly had no effect."""
    return isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT")


def shown(error: object) -> str:
    """Return what an error says, without the arguments of a command in it."""
    return _ARGUMENTS.sub("", str(error))


def failure(reply: hiredis.ReplyError) -> StoreUnavailable:
    """Convert an error reply to `StoreUnavailable`, `Redirected` or `OtherData`."""
    if OTHER_DATA in str(reply):
        return OtherData("redis", "redis has lost its data")
    found = _REDIRECT.fullmatch(str(reply))
    if found is None:
        return StoreUnavailable("redis", shown(reply))
    return Redirected(int(found[2]), found[3].strip("[]"), int(found[4]), asking=found[1] == "ASK")
