"""`make bench`: what a check costs, listener against listener, on varied traffic.

Every figure is a ratio inside one run, because machines differ and are shared: the variants take turns, round after
round, and medians are compared. The report is `build/bench/report.json` and `report.md`.
"""

import asyncio
import json
import os
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import uvloop
from load import Load, load

from authz._pb.check_pb2 import CheckRequest
from authz.admin_session import open_admin
from authz.core.limits import Limit
from authz.demo.house import ACTOR, House
from authz.demo.servers import Server, accepts, free_port
from authz.service.key_admin import KeyRequest

ROUNDS = 5
KEYS = 5_000
MESSAGES = 5_000
CALLS = {1: 2_000, 64: 20_000}
REPORT = Path("build/bench")
ROOMY = Limit(1_000_000, 100_000)
TARGETS = (
    "/v1/servers/{}",
    "/v1/servers/{}/metrics",
    "/v1/servers/{}/logs?tail=9",
    "/v1/whoami",
    "/v1/servers?limit={}",
)
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Variant:
    """Something that answers checks: where, and in which process."""

    name: str
    port: int
    pid: int


def cpu_s(pid: int) -> float:
    """Read how much CPU a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def message(secret: str, number: int, chance: random.Random) -> bytes:
    """Write a CheckRequest as Envoy does with narrowed headers: 1 % without a usable key, ids at random."""
    request = CheckRequest()
    request.attributes.source.address.socket_address.address = f"10.0.{number % 250}.7"
    http = request.attributes.request.http
    http.id, http.method = str(chance.getrandbits(63)), "GET"
    http.path = chance.choice(TARGETS).format(f"srv-{chance.getrandbits(40):x}")
    key = f"x{secret[1:]}" if chance.random() < 0.01 else secret
    http.header_map.headers.add(key="x-api-key", raw_value=key.encode())
    http.header_map.headers.add(key="content-type", raw_value=b"application/json")
    return request.SerializeToString()


async def secrets(house: House) -> list[str]:
    """Make keys; every twentieth has an empty bucket from its second check on."""
    made = []
    async with open_admin(house.settings) as admin:
        for number in range(KEYS):
            if number % 25 == 0:
                account = await admin.create_account(f"bench {number}", None, ACTOR)
            limit = Limit(1, 0.001) if number % 20 == 0 else ROOMY
            request = KeyRequest(account.id, "bench", frozenset({"servers:read"}), limit)
            made.append((await admin.create_key(request, ACTOR)).secret)
    return made


async def measured(variant: Variant, messages: list[bytes], in_flight: int) -> tuple[float, Load]:
    """Run one load; returns the CPU microseconds of the variant's process for each call."""
    before_s = cpu_s(variant.pid)
    run = await load(variant.port, messages, calls=CALLS[in_flight], in_flight=in_flight)
    return (cpu_s(variant.pid) - before_s) / run.calls * 1e6, run


async def compared(variants: list[Variant], messages: list[bytes]) -> dict[str, dict[str, float]]:
    """Let the variants take turns; returns medians by variant and load."""
    figures: dict[str, dict[str, float]] = {}
    for in_flight in CALLS:
        runs: dict[str, list[tuple[float, Load]]] = {variant.name: [] for variant in variants}
        for _ in range(ROUNDS):
            for variant in variants:
                runs[variant.name].append(await measured(variant, messages, in_flight))
        for name, measurements in runs.items():
            latencies = sorted(latency for _, run in measurements for latency in run.latencies_s)
            figures[f"{name} 1x{in_flight}"] = {
                "cpu_us": median(cpu for cpu, _ in measurements),
                "calls_per_s": median(run.calls / run.seconds for _, run in measurements),
                "p50_ms": latencies[len(latencies) // 2] * 1000,
                "p99_ms": latencies[len(latencies) * 99 // 100] * 1000,
            }
    return figures


def rss_mib(pid: int) -> float:
    """Read how much memory a process holds."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def written(figures: dict[str, dict[str, float]], ratios: dict[str, float]) -> str:
    """Write the report as Markdown tables."""
    columns = ("cpu_us", "calls_per_s", "p50_ms", "p99_ms")
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    lines += [
        f"| {name} | " + " | ".join(f"{row[column]:.2f}" for column in columns) + " |" for name, row in figures.items()
    ]
    lines += ["", "| ratio | |", "|---|---|", *(f"| {name} | {ratio:.2f} |" for name, ratio in ratios.items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run everything and write the report."""
    house = House(env={"AUTHZ_LOG_ALLOW_SAMPLE": "0.01"})
    house.start()
    port = free_port()
    constant = Server("constant", [sys.executable, str(Path(__file__).with_name("constant.py")), "--port", str(port)],
                      house.folder / "constant.log")  # fmt: skip
    try:
        constant.start(lambda: accepts(port))
        chance = random.Random(1)  # noqa: S311 -- the same traffic in every run
        keys = asyncio.run(secrets(house))
        messages = [message(chance.choice(keys), number, chance) for number in range(MESSAGES)]
        sidecar = house.sidecars[0].pid
        variants = [
            Variant("check listener", house.check_ports[0], sidecar),
            Variant("grpc.aio", house.grpc_ports[0], sidecar),
            Variant("constant answer", port, constant.pid),
        ]
        uvloop.run(load(house.check_ports[0], messages, calls=MESSAGES, in_flight=64))
        figures = uvloop.run(compared(variants, messages))
        ratios = {
            f"cpu_grpcaio_over_check_1x{load}": figures[f"grpc.aio 1x{load}"]["cpu_us"]
            / figures[f"check listener 1x{load}"]["cpu_us"]
            for load in CALLS
        }
        whole, floor = (figures[f"{name} 1x64"]["cpu_us"] for name in ("check listener", "constant answer"))
        ratios["cpu_whole_over_constant_1x64"] = whole / floor
        ratios["rss_mib"] = rss_mib(sidecar)
    finally:
        constant.stop()
        house.stop()
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "report.json").write_text(json.dumps({"ratios": ratios, "figures": figures}, indent=2) + "\n")
    (REPORT / "report.md").write_text(written(figures, ratios))
    sys.stdout.write(written(figures, ratios))


if __name__ == "__main__":
    main()
