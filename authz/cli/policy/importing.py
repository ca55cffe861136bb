"""`authz policy import`: a policy made of a description of an API, or additions to a policy that exists.

The rules are `core/imports/`. Nothing is overwritten unless it is requested.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from authz.adapters.policy_file.loader import load_policy
from authz.adapters.policy_writer.document import policy_text
from authz.adapters.policy_writer.expectations import expectations_text, sample_request
from authz.adapters.policy_writer.insertion import inserted
from authz.cli.files import accept, refuse_existing, write_whole
from authz.cli.output import AsJson, note, write
from authz.cli.policy.identity import identity
from authz.core.errors import PolicyError, Problem, Refused
from authz.core.imports.merging import Merge, at_host, changed_rows, merge
from authz.core.imports.operation import Description
from authz.core.imports.rows import Imported, ImportedRow, imported
from authz.core.imports.scopes import ScopeBy
from authz.core.policy.expectations import row as deciding_row
from authz.core.policy.policy import Policy

app = typer.Typer(no_args_is_help=True, help="Make a policy of a description of an API, or add to a policy.")

Source = Annotated[Path, typer.Argument(metavar="FILE", help="The description: JSON or YAML.")]
Descriptors = Annotated[
    Path, typer.Argument(metavar="SET", help="A FileDescriptorSet, as protoc --include_imports --descriptor_set_out.")
]
By = Annotated[ScopeBy, typer.Option("--scope-by", help="What the scopes of rows are made of.")]
Base = Annotated[str | None, typer.Option("--base-path", help="The base path, instead of that of the description.")]
Into = Annotated[
    Path | None, typer.Option("--into", help="Add to this policy what it lacks, in marked blocks; keep all else.")
]
Host = Annotated[str, typer.Option("--host", help="The host that is described, for a policy whose rows have hosts.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write the new policy to this file.")]
Expected = Annotated[
    Path | None, typer.Option("--expectations", help="Also write what authz policy test can hold the policy against.")
]
Name = Annotated[str, typer.Option("--name", help="The API's name in a new policy; default: of its title.")]
Prefix = Annotated[str, typer.Option("--prefix", help="The beginning of keys in a new policy, such as acme_.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")]

_SHOWN_MAX = 20


@dataclass(frozen=True, slots=True)
class Target:
    """Where an import writes to, and what a new policy says about itself."""

    output: Path | None
    into: Path | None
    expectations: Path | None
    name: str
    prefix: str
    host: str
    force: bool
    as_json: bool


@app.command()
def openapi(  # noqa: PLR0913 -- one option each
    file: Source,
    *,
    scope_by: By = ScopeBy.TAG,
    base_path: Base = None,
    output: Output = None,
    into: Into = None,
    expectations: Expected = None,
    name: Name = "",
    prefix: Prefix = "",
    host: Host = "",
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Import OpenAPI 2, 3.0 or 3.1. Without --output or --into, print the policy."""
    from authz.adapters.api_files.openapi import read_openapi  # noqa: PLC0415 -- only this command needs it

    target = Target(output, into, expectations, name, prefix, host, force, as_json)
    bring_in(read_openapi(file, base_path), file, scope_by, target)


@app.command()
def descriptors(  # noqa: PLR0913 -- one option each
    file: Descriptors,
    *,
    scope_by: By = ScopeBy.TAG,
    output: Output = None,
    into: Into = None,
    expectations: Expected = None,
    name: Name = "",
    prefix: Prefix = "",
    host: Host = "",
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Import a protobuf FileDescriptorSet: a row for each gRPC method and for each HTTP binding of it."""
    from authz.adapters.api_files.descriptors import read_descriptors  # noqa: PLC0415 -- only this command needs it

    target = Target(output, into, expectations, name, prefix, host, force, as_json)
    bring_in(read_descriptors(file), file, scope_by, target)


def restricted(policy: Policy, host: str) -> Policy:
    """Return what a policy says of the host that a description is about; raises `typer.BadParameter`."""
    if policy.router.has_hosts and not policy.router.for_host(host).has_rows:
        raise typer.BadParameter("the policy distinguishes hosts: name one that it serves", param_hint="--host")
    if host and not policy.router.has_hosts:
        raise typer.BadParameter("no row of the policy has hosts", param_hint="--host")
    return at_host(policy, host)


def bring_in(description: Description, source: Path, scope_by: ScopeBy, target: Target) -> None:
    """Write a new policy, or add to one."""
    if target.into and target.output:
        raise typer.BadParameter("--into changes a policy, --output writes a new one: choose", param_hint="--output")
    if target.host and not target.into:
        raise typer.BadParameter("a new policy serves every host", param_hint="--host")
    for path in (target.output, target.expectations):
        if path is not None:
            refuse_existing(path, force=target.force)
    found = imported(description, scope_by)
    if not found.rows:
        reason = f": {found.omitted[0][1]}" if found.omitted else ""
        raise PolicyError([Problem((), f"describes no operation that a policy can have{reason}", 1, 1)], str(source))
    if target.into is not None:
        _add(found, source, target.into, target)
    else:
        _make(description, found, source, target)


def _make(description: Description, found: Imported, source: Path, target: Target) -> None:
    try:
        chosen = identity(description, target.name, target.prefix)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    text = policy_text(found, chosen, source.name)
    if target.output is None:
        with tempfile.TemporaryDirectory() as folder:
            policy = write_whole(Path(folder) / "policy.yaml", text, load_policy)
    else:
        policy = write_whole(target.output, text, load_policy)
    undecided = _write_expectations(policy, found.rows, source, target)
    if target.output is None and not target.as_json:
        write(text.rstrip("\n"))
    _report(
        found, target, {"undecided": undecided, "policy": text} if target.output is None else {"undecided": undecided}
    )


def _add(found: Imported, source: Path, into: Path, target: Target) -> None:
    policy = restricted(load_policy(into), target.host)
    merged = merge(policy, found)
    if merged.rows or merged.refused:
        text = into.read_bytes().decode()

        def unchanged(draft: Path) -> Policy:
            new = restricted(load_policy(draft), target.host)
            changed = changed_rows(policy, new, found)
            if changed:
                raise Refused(
                    f"nothing is added: {changed[0].method} {changed[0].template} would be decided differently"
                )
            return new

        try:
            policy = write_whole(into, inserted(text, merged, source.name, target.host), unchanged)
        except PolicyError as error:
            raise PolicyError(error.problems, str(into)) from None
    undecided = _write_expectations(policy, found.rows, source, target)
    _report(found, target, _merge_fields(merged) | {"undecided": undecided})
    if not target.as_json:
        _print_merge(merged, into)


def _write_expectations(policy: Policy, rows: list[ImportedRow], source: Path, target: Target) -> list[str]:
    """Write what each operation needs, as the description says; return the requests that another row decides."""
    undecided = []
    for row in rows:
        for operation in row.operations:
            method, path = sample_request(operation)
            route = deciding_row(policy, method, path)
            if route is None:
                undecided.append(f"{method} {path}")
    if target.expectations is not None:
        write_whole(target.expectations, expectations_text(rows, source.name), accept)
    return undecided


def _report(found: Imported, target: Target, more: dict[str, Any]) -> None:
    remarks = sum(bool(row.remarks) for row in found.rows)
    fields = {
        "operations": sum(len(row.operations) for row in found.rows) + len(found.omitted),
        "rows": len(found.rows),
        "scopes": len(found.scopes),
        "public": sum(not row.scope for row in found.rows),
        "widened": sum(row.is_wide for row in found.rows),
        "remarked": remarks,
        "omitted": [{"operation": it.name, "reason": reason} for it, reason in found.omitted],
        "notes": list(found.doubts),
    }
    if target.as_json:
        write(json.dumps(fields | more))
        return
    note(
        f"{fields['operations']} operations: {fields['rows']} rows, {fields['scopes']} scopes, "
        f"{fields['public']} public, {fields['widened']} widened, {remarks} with remarks, "
        f"{len(found.omitted)} without a row"
    )
    for doubt in found.doubts:
        note(f"note: {doubt}")
    for operation, reason in found.omitted[:_SHOWN_MAX]:
        note(f"no row for {operation.name}: {reason}")
    for request in more["undecided"][:_SHOWN_MAX]:
        note(f"no row decides on {request}: another row makes its path ambiguous, or it is written another way")


def _merge_fields(merged: Merge) -> dict[str, Any]:
    return {
        "added": [row.match for row in merged.rows],
        "added_scopes": list(merged.scopes),
        "not_added": [{"row": row.match, "reason": reason} for row, reason in merged.refused],
        "decided_by_others": [
            {"row": row.match, "by": f"{route.method} {route.template}"} for row, route in merged.coverage.decided
        ],
        "gone": [f"{route.method} {route.template}" for route in merged.coverage.gone],
        "open_without_key": [f"{route.method} {route.template}" for _, route in merged.coverage.opened],
    }


def _print_merge(merged: Merge, into: Path) -> None:
    fields = _merge_fields(merged)
    for row in fields["added"]:
        write(f"added  {row}")
    for it in fields["not_added"]:
        write(f"not added  {it['row']}: {it['reason']}")
    for row in fields["gone"]:
        write(f"gone  {row}")
    for row in fields["open_without_key"]:
        write(f"open without a key, against the description  {row}")
    note(
        f"{into}: {len(fields['added'])} rows added, {len(fields['gone'])} routes that the description does not have, "
        f"{len(fields['decided_by_others'])} operations decided by wider rows"
    )
