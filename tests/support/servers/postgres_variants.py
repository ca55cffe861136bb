"""PostgreSQL as people run it: on TCP with options, with a streaming standby, and behind PgBouncer."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.servers.programs import unpacked

from authz.demo.servers import PostgresServer, Server, ServerFailed, accepts, free_port


class TcpPostgres(PostgresServer):
    """A PostgreSQL on 127.0.0.1, with options as `name=value`; `standby_of` another, it follows that one."""

    def __init__(self, folder: Path, *options: str, standby_of: "TcpPostgres | None" = None) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self._upstream = standby_of
        given = ["listen_addresses=127.0.0.1", f"port={self.port}", *options]
        self._command += [part for option in given for part in ("-c", option)]

    def start(self, is_ready: Callable[[], bool] | None = None) -> None:
        if self._upstream is not None and not (self._folder / "data").exists():
            self._copy(self._upstream)
        super().start(is_ready or self._accepts)

    def promote(self) -> None:
        """Make a standby the primary; returns once it is."""
        self._run("pg_ctl", "promote", "-D", str(self._folder / "data"), "-w")

    def rejoin(self, upstream: "TcpPostgres", way: str = "pg_basebackup") -> None:
        """Start a killed primary again as the standby of the server that replaced it."""
        data = self._folder / "data"
        if way == "pg_rewind":
            self.start()  # it recovers from the crash, and must then stop in order
            self.stop()
            self._run("pg_rewind", "-D", str(data), "--source-server", upstream.url, "-R", "--no-sync")
        else:
            shutil.rmtree(data)
            self._upstream = upstream
        self.start()

    def require_password(self, role: str) -> None:
        """Refuse a role without its password from now on."""
        rules = self._folder / "data" / "pg_hba.conf"
        rules.write_text(f"host all {role} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        self._run("pg_ctl", "reload", "-D", str(self._folder / "data"))

    def _copy(self, upstream: "TcpPostgres") -> None:
        where = ("-h", "127.0.0.1", "-p", str(upstream.port), "-U", "postgres", "-D", str(self._folder / "data"))
        self._run("pg_basebackup", *where, "-R", "-c", "fast", "--no-sync")

    def _run(self, name: str, *arguments: str) -> None:
        command = [str(self._programs / "bin" / name), *arguments]
        user: dict[str, Any] = {}
        if self._user is not None:  # root's own group would keep it out of folders that are open to others
            user = {"user": self._user, "group": pwd.getpwnam(self._user).pw_gid, "extra_groups": []}
        done = subprocess.run(command, check=False, capture_output=True, timeout=60, **user)
        if done.returncode:
            raise ServerFailed(f"{name} failed: {done.stderr.decode(errors='replace').strip()}")

    def _accepts(self) -> bool:
        command = [str(self._programs / "bin" / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0


class PgBouncer(Server):
    """PgBouncer in front of every database of a server, with its settings as they come and such that are given.

    `server` is what its configuration says of the server, such as "host=127.0.0.1 port=5432".
    """

    stop_signal = signal.SIGQUIT  # at once, in every version

    def __init__(self, folder: Path, server: str, *settings: str, mode: str = "transaction") -> None:
        program, libraries = unpacked("pgbouncer")
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        home = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir=folder))
        users, configuration = home / "users.txt", home / "pgbouncer.ini"
        users.write_text('"postgres" ""\n')
        lines = [f"[databases]\n* = {server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}"]
        lines += ["auth_type = trust", f"auth_file = {users}", f"pool_mode = {mode}", "unix_socket_dir ="]
        lines += ["user = nobody"] if os.geteuid() == 0 else []
        configuration.write_text("\n".join([*lines, *settings, ""]))
        environment = {"LD_LIBRARY_PATH": libraries}
        super().__init__("pgbouncer", [program, configuration], home / "pgbouncer.log", env=environment)

    def start(self, is_ready: Callable[[], bool] | None = None) -> None:
        super().start(is_ready or (lambda: accepts(self.port)))


@contextmanager
def pgbouncer(folder: Path, server: str, *settings: str, mode: str = "transaction") -> Iterator[str]:
    """Run PgBouncer for a while; yields the URL of the database `postgres` through it."""
    bouncer = PgBouncer(folder, server, *settings, mode=mode)
    bouncer.start()
    try:
        yield bouncer.url
    finally:
        bouncer.stop()


class PooledPostgres(PostgresServer):
    """The stack's PostgreSQL with PgBouncer in front of it, which is where its `url` leads."""

    mode = "transaction"
    pool_size = 6

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._bouncer = PgBouncer(
            folder, f"host={self._folder}", f"default_pool_size = {self.pool_size}", mode=self.mode
        )
        self.direct_url, self.url = self.url, self._bouncer.url

    def start(self, is_ready: Callable[[], bool] | None = None) -> None:
        super().start(is_ready)
        self._bouncer.start()

    def stop(self) -> int | None:
        self._bouncer.stop()
        return super().stop()


class SessionPooledPostgres(PooledPostgres):
    """The same in session mode, in which each client's connection has one of the server for as long as it is open."""

    mode = "session"
    pool_size = 60
