"""The output of the command: results on standard output, everything else on standard error.

With `--json`, standard output is one JSON document, also for a failure. A key is never shown.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import typer
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.spinner import Spinner
from rich.text import Text

from authz.client.api import Grant
from authz.client.faults import Fault
from authz.client.large_type import large

_MINUTE_S = 60
_REFRESH_PER_S = 8
_FRAME_COLUMNS = 6  # the panel's sides and its padding
_HINT_CHARS = 4
_SECRET_CHARS_MIN = 16


class Screen:
    """Prints results and notes; with `as_json`, results are JSON."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)

    def result(self, text: str, fields: dict[str, Any]) -> None:
        """Print the result, as text or as JSON."""
        typer.echo(json.dumps(fields) if self._as_json else text)

    def note(self, text: str) -> None:
        """Print a note on standard error."""
        self._console.print(Text(text, style="dim"))

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Print a fault and exit with its code."""
        try:
            yield
        except Fault as fault:
            if self._as_json:
                facts = {"error": str(fault), "status": fault.status, "retry_after_s": fault.retry_after_s}
                typer.echo(json.dumps({name: value for name, value in facts.items() if value is not None}))
            else:
                wait = f"; wait {duration_text(fault.retry_after_s)}" if fault.retry_after_s else ""
                self._console.print(Text("error: ", style="red").append(f"{fault}{wait}", style="default"))
            raise typer.Exit(fault.exit_code) from None

    def show_code(self, grant: Grant, *, is_opened: bool) -> None:
        """Show the code in large type, and the page for it."""
        # The line of the published command, which scripts read.
        line = f"Visit {grant.verify_url} and enter {grant.user_code}"
        typer.echo(line, err=self._as_json)
        sys.stdout.flush()
        rows = large(grant.user_code)
        width = max(map(len, rows or [""])) + _FRAME_COLUMNS
        if rows and self._console.is_terminal and self._console.width >= width and self._can_draw():
            code = Text("\n".join([*rows, "", grant.user_code.center(width - _FRAME_COLUMNS).rstrip()]), style="bold")
            self._console.print(Panel(code, expand=False, padding=(1, 2)), soft_wrap=False)
        else:
            self._console.print(Text(f"\n    {grant.user_code}\n", style="bold"))
        where = "Your browser opens this page" if is_opened else "Open this page in a browser"
        self._console.print(Text(f"{where}, check that it shows this code, and approve:"))
        self._console.print(Text(f"  {grant.verify_url_complete}", style="cyan"))
        if grant.verify_url_complete != grant.verify_url:
            self.note(f"  (or enter the code at {grant.verify_url})")

    @contextmanager
    def waiting(self, life_s: int) -> Iterator["Waiting"]:
        """Show the remaining time of the code; one line without a terminal."""
        waiting = Waiting(time.monotonic() + life_s)
        if not self._console.is_terminal:
            self.note(f"waiting for approval, {duration_text(life_s)} at most (Ctrl-C stops)")
        watched = self._console.is_terminal
        live = Live(waiting, console=self._console, transient=True, refresh_per_second=_REFRESH_PER_S)
        with live if watched else nullcontext():
            yield waiting

    def _can_draw(self) -> bool:
        try:
            "█╭".encode(self._console.encoding)
        except UnicodeEncodeError:
            return False
        return True


class Waiting:
    """A countdown line for `rich`; `words` is the last error of the API."""

    def __init__(self, ends_s: float) -> None:
        self._ends_s = ends_s
        self._spinner = Spinner("dots")
        self.words = ""

    def report(self, words: str) -> None:
        """Show the last error of the API."""
        self.words = words

    def __rich__(self) -> Spinner:
        left_s = max(0, round(self._ends_s - time.monotonic()))
        words = f" · {self.words}" if self.words else ""
        line = f"waiting for approval · {left_s // _MINUTE_S}:{left_s % _MINUTE_S:02} left{words} · Ctrl-C stops"
        self._spinner.update(text=Text(line))
        return self._spinner


def hint(api_key: str) -> str:
    """Return the public hint of a key: its prefix and last four characters, as in the dashboard."""
    prefix, underscore, secret = api_key.partition("_")
    if not underscore or len(secret) < _SECRET_CHARS_MIN:
        return "…"
    return f"{prefix}_…{secret[-_HINT_CHARS:]}"


def duration_text(seconds: int) -> str:
    """Format a number of seconds for people."""
    if seconds < 2 * _MINUTE_S:
        return f"{seconds} s"
    return f"{round(seconds / _MINUTE_S)} minutes"
