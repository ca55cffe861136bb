"""The composition root of the portal: its parts, start and stop.

The sidecar is `sidecar.py`. The two processes share only the stores; the portal is outside the hot path.
"""

import asyncio
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from authz.adapters import logs
from authz.adapters.argon2 import Argon2Passwords
from authz.adapters.email_addresses import normalised_email
from authz.adapters.policy_file.loader import load_files
from authz.adapters.postgres.directory import PostgresDirectory
from authz.adapters.postgres.keys import PostgresKeys
from authz.adapters.postgres.mailed_links import PostgresMailedLinks
from authz.adapters.postgres.owners import PostgresOwners
from authz.adapters.postgres.pool import Postgres
from authz.adapters.prometheus.background import BackgroundMetrics
from authz.adapters.prometheus.checks import registry
from authz.adapters.prometheus.operation import ChangeMetrics
from authz.adapters.prometheus.outages import CertificateMetrics
from authz.adapters.prometheus.portal import PortalMetrics
from authz.adapters.prometheus.process import LogMetrics, SpanMetrics
from authz.adapters.redis.grants import RedisGrants
from authz.adapters.redis.sessions import RedisSessions
from authz.adapters.redis.store import redis_store
from authz.adapters.redis.throttles import RedisThrottles
from authz.adapters.smtp import LoggedMail, NoMail, SmtpMail
from authz.check_transport import portal_admin_tls
from authz.core.errors import SettingsError
from authz.core.policy.policy import Policy
from authz.edge.admin.server import AdminServer
from authz.edge.sockets import SocketRights, hold_silent, listening_socket
from authz.policy_reload.parts import admin_reload, watch
from authz.policy_reload.reload import PolicyReload
from authz.portal.app import application
from authz.portal.http_server import HEAD_BYTES_MAX, BoundedHttp, QuietServer
from authz.portal.services import Services
from authz.process import add_signal_handlers, prepare
from authz.service.keys.admin import KeyAdmin
from authz.service.portal.accounts import Accounts, PasswordRules
from authz.service.portal.codes import Codes
from authz.service.portal.device import DeviceFlow
from authz.service.portal.email_change import EmailChanges
from authz.service.portal.familiar import FamiliarBrowsers
from authz.service.portal.login import Login
from authz.service.portal.mailed_links import MailedLinks
from authz.service.portal.minting import Minting
from authz.service.portal.notices import Notices
from authz.service.portal.outgoing import OutgoingMail
from authz.service.portal.owner_keys import OwnerKeys
from authz.service.portal.password_reset import PasswordReset
from authz.service.portal.ports import Mail
from authz.service.portal.sessions import Sessions
from authz.service.portal.throttling import Gate
from authz.service.portal.verification import EmailVerification
from authz.service.supervision import Supervisor
from authz.settings import Settings
from authz.traces import Traces

_STORE_DEADLINE_S = 2.0  # a person can wait longer for a page than a check for a key
_PROBE_INTERVAL_S = 1.0
_SWEEP_INTERVAL_S = 600.0
_SECRET_CHARS_MIN = 32
_KEEP_ALIVE_S = 60  # longer than the idle timeout of Envoy: a request on a connection that is closing would fail
_UNAVAILABLE = "postgres is unavailable"
_NOT_DELETED = "expired links are not deleted yet"

_log = logging.getLogger("authz.portal")


class Portal:
    """All parts of the portal process. Raises `PolicyError` and `SettingsError`.

    `registry` holds every metric of the process.
    """

    def __init__(self, settings: Settings) -> None:
        secret = settings.portal_proxy_secret.get_secret_value()
        if len(secret) < _SECRET_CHARS_MIN:
            raise SettingsError(f"AUTHZ_PORTAL_PROXY_SECRET: must have {_SECRET_CHARS_MIN} characters or more")
        self._policy_reload = PolicyReload(
            settings.policy_file,
            load_files,
            apply=self._use_policy,
            gate=settings.policy_gate,
        )
        policy = self._policy_reload.policy
        self._log = logs.configure(settings.log_level, policy.keys.pattern, settings.log_fields)
        self._settings, self._secret = settings, secret
        self._redis = redis_store(
            settings.reader("redis_url"),
            deadline_s=_STORE_DEADLINE_S,
            in_flight_max=settings.redis_in_flight_max,
            negative_ttl_s=settings.negative_ttl_s,
            lost_buckets=settings.lost_buckets,
        )
        self._postgres = Postgres(
            settings.reader("postgres_url"),
            deadline_s=_STORE_DEADLINE_S,
            pool_max=settings.postgres_pool_max,
            connect_s=settings.postgres_connect_s,
        )
        changes = ChangeMetrics()
        self._keys = PostgresKeys(self._postgres, changes.settled)
        self._directory = PostgresDirectory(self._postgres)
        self._links = PostgresMailedLinks(self._postgres)
        self._passwords = Argon2Passwords()
        self._metrics = PortalMetrics(self.readiness)
        self._supervisor = Supervisor(("postgres", "policy"))
        faults = self._supervisor.faults
        background = BackgroundMetrics(self._supervisor.failures, faults, self._postgres.connections)
        tls, listen = portal_admin_tls(settings), settings.portal_admin_listen
        certificates = CertificateMetrics({} if tls is None else {"portal_admin": tls.expires_at_s})
        self._traces = Traces(settings, "authz-portal")
        self._tracer = self._traces.of_requests(self._log.masked)
        lost = LogMetrics(self._log.dropped), SpanMetrics(self._traces.dropped)
        self.registry = registry(self._metrics, background, *lost, changes, self._policy_reload.metrics, certificates)
        self._rights = SocketRights(int(settings.socket_mode, 8), settings.socket_group)
        self._admin = AdminServer(
            self.registry,
            self.readiness,
            listen,
            faults=lambda: faults,
            policy=self._policy_reload.state,
            reload=admin_reload(settings, self._policy_reload),
            rights=self._rights,
            tls=tls,
            has_debug=settings.admin_debug,
        )
        self._app = self._application(policy)
        config = uvicorn.Config(
            self._serve_request,
            interface="asgi3",
            lifespan="off",
            ws="none",
            http=BoundedHttp,
            h11_max_incomplete_event_size=HEAD_BYTES_MAX,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(settings.drain_grace_s),
        )
        self._server = QuietServer(config)
        self._serving: asyncio.Task[None] | None = None

    def readiness(self) -> dict[str, bool]:
        """Return each condition of readiness by name."""
        return {"redis": self._redis.link.is_up, "postgres": self._postgres.is_up}

    def reload_policy(self) -> None:
        """Load the policy file again; an invalid one changes nothing."""
        self._policy_reload.request()

    def switch_log_level(self) -> None:
        """Log at level debug, or again at the configured level."""
        _log.warning("log level changed", extra={"to": self._log.switch_level()})

    async def start(self) -> None:
        """Open the listeners and connect to the stores."""
        listener = listening_socket(self._settings.portal_listen, self._rights)
        hold_silent(listener)
        await self._postgres.start()
        self._redis.link.start()
        self._admin.start()
        self._serving = asyncio.get_running_loop().create_task(self._server.serve(sockets=[listener]))
        self._supervisor.keep("postgres", self._directory.probe, _PROBE_INTERVAL_S, event=_UNAVAILABLE)
        self._supervisor.keep("links", self._delete_expired_links, _SWEEP_INTERVAL_S, event=_NOT_DELETED)
        watch(self._policy_reload, self._supervisor, self._settings.policy_watch_s)
        at = self._settings
        _log.info("listening", extra={"portal": at.portal_listen, "admin": at.portal_admin_listen})

    async def stop(self) -> None:
        """Finish open requests, then close everything."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        await self._policy_reload.close()
        await self._supervisor.stop(self._settings.drain_grace_s)
        await self._redis.link.close()
        await self._postgres.close()
        self._passwords.close()
        await self._admin.stop()
        await asyncio.get_running_loop().run_in_executor(None, self._traces.close)
        _log.info("stopped")

    def close_log(self) -> None:
        """Write what the log still holds, within a second."""
        self._log.close()

    def _application(self, policy: Policy) -> ASGIApp:
        services = self._services(policy)
        return application(services, proxy_secret=self._secret, readiness=self.readiness, tracer=self._tracer)

    def _use_policy(self, policy: Policy) -> None:
        """Use another policy from the next request on; requests under way keep theirs."""
        self._log.mask(policy.keys.pattern)
        self._app = self._application(policy)

    async def _serve_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def _delete_expired_links(self) -> None:
        await self._links.delete_expired(_now())

    def _services(self, policy: Policy) -> Services:
        settings, url, metrics = self._settings, self._settings.public_url, self._metrics
        owners, mail = PostgresOwners(self._postgres), _mail(settings)
        outgoing = OutgoingMail(mail, self._supervisor, metrics)
        notices = Notices(owners, outgoing, is_on=settings.mail_notices, url=f"{url}/dashboard/account", now=_now)
        browsers = FamiliarBrowsers(settings.portal_proxy_secret.get_secret_value().encode())
        gate = Gate(RedisThrottles(self._redis.link), policy.throttles, metrics)
        admin = KeyAdmin(self._keys, self._redis.keys, policy, entropy=os.urandom, now=_now)
        minting = Minting(admin, gate, policy, notices)
        rules = PasswordRules(settings.password_chars_min, _breached(settings.breached_passwords_file))
        codes = Codes(os.urandom, _now)
        accounts = Accounts(
            owners,
            self._passwords,
            gate,
            metrics,
            rules=rules,
            normalise_email=normalised_email,
            entropy=os.urandom,
            now=_now,
        )
        links = MailedLinks(self._links, accounts, gate, outgoing, notices, codes)
        return Services(
            policy=policy,
            public_url=url,
            gate=gate,
            accounts=accounts,
            login=Login(owners, self._passwords, gate, normalised_email, metrics, browsers),
            outgoing=outgoing,
            notices=notices,
            password_reset=PasswordReset(links, f"{url}/dashboard/reset"),
            email_changes=EmailChanges(links, f"{url}/dashboard/email"),
            verification=EmailVerification(owners, mail, codes, f"{url}/dashboard/verify"),
            minting=minting,
            keys=OwnerKeys(admin, gate, notices),
            device=DeviceFlow(RedisGrants(self._redis.link), minting, gate, owners, metrics, entropy=os.urandom),
            sessions=Sessions(
                RedisSessions(self._redis.link, idle_s=settings.session_idle_s, life_s=settings.session_life_s),
                owners,
                entropy=os.urandom,
            ),
            observer=metrics,
        )


async def serve(settings: Settings) -> None:
    """Run the portal until SIGTERM or SIGINT."""
    prepare()
    portal = Portal(settings)
    stopping = asyncio.Event()
    add_signal_handlers(stopping, portal.reload_policy, portal.switch_log_level)
    try:
        await portal.start()
        await stopping.wait()
        await portal.stop()
    finally:
        portal.close_log()


def _now() -> datetime:
    return datetime.now(UTC)


def _mail(settings: Settings) -> Mail:
    url = settings.mail_url.get_secret_value()
    if url == "log:":
        return LoggedMail()
    return SmtpMail(url, settings.mail_from) if url else NoMail()


def _breached(file: str) -> frozenset[str]:
    if not file:
        return frozenset()
    try:
        return frozenset(line.casefold() for line in Path(file).read_text(encoding="utf-8").splitlines() if line)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"AUTHZ_BREACHED_PASSWORDS_FILE: cannot be read: {type(error).__name__}") from None
