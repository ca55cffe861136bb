"""Redis, PostgreSQL and the product's own image as containers, with the interface of the packaged servers.

Which engine runs them is testcontainers' choice. The images are made in `deploy/image` and `deploy/tests/containers`.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from testcontainers.core.container import DockerContainer

from authz.demo.servers import Server, ServerFailed, accepts, free_port

REDIS_IMAGE = os.environ.get("TEST_REDIS_IMAGE", "redis:7")
POSTGRES_IMAGE = os.environ.get("TEST_POSTGRES_IMAGE", "postgres:18")
_START_S, _STOP_S = 30, 5


class ContainerServer(Server):
    """One container; each start creates it anew from `made`."""

    def __init__(self, name: str, made: Callable[[], DockerContainer], log: Path) -> None:
        super().__init__(name, [], log)
        self._made = made
        self._container: Any = None

    @property
    def pid(self) -> int:
        if self._container is None:
            return 0
        self._container.reload()
        return int(self._container.attrs["State"]["Pid"])

    def start(self, is_ready: Callable[[], bool]) -> None:
        container = self._made()
        container.start()
        self._container = container.get_wrapped_container()
        threading.Thread(target=self._copy_log, args=(self._container,), daemon=True).start()
        deadline_s = time.monotonic() + _START_S
        while not is_ready():
            if time.monotonic() > deadline_s or self.pid == 0:
                self.stop()
                raise ServerFailed(f"{self.name} is not ready: {self.log_end()}")
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        if self._container is not None:
            self._container.kill(signal=number.name)

    def stop(self) -> int | None:
        if self._container is None:
            return None
        self._container.stop(timeout=_STOP_S)
        status = int(self._container.wait()["StatusCode"])
        self._remove()
        return status

    def kill(self) -> None:
        if self._container is not None:
            self._container.kill()
            self._remove()

    def _remove(self) -> None:
        self._container.remove(force=True, v=True)
        self._container = None

    def _copy_log(self, container: Any) -> None:  # noqa: ANN401 -- docker has no types
        with self.log.open("ab", buffering=0) as log:
            for part in container.logs(stream=True, follow=True):
                log.write(part)


class ContainerRedis(ContainerServer):
    """A Redis at `url`, whose port stays the same over restarts."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.port = port or free_port()
        self.url = self.socket_url = f"redis://127.0.0.1:{self.port}/0"
        made = lambda: DockerContainer(REDIS_IMAGE).with_bind_ports(6379, self.port)  # noqa: E731 -- one line
        super().__init__("redis", made, folder / "redis.log")

    def start(self, is_ready: Callable[[], bool] | None = None) -> None:
        super().start(is_ready or (lambda: accepts(self.port)))


class ContainerPostgres(ContainerServer):
    """A PostgreSQL at `url`."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.url = f"postgresql://postgres:test@127.0.0.1:{port}/postgres"
        environment = {"POSTGRES_USER": "postgres", "POSTGRES_PASSWORD": "test", "POSTGRES_DB": "postgres"}
        made = lambda: DockerContainer(POSTGRES_IMAGE).with_envs(**environment).with_bind_ports(5432, port)  # noqa: E731 -- one line
        super().__init__("postgres", made, folder / "postgres.log")

    def start(self, is_ready: Callable[[], bool] | None = None) -> None:
        super().start(is_ready or self._answers)

    def _answers(self) -> bool:
        command = ["psql", "--username=postgres", "--host=127.0.0.1", "--command=select 1"]
        return bool(self._container.exec_run(command, environment={"PGPASSWORD": "test"}).exit_code == 0)


def sidecar(image: str, name: str, environment: Mapping[str, str], folder: Path) -> ContainerServer:
    """Return the sidecar of an image, restricted as the manifests restrict it, in this machine's network."""
    policy = environment["AUTHZ_POLICY_FILE"]
    given = {**environment, "AUTHZ_POLICY_FILE": "/etc/authz/policy.yaml"}

    def made() -> DockerContainer:
        container = DockerContainer(image).with_envs(**given).with_volume_mapping(policy, given["AUTHZ_POLICY_FILE"])
        return container.with_kwargs(
            network_mode="host",
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            mem_limit="160m",
        )

    return ContainerServer(name, made, folder / f"{name}.log")
