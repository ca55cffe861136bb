"""The reload of the policy in a running process: validated as a whole, then replaced as a whole.

What a policy is made of is in `core/policy/`; its file format in `adapters/policy_file/`.
"""

import asyncio
import logging
from collections.abc import Callable

from authz.adapters.policy_file.yaml import rendered
from authz.adapters.prometheus.process import ReloadOutcome
from authz.core.errors import PolicyError, SettingsError
from authz.core.policy.policy import Policy

_log = logging.getLogger("authz")


class PolicyReload:
    """Reloads the policy by `load`, which runs on a thread, and applies it by `apply` on the event loop.

    `load` raises `PolicyError` or `SettingsError` for a policy that must not be used: the present one stays.
    """

    def __init__(
        self, load: Callable[[], Policy], apply: Callable[[Policy], None], count: Callable[[ReloadOutcome], None]
    ) -> None:
        self._load = load
        self._apply = apply
        self._count = count
        self._running: asyncio.Task[None] | None = None
        self._is_requested = False

    def request(self) -> None:
        """Start a reload; while one is running, it is followed by one more."""
        self._is_requested = True
        if self._running is None or self._running.done():
            self._running = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Wait for a reload that is running."""
        if self._running is not None:
            await self._running

    async def _run(self) -> None:
        while self._is_requested:
            self._is_requested = False
            await self._reload()

    async def _reload(self) -> None:
        try:
            policy = await asyncio.get_running_loop().run_in_executor(None, self._load)
            self._apply(policy)
        except PolicyError as error:
            self._fail(rendered(error))
        except SettingsError as error:
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001 -- the present policy stays, and the log has the reason
            _log.exception("the policy reload broke")
            self._fail(type(error).__name__)
        else:
            self._count(ReloadOutcome.RELOADED)
            _log.info("policy reloaded", extra={"routes": len(policy.routes)})

    def _fail(self, reason: str) -> None:
        self._count(ReloadOutcome.FAILED)
        _log.error("policy not reloaded, the present one stays", extra={"error": reason})
