"""Asks the person at the terminal for what the command line leaves out.

Questions go to the terminal or standard error, never to standard output, which may be a script's.
"""

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from authz.client.faults import WrongUsage

STDIN = "-"
"""An option's value that says: the first line of standard input, which no list of processes shows."""


def email() -> str:
    """Ask for an e-mail address."""
    _need_terminal("--email")
    with _answered():
        sys.stderr.write("E-mail: ")
        sys.stderr.flush()
        return _line()


def password(*, twice: bool = False) -> str:
    """Ask for a password without showing it; for a new one twice."""
    _need_terminal("--password")
    with _answered():
        first = getpass.getpass("Password: ", sys.stderr)
        if twice and getpass.getpass("Once more: ", sys.stderr) != first:
            raise WrongUsage("the passwords differ")
    return first


def secret(value: str, question: str) -> str:
    """Return an option's secret: as given, or for `-` from standard input, with a question where that is a terminal."""
    if value != STDIN:
        return value
    with _answered():
        return getpass.getpass(question, sys.stderr) if sys.stdin.isatty() else _line()


def _line() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\r\n")


def _need_terminal(option: str) -> None:
    if not sys.stdin.isatty():
        raise WrongUsage(f"there is nobody to ask: give {option}")


@contextmanager
def _answered() -> Iterator[None]:
    """End the question's line when no answer comes, so that the shell's prompt gets one of its own."""
    try:
        yield
    except EOFError:
        sys.stderr.write("\n")
        raise WrongUsage("no answer") from None
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        raise
