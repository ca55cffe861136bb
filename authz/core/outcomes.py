"""What comes of the things that people do at the portal, as closed lists: metrics have one series for each.

What refused callers are told is `errors.py` and `throttles.py`.
"""

from enum import StrEnum


class LoginOutcome(StrEnum):
    """What came of a password."""

    RIGHT = "right"
    WRONG = "wrong"
    THROTTLED = "throttled"


class SignupOutcome(StrEnum):
    """What came of a wish for an account."""

    OPENED = "opened"
    EMAIL_TAKEN = "email_taken"
    REFUSED = "refused"
    THROTTLED = "throttled"


class GrantEvent(StrEnum):
    """What became of a device grant, one step at a time: a poll hands the key out, once, after the approval."""

    STARTED = "started"
    APPROVED = "approved"
    REFUSED = "refused"
    HANDED_OUT = "handed_out"
