"""The `authz` command and its subcommands.

Modules that only some commands need are imported when these run, so that `authz serve` does not load the demo. Exit
codes are `failures.py`.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from authz.build_info import version_line
from authz.cli import output
from authz.cli.accounts import app as accounts
from authz.cli.admin_listeners import CaFile, CertificateFile, KeyFile, ServerName, admin_listeners, distinct
from authz.cli.envoy.commands import app as envoy
from authz.cli.extras import extra
from authz.cli.failures import reporting
from authz.cli.keys import app as keys
from authz.cli.output import AsJson
from authz.cli.own_api.start import init
from authz.cli.policy.app import app as policy
from authz.cli.streams import app as streams

_TOPICS = {
    "exit-codes": "0 done, 1 failed or unavailable, 2 wrong usage, 3 refused by the rules, "
    "4 durable but not effective yet, 130 interrupted",
    "environment": "authz settings lists all AUTHZ_* variables, their values and defaults; NO_COLOR turns colours off",
    "output": "a terminal shows tables; a pipe receives one line per row, with fields separated by tabs; "
    "--json prints JSON, also for an error",
}

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Authorization sidecar for Envoy.")
app.command("init")(init)
app.add_typer(policy, name="policy")
app.add_typer(envoy, name="envoy")
app.add_typer(accounts, name="accounts")
app.add_typer(keys, name="keys")
app.add_typer(streams, name="streams")


def main() -> None:
    """Run the command; an error that an operator can correct is one line on standard error, not a traceback."""
    from authz.adapters import logs  # noqa: PLC0415 -- a command that only prints help does not need it

    logs.silence()
    output.set_up()
    sys.exit(reporting(lambda: _run(None)))


def _run(arguments: list[str] | None) -> object:
    columns = output.plain_help_columns()
    app.rich_markup_mode = "rich" if columns is None else None
    return app(arguments, standalone_mode=False, prog_name="authz", terminal_width=columns)


@app.callback(invoke_without_command=True)
def _global(
    *,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Print version, commit and policy grammar.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only, no notes.")] = False,
) -> None:
    output.set_up(quiet=quiet)
    if version:
        output.write(version_line())
        raise typer.Exit


@app.command("help")
def show_help(
    about: Annotated[list[str] | None, typer.Argument(help="A command, such as keys create, or a topic.")] = None,
) -> None:
    """Show the help of a command or a topic: exit-codes, environment, output."""
    words = about or []
    if len(words) == 1 and words[0] in _TOPICS:
        output.write(_TOPICS[words[0]])
        return
    code = reporting(lambda: _run([*words, "--help"]))
    if not words:
        output.write(f"Topics: {', '.join(f'authz help {topic}' for topic in _TOPICS)}")
    raise typer.Exit(code)


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
    as_json: AsJson = False,
) -> None:
    """Migrate the Postgres schema to the newest version."""
    from authz.adapters.postgres.migrations import migrate as run  # noqa: PLC0415
    from authz.settings import load  # noqa: PLC0415

    def report(line: str) -> None:
        typer.echo(line, err=True)

    applied = asyncio.run(run(load().reader("postgres_url"), report, app_role=app_role))
    text = "\n".join(f"applied {name}" for name in applied) or "up to date"
    output.write(json.dumps({"applied": applied}) if as_json else text)


@app.command()
def top(
    addresses: Annotated[list[str], typer.Argument(help="Admin addresses, such as 127.0.0.1:9090.")],
    *,
    interval: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds between two scrapes.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one snapshot, then stop.")] = False,
    ca_file: CaFile = None,
    certificate_file: CertificateFile = None,
    key_file: KeyFile = None,
    server_name: ServerName = "",
    as_json: AsJson = False,
) -> None:
    """Show what sidecars do now: checks, latencies, stores, refusals and routes, until Ctrl-C."""
    from authz.cli.top import ADDRESSES_MAX, show_top  # noqa: PLC0415 -- see the module's docstring

    addresses = distinct(addresses)
    listeners = admin_listeners(addresses, ADDRESSES_MAX, ca_file, certificate_file, key_file, server_name)
    show_top(listeners, addresses, interval, once=once, as_json=as_json)


@app.command()
def doctor(
    *,
    admin: Annotated[
        list[str] | None, typer.Option(help="Also examine the sidecar with this admin address; may be repeated.")
    ] = None,
    ca_file: CaFile = None,
    certificate_file: CertificateFile = None,
    key_file: KeyFile = None,
    server_name: ServerName = "",
    as_json: AsJson = False,
) -> None:
    """Print versions, settings, stores, schema and limits for a report of a fault; exit code 1 if something is wrong.

    Secrets are masked.
    """
    from authz.cli.doctor.command import ADDRESSES_MAX, examine  # noqa: PLC0415 -- see the module's docstring

    addresses = distinct(admin or [])
    listeners = admin_listeners(addresses, ADDRESSES_MAX, ca_file, certificate_file, key_file, server_name)
    examine(listeners, addresses, as_json=as_json)


@app.command()
def settings(*, as_json: AsJson = False) -> None:
    """List all settings with the value in force, its source, the default and the description."""
    from authz.settings_report import in_force  # noqa: PLC0415

    output.show(in_force(), ("variable", "value", "source", "default", "meaning"), as_json=as_json)


@app.command()
def demo(
    *,
    port: Annotated[int, typer.Option(help="Envoy's port; 0 picks a free one.", min=0, max=65_535)] = 8000,
    tour: Annotated[bool, typer.Option("--tour", help="Show each kind of response, then stop.")] = False,
    ready_file: Annotated[
        Path | None,
        typer.Option(help="Write the addresses of all servers to this file, as JSON, when they are ready."),
    ] = None,
    policy_file: Annotated[
        Path | None, typer.Option("--policy", help="Instead of the sample: a policy of one's own, with --backend.")
    ] = None,
    backend: Annotated[str, typer.Option(help="The API that the policy is for, such as http://127.0.0.1:3000.")] = "",
) -> None:
    """Run a complete stack on this machine: Envoy, authz, Redis, Postgres, and a small backend or one's own."""
    with extra("demo"):
        from authz.demo.own_api import OwnApi  # noqa: PLC0415
        from authz.demo.run import run_demo  # noqa: PLC0415

    if policy_file is None and not backend:
        raise typer.Exit(run_demo(port=port, tour=tour, ready_file=ready_file))
    if policy_file is None or not backend or tour:
        raise typer.BadParameter("--policy and --backend belong together, and have no tour", param_hint="--policy")
    own = OwnApi.checked(policy_file, backend)
    raise typer.Exit(run_demo(port=port, tour=False, ready_file=ready_file, own=own))
