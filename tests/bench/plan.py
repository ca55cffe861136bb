"""How long the bench measures and on how much: the full run in twenty minutes, the quick one in under two."""

from dataclasses import dataclass

PARTS = ("memory", "cpu", "envoy", "fixed", "keys", "routes", "streams", "tracing")


@dataclass(frozen=True, slots=True)
class Plan:
    """The sizes of one run. Each figure is a median over `rounds`, in which the variants take turns of `run_s`.

    In a round, the fewest and the most of keys and of routes have `often` turns each, since little is between them.
    `envoy_rounds` and `envoy_s` are the same through Envoy, where more processes share the machine and figures scatter
    more. `fixed_s` is how long calls are made at the fixed rate in all, `idle_s` how long nothing is asked, `starts`
    how often a sidecar is started.
    """

    keys: int = 5_000
    requests: int = 20_000
    rounds: int = 9
    run_s: float = 1.0
    often: int = 3
    envoy_rounds: int = 27
    envoy_s: float = 1.0
    fixed_s: float = 60.0
    idle_s: float = 5.0
    starts: int = 5
    loads: tuple[tuple[int, int], ...] = ((1, 1), (1, 16), (1, 64), (4, 64))
    key_counts: tuple[int, ...] = (100, 1_000, 10_000, 100_000, 1_000_000)
    route_counts: tuple[int, ...] = (10, 100, 1_000, 10_000)


FULL = Plan()
QUICK = Plan(
    requests=5_000,
    rounds=2,
    run_s=0.3,
    often=1,
    envoy_rounds=2,
    fixed_s=5.0,
    idle_s=1.0,
    starts=1,
    key_counts=(100, 1_000_000),
    route_counts=(10, 10_000),
)
