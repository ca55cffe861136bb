"""The shared parts of the operator's commands: the actor, printing of rows, and exit codes.

Stores are opened in `session.py`.
"""

import asyncio
import getpass
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from authz.cli.session import open_admin
from authz.core.accounts import Actor
from authz.core.errors import NotEffectiveYet, Refused
from authz.service.keys.admin import KeyAdmin

EXIT_REFUSED = 3
EXIT_NOT_EFFECTIVE_YET = 4

_FILE_WIDTH = 240  # a pipe has no width

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_errors = Console(stderr=True, highlight=False, soft_wrap=True)
A = TypeVar("A")
T = TypeVar("T")


def actor() -> Actor:
    """Return the operator as the actor for the audit log."""
    return Actor(f"operator:{getpass.getuser()}", "local")


def run(use: Callable[[KeyAdmin], Awaitable[T]]) -> T:
    """Run one use case around keys and accounts."""
    return perform(open_admin(), use)


def perform(opened: AbstractAsyncContextManager[A], use: Callable[[A], Awaitable[T]]) -> T:
    """Run one use case; a refusal exits with 3, a change that is durable but not effective with 4."""

    async def session() -> T:
        async with opened as admin:
            return await use(admin)

    try:
        return asyncio.run(session())
    except Refused as error:
        _errors.print(f"[red]refused:[/red] {error}")
        raise typer.Exit(EXIT_REFUSED) from None
    except NotEffectiveYet as error:
        raise not_done_yet(str(error)) from None


def not_done_yet(why: str) -> typer.Exit:
    """Report that a change is durable but not effective, and return the exit of the command."""
    _errors.print(f"[yellow]not done yet:[/yellow] {why}")
    return typer.Exit(EXIT_NOT_EFFECTIVE_YET)


def show(values: Sequence[Any], columns: Sequence[str], *, as_json: bool) -> None:
    """Print values as a table of some columns, or as JSON with all fields."""
    if as_json:
        typer.echo(json.dumps([plain(value) for value in values]))
        return
    table = Table(box=None)
    for column in columns:
        table.add_column(column, overflow="fold")
    for value in values:
        fields = plain(value)
        table.add_row(*(_cell(fields[column]) for column in columns))
    console = Console()
    console.print(table, width=None if console.is_terminal else _FILE_WIDTH, crop=False)


def plain(value: Any) -> Any:  # noqa: ANN401 -- any value that can be converted for JSON
    """Convert a value for JSON: times to ISO 8601, sets to sorted lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(inner) for name, inner in asdict(value).items()}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, frozenset):
        return sorted(value)
    return value


def _cell(value: Any) -> str:  # noqa: ANN401 -- the same
    if value is None:
        return "-"
    # A name may contain brackets, which are not markup.
    return escape(" ".join(value) if isinstance(value, list) else str(value))
