"""The report as pictures, each as PNG and SVG: one for every part that lends itself to one.

Drawing needs matplotlib, which is the extra `bench`; measuring does not.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from bench.parts import envoy as by_envoy
from bench.parts import keys as by_keys
from bench.parts import listener as by_listener
from bench.parts import rate as by_rate
from bench.parts import routes as by_routes
from bench.report import Report, Row

MISSING = "matplotlib is not installed, so there are no plots: it is the extra `bench`, which `make bench` installs."

_INCHES = (9.0, 4.5)

Rows: TypeAlias = dict[str, Row]
Axes: TypeAlias = Any
"""A matplotlib.axes.Axes: untyped, since this module must be readable without matplotlib."""


def draw(report: Report, folder: Path) -> bool:
    """Draw the measurements into `folder`; returns whether matplotlib is installed."""
    if find_spec("matplotlib") is None:
        return False
    for name, (section, plot) in _PLOTS.items():
        if section in report.sections:
            _save(folder / name, section, report.sections[section], plot)
    return True


def _save(path: Path, title: str, rows: Rows, plot: Callable[[Axes, Rows], None]) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415 -- optional

    figure = Figure(figsize=_INCHES, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    plot(axes, rows)
    for kind in ("png", "svg"):
        figure.savefig(path.with_suffix(f".{kind}"), dpi=150)


def _listeners(axes: Axes, rows: Rows) -> None:
    """Draw CPU per check, listener beside listener under each load."""
    names = (by_listener.CONSTANT, by_listener.CHECK, by_listener.GRPC)
    loads = [name.removeprefix(f"{names[0]} ") for name in rows if name.startswith(f"{names[0]} ")]
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        places = [place + width * (number - 1) for place in range(len(loads))]
        bars = axes.bar(places, [rows[f"{name} {load}"]["server_us"] for load in loads], width, label=name)
        axes.bar_label(bars, fmt="%.3g")
    axes.set_xticks(range(len(loads)), loads)
    axes.set_yscale("log")
    axes.margins(y=0.15)
    axes.set_ylabel("CPU of the server, µs a check")
    axes.legend(loc="upper center", ncols=len(names))


def _envoy(axes: Axes, rows: Rows) -> None:
    """Draw requests per second with many connections, and their slowest hundredth."""
    suffix = f" ({by_envoy.MANY})"
    many = {name.removesuffix(suffix): row for name, row in rows.items() if name.endswith(suffix)}
    bars = axes.barh(list(many), [row["calls_per_s"] for row in many.values()])
    axes.bar_label(bars, [f"p99 {row['p99_ms']:.3g} ms" for row in many.values()], padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel(f"requests a second, {by_envoy.MANY} connections")


def _fixed(axes: Axes, rows: Rows) -> None:
    """Draw each variant's latencies at the fixed rate."""
    columns = ("p50_ms", "p99_ms", "p99.9_ms")
    labels = [column.removesuffix("_ms") for column in columns]
    for name, row in rows.items():
        axes.plot(labels, [row[column] for column in columns], "o-", label=name)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("latency, ms")
    axes.legend()


def _keys(axes: Axes, rows: Rows) -> None:
    """Draw the cost of a check over the number of keys."""
    for asked in ("hot", "any"):
        counts = {_count(name): row["total_us"] for name, row in rows.items() if name.endswith(asked)}
        axes.plot(list(counts), list(counts.values()), "o-", label=f"{asked} keys")
    _grow(axes, "keys in Redis", "CPU of authz and Redis, µs a check")
    axes.legend(loc="lower right")


def _routes(axes: Axes, rows: Rows) -> None:
    """Draw the cost of a check over the number of routes."""
    counts = {_count(name): row["server_us"] for name, row in rows.items()}
    axes.plot(list(counts), list(counts.values()), "o-")
    _grow(axes, "routes in the policy", "CPU of authz, µs a check")


def _grow(axes: Axes, of: str, what: str) -> None:
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(of)
    axes.set_ylabel(what)


def _count(name: str) -> int:
    return int(name.split(maxsplit=1)[0].replace(",", ""))


_PLOTS: dict[str, tuple[str, Callable[[Axes, Rows], None]]] = {
    "listeners": (by_listener.SECTION, _listeners),
    "envoy": (by_envoy.SECTION, _envoy),
    "fixed": (by_rate.SECTION, _fixed),
    "keys": (by_keys.SECTION, _keys),
    "routes": (by_routes.SECTION, _routes),
}
