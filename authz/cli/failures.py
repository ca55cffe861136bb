"""The errors of the operator's commands: one line on standard error, or JSON, and an exit code; never a traceback.

Exit codes: 0 done, 1 failed or unavailable, 2 wrong usage, 3 refused by the rules, 4 durable but not effective yet,
130 interrupted.
"""

import json
import sys
from collections.abc import Callable

import typer

from authz.cli import output
from authz.cli.extras import ExtraMissing
from authz.core.errors import NotEffectiveYet, PolicyError, Refused, SettingsError, StoreUnavailable

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_REFUSED = 3
EXIT_NOT_EFFECTIVE_YET = 4
EXIT_INTERRUPTED = 130


class NotShown(Exception):  # noqa: N818 -- named for what happened
    """The secret of a new key that could not be written; the message says what became of the key."""


def reporting(command: Callable[[], object]) -> int:
    """Run a command and report its error; returns the exit code."""
    try:
        code = command()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else EXIT_FAILED
    except Exception as error:  # noqa: BLE001 -- sorted in `_described`, which raises what it does not know
        prefix, text, code = _described(error)
        report(prefix, text)
        return code
    return code if isinstance(code, int) else 0


def report(prefix: str, text: str) -> None:
    """Print an error on standard error; with `--json`, as a document on standard output."""
    if "--json" in sys.argv:
        try:
            output.write(json.dumps({"error": output.masked(text)}))
        except OSError:
            return
    else:
        output.error(f"{prefix}{text}")


def _described(error: Exception) -> tuple[str, str, int]:
    """Return the prefix, the text and the exit code of an error; raises one that is a fault of the program."""
    if isinstance(error, Refused):
        return "refused: ", str(error), EXIT_REFUSED
    if isinstance(error, NotEffectiveYet):
        return "not done yet: ", str(error), EXIT_NOT_EFFECTIVE_YET
    if isinstance(error, PolicyError):
        from authz.adapters.policy_file.yaml import rendered  # noqa: PLC0415 -- only this error needs it

        return "", rendered(error), EXIT_FAILED
    if isinstance(error, ExtraMissing | SettingsError | StoreUnavailable | NotShown):
        return "error: ", str(error), EXIT_FAILED
    if isinstance(error, OSError):
        return "error: ", f"cannot write: {error.strerror or error}", EXIT_FAILED
    if isinstance(error, typer.Abort):
        return "", "aborted", EXIT_FAILED
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # an error of the command line
        return "error: ", f"{error.format_message()}{_hint(error)}", int(error.exit_code)
    raise error


def _hint(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"\n{context.command_path} --help shows the usage" if context is not None else ""
