"""All settings, read from `AUTHZ_*` environment variables; no other module reads the environment.

Routes, limits and texts of an API are policy, not settings.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from authz.adapters.log_fields import LogFields
from authz.core.errors import SettingsError
from authz.core.limits import LostBuckets
from authz.core.policy.policy import Gate
from authz.service.check.failure_modes import FailureMode
from authz.setting_names import not_among
from authz.setting_types import (
    Listen,
    LongSeconds,
    MailFrom,
    MailUrl,
    OptionalFile,
    OptionalListen,
    OtlpEndpoint,
    PostgresUrl,
    PublicUrl,
    RedisUrl,
    Seconds,
    SocketMode,
    WatchSeconds,
    check_transport,
    files_together,
    read_secret,
)

PREFIX = "AUTHZ_"
_FILE = "_file"


class Settings(BaseSettings):
    """The settings of one process, with defaults."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

    policy_file: Path = Field(Path("policies/truetick.yaml"), description="The policy file: routes, scopes, limits.")
    policy_watch_s: WatchSeconds = Field(1, description="How often the policy file is examined, in seconds; 0: never.")
    policy_gate: Gate = Field(Gate.OFF, description="no-opening: reloads that open something need an acknowledgement.")
    redis_url: RedisUrl = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis: redis://[user:password@]host:port/db, unix:///path, redis+sentinel://…, redis+cluster://…; "
        "rediss for TLS. docs/redis.md describes the forms.",
    )
    redis_deadline_s: Seconds = Field(0.05, description="The deadline of one Redis command, in seconds.")
    redis_connect_s: Seconds = Field(1, description="How long a connection to Redis may take to open, in seconds.")
    redis_in_flight_max: int = Field(
        10_000, gt=0, description="Commands that may wait for Redis at the same time, at most."
    )
    redis_url_file: OptionalFile = Field(
        None, description="A file that contains AUTHZ_REDIS_URL; it is read again for each connection."
    )
    postgres_url: PostgresUrl = Field(
        SecretStr("postgresql://authz@127.0.0.1:5432/authz"),
        description="Postgres, as a libpq URL of one host or several. docs/stores.md describes the parameters.",
    )
    postgres_url_file: OptionalFile = Field(
        None, description="A file that contains AUTHZ_POSTGRES_URL; it is read again for each connection."
    )
    postgres_connect_s: Seconds = Field(
        2, description="The deadline for connecting to one Postgres server, in seconds."
    )
    postgres_deadline_s: Seconds = Field(
        0.5, description="The deadline of one Postgres transaction, in seconds; the server cancels a longer one."
    )
    postgres_pool_max: int = Field(8, gt=0, description="Connections to Postgres, at most.")
    load_wait_s: Seconds = Field(
        0.13,
        description="How long after its arrival a check may wait for its key to load, in seconds; less than the 0.15 s "
        "of one try in envoy.yaml.",
    )
    redis_failure: FailureMode = Field(
        FailureMode.DENY, description="While Redis is unavailable: deny (503), or degrade to recently used keys."
    )
    postgres_failure: FailureMode = Field(
        FailureMode.DENY, description="The same for Postgres, from which keys are loaded that Redis does not hold."
    )
    degrade_window_s: Seconds = Field(
        300, description="In degrade: how long a key works after its last check, in seconds."
    )
    degrade_keys_max: int = Field(10_000, gt=0, description="In degrade: how many keys are cached, at most.")
    lost_buckets: LostBuckets = Field(
        LostBuckets.FULL,
        description="How buckets begin that Redis lost: full, or refilled, with what was refilled since the loss; then "
        "nobody gets tokens twice, and keys are limited for a while. docs/redis.md says more.",
    )
    negative_ttl_s: Seconds = Field(
        30, description="How long Redis caches that a key does not exist, in seconds; a new key works at once."
    )
    check_listen: Listen = Field(
        "127.0.0.1:9001", description="The listener for checks by Envoy: HOST:PORT, :PORT or unix:/PATH."
    )
    check_certificate_file: OptionalFile = Field(
        None,
        description="The certificate of the check and gRPC listeners (PEM, with its chain), reloaded when it changes.",
    )
    check_key_file: OptionalFile = Field(None, description="The private key of that certificate (PEM).")
    check_client_ca_file: OptionalFile = Field(
        None, description="The CA (PEM) of the certificates that clients of the check listener must have."
    )
    check_client_names: str = Field(
        "", description="Which DNS names or URIs of client certificates are admitted, separated by commas; empty: all."
    )
    check_plain_text: bool = Field(False, description="Whether checks may arrive from other machines without TLS.")
    grpc_listen: OptionalListen = Field(
        "",
        description="The same checks on grpcio, slower and 17 MiB larger: HOST:PORT, unix:/PATH, or empty for none.",
    )
    admin_listen: Listen = Field("0.0.0.0:9090", description="/metrics, /healthz, /readyz: HOST:PORT or unix:/PATH.")
    admin_certificate_file: OptionalFile = Field(None, description="The certificate of the admin listener (PEM): TLS.")
    admin_key_file: OptionalFile = Field(None, description="The private key of that certificate (PEM).")
    admin_client_ca_file: OptionalFile = Field(
        None, description="The CA (PEM) of the certificates that clients of the admin listener must have."
    )
    admin_reload: bool = Field(False, description="Whether this machine may POST /policy/reload to admin listeners.")
    admin_debug: bool = Field(False, description="Whether this machine gets /debug/… of admin listeners: profiles.")
    check_share_port: bool = Field(
        default=False, description="Whether other processes may listen on the port of AUTHZ_CHECK_LISTEN as well."
    )
    socket_mode: SocketMode = Field("0660", description="The mode of unix: sockets, in octal.")
    socket_group: str = Field("", description="The group of unix: sockets, by name or number; empty: the process'.")
    check_connections_max: int = Field(
        1024,
        ge=16,
        le=65_536,
        description="Connections to the check listener, at most; silent ones are closed for new ones.",
    )
    drain_delay_s: WatchSeconds = Field(
        2,
        description="On SIGTERM: how long to serve while not ready, until health checks notice, in seconds.",
    )
    drain_grace_s: Seconds = Field(5, description="On SIGTERM: how long open requests may take to finish, in seconds.")
    stream_heartbeat_s: Seconds = Field(
        5,
        description="How often Envoy reports open streams, in seconds: access_log_flush_interval in its configuration.",
    )
    reconcile_interval_s: Seconds = Field(
        1, description="How often changes that are not yet effective in Redis are retried, in seconds."
    )
    ended_keys_days: int = Field(
        90,
        ge=0,
        le=36_500,
        description="After how many days a revoked or expired key is deleted; its audit lines stay. 0 keeps all keys.",
    )
    last_use_interval_s: float = Field(
        10,
        gt=0,
        le=14,
        description="How often the last use of keys is written to Postgres, spread over that time, in seconds.",
    )
    portal_listen: Listen = Field(
        "0.0.0.0:8080", description="The listener of the portal, for Envoy: HOST:PORT or unix:/PATH."
    )
    portal_admin_listen: Listen = Field(
        "0.0.0.0:9091", description="The portal's listener for /metrics, /healthz and /readyz: HOST:PORT or unix:/PATH."
    )
    portal_admin_certificate_file: OptionalFile = Field(
        None, description="The certificate of the portal's admin listener (PEM): TLS."
    )
    portal_admin_key_file: OptionalFile = Field(None, description="The private key of that certificate (PEM).")
    portal_admin_client_ca_file: OptionalFile = Field(
        None, description="The CA (PEM) of the certificates that clients of the portal's admin listener must have."
    )
    portal_proxy_secret: SecretStr = Field(
        SecretStr(""),
        description="The secret by which the portal recognises Envoy: 32 characters or more, the same in both.",
    )
    portal_proxy_secret_file: OptionalFile = Field(None, description="A file that contains AUTHZ_PORTAL_PROXY_SECRET.")
    public_url: PublicUrl = Field(
        "http://127.0.0.1:8000", description="The public origin of the portal; links in pages and mails start with it."
    )
    session_idle_s: LongSeconds = Field(
        1800, description="How long a dashboard session lasts without a request, in seconds."
    )
    session_life_s: LongSeconds = Field(43_200, description="How long a dashboard session lasts at most, in seconds.")
    password_chars_min: int = Field(10, ge=8, le=64, description="The minimum length of a new password, in characters.")
    breached_passwords_file: str = Field("", description="A file of passwords that nobody may choose, one per line.")
    mail_url: MailUrl = Field(
        SecretStr(""),
        description="smtp://[user:password@]host[:port] (STARTTLS) or smtps://…; log: prints mails; empty sends none.",
    )
    mail_url_file: OptionalFile = Field(None, description="A file that contains AUTHZ_MAIL_URL.")
    mail_from: MailFrom = Field("authz@localhost", description="The sender of the portal's mails.")
    mail_notices: bool = Field(
        True,
        description="Whether owners get mails about created, rotated and revoked keys, and logins from new browsers.",
    )
    otlp_endpoint: OtlpEndpoint = Field(
        "",
        description="The URL of an OTLP/HTTP collector for traces, such as http://127.0.0.1:4318; empty for none.",
    )
    log_level: str = Field(
        "info",
        pattern="^(debug|info|warning|error)$",
        description="The minimum level of log lines: debug, info, warning or error.",
    )
    log_fields: LogFields = Field(
        LogFields.AUTHZ,
        description="The names of the fields of log lines: authz, ecs (Elastic Common Schema) or otel (OpenTelemetry).",
    )
    log_allow_sample: float = Field(
        0.01, ge=0, le=1, description="The fraction of allowed checks that is logged, 0 to 1."
    )
    log_denials_per_s: float = Field(
        10,
        gt=0,
        le=10_000,
        description="Denials of one reason that are logged per second, after a burst of ten times as many.",
    )

    @model_validator(mode="before")
    @classmethod
    def _read_files(cls, given: dict[str, Any]) -> dict[str, Any]:
        for name in given.keys() & {f"{name}{_FILE}" for name in cls.model_fields}:
            secret = name.removesuffix(_FILE)
            if not given[name]:
                continue
            if given.get(secret):
                raise ValueError(f"{variable(secret)} and {variable(name)} are both set")
            try:
                given = given | {secret: read_secret(Path(given[name]))}
            except (OSError, ValueError) as error:
                why = error if type(error) is ValueError else type(error).__name__  # the others may quote the secret
                raise ValueError(f"{variable(name)}: cannot be read: {why}") from None
        return given

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        files = (self.check_certificate_file, self.check_key_file, self.check_client_ca_file)
        has_plain = not (self.check_plain_text or self.check_certificate_file)
        check_transport(*files, self.check_client_names, (self.grpc_listen, self.check_listen) if has_plain else ())
        files_together("AUTHZ_ADMIN", self.admin_certificate_file, self.admin_key_file, self.admin_client_ca_file)
        of_portal = self.portal_admin_certificate_file, self.portal_admin_key_file, self.portal_admin_client_ca_file
        files_together("AUTHZ_PORTAL_ADMIN", *of_portal)
        is_cluster = "+cluster:" in self.redis_url.get_secret_value().partition("//")[0]
        if is_cluster and self.lost_buckets is not LostBuckets.FULL:
            raise ValueError("AUTHZ_LOST_BUCKETS must be full in a cluster: its nodes lose data one by one")
        return self

    def reader(self, name: str) -> Callable[[], str]:
        """Return what reads a secret setting: its file each time where it has one, which may raise OSError."""
        file: Path | None = getattr(self, f"{name}{_FILE}")
        secret: SecretStr = getattr(self, name)
        return secret.get_secret_value if file is None else lambda: read_secret(file)


def secrets_of(settings: Settings) -> list[str]:
    """Return the values of all secret settings."""
    values = (getattr(settings, name) for name in Settings.model_fields)
    return [value.get_secret_value() for value in values if isinstance(value, SecretStr)]


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"{PREFIX}{name.upper()}"


def load(**overrides: Any) -> Settings:  # noqa: ANN401 -- any setting's type
    """Read the settings; raises `SettingsError`, which names each invalid setting without its value.

    Warns on standard error about `AUTHZ_*` variables that are no settings.
    """
    for name, nearest in unknown_variables():
        meant = f"; did you mean {nearest}?" if nearest else ""
        with suppress(OSError):  # a full disk under standard error is no reason not to start
            print(f"warning: there is no setting {name}{meant}", file=sys.stderr, flush=True)  # noqa: T201 -- no log yet
    try:
        return Settings(**overrides)
    except ValidationError as error:
        faults = (
            ": ".join([*(variable(str(name)) for name in fault["loc"][:1]), fault["msg"]])
            for fault in error.errors(include_input=False)
        )
        raise SettingsError("; ".join(faults)) from None


def unknown_variables() -> list[tuple[str, str]]:
    """Return each `AUTHZ_*` variable that is no setting, with the nearest one or "".

    Those that Kubernetes sets for a service named authz are left out, and those of the demo.
    """
    known = {variable(name) for name in Settings.model_fields}
    return not_among(known, (name for name in os.environ if name.upper().startswith(PREFIX)))
