"""Limits on attempts that need no key, per address, account or code, and the messages beyond them.

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


@dataclass(frozen=True, slots=True)
class Throttle:
    """The most attempts in `wait_s` seconds from one address and on one subject (0: not counted).

    The subject is the object of the attempt: the e-mail address of a login, the code of a poll, the account that enters
    a code or requests another mail. `message` is the text of a refusal, beside Retry-After.
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
}
