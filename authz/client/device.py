"""Polls for the approval of a device (RFC 8628): interval, time limit, and the errors that polling survives.

The output meanwhile is `screen.py`.
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
    report: Callable[[str], None],
) -> str:
    """Poll at each interval until the device is approved; returns the key.

    `poll` is `Api.poll_device`; `report` receives the last error, or "". Raises `NotApproved` when the code expires,
    and a refusal by the API that a retry cannot change.
    """
    ends_s = now_s() + grant.expires_in_s
    wait_s, words = grant.interval_s, ""
    while now_s() + wait_s < ends_s:
        sleep(wait_s)
        wait_s, words = grant.interval_s, ""
        try:
            status, api_key = poll(grant)
        except Fault as fault:
            if not _is_transient(fault):
                raise
            wait_s, words = max(grant.interval_s, fault.retry_after_s or 0), str(fault)
        else:
            if status == "approved":
                return api_key
            if status != "pending":
                raise NotApproved("the code has expired or was refused: run truetick login again")
        report(words)
    raise NotApproved(f"nobody approved the code in time{f' ({words})' if words else ''}: run truetick login again")


def _is_transient(fault: Fault) -> bool:
    """Return whether a retry may succeed: unavailable, a server failure, or polling too fast."""
    return fault.status is None or fault.status in {_SLOW_DOWN, _NOT_FOUND} or fault.status >= _SERVER_FAILED
