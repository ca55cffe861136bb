"""Prompts for values that the command line does not contain.

Prompts go to standard error, never to standard output, which a script may read.
"""

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from authz.client.faults import WrongUsage
from authz.client.names import PROMPT, STDIN


def email() -> str:
    """Prompt for an e-mail address; raises `WrongUsage` without a terminal."""
    if not sys.stdin.isatty():
        raise WrongUsage("there is no terminal for a prompt: give --email")
    with _answered():
        sys.stderr.write("E-mail: ")
        sys.stderr.flush()
        return _line()


def secret(value: str, name: str, *, twice: bool = False) -> str:
    """Return the secret of an option: `value`, or if that is empty, `-` or `PROMPT`, what is entered.

    It is prompted for without echo at a terminal, `twice` for a new one; elsewhere it is the first line of standard
    input. `name` is that of the secret in the prompt.
    """
    if value not in {"", STDIN, PROMPT}:
        return value
    with _answered():
        if not sys.stdin.isatty():
            entered = _line()
        else:
            entered = getpass.getpass(f"{name}: ", sys.stderr)
            if twice and value != STDIN and getpass.getpass(f"Repeat the {name.lower()}: ", sys.stderr) != entered:
                raise WrongUsage(f"the {name.lower()}s differ")
    if not entered:
        raise WrongUsage(f"the {name.lower()} is empty")
    return entered


def _line() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\r\n")


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
