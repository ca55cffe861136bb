"""People who own accounts: what is known of one, what a password must be, and what their audit trail shows.

How a password is hashed and an address normalised is the adapters' business; no password is kept in any of these.
"""

import unicodedata
from dataclasses import dataclass, field
from datetime import datetime

from authz.core.errors import Refused

PASSWORD_CHARS_MAX = 256  # whatever is longer only costs the hash its time


@dataclass(frozen=True, slots=True)
class Owner:
    """Who logs in for an account.

    `generation` rises with every new password: a session of an older generation is over.
    """

    account_id: str
    email: str
    password_hash: str = field(repr=False)
    generation: int = 1
    email_verified_at: datetime | None = None
    suspended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Contact:
    """How an account's people can be reached; `email` is empty where nobody said."""

    email: str
    is_verified: bool


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One line of an account's audit trail; `number` is higher the later it was written."""

    number: int
    at: datetime
    actor: str
    source_address: str
    event: str
    key_id: str | None = None


def normalised_password(password: str) -> str:
    """Return the one spelling of a password: keyboards differ in how they compose an accented letter."""
    return unicodedata.normalize("NFC", password)


def check_new_password(password: str, email: str, *, chars_min: int, breached: frozenset[str]) -> None:
    """Raise `Refused` for a password that must not be chosen.

    Length is all that is asked (NIST SP 800-63B, 3.1.1.2), and that it is not one which attackers try first.
    """
    if not chars_min <= len(password) <= PASSWORD_CHARS_MAX:
        raise Refused(f"a password is {chars_min} to {PASSWORD_CHARS_MAX} characters")
    if password.casefold() == email.casefold() or len(set(password)) == 1:
        raise Refused("this password is too easy to guess")
    if password.casefold() in breached:
        raise Refused("this password is known from a breach; choose another")
