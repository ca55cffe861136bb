"""Accounts and their API keys, as the directory keeps them; and what can happen to a key.

What a check needs to know of a key is `check.KeyRecord`; the secret is in none of these but `NewApiKey`.
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
    KEY_REVOKED = "key_revoked"
    KEY_DISABLED = "key_disabled"
    KEY_ENABLED = "key_enabled"
    KEY_LIMITED = "key_limited"
    KEY_ROTATED = "key_rotated"
    KEY_MINTED_BY_LOGIN = "key_minted_by_login"
    KEY_MINTED_BY_DEVICE = "key_minted_by_device"
    DEVICE_APPROVED = "device_approved"
    DEVICE_REFUSED = "device_refused"
    LOGGED_IN = "logged_in"
    EMAIL_VERIFIED = "email_verified"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 -- an event's name


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asked for a change, and from where."""

    name: str
    source_address: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """Whom keys belong to. A suspended account's keys open nothing."""

    id: str
    name: str
    created_at: datetime
    email: str | None = None
    suspended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret; `hint` is what may be shown of it. `limit` is None where the default applies.

    `last_used_at` may be up to a minute old, and is None where the key was never used. `replaces` is the id of the key
    that this one took the place of, in a rotation.
    """

    id: str
    account_id: str
    name: str
    hint: str
    scopes: frozenset[str]
    created_at: datetime
    limit: Limit | None = None
    expires_at: datetime | None = None
    disabled_at: datetime | None = None
    revoked_at: datetime | None = None
    revision: int = 1
    replaces: str | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key just made, with its secret: to be shown once and kept nowhere."""

    key: ApiKey
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Replacement:
    """What takes a key's place, with its digest (32 bytes), and when the key ends: None for at once, by revocation."""

    key: ApiKey
    digest: bytes = field(repr=False)
    old_ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class Rotation:
    """A rotation that is durable: the new key, and the old one as it is now.

    `pending` says why the old key's end is not effective yet, which is retried; empty where it is.
    """

    made: NewApiKey
    old: ApiKey
    pending: str = ""
