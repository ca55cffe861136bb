"""The `truetick` command in its own process: with pipes, or at a terminal that a test types into."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.clients.golden_terminal import commands

PROGRAM = [sys.executable, "-m", "authz.client"]
_PATIENCE_S = 40.0
# Shells make what they run in the background ignore Ctrl-C, and that is inherited.
_HEED_INTERRUPTS = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)
# A session's first terminal has to be asked for before Ctrl-C means anything.
_TAKE_TERMINAL = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); " + _HEED_INTERRUPTS
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def environment(home: Path, **extra: str) -> dict[str, str]:
    """Return environment variables of a user: no desktop, none of our settings."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("TRUETICK_", "COLUMNS"))}
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        outside.pop(name, None)
    return {**outside, "HOME": str(home), "TERM": "xterm", "PYTHONUTF8": "1", **extra}


def truetick(
    home: Path, *arguments: str, stdin: str = "", umask: int = 0o022, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the command with pipes to its end, in a fork of a process that has loaded it."""
    ran = commands("truetick").in_pipes(*arguments, env=environment(home, **env), stdin=stdin.encode(), umask=umask)
    return subprocess.CompletedProcess(arguments, ran.code, ran.out, ran.err)


def names(folder: Path) -> list[str]:
    """Return the names in a folder; none if it does not exist."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@contextmanager
def running(home: Path, *arguments: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """The command with pipes, still running."""
    pipe = subprocess.PIPE
    popen: Any = {"stdin": subprocess.DEVNULL, "stdout": pipe, "stderr": pipe, "text": True}
    command = [sys.executable, "-c", _HEED_INTERRUPTS, *PROGRAM, *arguments]
    with subprocess.Popen(command, env=environment(home, **env), **popen) as process:
        try:
            yield process
        finally:
            process.kill()


class Terminal:
    """The command at a terminal of 100 columns. `seen` is everything it has written, without colours."""

    def __init__(self, home: Path, *arguments: str, **env: str) -> None:
        self._screen, end = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *PROGRAM, *arguments],
            env=environment(home, **{"COLUMNS": "100", **env}),
            stdin=end,
            stdout=end,
            stderr=end,
            start_new_session=True,
        )
        os.close(end)
        self.seen = ""

    def wait_for(self, text: str) -> None:
        ends_s = time.monotonic() + _PATIENCE_S
        while text not in self.seen:
            assert time.monotonic() < ends_s, self.seen
            assert self._read(), self.seen

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.type("\x03")

    def exit_code(self) -> int:
        while self._read():
            pass
        return self._process.wait()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._screen)

    def _read(self) -> bool:
        if not select.select([self._screen], [], [], _PATIENCE_S)[0]:
            return False
        try:
            chunk = os.read(self._screen, 65_536)
        except OSError:  # the other end is gone
            return False
        self.seen += _ESCAPES.sub("", chunk.decode(errors="replace"))
        return bool(chunk)


@contextmanager
def at_a_terminal(home: Path, *arguments: str, **env: str) -> Iterator[Terminal]:
    terminal = Terminal(home, *arguments, **env)
    try:
        yield terminal
    finally:
        terminal.close()
