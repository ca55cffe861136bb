"""The release of a former policy in small steps: to free a table of 10,000 rows at once takes 3 ms of the event loop.

When a policy is replaced is decided by `reload.py`.
"""

import asyncio
import sys

from authz.core.policy.policy import Policy

_WAIT_S, _WAITS_MAX = 0.2, 300
_STEP_ROWS, _STEP_S = 250, 0.002
_OWN_REFERENCES = 2  # the parameter, and that of the count itself


async def release(policy: Policy) -> None:
    """Wait until nobody else uses a policy, then free it. After a minute it is left to its last user.

    The caller must not keep a reference.
    """
    for _ in range(_WAITS_MAX):
        await asyncio.sleep(_WAIT_S)
        if sys.getrefcount(policy) <= _OWN_REFERENCES:
            break
    else:
        return
    router, routes = policy.router, list(policy.routes)
    del policy
    for number, _ in enumerate(router.dismantle()):
        if number % _STEP_ROWS == 0:
            await asyncio.sleep(_STEP_S)
    while routes:
        del routes[-_STEP_ROWS:]
        await asyncio.sleep(_STEP_S)
