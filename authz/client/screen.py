"""What the person or the script at the other end sees: results on standard output, everything else on standard error.

With `--json`, standard output is one JSON document, also when the command fails. A key is never shown.
"""

import json
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
    """Says things; `as_json` for a script."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)

    def result(self, text: str, fields: dict[str, Any]) -> None:
        """Print what came out, in words or as fields."""
        typer.echo(json.dumps(fields) if self._as_json else text)

    def note(self, text: str) -> None:
        """Say something beside the result."""
        self._console.print(Text(text, style="dim"))

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Turn a fault into its words and its exit code."""
        try:
            yield
        except Fault as fault:
            if self._as_json:
                facts = {"error": str(fault), "status": fault.status, "retry_after_s": fault.retry_after_s}
                typer.echo(json.dumps({name: value for name, value in facts.items() if value is not None}))
            else:
                wait = f"; wait {spoken(fault.retry_after_s)}" if fault.retry_after_s else ""
                self._console.print(Text("error: ", style="red").append(f"{fault}{wait}", style="default"))
            raise typer.Exit(fault.exit_code) from None

    def show_code(self, grant: Grant, *, is_opened: bool) -> None:
        """Show the code large, and where it belongs."""
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
        """Show how long the code still lives; one line where nobody watches."""
        waiting = Waiting(time.monotonic() + life_s)
        if not self._console.is_terminal:
            self.note(f"waiting for approval, {spoken(life_s)} at most (Ctrl-C stops)")
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
    """A line that counts down, for `rich`; `words` is what the API last answered instead of "pending"."""

    def __init__(self, ends_s: float) -> None:
        self._ends_s = ends_s
        self._spinner = Spinner("dots")
        self.words = ""

    def tell(self, words: str) -> None:
        """Take note of what the API answered."""
        self.words = words

    def __rich__(self) -> Spinner:
        left_s = max(0, round(self._ends_s - time.monotonic()))
        words = f" · {self.words}" if self.words else ""
        line = f"waiting for approval · {left_s // _MINUTE_S}:{left_s % _MINUTE_S:02} left{words} · Ctrl-C stops"
        self._spinner.update(text=Text(line))
        return self._spinner


def hint(api_key: str) -> str:
    """Shorten a key to what may be shown for ever: its prefix and last four characters, as the dashboard does."""
    prefix, underscore, secret = api_key.partition("_")
    if not underscore or len(secret) < _SECRET_CHARS_MIN:
        return "…"
    return f"{prefix}_…{secret[-_HINT_CHARS:]}"


def spoken(seconds: int) -> str:
    """Write a number of seconds as a person would say it."""
    if seconds < 2 * _MINUTE_S:
        return f"{seconds} s"
    return f"{round(seconds / _MINUTE_S)} minutes"
