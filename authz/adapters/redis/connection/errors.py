"""What an error that Redis replies with asks of whoever sent the command: another server, the script, or nothing.

Errors that end a connection are `redis_pipe.py`'s.
"""

import re

import hiredis

from authz.core.errors import StoreUnavailable

_REDIRECT = re.compile(r"(MOVED|ASK) (\d+) (.*):(\d+)")


class Redirected(StoreUnavailable):
    """A node of a cluster names another for a slot: for good (MOVED), or for this once and asked to (ASK).

    The command has done nothing. `host` is empty where it is that of the node itself
    (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#moved-redirection).
    """

    def __init__(self, slot: int, host: str, port: int, *, asking: bool) -> None:
        super().__init__("redis", "a cluster node sends its keys elsewhere, where only redis+cluster:// follows")
        self.slot = slot
        self.host = host
        self.port = port
        self.asking = asking


def is_forgotten(reply: object) -> bool:
    """Tell whether Redis does not know the script: the one error after which a command has certainly done nothing."""
    return isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT")


def failure(reply: hiredis.ReplyError) -> StoreUnavailable:
    """Return an error reply as what it means to the use cases."""
    found = _REDIRECT.fullmatch(str(reply))
    if found is None:
        return StoreUnavailable("redis", str(reply))
    return Redirected(int(found[2]), found[3].strip("[]"), int(found[4]), asking=found[1] == "ASK")
