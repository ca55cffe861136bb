"""Runs one use case of an operator's command, and names the operator for the audit log.

Stores are opened in `session.py`; errors become exit codes in `failures.py`.
"""

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, TypeVar

from authz.core.accounts import Actor

if TYPE_CHECKING:
    from authz.service.keys.admin import KeyAdmin

A = TypeVar("A")
T = TypeVar("T")


def actor() -> Actor:
    """Return the operator as the actor for the audit log; the user id stands for a user without a name."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid-{os.getuid()}"
    return Actor(f"operator:{name}", "local")


def run(use: Callable[["KeyAdmin"], Awaitable[T]]) -> T:
    """Run one use case of keys and accounts; raises `Refused`, `NotEffectiveYet` and `StoreUnavailable`."""
    from authz.cli.session import open_admin  # noqa: PLC0415 -- drivers take most of the time that a command loads

    return perform(open_admin(), use)


def perform(opened: AbstractAsyncContextManager[A], use: Callable[[A], Awaitable[T]]) -> T:
    """Run one use case of what was opened."""

    async def session() -> T:
        async with opened as admin:
            return await use(admin)

    return asyncio.run(session())
