"""The composition root of the sidecar: its parts, the order of start-up, and the drain.

The sidecar starts without its stores and reports that in its health checks. Use cases are in `service/`.
"""

import asyncio
import gc
import logging
import random
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial

import uvloop

from authz.adapters import logs
from authz.adapters.check_telemetry import CheckTelemetry
from authz.adapters.decision_log import DecisionLog
from authz.adapters.log_limits import LineLimits
from authz.adapters.policy_file.yaml import rendered
from authz.adapters.postgres.audit import AuditedChanges
from authz.adapters.postgres.directory import PostgresDirectory
from authz.adapters.postgres.key_uses import PostgresUses
from authz.adapters.postgres.keys import PostgresKeys
from authz.adapters.postgres.pool import Postgres
from authz.adapters.prometheus.process import LogMetrics, SpanMetrics
from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.leases import RedisLeases
from authz.check_transport import admin_tls, check_tls
from authz.core.errors import PolicyError, SettingsError, StoreUnavailable
from authz.core.policy.policy import Policy
from authz.core.streams import StreamClass
from authz.edge.admin.server import AdminServer
from authz.edge.check.listener import CheckListener
from authz.edge.sockets import SocketRights
from authz.policy_reload.parts import admin_reload, watch
from authz.process import OTHER_FILES, add_signal_handlers, connections_within, prepare
from authz.service.check.checker import Checker
from authz.service.check.failure_modes import FailureMode, FailureModes, RecentKeys
from authz.service.check.invalid_keys import InvalidKeys
from authz.service.check.key_uses import KeyUses
from authz.service.check.leases import Leases
from authz.service.keys.reconciling import Reconciler, Retention
from authz.service.serving import Serving
from authz.service.supervision import Supervisor
from authz.settings import Settings, load
from authz.sidecar_metrics import SidecarMetrics
from authz.sidecar_parts import grpc_server, load_limits, redis_of, sidecar_reload
from authz.traces import Traces

_PING_INTERVAL_S, _HEALTH_INTERVAL_S, _FOLLOW_INTERVAL_S = 1.0, 0.1, 0.25
_GC_OBJECTS = 20_000
_UNAVAILABLE = "postgres is unavailable"
_DENIALS_BURST_S = 10
_DECISIONS = "authz.decision"
_SUPPRESSED_INTERVAL_S = 10.0

_log = logging.getLogger("authz")


class Sidecar:
    """All parts of the sidecar process. Raises `PolicyError` for an invalid policy.

    `registry` holds every metric of the process.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._policy_reload = sidecar_reload(settings, self._use_policy)
        policy = self._policy_reload.policy
        self._log = logs.configure(settings.log_level, policy.keys.pattern, settings.log_fields)
        invalid_keys = InvalidKeys()
        modes = FailureModes(settings.redis_failure, settings.postgres_failure)
        metrics = SidecarMetrics(
            policy, self._policy_reload.metrics, modes, self.stores_up, invalid_keys.throttled, self.streams_alive
        )
        self._metrics = metrics
        self._postgres = Postgres(
            settings.reader("postgres_url"),
            deadline_s=settings.postgres_deadline_s,
            pool_max=settings.postgres_pool_max,
            connect_s=settings.postgres_connect_s,
            on_skew=metrics.skews["postgres"],
            on_connected=metrics.connects.connected,
        )
        self._uses = KeyUses(PostgresUses(self._postgres), _now)
        on_plan = metrics.policy.plan_unknown
        self._recent = RecentKeys(size=settings.degrade_keys_max, window_s=settings.degrade_window_s, now_s=time.time)
        on_skew = metrics.skews["redis"]
        redis = redis_of(settings, metrics.checks.redis_answered, self._uses.note, on_skew, on_plan, self._recent)
        self._link = redis.link
        self._directory = PostgresDirectory(self._postgres)
        self._decisions = DecisionLog(
            self._log.line_writer(_DECISIONS),
            sample=settings.log_allow_sample,
            chance=random.random,
            limits=LineLimits(settings.log_denials_per_s, round(_DENIALS_BURST_S * settings.log_denials_per_s)),
        )
        self._leases = Leases(
            RedisLeases(redis.link),
            metrics.streams,
            stream_class=self._stream_class,
            heartbeat_s=settings.stream_heartbeat_s,
        )
        self._traces = Traces(settings, "authz")
        tracer = self._traces.of_checks(self._log.masked, metrics.checks.traced)
        self._checker = Checker(
            policy,
            redis.keys,
            self._directory,
            CheckTelemetry(metrics.checks, self._decisions),
            leases=self._leases,
            failure=modes,
            recent=self._recent,
            invalid_keys=invalid_keys,
            loads=load_limits(settings),
            on_sampled=None if tracer is None else tracer.decided,
        )
        ledger = self._ledger = PostgresKeys(self._postgres, metrics.changes.settled)
        self._reconciler = Reconciler(ledger, redis.keys)
        self._retention = Retention(ledger, timedelta(days=settings.ended_keys_days), _now)
        # A lookup, a load until `load_wait_s` after the arrival, and the lookup again: in a cluster two calls each.
        lookup_s = settings.redis_deadline_s * (1 if isinstance(redis.link, RedisLink) else 2)
        tls, rights = check_tls(settings), SocketRights(int(settings.socket_mode, 8), settings.socket_group)
        self._hot = CheckListener(
            self._checker,
            settings.check_listen,
            check_s_max=max(lookup_s, settings.load_wait_s) + lookup_s,
            connections_max=connections_within(settings.check_connections_max, OTHER_FILES),
            tls=tls,
            rights=rights,
            shares_port=settings.check_share_port,
        )
        self._grpc = grpc_server(self._checker, settings, rights)
        self._supervisor = Supervisor(("postgres", "reconcile", "last_use", "log", "health", "policy", "changes"))
        faults = self._supervisor.faults
        of_admin = admin_tls(settings)
        self.registry = metrics.registered(
            link=redis.link,
            postgres=self._postgres,
            supervisor=self._supervisor,
            listener=self._hot,
            checker=self._checker,
            uses=self._uses,
            certificates={"check": tls, "admin": of_admin},
            lost=(LogMetrics(self._dropped_lines), SpanMetrics(self._traces.dropped)),
        )
        self._serving = Serving(self._reached, lambda: self._link.fault, modes, self._serve_health)
        self._http = AdminServer(
            self.registry,
            self._serving.conditions,
            settings.admin_listen,
            faults=lambda: faults,
            stores=self._store_states,
            outbox=metrics.late_outbox,
            rights=rights,
            tls=of_admin,
            has_debug=settings.admin_debug,
            policy=self._policy_reload.state,
            reload=admin_reload(settings, self._policy_reload),
        )

    def stores_up(self) -> dict[str, bool]:
        """Return for each store whether it is available."""
        return {"redis": not self._link.fault, "postgres": self._postgres.is_up}

    def streams_alive(self) -> dict[str, int]:
        """Return the number of open streams that are reported here, by class."""
        return self._leases.alive()

    def _reached(self) -> dict[str, bool]:
        return {"redis": self._link.reached.is_set(), "postgres": self._postgres.reached.is_set()}

    def _store_states(self) -> dict[str, str]:
        faults = {"redis": self._link.fault, "postgres": self._supervisor.faults.get("postgres", "unavailable")}
        return {store: "available" if is_up else faults[store] for store, is_up in self.stores_up().items()}

    def reload_policy(self) -> None:
        """Load the policy file again; an invalid one changes nothing."""
        self._policy_reload.request()

    def switch_log_level(self) -> None:
        """Log at level debug, or again at the configured level."""
        level = self._log.switch_level()
        self._decisions.write = self._log.line_writer(_DECISIONS)
        _log.warning("log level changed", extra={"to": level})

    async def start(self) -> None:
        """Open the listeners and connect to the stores; health is SERVING after both were reachable once."""
        await self._postgres.start()
        self._link.start()
        await self._hot.start()
        if self._grpc is not None:
            await self._grpc.start()
        self._http.start()
        self._metrics.start()
        self._supervisor.keep("postgres", self._directory.probe, _PING_INTERVAL_S, event=_UNAVAILABLE)
        pending = "changes are not effective yet"
        self._supervisor.keep("reconcile", self._reconcile, self._settings.reconcile_interval_s, event=pending)
        interval_s, unwritten = self._settings.last_use_interval_s, "last uses of keys are not written yet"
        self._supervisor.keep("last_use", partial(self._uses.write, interval_s), interval_s, event=unwritten)
        self._supervisor.keep("log", self._report_suppressed_denials, _SUPPRESSED_INTERVAL_S)
        self._supervisor.keep("health", self._serving.update, _HEALTH_INTERVAL_S)
        if FailureMode.DEGRADE in {self._settings.redis_failure, self._settings.postgres_failure}:
            follow = partial(self._recent.follow, AuditedChanges(self._postgres))
            self._supervisor.keep("changes", follow, _FOLLOW_INTERVAL_S, event="changes are not followed")
        watch(self._policy_reload, self._supervisor, self._settings.policy_watch_s)
        at = self._settings
        _log.info("listening", extra={"check": at.check_listen, "grpc": at.grpc_listen, "admin": at.admin_listen})

    async def drain(self) -> None:
        """Stop without a failed check: report NOT_SERVING, wait for Envoy, finish checks in flight, close."""
        await self._serving.drain()
        await asyncio.sleep(self._settings.drain_delay_s)
        grace_s = self._settings.drain_grace_s
        listeners = (self._hot,) if self._grpc is None else (self._hot, self._grpc)
        await asyncio.gather(*(listener.stop(grace_s) for listener in listeners))
        await self._policy_reload.close()
        await self._supervisor.stop()
        await self._checker.close()
        with suppress(StoreUnavailable):
            await self._uses.write()
        await self._leases.close()
        await self._link.close()
        await self._postgres.close()
        await self._http.stop()
        await asyncio.get_running_loop().run_in_executor(None, self._traces.close)
        self._decisions.report_suppressed()
        await asyncio.sleep(0)  # queues the lines of this turn
        _log.info("drained")

    def close_log(self) -> None:
        """Write what the log still holds, within a second."""
        self._log.close()

    def _dropped_lines(self) -> dict[str, int]:
        dropped = dict(self._log.dropped())
        dropped["rate_limited"] += self._decisions.suppressed
        return dropped

    def _use_policy(self, policy: Policy) -> None:
        """Use another policy from the next check on; checks in flight keep theirs."""
        self._log.mask(policy.keys.pattern)
        self._checker.policy = policy
        self._metrics.use(policy)

    async def _report_suppressed_denials(self) -> None:
        self._decisions.report_suppressed()

    def _stream_class(self, name: str) -> StreamClass | None:
        return self._checker.policy.streams.get(name)

    async def _serve_health(self, serving: bool) -> None:  # noqa: FBT001 -- the state itself
        self._hot.serve_health(serving=serving)
        if self._grpc is not None:
            await self._grpc.serve_health(serving=serving)

    async def _reconcile(self) -> None:
        self._metrics.outbox.measured(*await self._ledger.outbox())
        count = await self._reconciler.reconcile()
        if count:
            _log.info("changes made effective", extra={"records": count})
        deleted = await self._retention.delete_when_due()
        if deleted:
            _log.info("ended keys deleted", extra={"keys": deleted})


def main() -> None:
    """Run the sidecar; print one line, not a traceback, for errors that an operator can correct."""
    prepare()
    try:
        uvloop.run(serve(load()))
    except PolicyError as error:
        sys.exit(rendered(error))
    except SettingsError as error:
        sys.exit(f"error: {error}")


async def serve(settings: Settings) -> None:
    """Run the sidecar until SIGTERM or SIGINT, then drain it."""
    sidecar = Sidecar(settings)
    stopping = asyncio.Event()
    add_signal_handlers(stopping, sidecar.reload_policy, sidecar.switch_log_level)
    try:
        await sidecar.start()
        # Objects that exist now stay. A check creates no reference cycles, and with Python's threshold of 700 objects
        # the collector would scan every batch in flight: a tenth of the time.
        gc.freeze()
        gc.set_threshold(_GC_OBJECTS)
        await stopping.wait()
        await sidecar.drain()
    finally:
        sidecar.close_log()


def _now() -> datetime:
    return datetime.now(UTC)
