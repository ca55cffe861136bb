"""Device codes: the short one that a person types, what a grant is, and how it can stand.

A grant is one attempt to log a device in (RFC 8628); where it is kept, and for how long, is the store's business.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

# No vowels, so that no words come up. Letters and digits have places of their own, so that O and 0 cannot be confused.
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
_DIGITS = "23456789"
_HALF_CHARS = 4
USER_CODE_CHARS = 2 * _HALF_CHARS
USER_CODE_ENTROPY_BYTES = 16


class GrantStatus(StrEnum):
    """What a poll is told."""

    PENDING = "pending"
    APPROVED = "approved"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Grant:
    """One attempt of a device to be logged in: what its approver is shown."""

    user_code: str
    source_address: str
    client: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Approval:
    """What an owner granted to a device."""

    account_id: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class StartedGrant:
    """What a device is told at the start: `device_code` is its secret, `user_code` what a person types."""

    device_code: str = field(repr=False)
    user_code: str


@dataclass(frozen=True, slots=True)
class Polled:
    """What a poll is told; the key is there once, at the first poll after the approval."""

    status: GrantStatus
    api_key: str = field(default="", repr=False)


def user_code(entropy: bytes) -> str:
    """Make a code of four letters and four digits, one of 655 million."""
    number = int.from_bytes(entropy)
    chars = []
    for alphabet in (_LETTERS, _DIGITS):
        for _ in range(_HALF_CHARS):
            number, place = divmod(number, len(alphabet))
            chars.append(alphabet[place])
    return "".join(chars)


def shown(code: str) -> str:
    """Return a code as people read it, `ABCD-1234`."""
    return f"{code[:_HALF_CHARS]}-{code[_HALF_CHARS:]}"


def typed(text: str) -> str:
    """Return the code that a person typed, whatever its case and separators; empty if it cannot be one."""
    code = "".join(char for char in text.upper() if char.isalnum())
    letters, digits = code[:_HALF_CHARS], code[_HALF_CHARS:]
    is_code = len(code) == USER_CODE_CHARS and set(letters) <= set(_LETTERS) and set(digits) <= set(_DIGITS)
    return code if is_code else ""
