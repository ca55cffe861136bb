"""Prompts for values that the command line does not contain.

Prompts go to standard error, never to standard output, which a script may read.
"""

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from authz.client.faults import WrongUsage

STDIN = "-"
"""The option value for: read the first line of standard input, which no process list shows."""


def email() -> str:
    """Prompt for an e-mail address."""
    _need_terminal("--email")
    with _answered():
        sys.stderr.write("E-mail: ")
        sys.stderr.flush()
        return _line()


def password(*, twice: bool = False) -> str:
    """Prompt for a password without echo; twice for a new one."""
    _need_terminal("--password")
    with _answered():
        first = getpass.getpass("Password: ", sys.stderr)
        if twice and getpass.getpass("Repeat the password: ", sys.stderr) != first:
            raise WrongUsage("the passwords differ")
    return first


def secret(value: str, question: str) -> str:
    """Return the secret of an option; for `-`, the first line of standard input, with a prompt on a terminal."""
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
        raise WrongUsage(f"there is no terminal for a prompt: give {option}")


@contextmanager
def _answered() -> Iterator[None]:
    """End the line of the prompt if the input ends, so that the shell prompt starts on a new line."""
    try:
        yield
    except EOFError:
        sys.stderr.write("\n")
        raise WrongUsage("no input") from None
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        raise
