"""The outcomes of portal actions, as closed lists: metrics have one series for each.

The texts for refused callers are in `errors.py` and `throttles.py`.
"""

from enum import StrEnum


class LoginOutcome(StrEnum):
    """The outcome of a login with a password."""

    RIGHT = "right"
    WRONG = "wrong"
    THROTTLED = "throttled"


class SignupOutcome(StrEnum):
    """The outcome of a signup."""

    OPENED = "opened"
    EMAIL_TAKEN = "email_taken"
    REFUSED = "refused"
    THROTTLED = "throttled"


class GrantEvent(StrEnum):
    """A step of a device grant. After the approval, one poll hands out the key, once."""

    STARTED = "started"
    APPROVED = "approved"
    REFUSED = "refused"
    HANDED_OUT = "handed_out"
