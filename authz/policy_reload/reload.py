"""The reload of the policy in a running process: on request or when its file changes, as a whole or not at all.

How a file is read is `source.py`; what a policy is made of is in `core/policy/`.
"""

import asyncio
import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from authz.adapters.policy_file.loader import Loaded
from authz.adapters.prometheus.process import PolicyMetrics, ReloadOutcome
from authz.core.errors import SettingsError
from authz.core.policy.effect import NO_EFFECT, Effect
from authz.core.policy.policy import Gate, Policy
from authz.policy_reload.child import Candidate
from authz.policy_reload.frames import Frames, framed, unframed
from authz.policy_reload.release import release
from authz.policy_reload.source import PolicySource

_CHANGED = "a file changed while it was read"

_log = logging.getLogger("authz")


class Cause(StrEnum):
    """Why a reload was started."""

    SIGNAL = "signal"
    FILE = "file"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """The result of one reload. `digest` is of the policy in force after it; `fault` says why nothing was loaded."""

    outcome: ReloadOutcome
    digest: str
    fault: str = ""
    effect: Effect = NO_EFFECT


@dataclass(slots=True)
class _Request:
    cause: Cause
    done: "asyncio.Future[ReloadResult]"
    acknowledged: set[str] = field(default_factory=set)


class PolicyReload:
    """Replaces the policy in force by `apply`, which is called on the event loop. Checks under way keep theirs.

    `check` raises `SettingsError` for a policy that does not fit this process. With `freezes` the garbage collector
    never examines the new table (`gc.freeze`), for a process that creates few cycles. Raises `PolicyError` and
    `SettingsError` if the first policy must not be used.
    """

    def __init__(
        self,
        file: Path,
        load: Callable[[Path], Loaded],
        *,
        apply: Callable[[Policy], None],
        check: Callable[[Policy], None] = lambda _policy: None,
        gate: Gate = Gate.OFF,
        freezes: bool = False,
    ) -> None:
        self._source = PolicySource(file)
        self.policy, self._seen = load(file)
        self._source.follow(self._seen)
        self._before = self._seen  # before the load: a change during it is seen
        check(self.policy)
        self.metrics = PolicyMetrics(self.policy)
        self._frames: Frames = framed(self.policy)
        self._apply, self._check = apply, check
        self._gate, self._freezes = gate, freezes
        self._waiting: _Request | None = None
        self._running: asyncio.Task[None] | None = None
        self._releasing: asyncio.Task[None] | None = None
        self._is_closed = False
        self._last = ""

    def request(self, cause: Cause = Cause.SIGNAL, acknowledged: str = "") -> "asyncio.Future[ReloadResult]":
        """Start a reload and return its result to wait for; while one is running, it is followed by one more.

        `acknowledged` is the digest of a policy in force that may be replaced by one that opens something.
        """
        loop = asyncio.get_running_loop()
        if self._waiting is None:
            self._waiting = _Request(cause, loop.create_future())
        request = self._waiting
        if acknowledged:
            request.acknowledged.add(acknowledged)
        if self._running is None or self._running.done():
            self._running = loop.create_task(self._run())
        return request.done

    def state(self) -> dict[str, str | int]:
        """Return what the policy in force is, when it was loaded, and how the last reload ended, if there was one."""
        loaded = datetime.fromtimestamp(self.metrics.loaded_s, UTC).isoformat(timespec="seconds")
        state: dict[str, str | int] = {
            "digest": self.policy.digest,
            "version": self.policy.version,
            "routes": len(self.policy.routes),
            "loaded": loaded,
        }
        return state | ({"last_reload": self._last} if self._last else {})

    async def examine(self) -> None:
        """Reload if a file has changed, and all have been the same in this call and the one before."""
        found = await asyncio.get_running_loop().run_in_executor(None, self._source.signature)
        # A file that is still being written may be valid in part, so only a state that lasts is read.
        lasts, self._before = found == self._before, found
        if lasts and found != self._seen and not self._is_closed:
            await self.request(Cause.FILE)

    async def close(self) -> None:
        """End a reload that is under way; its policy is not used."""
        self._is_closed = True
        self._source.close()
        if self._running is not None:
            await self._running
        if self._releasing is not None:
            self._releasing.cancel()

    async def _run(self) -> None:
        while (request := self._waiting) is not None:
            self._waiting = None
            try:
                result = await self._reload(request)
            except Exception as error:  # noqa: BLE001 -- the present policy stays, and the log has the reason
                _log.exception("the policy reload broke")
                result = self._failed(type(error).__name__)
            self._last = result.outcome.value
            self.metrics.reloaded(result.outcome)
            if not self._is_closed:
                _report(request.cause, result, self.policy)
            if not request.done.done():  # who waited may have been cancelled
                request.done.set_result(result)

    async def _reload(self, request: _Request) -> ReloadResult:
        loop = asyncio.get_running_loop()
        self._seen = await loop.run_in_executor(None, self._source.signature)
        candidate = await loop.run_in_executor(None, self._source.read, self._frames)
        self._source.follow(candidate.seen)
        self._seen = candidate.seen or self._seen
        if candidate.fault:
            return self._failed(candidate.fault)
        if not candidate.frames:
            return ReloadResult(ReloadOutcome.UNCHANGED, self.policy.digest)
        if self._is_refused(candidate, request.acknowledged):
            return ReloadResult(ReloadOutcome.REFUSED, self.policy.digest, effect=candidate.effect)
        if self._freezes:
            gc.collect()  # few objects: all others are frozen
            gc.disable()
        try:
            policy = await loop.run_in_executor(None, unframed, candidate.frames)
            if self._is_closed or await loop.run_in_executor(None, self._is_newer):
                return self._failed(_CHANGED)
            self._check(policy)
            former, self.policy, self._frames = self.policy, policy, candidate.frames
            self._apply(policy)
            self.metrics.use(policy)
            self._releasing = loop.create_task(release(former))
            del former
        except SettingsError as error:
            return self._failed(str(error))
        finally:
            if self._freezes:
                gc.freeze()
                gc.enable()
        return ReloadResult(ReloadOutcome.RELOADED, policy.digest, effect=candidate.effect)

    def _is_newer(self) -> bool:
        """Tell whether a file changed since the read began."""
        return self._source.signature() != self._seen

    def _is_refused(self, candidate: Candidate, acknowledged: set[str]) -> bool:
        if self._gate is not Gate.NO_OPENING or not candidate.effect.opens:
            return False
        return self.policy.digest not in {*candidate.acknowledges, *acknowledged}

    def _failed(self, fault: str) -> ReloadResult:
        return ReloadResult(ReloadOutcome.FAILED, self.policy.digest, fault)


def _report(cause: Cause, result: ReloadResult, policy: Policy) -> None:
    """Log one reload and what it changes."""
    found = result.effect
    change = {"opens": found.opens, "closes": found.closes, "changes": found.lines}
    by = {"cause": cause.value, "digest": result.digest}
    match result.outcome:
        case ReloadOutcome.RELOADED:
            level = logging.WARNING if found.opens else logging.INFO
            _log.log(level, "policy reloaded", extra={"routes": len(policy.routes)} | by | change)
        case ReloadOutcome.UNCHANGED:
            _log.info("policy unchanged", extra=by)
        case ReloadOutcome.REFUSED:
            text = "policy not reloaded, it opens something that is not acknowledged"
            _log.error(text, extra=by | change)
        case ReloadOutcome.FAILED:
            _log.error("policy not reloaded, the present one stays", extra=by | {"error": result.fault})
