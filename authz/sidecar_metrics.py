"""The metrics of the sidecar: which there are, and what each of them reads.

The collectors are in `adapters/prometheus/`; the parts that they read are composed in `sidecar.py`.
"""

from collections.abc import Callable, Mapping
from typing import Final

from authz.adapters.clock_skew import ClockSkew
from authz.adapters.postgres.pool import Postgres
from authz.adapters.prometheus.background import BackgroundMetrics
from authz.adapters.prometheus.checks import STORES, Metrics, OwnCollector, Registry, registry
from authz.adapters.prometheus.operation import ChangeMetrics, ListenerMetrics, LoadMetrics, LoopMetrics, OutboxMetrics
from authz.adapters.prometheus.outages import CertificateMetrics, DegradedMetrics
from authz.adapters.prometheus.process import PolicyMetrics
from authz.adapters.prometheus.servers import ConnectMetrics, ServerMetrics
from authz.adapters.prometheus.streams import StreamMetrics
from authz.adapters.redis.connection.cluster import RedisCluster
from authz.adapters.redis.connection.link import RedisLink
from authz.core.policy.policy import Policy
from authz.edge.access_log import Reporter
from authz.edge.check import gaps
from authz.edge.check.listener import CheckListener
from authz.edge.check.tls import CheckTls
from authz.service.check.checker import Checker
from authz.service.check.failure_modes import FailureModes
from authz.service.check.key_uses import KeyUses
from authz.service.supervision import Supervisor

_OUTBOX_LATE_S: Final = 10.0


class SidecarMetrics:
    """The collectors that parts of the sidecar write to; `registered` adds those that only read.

    `stores_up` returns for each store whether it is available, `throttled` the number of throttled addresses,
    `streams_alive` the open streams by class.
    """

    def __init__(
        self,
        policy: Policy,
        policy_metrics: PolicyMetrics,
        modes: FailureModes,
        stores_up: Callable[[], dict[str, bool]],
        throttled: Callable[[], int],
        streams_alive: Callable[[], dict[str, int]],
    ) -> None:
        self.checks = Metrics(stores_up, throttled)
        self.checks.use(policy.routes)
        self.streams = StreamMetrics(policy.streams, streams_alive)
        self.policy = policy_metrics
        self.changes, self.outbox, self.loop = ChangeMetrics(), OutboxMetrics(), LoopMetrics()
        self.connects = ConnectMetrics()
        self.skews = {store: ClockSkew(store) for store in STORES}
        self.degraded = DegradedMetrics(stores_up, modes.degrades)

    def start(self) -> None:
        """Begin to measure what needs a timer; needs a running event loop."""
        self.loop.start()
        self.degraded.start()

    def use(self, policy: Policy) -> None:
        """Report another policy, which is in force from now on."""
        self.checks.use(policy.routes)
        self.streams.use_classes(policy.streams)

    def late_outbox(self) -> dict[str, float]:
        """Return the pending changes and the age of the oldest, if that shows a fault; else nothing."""
        entries, oldest_s = self.outbox.present()
        return {"entries": entries, "oldest_s": round(oldest_s, 1)} if oldest_s >= _OUTBOX_LATE_S else {}

    def registered(
        self,
        *,
        link: RedisLink | RedisCluster,
        postgres: Postgres,
        supervisor: Supervisor,
        listener: CheckListener,
        checker: Checker,
        uses: KeyUses,
        certificates: Mapping[str, CheckTls | None],
        lost: tuple[OwnCollector, ...],
    ) -> Registry:
        """Return the registry of all metrics of the process; `lost` are those of log lines and spans."""
        read: tuple[OwnCollector, ...] = (
            BackgroundMetrics(supervisor.failures, supervisor.faults, postgres.connections),
            ServerMetrics(lambda: bool(link.memory_policy), self.skews, link.counts),
            ListenerMetrics(
                listener.open, listener.closed, listener.checks.batches, lambda: Reporter.broken, gaps.seen
            ),
            LoadMetrics(checker.loads, uses.waiting, lambda: uses.dropped),
            CertificateMetrics({name: tls.expires_at_s for name, tls in certificates.items() if tls is not None}),
        )
        written = (self.streams, self.policy, self.changes, self.outbox, self.loop, self.connects, self.degraded)
        return registry(self.checks, *written, *read, *lost)
