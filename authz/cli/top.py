"""`authz top`: what some authz processes do now, as a live view, as lines, or as JSON.

The figures are `top_figures.py`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from authz.cli.admin_listeners import AdminListeners
from authz.cli.output import safe, write
from authz.cli.top_figures import Latency, Process, Snapshot, snapshot

ADDRESSES_MAX = 64
_BAR = "\N{FULL BLOCK}"
_RATE_COLUMNS, _BAR_COLUMNS = 10, 10


def show_top(
    listeners: AdminListeners, addresses: Sequence[str], interval_s: float, *, once: bool, as_json: bool
) -> None:
    """Show what sidecars do now, until Ctrl-C; `once` and JSON print one snapshot. Exits with 1 if none was read."""
    take = partial(snapshot, listeners, addresses, interval_s)
    console = Console(highlight=False, markup=False, emoji=False)
    if as_json:
        found = take()
        write(json.dumps(asdict(found)))
    elif once or not console.is_terminal:
        found = take()
        console.print(view(found, console.width))
    else:
        _watch(console, take)
        return
    if all(process.error for process in found.processes):
        raise typer.Exit(1)


def view(found: Snapshot, columns: int) -> Group:
    """Return what is shown of a snapshot, in lines of at most `columns` characters."""
    lines = [
        Text("authz top", style="bold"),
        *(_process_line(process, columns) for process in found.processes),
        Text(""),
    ]
    rates = "  ".join(f"{outcome} {rate:g}/s" for outcome, rate in found.checks.items()) or "none"
    lines += [_line("checks", rates, columns), _line("latency", _latency(found.check), columns)]
    lines += [_line(store, _latency(latency), columns) for store, latency in found.stores.items()]
    lines.append(_line("in flight", str(found.in_flight), columns))
    streams = "  ".join(f"{name} {count}" for name, count in found.streams.items())
    if streams:
        lines.append(_line("streams", streams, columns))
    if found.pending_changes:
        text = f"{found.pending_changes} not effective, the oldest for {found.oldest_change_s:g} s"
        lines.append(_line("changes", text, columns, "bold red"))
    tables = [_rates(title, rates, columns) for title, rates in (("refused", found.refusals), ("route", found.routes))]
    return Group(*lines, *tables)


def _watch(console: Console, take: Callable[[], Snapshot]) -> None:
    with Live(Text("reading …"), console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(view(take(), console.width), refresh=True)


def _process_line(process: Process, columns: int) -> Text:
    if process.error:
        return _cut(f"{process.address}  {process.error}", columns, "red")
    down = [store for store, is_up in process.stores.items() if not is_up]
    state = f"without {' and '.join(down)}" if down else "ok"
    text = f"{process.address}  {state}  {process.version}  policy {process.policy}"
    return _cut(text, columns, "red" if down else "green")


def _line(name: str, text: str, columns: int, style: str = "") -> Text:
    return _cut(f"{name:<10}{text}", columns, style)


def _latency(latency: Latency) -> str:
    if latency.p50_ms is None or latency.p99_ms is None:
        return "-"
    return f"p50 ≤ {latency.p50_ms:g} ms  p99 ≤ {latency.p99_ms:g} ms"


def _rates(title: str, rates: Mapping[str, float], columns: int) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), width=columns)
    table.add_column("per s", justify="right", width=_RATE_COLUMNS)
    table.add_column("", width=_BAR_COLUMNS)
    table.add_column(title, no_wrap=True, overflow="ellipsis", ratio=1)
    most = max(rates.values(), default=0.0)
    for name, rate in rates.items():
        bar = _BAR * max(1, round(_BAR_COLUMNS * rate / most))
        table.add_row(f"{rate:g}", Text(bar, style="cyan"), Text(safe(name)))
    return table


def _cut(text: str, columns: int, style: str = "") -> Text:
    cut = Text(safe(text), style=style)
    cut.truncate(columns, overflow="ellipsis")
    return cut
