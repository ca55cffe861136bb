"""The errors that end a command, each with its exit code; a refusal has the text of the API.

They are printed in `screen.py`.
"""

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_REFUSED = 3
EXIT_NOT_LOGGED_IN = 4
EXIT_NOT_APPROVED = 5
EXIT_INTERRUPTED = 130


class Fault(Exception):  # noqa: N818 -- the base of all errors of a command
    """A failure: the API is unavailable, a response is unreadable, or a file cannot be written.

    `status` is the HTTP status and `retry_after_s` the requested wait, if there was a response.
    """

    exit_code = EXIT_FAILED

    def __init__(self, words: str, *, status: int | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(words)
        self.status = status
        self.retry_after_s = retry_after_s


class WrongUsage(Fault):
    """Invalid options or input."""

    exit_code = EXIT_USAGE


class ApiRefused(Fault):
    """A refusal by the API."""

    exit_code = EXIT_REFUSED


class NotLoggedIn(Fault):
    """There is no key for this API, or the API refuses it."""

    exit_code = EXIT_NOT_LOGGED_IN


class NotApproved(Fault):
    """The device was not approved in time."""

    exit_code = EXIT_NOT_APPROVED
