"""The bench itself: a run in miniature has every ratio it promises, and its load generators notice wrong answers."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from importlib.util import find_spec
from itertools import count, cycle, repeat
from pathlib import Path
from unittest.mock import Mock

import pytest
import uvloop
from bench import plots, rounds
from bench.environment.machine import (
    AHEAD,
    AMONG_OTHERS,
    NEVER_AWAKE,
    NOTES,
    ahead,
    apart,
    awake,
    packs,
    processors,
    stolen_s,
)
from bench.load.capture import Call, recording
from bench.load.checks import check_load, framed, steady_load
from bench.load.http import Prepared, http_load
from bench.load.measured import Load
from bench.load.wrk import Wrk
from bench.parts import envoy as by_envoy
from bench.parts import rate as by_rate
from bench.parts import routes as by_routes
from bench.plan import FULL, PARTS, QUICK, Plan
from bench.report import Report
from bench.run import run
from support.clients.h2_peers import block
from support.servers.programs import program
from support.stream_server import stream_server

from authz._pb.check_pb2 import CheckRequest
from authz.demo.servers import free_port

TINY = Plan(
    keys=100,
    requests=300,
    rounds=1,
    run_s=0.05,
    envoy_rounds=1,
    envoy_s=0.05,
    fixed_s=0.2,
    idle_s=0.05,
    starts=1,
    loads=((1, 1), (1, 64)),
    key_counts=(100, 1_000),
    route_counts=(10, 100),
)
PROMISED = {
    ("memory", "cpu", "envoy", "fixed"): {
        "rss_mib_100_keys",
        "idle_cpu_percent",
        "ready_s",
        "cpu_grpcaio_over_check_1x1",
        "cpu_grpcaio_over_check_1x64",
        "cpu_whole_over_constant_1x64",
        "envoy_throughput_whole_over_constant_64",
        "envoy_throughput_traced_whole_over_constant_64",
        "envoy_p99_whole_over_constant_64",
        "envoy_cpu_whole_over_constant_64",
        "envoy_added_p50_whole_over_constant_1",
        "envoy_added_p50_whole_over_constant_1_none_awake",
        "envoy_added_p50_whole_over_constant_1_all_awake",
        "fixed_2000_p99_ms",
        "fixed_2000_p99.9_ms",
        "fixed_2000_among_all_p99_ms",
        "fixed_2000_among_all_p99.9_ms",
    },
    ("keys", "routes"): {
        "cpu_1e3_keys_over_1e2",
        "cpu_with_redis_1e3_keys_over_1e2",
        "redis_bytes_per_key_1e3",
        "cpu_1e2_routes_over_10",
    },
    ("streams", "tracing"): {
        "cpu_ordinary_streams_over_none",
        "p99_ordinary_streams_over_none",
        "cpu_traced_over_untraced_1x1",
        "cpu_traced_over_untraced_1x64",
    },
}


@pytest.mark.parametrize("parts", PROMISED, ids="-".join)
def test_a_run_in_miniature_has_every_ratio_it_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: tuple[str, ...]
) -> None:
    monkeypatch.setattr(by_envoy, "WRK", None)  # which knows whole seconds only
    report = uvloop.run(run(TINY, parts, lambda _: None))
    report.write(tmp_path)
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["ratios"].keys() >= PROMISED[parts]
    assert written["notes"][0] in {NOTES["most"], NEVER_AWAKE}
    assert report.is_sound
    assert (tmp_path / "report.md").read_text().count("\n## ") == len(parts)


def test_processors_are_kept_awake_where_that_is_permitted(tmp_path: Path) -> None:
    every = processors()
    files = [tmp_path / f"cpu{number}" / "power" / "pm_qos_resume_latency_us" for number in every]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text("0\n")
    with awake(processors("most"), tmp_path) as is_permitted:
        assert is_permitted
        written = ["0", *["n/a"] * (len(every) - 1)]
        assert [file.read_text() for file in files] == written
        with awake(processors("all"), tmp_path):
            assert {file.read_text() for file in files} == {"n/a"}
            with awake(processors("none"), tmp_path):
                assert {file.read_text() for file in files} == {"0"}
        assert [file.read_text() for file in files] == written
    files[-1].unlink()
    with awake(processors("all"), tmp_path) as is_permitted:
        assert not is_permitted
    assert {file.read_text() for file in files[:-1]} <= {"0\n"}


def test_what_is_measured_is_on_one_processor_meanwhile() -> None:
    everywhere = os.sched_getaffinity(0)
    with subprocess.Popen(["/bin/sleep", "60"]) as sleeper:
        try:
            with apart([os.getpid(), sleeper.pid], processors()[-1]):
                assert os.sched_getaffinity(sleeper.pid) == os.sched_getaffinity(0) == {max(everywhere)}
            assert os.sched_getaffinity(sleeper.pid) == os.sched_getaffinity(0) == everywhere
        finally:
            sleeper.kill()


def test_processes_run_ahead_of_others_where_that_is_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as sleeper:
        try:
            with ahead([sleeper.pid]) as note:
                is_ahead = os.sched_getscheduler(sleeper.pid) == os.SCHED_RR
                assert note == (AHEAD if is_ahead else AMONG_OTHERS)
            assert os.sched_getscheduler(sleeper.pid) == os.SCHED_OTHER
            monkeypatch.setattr(os, "sched_setscheduler", Mock(side_effect=PermissionError))
            with ahead([sleeper.pid]) as note:
                assert note == AMONG_OTHERS
        finally:
            sleeper.kill()


@pytest.mark.skipif(
    find_spec("matplotlib") is None and not os.environ.get("CI"), reason="no matplotlib: make .venv/.bench"
)
def test_every_part_that_has_a_plot_is_drawn_twice(tmp_path: Path) -> None:
    report = Report()
    report.row(by_rate.SECTION, "one", {"p50_ms": 0.1, "p99_ms": 0.5, "p99.9_ms": 1})
    report.row(by_routes.SECTION, "1,000 routes", {"server_us": 10})
    assert plots.draw(report, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"fixed.png", "fixed.svg", "routes.png", "routes.svg"}


def test_every_part_is_promised_something() -> None:
    assert {part for parts in PROMISED for part in parts} == set(PARTS)


@pytest.mark.parametrize("plan", [FULL, QUICK])
def test_the_real_runs_measure_what_their_ratios_are_named_for(plan: Plan) -> None:
    assert plan.keys == 5_000
    assert (plan.key_counts[0], plan.key_counts[-1]) == (10**2, 10**6)
    assert (plan.route_counts[0], plan.route_counts[-1]) == (10, 10**4)
    assert {(1, 1), (1, 16), (1, 64), (4, 64)} == set(plan.loads)


def test_wrong_answers_make_a_report_unsound() -> None:
    report = Report()
    report.count(1_000, 10)
    assert report.is_sound
    report.count(1_000, 11)
    assert not report.is_sound


def call(*codes: int) -> Call:
    request = CheckRequest()
    request.attributes.request.http.id = "1" * 19
    before, _, after = request.SerializeToString().partition(b"1" * 19)
    return Call(block(), before, after, frozenset(codes))


async def test_a_check_that_is_answered_otherwise_is_counted() -> None:
    port = free_port()
    async with recording(port):
        refused = cycle([framed(call(0)), framed(call(16))])
        load = await check_load(port, refused, seconds=0.05, connections=2, in_flight=10)
        assert load.calls > 20
        assert abs(load.unexpected[0] - load.calls / 2) <= 2
        allowed = await check_load(port, repeat(framed(call(16), always_allowed=True)), seconds=0.05)
        assert not allowed.unexpected
        steady = await asyncio.to_thread(steady_load, port, refused, seconds=0.2, per_s=500)
        assert (steady.calls, steady.unexpected[0]) == (100, 50)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Refuse requests for /no."""
    while head := await reader.readline():
        await reader.readuntil(b"\r\n\r\n")
        status = 403 if head.startswith(b"GET /no ") else 200
        writer.write(b"HTTP/1.1 %d x\r\ncontent-length: 2\r\n\r\nok" % status)
    writer.close()


def request(target: str, status: int) -> Prepared:
    return Prepared(f"GET {target} HTTP/1.1\r\nhost: a\r\n\r\n".encode(), frozenset({status}))


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with stream_server(answer) as port:
        yield f"http://127.0.0.1:{port}"


async def test_a_request_that_is_answered_otherwise_is_counted(url: str) -> None:
    requests = [request("/yes", 200), request("/no", 403), request("/no", 200), request("/yes", 403)]
    load = await http_load(url, iter(requests), seconds=5, connections=1)
    assert (load.calls, load.unexpected) == (4, {403: 1, 200: 1})


@pytest.mark.parametrize(("status", "share"), [(403, 0), (200, 0.5)])
async def test_wrk_notices_refusals_that_ought_to_be_none(folder: Path, url: str, status: int, share: float) -> None:
    program("wrk")
    load = await Wrk(folder, "test", [request("/yes", 200), request("/no", status)]).load(
        url, seconds=0.1, connections=2
    )
    assert sum(load.unexpected.values()) / load.calls == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(
    ("cmdline", "expected"),
    [("quiet sched_vcpu_pack=15 panic=1\n", True), ("quiet sched_vcpu_pack=0", False), ("", False)],
)
def test_a_kernel_that_packs_is_noticed(tmp_path: Path, cmdline: str, *, expected: bool) -> None:
    file = tmp_path / "cmdline"
    assert not packs(file)
    file.write_text(cmdline)
    assert packs(file) is expected


def test_stolen_time_is_read(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  900 0 80 7000 20 0 10 250 0 0\ncpu0 900 0 80 7000 20 0 10 250 0 0\n")
    assert stolen_s(stat) == 250 / os.sysconf("SC_CLK_TCK")
    assert stolen_s(tmp_path / "none") == 0


async def test_what_is_compared_has_more_turns_of_which_the_median_counts() -> None:
    taken: list[str] = []
    costs = {"few": iter([1.0, 9.0, 2.0, 2.0, 2.0, 8.0]), "many": cycle([3.0]), "between": cycle([5.0])}

    def turn(name: str) -> rounds.Turn:
        async def take() -> dict[str, float]:
            taken.append(name)
            return {"server_us": next(costs[name])}

        return take

    result = await rounds.in_turns(2, {name: turn(name) for name in ("few", "between", "many")}, "few", "many", often=3)
    assert taken == ["few", "many"] * 3 + ["between"] * 2 + ["many", "few"] * 3
    assert result.medians() == {"few": {"server_us": 2}, "between": {"server_us": 5}, "many": {"server_us": 3}}
    assert result.ratio("many", "few", "server_us") == 1.5


@pytest.mark.parametrize(("stolen", "counted"), [([0, 0.01], 1), ([0, 0.5, 0.5, 0.51], 2), ([0, 0.3, 0, 0.4], 1)])
async def test_a_turn_that_the_host_disturbed_is_run_again(
    monkeypatch: pytest.MonkeyPatch, stolen: list[float], counted: int
) -> None:
    readings, calls = iter(stolen), count(1)
    monkeypatch.setattr(rounds, "stolen_s", lambda: next(readings))

    async def load() -> Load:
        return Load(next(calls), 1, (1, 1, 1), {})

    report = Report()
    row = await rounds.measured(report, load, {})
    assert row["calls_per_s"] == counted
    assert report.repeated == len(stolen) / 2 - 1
