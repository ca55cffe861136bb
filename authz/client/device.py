"""Waiting for a device's approval: how often to ask, for how long, and what is no reason to stop (RFC 8628).

What the person sees meanwhile is `screen.py`.
"""

from collections.abc import Callable

from authz.client.api import Grant
from authz.client.faults import Fault, NotApproved

_SLOW_DOWN = 429
_NOT_FOUND = 404
_SERVER_FAILED = 500


def await_approval(
    grant: Grant,
    poll: Callable[[Grant], tuple[str, str]],
    *,
    now_s: Callable[[], float],
    sleep: Callable[[float], None],
    tell: Callable[[str], None],
) -> str:
    """Ask every interval until the device is approved; returns its key.

    `poll` is `Api.poll_device`; `tell` gets what the API last answered instead, or "". Raises `NotApproved` when the
    code runs out, and the API's refusal when asking again is pointless.
    """
    ends_s = now_s() + grant.expires_in_s
    wait_s, words = grant.interval_s, ""
    while now_s() + wait_s < ends_s:
        sleep(wait_s)
        wait_s, words = grant.interval_s, ""
        try:
            status, api_key = poll(grant)
        except Fault as fault:
            if not _is_passing(fault):
                raise
            wait_s, words = max(grant.interval_s, fault.retry_after_s or 0), str(fault)
        else:
            if status == "approved":
                return api_key
            if status != "pending":
                raise NotApproved("the code has expired, or was refused: truetick login starts anew")
        tell(words)
    raise NotApproved(f"nobody approved the code in time{f' ({words})' if words else ''}: truetick login starts anew")


def _is_passing(fault: Fault) -> bool:
    """Tell whether asking again may help: out of reach, a server's own failure, or too fast for it."""
    return fault.status is None or fault.status in {_SLOW_DOWN, _NOT_FOUND} or fault.status >= _SERVER_FAILED
