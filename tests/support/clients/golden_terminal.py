"""Commands at real terminals and in pipes, held against golden files: a server per locale forks a process for each.

The server has loaded `authz` or `truetick` before, as a shell has not; everything else is what a shell does: a terminal
with a size, or pipes, and a session without a terminal. What is on the screen in the end is what `pyte` shows.
"""

import atexit
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pyte

ROOT = Path(__file__).parents[3]
GOLDENS = ROOT / "tests" / "data" / "terminal"
ROWS = 24
FEW = frozenset({"piped at a terminal", "LC_ALL=C, no terminal"})
"""The ways that show nothing new of help, which is the same wherever it goes."""
_LINES_MAX = 600  # of a screen that is long enough to see what has scrolled away
_PATIENCE_S = 30.0
_SERVER = Path(__file__).with_name("fork_server.py")
_JOINERS = dict.fromkeys((0x200C, 0x200D, 0xFE0F))
_MASKS = [
    (re.compile(r"\b(acct|key|ls)_[a-z0-9]{16}\b"), r"\1_xxxxxxxxxxxxxxxx"),
    (re.compile(r"\bttk_[0-9A-Za-z]{49}\b"), "ttk_" + "x" * 49),
    (re.compile(r"\bttk_(…|\\u2026)[0-9A-Za-z]{4}\b"), r"ttk_\1xxxx"),
    (re.compile(r"20[0-9]{2}-[01][0-9]-[0-3][0-9]"), "2000-01-01"),
    (re.compile(r"\b[0-2][0-9]:[0-5][0-9]:[0-5][0-9]\b"), "00:00:00"),
    (re.compile(r"127\.0\.0\.1:[0-9]{5}"), "127.0.0.1:00000"),
]


@dataclass(frozen=True)
class Ran:
    """What a command wrote: to the screen or to each pipe; `code` is its exit code."""

    code: int
    screen: str
    out: str = ""
    err: str = ""


class Commands:
    """Runs one program in one environment."""

    def __init__(self, program: str, env: Mapping[str, str], folder: Path) -> None:
        self._folder = folder
        self._server = subprocess.Popen(
            [sys.executable, str(_SERVER), program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(env),
            cwd=folder,
        )

    def at_a_terminal(self, *arguments: str, columns: int, env: Mapping[str, str] | None = None) -> Ran:
        """Run at a terminal of `columns` x 24, where standard input, output and errors are."""
        master, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
        code, (seen,) = self._run(arguments, env, [end, end, end], [master])
        return Ran(code, on_screen(seen, columns))

    def in_pipes(
        self, *arguments: str, env: Mapping[str, str] | None = None, stdin: bytes = b"", umask: int = 0o022
    ) -> Ran:
        """Run with pipes only, in a session without a terminal; `stdin` must fit in a pipe."""
        (input_end, given), (out, out_end), (err, err_end) = os.pipe(), os.pipe(), os.pipe()
        os.write(given, stdin)
        os.close(given)
        code, (out_seen, err_seen) = self._run(arguments, env, [input_end, out_end, err_end], [out, err], umask)
        return Ran(code, "", out_seen.decode(), err_seen.decode())

    def into_a_pipe(self, *arguments: str, columns: int, env: Mapping[str, str] | None = None) -> Ran:
        """Run at a terminal with the output in a pipe, as in `authz … | grep`."""
        master, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
        out, out_end = os.pipe()
        code, (out_seen, seen) = self._run(arguments, env, [end, out_end, end], [out, master])
        return Ran(code, on_screen(seen, columns), out_seen.decode())

    def close(self) -> None:
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()

    def _run(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str] | None,
        ends: list[int],
        reads: list[int],
        umask: int = 0o022,
    ) -> tuple[int, list[bytes]]:
        """Start a command with its three descriptors, which are closed here, and read until it has closed them."""
        assert self._server.stdin
        assert self._server.stdout
        names = [f"/proc/{os.getpid()}/fd/{end}" for end in ends]
        request = {"arguments": arguments, "env": dict(env or {}), "files": names, "umask": umask}
        self._server.stdin.write(json.dumps(request).encode() + b"\n")
        self._server.stdin.flush()
        assert self._server.stdout.readline() == b"started\n"
        for end in set(ends):
            os.close(end)
        seen = read_all(reads)
        return int(self._server.stdout.readline()), seen


@cache
def commands(program: str) -> Commands:
    """Return what runs a program for the rest of this process; each run has an environment of its own."""
    started = Commands(program, {"PATH": os.environ["PATH"], "PYTHONUTF8": "1"}, ROOT)
    atexit.register(started.close)
    return started


@dataclass(frozen=True)
class Programs:
    """One program under a UTF-8 locale and under the C locale."""

    normal: Commands
    in_c: Commands


@contextmanager
def programs(program: str, home: Path, env: Mapping[str, str]) -> Iterator[Programs]:
    """Start both servers of a program, in the root of the repository."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    given = kept | {"HOME": str(home), "USER": "ada", "TERM": "xterm", "NO_COLOR": "1", "LC_ALL": "C.UTF-8", **env}
    in_c = given | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    both = Programs(Commands(program, given, ROOT), Commands(program, in_c, ROOT))
    try:
        yield both
    finally:
        both.normal.close()
        both.in_c.close()


def every_way(
    both: Programs,
    *arguments: str,
    before: Callable[[], object] = lambda: None,
    env: Mapping[str, str] | None = None,
    without: frozenset[str] = frozenset(),
) -> dict[str, Ran]:
    """Run a command in each way but some; `before` is called before each."""
    normal, in_c = both.normal, both.in_c
    ways: dict[str, Callable[[], Ran]] = {
        "80x24": lambda: normal.at_a_terminal(*arguments, columns=80, env=env),
        "40x24": lambda: normal.at_a_terminal(*arguments, columns=40, env=env),
        "piped at a terminal": lambda: normal.into_a_pipe(*arguments, columns=80, env=env),
        "no terminal": lambda: normal.in_pipes(*arguments, env=env),
        "LC_ALL=C": lambda: in_c.at_a_terminal(*arguments, columns=80, env=env),
        "LC_ALL=C, no terminal": lambda: in_c.in_pipes(*arguments, env=env),
    }
    runs = {}
    for way in ways.keys() - without:
        before()
        runs[way] = ways[way]()
    return {way: runs[way] for way in ways if way in runs}


@dataclass(frozen=True)
class Goldens:
    """The golden files; with `is_written` they are written and not compared."""

    is_written: bool

    def check(self, name: str, runs: Mapping[str, Ran]) -> None:
        """Hold what was shown against the file of this name."""
        parts = []
        for way, ran in runs.items():
            parts.append(f"== {way}: exit {ran.code}\n")
            for where, text in (("out", ran.out), ("err", ran.err), ("screen", ran.screen)):
                if text.strip():
                    parts.append(f"-- {where}\n{text}" if text.endswith("\n") else f"-- {where}\n{text}\n")
        seen = masked("".join(parts))
        assert "Traceback" not in seen, seen
        path = GOLDENS / f"{name}.txt"
        if self.is_written:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(seen)
        assert seen.splitlines() == path.read_text().splitlines(), f"{path} differs: see --write-goldens"


def read_all(files: list[int]) -> list[bytes]:
    """Read descriptors until nobody writes to them any more, and close them."""
    seen = dict.fromkeys(files, b"")
    left = set(files)
    while left:
        ready = select.select(left, [], [], _PATIENCE_S)[0]
        assert ready, seen
        for file in ready:
            try:
                chunk = os.read(file, 65_536)
            except OSError:  # nobody has the terminal open any more
                chunk = b""
            seen[file] += chunk
            if not chunk:
                left.discard(file)
                os.close(file)
    return [seen[file] for file in files]


class _Screen(pyte.Screen):
    """A screen that shows what is joined beside each other: pyte stops at a joiner."""

    def draw(self, data: str) -> None:
        super().draw(data.translate(_JOINERS))


def on_screen(seen: bytes, columns: int) -> str:
    """Return what a terminal shows of this output, also of what has scrolled away, without trailing blanks."""
    screen = _Screen(columns, _LINES_MAX)
    pyte.ByteStream(screen).feed(seen)
    lines = [screen.buffer[row] for row in range(screen.cursor.y + 1)]
    # The second cell of a wide character is empty.
    texts = ["".join(line[column].data for column in range(columns)).rstrip() for line in lines]
    return "\n".join(texts).rstrip("\n") + "\n"


def masked(text: str) -> str:
    """Replace ids, secrets, times and ports by others of the same width."""
    for pattern, replacement in _MASKS:
        text = pattern.sub(replacement, text)
    return text
