"""`authz policy coverage`: a policy held against a description of its API, for people and for pipelines.

`core/imports/merging.py` compares.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from authz.adapters.policy_file.loader import load_policy, row_lines
from authz.cli.failures import EXIT_FAILED
from authz.cli.output import AsJson, safe, write
from authz.cli.policy.importing import Base, Host, restricted
from authz.cli.policy.text import RowLocations
from authz.core.imports.merging import Coverage, coverage
from authz.core.imports.operation import Description
from authz.core.imports.rows import imported
from authz.core.imports.scopes import ScopeBy
from authz.settings import load as load_settings

_PROTO = (".binpb", ".pb", ".desc", ".protoset", ".fds")


def cover(
    spec: Annotated[Path, typer.Argument(help="An OpenAPI file, or a FileDescriptorSet (.pb, .binpb, .desc).")],
    *,
    policy: Annotated[
        Path | None, typer.Option("--policy", help="The policy file; default: AUTHZ_POLICY_FILE.", show_default=False)
    ] = None,
    base_path: Base = None,
    host: Host = "",
    allow_extra: Annotated[
        bool, typer.Option("--allow-extra", help="Accept routes that the description does not have.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a description has and the policy lacks, and the reverse; exits with 1 if there is any."""
    file = policy or load_settings().policy_file
    found = imported(_read(spec, base_path), ScopeBy.TAG)
    compared = coverage(restricted(load_policy(file), host), found)
    omitted = [f"{operation.name}: {reason}" for operation, reason in found.omitted]
    if as_json:
        write(json.dumps(_fields(compared) | {"without_a_row": omitted}))
    else:
        _show(compared, omitted, RowLocations(row_lines(file)))
    if compared.missing or compared.opened or omitted or (compared.gone and not allow_extra):
        raise typer.Exit(EXIT_FAILED)


def _read(spec: Path, base_path: str | None) -> Description:
    if spec.suffix in _PROTO:
        from authz.adapters.api_files.descriptors import read_descriptors  # noqa: PLC0415 -- only these files need it

        return read_descriptors(spec)
    from authz.adapters.api_files.openapi import read_openapi  # noqa: PLC0415 -- the same

    return read_openapi(spec, base_path)


def _fields(compared: Coverage) -> dict[str, Any]:
    return {
        "rows": compared.rows,
        "missing": [row.match for row in compared.missing],
        "extra": [f"{route.method} {route.template}" for route in compared.gone],
        "open_without_key": [f"{route.method} {route.template}" for _, route in compared.opened],
        "decided_by_wider": [
            {"row": row.match, "by": f"{route.method} {route.template}"} for row, route in compared.decided
        ],
    }


def _show(compared: Coverage, omitted: list[str], locations: RowLocations) -> None:
    for row in compared.missing:
        write(safe(f"missing  {row.match}  ({', '.join(it.name for it in row.operations)})"))
    for operation in omitted:
        write(safe(f"missing  {operation}"))
    for route in compared.gone:
        write(safe(f"extra  {route.method} {route.template}  ({locations.of(route)})"))
    for _, route in compared.opened:
        write(safe(f"open without a key  {route.method} {route.template}  ({locations.of(route)})"))
    covered = compared.rows - len(compared.missing)
    write(
        f"{covered} of {compared.rows} rows covered, {len(compared.decided)} of them by wider rows; "
        f"{len(compared.gone)} routes are not in the description"
    )
