"""Password hashes with argon2id, in separate threads: one takes tens of milliseconds and many megabytes.

The login rules are in `service/portal/login.py`.
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

# From OWASP's password storage cheat sheet: the setting with the least memory and more than one pass.
_MEMORY_KIB = 19_456
_PASSES = 2
_LANES = 1
_WAITING_MAX = 100
_DECOY_BYTES = 32


class Argon2Passwords:
    """Creates and verifies hashes (`service.portal.ports.Passwords`): `threads` in parallel, `waiting_max` in total.

    A hash contains its parameters, so older hashes stay valid when the parameters are raised. `decoy` is a hash with
    the current parameters and an unknown password.
    """

    def __init__(
        self, *, threads: int = 2, memory_kib: int = _MEMORY_KIB, passes: int = _PASSES, waiting_max: int = _WAITING_MAX
    ) -> None:
        self._hasher = PasswordHasher(passes, memory_kib, _LANES, type=Type.ID)
        # Created at start: a slow first login would reveal that the name is unknown.
        self.decoy = self._hasher.hash(os.urandom(_DECOY_BYTES))
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._waiting = 0
        self._waiting_max = waiting_max

    async def hash(self, password: str) -> str:
        """Hash a password, with salt and parameters; raises `StoreUnavailable` when too many calls wait."""
        return await self._run(partial(self._hasher.hash, password))

    async def verify(self, password_hash: str, password: str) -> bool:
        """Return whether a hash matches a password; raises `StoreUnavailable` when too many calls wait."""
        return await self._run(partial(self._verify, password_hash, password))

    def is_outdated(self, password_hash: str) -> bool:
        """Return whether a hash has other parameters than the current ones."""
        return self._hasher.check_needs_rehash(password_hash)

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        # Under overload new calls fail at once, so that earlier calls do not wait for minutes.
        if self._waiting >= self._waiting_max:
            raise StoreUnavailable("passwords", "too many waiting calls")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1
