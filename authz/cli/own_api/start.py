"""`authz init`: everything that a first request through one's own Envoy needs, from one's own OpenAPI file.

What is in the files is decided by `authz policy import`, `authz envoy render` and `stack_files.py`.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from authz.adapters.envoy_config.backend import parsed_backend
from authz.adapters.policy_file.loader import load_policy
from authz.cli.files import accept, refuse_existing, write_whole
from authz.cli.output import note, write
from authz.cli.own_api.stack_files import texts
from authz.cli.policy.importing import Target, bring_in
from authz.core.imports.scopes import ScopeBy

_POLICY, _EXPECTATIONS, _ENVOY, _COMPOSE, _README = (
    "policy.yaml",
    "expectations.yaml",
    "envoy.yaml",
    "compose.yaml",
    "README.md",
)


def init(
    openapi: Annotated[Path | None, typer.Option(help="The OpenAPI file of the API.")] = None,
    *,
    prefix: Annotated[str, typer.Option(help="The beginning of its keys, such as acme_.")] = "",
    backend: Annotated[str, typer.Option(help="Its address, such as http://127.0.0.1:3000.")] = "",
    folder: Annotated[Path, typer.Option(help="Where the files go; it is created.")] = Path(),
    name: Annotated[str, typer.Option(help="Its name; default: of its title.")] = "",
    scope_by: Annotated[ScopeBy, typer.Option(help="What the scopes of rows are made of.")] = ScopeBy.TAG,
    base_path: Annotated[str | None, typer.Option(help="The base path, instead of that of the description.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")] = False,
) -> None:
    """Write a policy, expectations, envoy.yaml, a compose file and a README for an API; asks for what is missing."""
    from authz.adapters.api_files.openapi import read_openapi  # noqa: PLC0415 -- only this command needs it
    from authz.cli.envoy.rendering import rendered  # noqa: PLC0415 -- the same

    source = openapi or Path(_asked("--openapi", "The OpenAPI file"))
    description = read_openapi(source, base_path)
    prefix = prefix or _asked("--prefix", "The beginning of every key, such as acme_")
    address = backend or _asked("--backend", "The address of the API", "http://127.0.0.1:3000")
    try:
        parsed = parsed_backend(address)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--backend") from None
    names = (_POLICY, _EXPECTATIONS, _ENVOY, _COMPOSE, _README)
    for file in names:
        refuse_existing(folder / file, force=force)
    folder.mkdir(parents=True, exist_ok=True)
    target = Target(folder / _POLICY, None, folder / _EXPECTATIONS, name, prefix, "", force, as_json=False)
    bring_in(description, source, scope_by, target)
    policy = load_policy(folder / _POLICY)
    written = texts(policy, parsed, source.name)
    for file, text in ((_ENVOY, rendered(policy, parsed)), (_COMPOSE, written.compose), (_README, written.readme)):
        write_whole(folder / file, text, accept)
    for file in names:
        write(str(folder / file))
    note(f"next: authz demo --policy {folder / _POLICY} --backend {address}")


def _asked(option: str, question: str, default: str = "") -> str:
    """Ask a person; raises `typer.BadParameter` where nobody can answer."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise typer.BadParameter("is missing", param_hint=option)
    answer: str = typer.prompt(question, default=default or None, err=True)
    return answer.strip()
