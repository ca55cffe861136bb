"""Parts of the sidecar that follow from the settings alone.

How the parts work together is `sidecar.py`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from authz.adapters.clock_skew import OnSkew
from authz.adapters.policy_file.loader import load_files
from authz.adapters.redis.checks import OnUse
from authz.adapters.redis.connection.pipe import OnAnswered
from authz.adapters.redis.leases import LEASE_SCRIPTS
from authz.adapters.redis.store import RedisStore, redis_store
from authz.check_transport import check_tls
from authz.core.errors import SettingsError
from authz.core.policy.policy import Policy
from authz.edge.sockets import SocketRights
from authz.policy_reload.reload import PolicyReload
from authz.service.check.checker import Checker
from authz.service.check.failure_modes import FailureMode, RecentKeys
from authz.service.check.leases import PENDING_HEARTBEATS
from authz.service.check.loads import LoadLimits
from authz.settings import Settings

if TYPE_CHECKING:
    from authz.edge.grpc_server import GrpcServer


def check_heartbeat(policy: Policy, heartbeat_s: float) -> None:
    """Raise `SettingsError` where a lease of the policy would expire between two reports of Envoy."""
    for stream in policy.streams.values():
        if stream.ttl_s < heartbeat_s * PENDING_HEARTBEATS:
            text = f"AUTHZ_STREAM_HEARTBEAT_S: the ttl_s of stream class {stream.name} is {stream.ttl_s} s"
            raise SettingsError(f"{text}, which must be at least {PENDING_HEARTBEATS} heartbeats")


def sidecar_reload(settings: Settings, apply: Callable[[Policy], None]) -> PolicyReload:
    """Load the policy, and return what reloads it; raises `PolicyError` and `SettingsError`."""

    def check(policy: Policy) -> None:
        check_heartbeat(policy, settings.stream_heartbeat_s)

    return PolicyReload(
        settings.policy_file,
        load_files,
        apply=apply,
        check=check,
        gate=settings.policy_gate,
        freezes=True,
    )


def grpc_server(checker: Checker, settings: Settings, rights: SocketRights) -> "GrpcServer | None":
    """Create the gRPC server; None where no address is set."""
    if not settings.grpc_listen:
        return None
    # grpcio takes a quarter of the process' memory, and few deployments need it.
    from authz.edge.grpc_server import GrpcServer  # noqa: PLC0415

    return GrpcServer(checker, settings.grpc_listen, rights, tls=check_tls(settings))


def redis_of(
    settings: Settings,
    on_answered: OnAnswered,
    on_use: OnUse,
    on_skew: OnSkew,
    on_unknown_plan: Callable[[], None],
    recent: RecentKeys,
) -> RedisStore:
    """Create the store of records, buckets and leases; it is not connected yet."""
    return redis_store(
        settings.reader("redis_url"),
        deadline_s=settings.redis_deadline_s,
        in_flight_max=settings.redis_in_flight_max,
        negative_ttl_s=settings.negative_ttl_s,
        scripts=LEASE_SCRIPTS,
        on_answered=on_answered,
        on_use=on_use,
        on_skew=on_skew,
        connect_s=settings.redis_connect_s,
        lost_buckets=settings.lost_buckets,
        on_unknown_plan=on_unknown_plan,
        on_late=recent.learn if FailureMode.DEGRADE in {settings.redis_failure, settings.postgres_failure} else None,
    )


def load_limits(settings: Settings) -> LoadLimits:
    """Return the limits of loads from Postgres."""
    # Loads never use all connections: changes, last uses and the probe need one as well.
    return LoadLimits(max(1, settings.postgres_pool_max - 2), settings.load_wait_s)
