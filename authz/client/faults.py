"""What ends a command early, each with its exit code; the words are the API's own where the API refused.

How they are shown is `screen.py`.
"""

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_REFUSED = 3
EXIT_NOT_LOGGED_IN = 4
EXIT_NOT_APPROVED = 5
EXIT_INTERRUPTED = 130


class Fault(Exception):  # noqa: N818 -- the base of what ends a command, whoever is to blame
    """Something failed here or on the way: out of reach, an unreadable answer, a file that cannot be written.

    `status` is the HTTP status and `retry_after_s` the wait that the API asked for, where there was an answer.
    """

    exit_code = EXIT_FAILED

    def __init__(self, words: str, *, status: int | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(words)
        self.status = status
        self.retry_after_s = retry_after_s


class WrongUsage(Fault):
    """The command was asked for something that cannot be."""

    exit_code = EXIT_USAGE


class ApiRefused(Fault):
    """The API said no."""

    exit_code = EXIT_REFUSED


class NotLoggedIn(Fault):
    """There is no key for this API, or the API no longer takes it."""

    exit_code = EXIT_NOT_LOGGED_IN


class NotApproved(Fault):
    """Nobody approved the device in time."""

    exit_code = EXIT_NOT_APPROVED
