"""Account owners: their data, the rules for a new password, and the lines of the audit trail.

The adapters hash passwords and normalise addresses; no value here contains a password.
"""

import unicodedata
from dataclasses import dataclass, field
from datetime import datetime

from authz.core.errors import Refused
from authz.core.text import is_bounded

PASSWORD_CHARS_MAX = 256  # a longer one only costs time in the hash
PASSWORD_BYTES_MAX = 4096
"""The limit before normalisation: 256 characters decompose into at most four each, of at most four bytes."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The person who logs in for an account.

    `generation` increases with every new password. Sessions of an older generation have ended.
    """

    account_id: str
    email: str
    password_hash: str = field(repr=False)
    generation: int = 1
    email_verified_at: datetime | None = None
    suspended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Contact:
    """The contact of an account; `email` is empty if it has none."""

    email: str
    is_verified: bool


@dataclass(frozen=True, slots=True)
class EmailChange:
    """A change of an owner's e-mail address, which takes effect when both addresses have confirmed it."""

    account_id: str
    old_email: str
    new_email: str
    is_old_confirmed: bool = False
    is_new_confirmed: bool = False

    @property
    def is_done(self) -> bool:
        """Tell whether both addresses have confirmed the change."""
        return self.is_old_confirmed and self.is_new_confirmed


@dataclass(frozen=True, slots=True)
class OpenSession:
    """An open session of an owner; `id` identifies it within the account and grants nothing.

    `source_address` and `browser` are those of the login; `generation` is that of the password then.
    """

    id: str
    started_at: datetime
    generation: int
    source_address: str
    browser: str
    is_current: bool = False


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One line of an account's audit trail; a later line has a higher `number`."""

    number: int
    at: datetime
    actor: str
    source_address: str
    event: str
    key_id: str | None = None


def normalised_password(password: str) -> str:
    """Return the normal form of a password, because keyboards compose accented letters in different ways.

    Raises `Refused` for a text that is too long or costly to normalise: check `is_bounded_password` before any I/O.
    """
    if not is_bounded_password(password):
        raise Refused(f"a password is at most {PASSWORD_CHARS_MAX} characters")
    normalised = unicodedata.normalize("NFC", password)
    if len(normalised) > PASSWORD_CHARS_MAX:
        raise Refused(f"a password is at most {PASSWORD_CHARS_MAX} characters")
    return normalised


def is_bounded_password(password: str) -> bool:
    """Return whether a password is short enough to be normalised; without this, the cost is quadratic."""
    return is_bounded(password, PASSWORD_BYTES_MAX)


def check_new_password(password: str, email: str, *, chars_min: int, breached: frozenset[str]) -> None:
    """Raise `Refused` for a password that must not be chosen.

    The rules are a length (NIST SP 800-63B, 3.1.1.2) and that attackers do not try it first.
    """
    if not chars_min <= len(password) <= PASSWORD_CHARS_MAX:
        raise Refused(f"a password is {chars_min} to {PASSWORD_CHARS_MAX} characters")
    if password.casefold() == email.casefold() or len(set(password)) == 1:
        raise Refused("this password is too easy to guess")
    if password.casefold() in breached:
        raise Refused("this password is known from a breach; choose another")
