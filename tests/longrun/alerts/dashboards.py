"""Renders the dashboards from real data: a stack under load with some faults, Prometheus, and matplotlib.

`make dashboards` writes a picture of each dashboard of `deploy/observability/` into `build/dashboards/`, to be looked
at: an empty panel is a query that finds nothing. Grafana itself is not needed. The faults are those of the drill.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from longrun.alerts.faults import Drill
from support.observability.prometheus import Prometheus, prometheus

mpl.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[3]
DASHBOARDS = ROOT / "deploy" / "observability" / "dashboards"
_FACTOR = 20
_FAULT_S, _QUIET_S = 12.0, 4.0
_COLUMNS, _STEP_S = 3, 1
_UNITS = {"reqps": "requests/s", "ops": "1/s", "s": "s", "percentunit": "share", "short": ""}
_LEGEND_MAX = 8
_MAY_BE_EMPTY = {"What shadow routes would refuse", "Throttled attempts"}  # the policy has none, nobody is throttled


def shortened(expression: str) -> str:
    """Return an expression with the windows of the rules."""

    def divide(found: re.Match[str]) -> str:
        seconds = int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]]
        return f"[{max(4, seconds // _FACTOR)}s]"

    return re.sub(r"\[(\d+)([smhd])\]", divide, expression)


def record(folder: Path) -> dict[str, list[tuple[dict[str, Any], list[tuple[str, Any]]]]]:
    """Run the stack with its faults; return for each dashboard its panels, each with its series and their legends."""
    with Drill() as drill, prometheus(drill.folder("prometheus"), drill.targets(), shorten=_FACTOR) as watched:
        began_s = time.time()
        time.sleep(2 * _QUIET_S)
        faults = (
            (drill.bad_keys, drill.revoked_key, drill.passwords),
            (drill.probing, drill.streams_refused, drill.postgres_slow),
            (drill.redis_slow, drill.mistakes),
            (drill.streams_over_cap, drill.certificate),
            (drill.redis_stopped,),
            (drill.outbox_stuck,),
            (drill.postgres_stopped,),
        )
        for together in faults:
            with ExitStack() as lasting:
                for fault in together:
                    lasting.enter_context(contextmanager(fault)())
                time.sleep(_FAULT_S)
            time.sleep(_QUIET_S)
        span = (began_s, time.time())
        pages = {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}
        folder.mkdir(parents=True, exist_ok=True)
        return {
            name: [(panel, _series(watched, panel, span)) for panel in page["panels"]] for name, page in pages.items()
        }


def _series(watched: Prometheus, panel: dict[str, Any], span: tuple[float, float]) -> list[tuple[str, Any]]:
    found = []
    for target in panel["targets"]:
        expr = shortened(target["expr"])
        data = watched.query("query_range", query=expr, start=span[0], end=span[1], step=_STEP_S)
        for result in data["result"]:
            legend = _legend(target["legendFormat"], result["metric"])
            points = [(float(at) - span[0], float(value)) for at, value in result["values"]]
            found.append((legend, points))
    return found


def _legend(template: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda name: labels.get(name[1], ""), template)


def draw(name: str, panels: Sequence[tuple[dict[str, Any], list[tuple[str, Any]]]], folder: Path) -> list[str]:
    """Draw one dashboard; return the titles of its empty panels."""
    rows = -(-len(panels) // _COLUMNS)
    figure, axes = plt.subplots(rows, _COLUMNS, figsize=(6 * _COLUMNS, 3.2 * rows), squeeze=False)
    empty = []
    for axis, (panel, series) in zip(axes.flat, panels, strict=False):
        unit = panel["fieldConfig"]["defaults"]["unit"]
        axis.set_title(panel["title"], fontsize=10, loc="left")
        axis.set_ylabel(_UNITS.get(unit, unit), fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
        most = sorted(series, key=lambda one: -max((value for _, value in one[1]), default=0.0))
        for legend, points in most[: 2 * _LEGEND_MAX]:
            axis.plot([at for at, _ in points], [value for _, value in points], label=legend, linewidth=1.2)
        if not series:
            empty += [panel["title"]] if panel["title"] not in _MAY_BE_EMPTY else []
            axis.text(0.5, 0.5, "no data", ha="center", transform=axis.transAxes)
        else:
            axis.set_ylim(bottom=0)
            axis.legend(fontsize=6, ncols=2, loc="upper left", framealpha=0.6)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(folder / f"{name}.png", dpi=80)
    plt.close(figure)
    return empty


def main() -> None:
    """Render every dashboard; exits with 1 if a panel is empty."""
    parser = argparse.ArgumentParser(description="Render the dashboards from real data.")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "dashboards")
    folder: Path = parser.parse_args().folder
    empty = []
    for name, panels in record(folder).items():
        empty += [f"{name}: {title}" for title in draw(name, panels, folder)]
        sys.stdout.write(f"{folder / name}.png: {len(panels)} panels\n")
    if empty:
        sys.exit(f"without data: {', '.join(empty)}")


if __name__ == "__main__":
    main()
