"""The `authz` command and its subcommands.

Modules that only some commands need are imported when these run, so that `authz serve` does not load the demo.
Exit codes: 0 done, 1 failed or unavailable, 2 wrong usage, 3 refused by the rules, 4 durable but not effective yet.
"""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from authz import __version__
from authz.adapters import logs
from authz.cli.accounts import app as accounts
from authz.cli.extras import ExtraMissing, extra
from authz.cli.keys import app as keys
from authz.cli.output import AsJson
from authz.cli.policy import app as policy
from authz.cli.streams import app as streams
from authz.core.errors import PolicyError, SettingsError, StoreUnavailable

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Authorization sidecar for Envoy.")
app.add_typer(policy, name="policy")
app.add_typer(accounts, name="accounts")
app.add_typer(keys, name="keys")
app.add_typer(streams, name="streams")

_errors = Console(stderr=True, highlight=False, soft_wrap=True)


def main() -> None:
    """Run the command; an error that an operator can fix is one line on standard error, not a traceback."""
    logs.silence()
    try:
        app()
    except PolicyError as error:
        from authz.adapters.policy_file.yaml import rendered  # noqa: PLC0415

        typer.echo(rendered(error), err=True)
        raise SystemExit(1) from None
    except (ExtraMissing, SettingsError, StoreUnavailable) as error:
        _errors.print(f"[red]error:[/red] {escape(str(error))}")
        raise SystemExit(1) from None


@app.callback(invoke_without_command=True)
def _version(
    *, version: Annotated[bool, typer.Option("--version", is_eager=True, help="Print the version.")] = False
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def serve() -> None:
    """Run the sidecar until SIGTERM."""
    from authz.sidecar import main as run  # noqa: PLC0415 -- see the module's docstring

    run()


@app.command()
def portal() -> None:
    """Run the portal, where people log in and manage keys, until SIGTERM."""
    import uvloop  # noqa: PLC0415 -- see the module's docstring

    with extra("portal"):
        from authz.portal_app import serve as run  # noqa: PLC0415
    from authz.settings import load  # noqa: PLC0415

    uvloop.run(run(load()))


@app.command()
def migrate(
    *,
    app_role: Annotated[
        str, typer.Option(help="Grant this role what the application needs; it must exist and own no table.")
    ] = "",
) -> None:
    """Migrate the Postgres schema to the newest version."""
    from authz.adapters.postgres.migrations import migrate as run  # noqa: PLC0415
    from authz.settings import load  # noqa: PLC0415

    def report(line: str) -> None:
        typer.echo(line, err=True)

    applied = asyncio.run(run(load().reader("postgres_url"), report, app_role=app_role))
    typer.echo("\n".join(f"applied {name}" for name in applied) or "up to date")


@app.command()
def settings(*, as_json: AsJson = False) -> None:
    """List all settings with default and description."""
    from authz.settings import described  # noqa: PLC0415

    rows = described()
    if as_json:
        typer.echo(json.dumps([dict(zip(("variable", "default", "meaning"), row, strict=True)) for row in rows]))
        return
    table = Table("variable", "default", "meaning", box=None)
    for row in rows:
        table.add_row(*map(escape, row))  # [user:password@] in a URL is not markup
    Console().print(table)


@app.command()
def demo(
    *,
    port: Annotated[int, typer.Option(help="Envoy's port; 0 picks a free one.")] = 8000,
    tour: Annotated[bool, typer.Option("--tour", help="Show each kind of response, then stop.")] = False,
    ready_file: Annotated[
        Path | None, typer.Option(help="Write the addresses of all servers to this file, as JSON, when they are ready.")
    ] = None,
) -> None:
    """Run a complete stack on this machine: Envoy, authz, Redis, Postgres and a small backend."""
    with extra("demo"):
        from authz.demo.run import run_demo  # noqa: PLC0415

    raise typer.Exit(run_demo(port=port, tour=tour, ready_file=ready_file))
