"""The part `tracing`: what spans of one check in a hundred cost the sidecar, against a sidecar that exports none.

Both get the same checks, each with the trace context of a caller that traces, as Envoy sends them. The spans go to a
small collector in this process, whose CPU time does not count.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import cycle
from statistics import median

from bench.environment.environment import Environment, traffic
from bench.environment.sidecars import Sidecar
from bench.load.capture import Call
from bench.load.checks import check_load
from bench.rounds import Turn, in_turns, measured
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from support.observability.otlp_receiver import OtlpReceiver, otlp_receiver

SECTION = "A check, by tracing of one in a hundred (connections x calls in flight)"
OFF, ON = "no collector", "spans of one in a hundred"
SAMPLED_EVERY = 100

_WITHOUT_INDEXING = b"\0"  # RFC 7541 section 6.2.2
_HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


async def measure(environment: Environment) -> None:
    """Add a row for each sidecar and load, and the ratios of their CPU times; fails if no span arrived.

    Two processes of one program differ by some percent, for as long as they run. So several pairs are started, and the
    median of their ratios counts.
    """
    plan, report = environment.plan, environment.report
    calls = cycle(traffic(traced(environment.calls)))
    ratios: dict[str, list[float]] = defaultdict(list)
    with otlp_receiver() as collector:
        for _ in range(plan.starts):
            async with _pair(environment, collector) as sidecars:
                for connections, in_flight in plan.loads:
                    load = f"{connections}x{in_flight}"
                    turns: dict[str, Turn] = {}
                    for name, sidecar in sidecars.items():
                        shaped = partial(check_load, sidecar.check_port, calls, connections=connections)
                        asked = partial(shaped, in_flight=in_flight, seconds=plan.run_s)
                        turns[name] = partial(measured, report, asked, {"server": sidecar.pid})
                    rounds = await in_turns(-(-plan.rounds // plan.starts), turns, OFF, ON, often=plan.often)
                    for name, row in rounds.medians().items():
                        report.row(SECTION, f"{name} {load}", row)
                    ratios[load].append(rounds.ratio(ON, OFF, "server_us"))
        report.note(_spans(collector))
    for load, found in ratios.items():
        report.ratio(f"cpu_traced_over_untraced_{load}", median(found))


@asynccontextmanager
async def _pair(environment: Environment, collector: OtlpReceiver) -> AsyncIterator[dict[str, Sidecar]]:
    sidecars = {
        name: Sidecar(environment.stack, name.replace(" ", "-"), env)
        for name, env in ((OFF, {}), (ON, {"AUTHZ_OTLP_ENDPOINT": collector.url}))
    }
    try:
        for sidecar in sidecars.values():
            await asyncio.to_thread(sidecar.serve)
        yield sidecars
    finally:
        for sidecar in sidecars.values():
            sidecar.stop()


def traced(calls: list[Call]) -> list[Call]:
    """Return calls with trace contexts at random, of which one in a hundred is sampled."""
    chance = random.Random(3)  # noqa: S311 -- the same traffic in every run
    return [
        replace(call, block=call.block + _field(chance, sampled=not n % SAMPLED_EVERY)) for n, call in enumerate(calls)
    ]


def _field(chance: random.Random, *, sampled: bool) -> bytes:
    value = f"00-{chance.randbytes(16).hex()}-{chance.randbytes(8).hex()}-{sampled:02x}".encode()
    return _WITHOUT_INDEXING + _text(b"traceparent") + _text(value)


def _text(value: bytes) -> bytes:
    code = _HUFFMAN.encode(value)
    return bytes([0x80 | len(code)]) + code


def _spans(collector: OtlpReceiver) -> str:
    if not collector.spans:
        raise RuntimeError("no span arrived")
    return f"{len(collector.spans)} spans of the traced sidecar arrived at the collector."
