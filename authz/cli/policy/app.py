"""`authz policy`: check, explain, test and compare policies.

No command here connects to a store: the result depends on the policy only. The output texts are `text.py`.
Modules that only these commands need are imported when they run.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from authz.adapters.policy_file import yaml
from authz.adapters.policy_file.document import schema_text
from authz.adapters.policy_file.loader import load_policy, row_key, row_lines
from authz.cli.admin_listeners import CaFile, CertificateFile, KeyFile, ServerName, admin_listeners, distinct
from authz.cli.failures import EXIT_FAILED, EXIT_REFUSED
from authz.cli.output import AsJson, safe, write
from authz.cli.policy import coverage, importing
from authz.settings import load as load_settings

app = typer.Typer(no_args_is_help=True, help="Check, explain, test and compare policy files.")
app.add_typer(importing.app, name="import")
app.command("coverage")(coverage.cover)

PolicyFile = Annotated[
    Path | None, typer.Option("--policy", help="The policy file; default: AUTHZ_POLICY_FILE.", show_default=False)
]


@app.command()
def lint(file: Annotated[Path, typer.Argument(help="The policy file.")], *, as_json: AsJson = False) -> None:
    """Load a policy as the sidecar does, and print each fault with its line and column, and warnings."""
    from authz.core.policy.rules import policy_warning, warning  # noqa: PLC0415 -- see the module's docstring

    policy, lines = load_policy(file), row_lines(file)
    warnings = [
        f"{lines[row_key(route)]}: warning: {route.method} {route.template} {found}"
        for route in policy.routes
        if (found := warning(route))
    ]
    if (found := policy_warning(policy.keys)) is not None:
        warnings.insert(0, f"{file}: warning: {found}")
    for line in warnings:
        typer.echo(safe(line), err=True)
    fields = {"file": str(file), "routes": len(policy.routes), "scopes": len(policy.scopes), "faults": 0}
    text = f"{file}: {len(policy.routes)} routes, {len(policy.scopes)} scopes, no faults"
    write(json.dumps(fields | {"warnings": warnings}) if as_json else safe(text))


@app.command()
def schema() -> None:
    """Print the JSON Schema of policy files."""
    write(schema_text())


@app.command()
def envoy(file: Annotated[Path, typer.Argument(help="The policy file.")]) -> None:
    """Print Envoy's `local_reply_config` for a policy, as `authz envoy render --local-replies` does."""
    from authz.edge.check.local_replies import local_reply_config  # noqa: PLC0415 -- see the module's docstring

    write(local_reply_config(load_policy(file)).removesuffix("\n"))


@app.command()
def explain(
    method: Annotated[str, typer.Argument(help="GET, POST, …")],
    target: Annotated[str, typer.Argument(metavar="PATH", help="The path as a client sends it, with its query.")],
    *,
    scope: Annotated[
        list[str] | None, typer.Option(help="Also show the decision for a key with this scope; may be repeated.")
    ] = None,
    host: Annotated[str, typer.Option(help="The host of the request, for policies whose rows have hosts.")] = "",
    policy: PolicyFile = None,
    as_json: AsJson = False,
) -> None:
    """Show which route decides on a request, what it requires, and the decision for each kind of caller."""
    from authz.cli.policy import text as words  # noqa: PLC0415 -- see the module's docstring

    _check_request(method, target)
    file = policy or load_settings().policy_file
    loaded = load_policy(file)
    unknown = sorted(set(scope or ()) - set(loaded.scopes))
    if unknown:
        raise typer.BadParameter(f"the policy declares no scope {unknown[0]}", param_hint="--scope")
    explained = words.explained(loaded, method, target, scope, words.RowLocations(row_lines(file)), host)
    if as_json:
        write(json.dumps(explained))
    else:
        words.print_explained(words.Lines(), loaded, explained)


@app.command("test")
def hold(
    file: Annotated[Path, typer.Argument(help="The file of expectations, as in docs/policy.md.")],
    *,
    policy: PolicyFile = None,
    complete: Annotated[bool, typer.Option("--complete", help="Also fail if a route has no expectation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Test a policy against expectations; exits with 1 if one is not met."""
    from authz.adapters.policy_file.expectations import load_expectations  # noqa: PLC0415 -- the same
    from authz.cli.policy import text as words  # noqa: PLC0415 -- see the module's docstring
    from authz.core.policy.expectations import mismatches, uncovered  # noqa: PLC0415 -- the same

    policy_file = policy or load_settings().policy_file
    loaded = load_policy(policy_file)
    expectations = load_expectations(file, loaded)
    surprising = mismatches(loaded, expectations)
    missing = uncovered(loaded, expectations)
    lines = yaml.lines(file, [it.expectation.where for it in surprising])
    if as_json:
        failures = [words.surprise(it, line) for it, line in zip(surprising, lines, strict=True)]
        rows = [words.row(route) for route in missing]
        write(json.dumps({"expectations": len(expectations), "failures": failures, "rows_without": rows}))
    else:
        out = words.Lines()
        for it, line in zip(surprising, lines, strict=True):
            out.print(f"{file}:{line}: {words.request(it)}: expected {it.expected}, found {it.found}")
        locations = words.RowLocations(row_lines(policy_file))
        for route in missing if complete else ():
            out.print(f"{locations.of(route)}: no expectation")
        out.print(words.tally(len(expectations), len(surprising), len(missing)))
    if surprising or (complete and missing):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(help="The old policy.")],
    new: Annotated[Path, typer.Argument(help="The new policy.")],
    *,
    no_opening: Annotated[
        bool, typer.Option("--no-opening", help="Exit with 3 if a request becomes allowed that was refused.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show which requests a change of policy opens and closes; `!` marks changes that need a review."""
    from authz.cli.policy import text as words  # noqa: PLC0415 -- see the module's docstring
    from authz.core.policy.diff import compare  # noqa: PLC0415 -- the same

    found = compare(load_policy(old), load_policy(new))
    if as_json:
        changes = [asdict(it) | {"is_opening": it.is_opening, "is_grave": it.is_grave} for it in found.changes]
        write(json.dumps({"changes": changes, "surroundings": found.surroundings, "loosens": found.loosens}))
    else:
        words.print_diff(words.Lines(), found, words.RowLocations(row_lines(old)), words.RowLocations(row_lines(new)))
    if no_opening and found.is_opening:
        raise typer.Exit(EXIT_REFUSED)


@app.command()
def status(
    addresses: Annotated[list[str], typer.Argument(help="Admin addresses, such as 127.0.0.1:9090.")],
    *,
    ca_file: CaFile = None,
    certificate_file: CertificateFile = None,
    key_file: KeyFile = None,
    server_name: ServerName = "",
    as_json: AsJson = False,
) -> None:
    """Show which policy each process uses; exits with 1 if they differ, or one does not respond."""
    from authz.cli.policy.status import ADDRESSES_MAX, show_status  # noqa: PLC0415 -- see the module's docstring

    addresses = distinct(addresses)
    listeners = admin_listeners(addresses, ADDRESSES_MAX, ca_file, certificate_file, key_file, server_name)
    show_status(listeners, addresses, as_json=as_json)


def _check_request(method: str, target: str) -> None:
    """Raise `typer.BadParameter` for what is not a request, and name what may have been meant."""
    if method != method.upper():
        raise typer.BadParameter(f"methods are case-sensitive: did you mean {method.upper()}?", param_hint="METHOD")
    if not target.startswith("/"):
        raise typer.BadParameter(f"a path begins with a slash: did you mean /{target}?", param_hint="PATH")
