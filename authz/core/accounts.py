"""Accounts and their API keys as the directory stores them, and the events that change them.

What a check needs of a key is `check.KeyRecord`. Only `NewApiKey` contains a secret.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from authz.core.limits import Limit


class AuditEvent(StrEnum):
    """What the audit log records."""

    ACCOUNT_CREATED = "account_created"
    ACCOUNT_SUSPENDED = "account_suspended"
    ACCOUNT_REINSTATED = "account_reinstated"
    KEY_CREATED = "key_created"
    KEY_IMPORTED = "key_imported"
    KEY_REVOKED = "key_revoked"
    KEY_DISABLED = "key_disabled"
    KEY_ENABLED = "key_enabled"
    KEY_LIMITED = "key_limited"
    KEY_PLAN_SET = "key_plan_set"
    KEY_ROTATED = "key_rotated"
    KEY_MINTED_BY_LOGIN = "key_minted_by_login"
    KEY_MINTED_BY_DEVICE = "key_minted_by_device"
    DEVICE_APPROVED = "device_approved"
    DEVICE_REFUSED = "device_refused"
    LOGGED_IN = "logged_in"
    EMAIL_VERIFIED = "email_verified"
    EMAIL_CHANGE_STARTED = "email_change_started"
    EMAIL_CHANGED = "email_changed"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 -- an event's name
    PASSWORD_RESET_MAILED = "password_reset_mailed"  # noqa: S105 -- the same
    PASSWORD_RESET = "password_reset"  # noqa: S105 -- the same
    SESSION_ENDED = "session_ended"


DECISIVE = frozenset(
    {
        AuditEvent.ACCOUNT_SUSPENDED,
        AuditEvent.ACCOUNT_REINSTATED,
        AuditEvent.KEY_REVOKED,
        AuditEvent.KEY_DISABLED,
        AuditEvent.KEY_ENABLED,
        AuditEvent.KEY_LIMITED,
        AuditEvent.KEY_PLAN_SET,
        AuditEvent.KEY_ROTATED,
    }
)
"""The events after which a check of an existing key may be decided in another way."""


@dataclass(frozen=True, slots=True)
class Actor:
    """The author of a change and the address it came from."""

    name: str
    source_address: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """The owner of keys. No key of a suspended account is valid."""

    id: str
    name: str
    created_at: datetime
    email: str | None = None
    suspended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret. `hint` may be displayed. `limit` is None where the default applies; `plan` may be "".

    `last_used_at` may be up to a minute old. It is None if the key was never used. `replaces` is the id of the key that
    this one replaced in a rotation.
    """

    id: str
    account_id: str
    name: str
    hint: str
    scopes: frozenset[str]
    created_at: datetime
    limit: Limit | None = None
    plan: str = ""
    expires_at: datetime | None = None
    disabled_at: datetime | None = None
    revoked_at: datetime | None = None
    revision: int = 1
    replaces: str | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A new key with its secret, which is shown once and never stored."""

    key: ApiKey
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Replacement:
    """The key that replaces another, its digest (32 bytes), and the end of the old key: None revokes it at once."""

    key: ApiKey
    digest: bytes = field(repr=False)
    old_ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class Rotation:
    """A durable rotation: the new key and the present state of the old one.

    `pending` says why the end of the old key is not effective yet; it is empty if it is effective. Pending changes are
    retried.
    """

    made: NewApiKey
    old: ApiKey
    pending: str = ""


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A key of another system: its digest (32 bytes) and its properties. `line` is that of its file, from 1.

    `account_id` is empty where the line names its owner by `email`, until that is resolved.
    """

    line: int
    digest: bytes = field(repr=False)
    account_id: str
    name: str
    scopes: frozenset[str]
    limit: Limit | None = None
    expires_at: datetime | None = None
    hint: str = ""
    email: str = ""
    plan: str = ""


@dataclass(frozen=True, slots=True)
class EmailAccounts:
    """The accounts of an e-mail address: those that operators made with it or whose owner has verified it.

    `is_unverified` is set if somebody has signed up with the address and has not verified it.
    """

    account_ids: tuple[str, ...]
    is_unverified: bool
