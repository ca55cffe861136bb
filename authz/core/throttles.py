"""How often one address, account or code may use the portal's endpoints, and the message beyond that.

The store counts; how often a key may be used is `limits.py`.
"""

from dataclasses import dataclass
from enum import StrEnum


class Attempt(StrEnum):
    """An action that is throttled."""

    SIGNUP = "signup"
    LOGIN = "login"
    DEVICE_START = "device_start"
    DEVICE_POLL = "device_poll"
    CODE_ENTRY = "code_entry"
    VERIFICATION_MAIL = "verification_mail"
    PASSWORD_RESET = "password_reset"  # noqa: S105 -- an action's name
    KEY_CREATION = "key_creation"
    KEY_CHANGE = "key_change"


@dataclass(frozen=True, slots=True)
class Throttle:
    """The most attempts in `wait_s` seconds from one address and on one subject (0: not counted).

    The subject is the e-mail address of a login or of a password reset, the code of a poll, or the account that enters
    a code, requests another mail, or changes its keys. `message` comes with Retry-After.
    """

    per_address: int
    per_subject: int
    wait_s: int
    message: str = "too many attempts, try again later"


Throttles = dict[Attempt, Throttle]

DEFAULT_THROTTLES: Throttles = {
    Attempt.SIGNUP: Throttle(per_address=10, per_subject=0, wait_s=3600, message="too many signups, try again later"),
    Attempt.LOGIN: Throttle(per_address=30, per_subject=10, wait_s=600),
    Attempt.DEVICE_START: Throttle(per_address=10, per_subject=0, wait_s=60, message="too many requests"),
    # Commands poll every two seconds, and several of them may share an address.
    Attempt.DEVICE_POLL: Throttle(per_address=300, per_subject=8, wait_s=5, message="slow down"),
    Attempt.CODE_ENTRY: Throttle(per_address=30, per_subject=10, wait_s=600),
    # The recipient may be somebody else.
    Attempt.VERIFICATION_MAIL: Throttle(
        per_address=10, per_subject=3, wait_s=3600, message="too many mails, try again later"
    ),
    # The subject is the e-mail address, with or without an owner. Links that were sent stay valid, so a stranger who
    # uses up the mails of an address takes nothing from its owner.
    Attempt.PASSWORD_RESET: Throttle(
        per_address=10, per_subject=3, wait_s=3600, message="too many mails, try again later"
    ),
    # New keys, by creation, rotation, login or device: enough to replace all 25 of an account at once.
    Attempt.KEY_CREATION: Throttle(
        per_address=300, per_subject=30, wait_s=600, message="too many new keys, try again later"
    ),
    # More than an account has keys: whoever has to revoke all of them is not delayed.
    Attempt.KEY_CHANGE: Throttle(
        per_address=300, per_subject=60, wait_s=600, message="too many key changes, try again later"
    ),
}
