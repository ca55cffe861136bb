"""PostgreSQL as people run it: on TCP with options, with a streaming standby, and behind PgBouncer."""

import pwd
import subprocess
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


@contextmanager
def pgbouncer(folder: Path, server: str, port: int, *settings: str, mode: str = "transaction") -> Iterator[str]:
    """Run PgBouncer in front of a database; yields the URL of its database `postgres`, which is `server`'s database.

    `server` is what a connection string of PgBouncer says of the server, such as "host=127.0.0.1".
    """
    program, libraries = unpacked("pgbouncer")
    home = folder / f"pgbouncer-{mode}"
    home.mkdir()
    users = home / "users.txt"
    users.write_text('"postgres" ""\n')
    given = "\n".join(settings)
    (home / "pgbouncer.ini").write_text(
        f"[databases]\n* = {server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = trust\n"
        f"pool_mode = {mode}\nunix_socket_dir =\nuser = nobody\nauth_file = {users}\n{given}\n"
    )
    environment = {"LD_LIBRARY_PATH": libraries}
    bouncer = Server("pgbouncer", [program, home / "pgbouncer.ini"], home / "pgbouncer.log", env=environment)
    bouncer.start(lambda: accepts(port))
    try:
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    finally:
        bouncer.stop()
