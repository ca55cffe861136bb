"""Every setting, read from `AUTHZ_*` environment variables; no other module reads the environment.

What an API's routes, limits and words are is policy, not a setting.
"""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from authz.adapters.redis.connection.url import read_url
from authz.core.errors import SettingsError
from authz.service.check.failure_modes import FailureMode

PREFIX = "AUTHZ_"
_UNIX = "unix:"
_PORT_MAX = 65535
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def _checked_listen(value: str) -> str:
    _, colon, port = value.rpartition(":")
    if value.startswith(_UNIX) and len(value) > len(_UNIX):
        return value
    if colon and port.isascii() and port.isdigit() and int(port) <= _PORT_MAX:
        return value
    raise ValueError("must be HOST:PORT or unix:/PATH")


def _checked_public_url(value: str) -> str:
    where = urlsplit(value)
    is_plain = not (where.path.strip("/") or where.query or where.fragment or where.username)
    if not where.hostname or not is_plain:
        raise ValueError("must be https://HOST[:PORT]")
    # A browser keeps the session's cookie to itself elsewhere.
    if where.scheme != "https" and not (where.scheme == "http" and where.hostname in _LOOPBACK):
        raise ValueError("must be https, except on loopback")
    return f"{where.scheme}://{where.netloc}"


def _checked_mail_url(value: SecretStr) -> SecretStr:
    where = urlsplit(value.get_secret_value())
    if value.get_secret_value() in {"", "log:"} or (where.scheme in {"smtp", "smtps"} and where.hostname):
        return value
    raise ValueError("must be smtp://…, smtps://… or log:")


def _checked_redis_url(value: SecretStr) -> SecretStr:
    read_url(value.get_secret_value())
    return value


Listen = Annotated[str, AfterValidator(_checked_listen)]
OptionalListen = Annotated[str, AfterValidator(lambda value: value and _checked_listen(value))]
Seconds = Annotated[float, Field(gt=0, le=3600)]
LongSeconds = Annotated[int, Field(ge=60, le=30 * 86_400)]


class Settings(BaseSettings):
    """The settings of one process, with their defaults."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

    policy_file: Path = Field(Path("policies/truetick.yaml"), description="The policy: routes, scopes, limits.")
    redis_url: Annotated[SecretStr, AfterValidator(_checked_redis_url)] = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis: redis://[user:password@]host:port/db, unix:///path, redis+sentinel://…, redis+cluster://…; "
        "rediss for TLS. docs/redis.md has the forms.",
    )
    redis_deadline_s: Seconds = Field(0.05, description="How long one answer of Redis may take.")
    redis_in_flight_max: int = Field(10_000, gt=0, description="Commands that may wait for Redis at once.")
    postgres_url: SecretStr = Field(
        SecretStr("postgresql://authz@127.0.0.1:5432/authz"), description="Postgres, as a libpq URL."
    )
    postgres_deadline_s: Seconds = Field(0.05, description="How long loading one key from Postgres may take.")
    postgres_pool_max: int = Field(8, gt=0, description="Connections to Postgres.")
    redis_failure: FailureMode = Field(
        FailureMode.DENY, description="While Redis is out of reach: deny (503), or degrade to keys seen lately."
    )
    postgres_failure: FailureMode = Field(
        FailureMode.DENY, description="The same for Postgres, which is asked for keys that Redis does not hold."
    )
    degrade_window_s: Seconds = Field(300, description="In degrade: how long after its last check a key still works.")
    degrade_keys_max: int = Field(10_000, gt=0, description="In degrade: how many keys are remembered.")
    negative_ttl_s: Seconds = Field(
        30, description="How long Redis remembers that a key does not exist; one that is made works at once."
    )
    check_listen: Listen = Field("127.0.0.1:9001", description="Where Envoy asks: HOST:PORT or unix:/PATH.")
    grpc_listen: OptionalListen = Field(
        "",
        description="The same questions on grpcio, slower and 17 MiB larger: HOST:PORT, unix:/PATH or empty for none.",
    )
    admin_listen: Listen = Field("0.0.0.0:9090", description="Where /metrics, /healthz and /readyz answer.")
    drain_delay_s: float = Field(
        2, ge=0, description="On SIGTERM: not ready, yet serving, until Envoy's health checks have noticed."
    )
    drain_grace_s: Seconds = Field(5, description="On SIGTERM: how long checks under way may take to finish.")
    stream_heartbeat_s: Seconds = Field(
        5, description="How often Envoy reports open streams: access_log_flush_interval in its configuration."
    )
    reconcile_interval_s: Seconds = Field(1, description="How often changes not yet effective in Redis are retried.")
    last_use_interval_s: float = Field(
        10, gt=0, le=14, description="How often the last uses of keys are written to Postgres, evenly over that time."
    )
    portal_listen: Listen = Field("0.0.0.0:8080", description="Where the portal answers Envoy.")
    portal_admin_listen: Listen = Field(
        "0.0.0.0:9091", description="Where the portal's /metrics, /healthz and /readyz answer."
    )
    portal_proxy_secret: SecretStr = Field(
        SecretStr(""),
        description="What Envoy proves itself to the portal with: 32 characters or more, the same in both.",
    )
    public_url: Annotated[str, AfterValidator(_checked_public_url)] = Field(
        "http://127.0.0.1:8000", description="Where people find the portal; links in pages and mails start with it."
    )
    session_idle_s: LongSeconds = Field(1800, description="How long a dashboard session lives without a request.")
    session_life_s: LongSeconds = Field(43_200, description="How long a dashboard session lives at most.")
    password_chars_min: int = Field(10, ge=8, le=64, description="How long a new password is at least.")
    breached_passwords_file: str = Field("", description="Passwords that nobody may choose, one a line.")
    mail_url: Annotated[SecretStr, AfterValidator(_checked_mail_url)] = Field(
        SecretStr(""),
        description="smtp://[user:password@]host[:port] (STARTTLS) or smtps://…; log: prints mails; empty sends none.",
    )
    mail_from: str = Field("authz@localhost", description="Whom the portal's mails are from.")
    log_level: str = Field(
        "info", pattern="^(debug|info|warning|error)$", description="The least level that is logged."
    )
    log_allow_sample: float = Field(0.01, ge=0, le=1, description="The share of allowed checks that is logged.")


def load(**overrides: Any) -> Settings:  # noqa: ANN401 -- any setting's type
    """Read the settings; raises `SettingsError` naming each that cannot be used, without its value."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        faults = (
            f"{PREFIX}{str(fault['loc'][0]).upper()}: {fault['msg']}" for fault in error.errors(include_input=False)
        )
        raise SettingsError("; ".join(faults)) from None


def described() -> list[tuple[str, str, str]]:
    """List every setting as (variable, default, meaning)."""
    return [
        (f"{PREFIX}{name.upper()}", _plain(field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]


def _plain(default: object) -> str:
    return default.get_secret_value() if isinstance(default, SecretStr) else str(default)
