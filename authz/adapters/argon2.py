"""Password hashes by argon2id, in threads of their own: one takes tens of milliseconds and many megabytes.

When a password is checked, and what is done about a wrong one, is `service/login.py`.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from authz.core.errors import StoreUnavailable

T = TypeVar("T")

# OWASP's password storage cheat sheet, of its equivalent settings the one that asks for least memory at once with more
# than one pass.
_MEMORY_KIB = 19_456
_PASSES = 2
_LANES = 1
_WAITING_MAX = 100
_DECOY_BYTES = 32


class Argon2Passwords:
    """Makes and checks hashes (`service.portal_ports.Passwords`), at most `threads` at a time; `waiting_max` may wait.

    Hashes carry their parameters, so that older ones are still understood after these have been raised. `decoy` is a
    hash of today's whose password nobody knows.
    """

    def __init__(
        self, *, threads: int = 2, memory_kib: int = _MEMORY_KIB, passes: int = _PASSES, waiting_max: int = _WAITING_MAX
    ) -> None:
        self._hasher = PasswordHasher(passes, memory_kib, _LANES, type=Type.ID)
        # Made at once: a first stranger who waited for it would learn that nobody is known by the name.
        self.decoy = self._hasher.hash(os.urandom(_DECOY_BYTES))
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._waiting = 0
        self._waiting_max = waiting_max

    async def hash(self, password: str) -> str:
        """Make the hash of a password, with salt and parameters in it; raises `StoreUnavailable` when too many wait."""
        return await self._run(partial(self._hasher.hash, password))

    async def verify(self, password_hash: str, password: str) -> bool:
        """Tell whether a hash is that of a password; raises `StoreUnavailable` when too many wait."""
        return await self._run(partial(self._verify, password_hash, password))

    def is_outdated(self, password_hash: str) -> bool:
        """Tell whether a hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(password_hash)

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        # A crowd at the door is told to come back; it must not make those wait for minutes who came first.
        if self._waiting >= self._waiting_max:
            raise StoreUnavailable("passwords", "too many wait")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1
