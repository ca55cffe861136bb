"""A process that has loaded a command, and forks to run it with given arguments, environment and descriptors.

It is a program of its own, `fork_server.py authz`: the process of the tests has threads and must not fork.
"""

import gc
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import Any

_PROGRAMS = {
    "authz": (
        "authz.__main__",
        "authz.adapters.logs",
        "authz.adapters.policy_file.loader",
        "authz.cli.app",
        "authz.cli.session",
        "authz.cli.top",
        "authz.settings_report",
        "rich.table",
        "typer._adapters",
        "typer.rich_utils",
    ),
    "truetick": (
        "authz.client.__main__",
        "authz.client.command",
        "authz.client.login",
        "rich.panel",
        "typer._adapters",
        "typer.rich_utils",
    ),
}
"""What each program loads, its entry point first."""


def serve(program: str, modules: tuple[str, ...]) -> None:
    """Run a command for each line of standard input; answer `started`, then the exit code."""
    main, *_ = [import_module(module) for module in modules]
    gc.freeze()  # what is loaded stays shared
    for line in sys.stdin.buffer:
        child = os.fork()
        if child == 0:
            _become(json.loads(line), program, main.main)
        _, status = os.waitpid(child, 0)
        sys.stdout.buffer.write(b"%d\n" % os.waitstatus_to_exitcode(status))
        sys.stdout.buffer.flush()


def _become(request: dict[str, Any], program: str, main: Callable[[], object]) -> None:
    """Be the command: in a session of its own, with its own descriptors."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.umask(request["umask"])
    files = [os.open(name, _mode(number, name)) for number, name in enumerate(request["files"])]
    os.write(1, b"started\n")  # the other side may close them now
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    encoding, errors = sys.stdout.encoding, sys.stdout.errors or "strict"
    sys.stdin = _text(0, "r", encoding, errors)
    sys.stdout = _text(1, "w", encoding, errors)
    sys.stderr = _text(2, "w", encoding, "backslashreplace")
    os.environ.update(request["env"])
    sys.argv = [program, *request["arguments"]]
    code: object = 0
    try:
        main()
    except SystemExit as stop:
        code = stop.code
    except BaseException:  # noqa: BLE001 -- what the interpreter does
        traceback.print_exc()
        code = 1
    try:
        sys.stdout.flush()
    finally:
        os._exit(code if isinstance(code, int) else int(code is not None))


def _text(number: int, mode: str, encoding: str, errors: str) -> io.TextIOWrapper:
    """Wrap a descriptor as the interpreter does."""
    file = io.FileIO(number, mode, closefd=False)
    buffer = io.BufferedReader(file) if mode == "r" else io.BufferedWriter(file)
    is_line_buffered = number == 2 or os.isatty(number)
    return io.TextIOWrapper(buffer, encoding=encoding, errors=errors, line_buffering=is_line_buffered)


def _mode(number: int, name: str) -> int:
    if os.path.realpath(name).startswith("/dev/pts/"):
        return os.O_RDWR
    return os.O_RDONLY if number == 0 else os.O_WRONLY


if __name__ == "__main__":
    serve(sys.argv[1], _PROGRAMS[sys.argv[1]])
