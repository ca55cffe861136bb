"""The device login (RFC 8628): the code that a person types, the grant, and its states.

A grant is one attempt to log a device in. The store keeps it and ends it.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

# No vowels, so that no words appear. Letters and digits have fixed positions, so that O and 0 cannot be confused.
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
_DIGITS = "23456789"
_HALF_CHARS = 4
USER_CODE_CHARS = 2 * _HALF_CHARS
USER_CODE_ENTROPY_BYTES = 16


class GrantStatus(StrEnum):
    """The state of a grant, as a poll returns it."""

    PENDING = "pending"
    APPROVED = "approved"
    REFUSED = "refused"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Grant:
    """One attempt to log a device in, as its approver sees it. `scopes` are those that it requests; empty means all."""

    user_code: str
    source_address: str
    client: str
    started_at: datetime
    scopes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Approval:
    """What an owner granted to a device."""

    account_id: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class StartedGrant:
    """The reply to a device that starts: `device_code` is its secret, `user_code` is typed by a person."""

    device_code: str = field(repr=False)
    user_code: str


@dataclass(frozen=True, slots=True)
class Polled:
    """The reply to a poll; only the first poll after the approval contains the key.

    A refused grant has ended like an expired one; `is_refused` tells them apart.
    """

    status: GrantStatus
    api_key: str = field(default="", repr=False)
    is_refused: bool = False


def user_code(entropy: bytes) -> str:
    """Make a code of four letters and four digits, one of 655 million."""
    number = int.from_bytes(entropy)
    chars = []
    for alphabet in (_LETTERS, _DIGITS):
        for _ in range(_HALF_CHARS):
            number, index = divmod(number, len(alphabet))
            chars.append(alphabet[index])
    return "".join(chars)


def shown(code: str) -> str:
    """Format a code for people, as `ABCD-1234`."""
    return f"{code[:_HALF_CHARS]}-{code[_HALF_CHARS:]}"


def typed(text: str) -> str:
    """Normalise a typed code: case and separators do not matter. Return "" if it cannot be a code."""
    code = "".join(char for char in text.upper() if char.isalnum())
    letters, digits = code[:_HALF_CHARS], code[_HALF_CHARS:]
    is_code = len(code) == USER_CODE_CHARS and set(letters) <= set(_LETTERS) and set(digits) <= set(_DIGITS)
    return code if is_code else ""
