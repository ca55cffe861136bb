"""`authz envoy`: check a configuration of Envoy against what authz needs, and render one.

The formats of findings are `findings.py`; what is rendered is `rendering.py`. No command here connects to a store.
Modules that only these commands need are imported when they run.
"""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from authz.cli.failures import EXIT_FAILED
from authz.cli.output import note, write
from authz.settings import Settings
from authz.settings import load as load_settings

if TYPE_CHECKING:
    from authz.core.envoy_rules.finding import Finding
    from authz.core.envoy_rules.needs import Deadlines, Needs
    from authz.core.policy.policy import Policy

app = typer.Typer(no_args_is_help=True, help="Check Envoy configurations, and write blocks for them.")

PolicyFile = Annotated[
    Path | None, typer.Option("--policy", help="The policy file; default: AUTHZ_POLICY_FILE.", show_default=False)
]


class Format(StrEnum):
    """The format of findings."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"


class FailOn(StrEnum):
    """The least severity that makes the command fail."""

    ERROR = "error"
    WARNING = "warning"


@app.command()
def check(
    source: Annotated[str, typer.Argument(help="A file, an http(s) address such as …/config_dump, or - for stdin.")],
    *,
    policy: Annotated[
        Path | None,
        typer.Option(help="The policy file; default: AUTHZ_POLICY_FILE if it is set.", show_default=False),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="How to print the findings.")] = Format.TEXT,
    fail_on: Annotated[FailOn, typer.Option(help="Exit with 1 from this severity on.")] = FailOn.ERROR,
    ignore: Annotated[list[str] | None, typer.Option(help="Omit a rule, such as EA601; may be repeated.")] = None,
    cluster: Annotated[str, typer.Option(help="The cluster of authz, if several filters ask other services.")] = "",
    timeout: Annotated[float, typer.Option(min=0.1, max=300, help="Seconds to wait for an address.")] = 10,
) -> None:
    """Check a bootstrap, a /config_dump, or output of egctl or istioctl, and print each finding with its fix.

    Exits with 0 if nothing is found, with 1 for findings, and with 2 if the input cannot be read.
    """
    from authz.adapters.envoy_config.document import UnreadableConfig  # noqa: PLC0415 -- see the module's docstring
    from authz.adapters.envoy_config.source import text_of  # noqa: PLC0415 -- the same
    from authz.cli.envoy import findings as words  # noqa: PLC0415 -- the same

    ignored = _rules(ignore or [])
    needs = _needs(policy)
    try:
        text = text_of(source, timeout)
        found = [each for each in findings_of(text, needs, cluster) if each.rule.id not in ignored]
    except UnreadableConfig as error:
        raise typer.BadParameter(f"{source}: {error}", param_hint="SOURCE") from None
    printer = {Format.TEXT: words.text, Format.JSON: words.as_json, Format.SARIF: words.sarif}[form]
    write(printer(found, source))
    fails = {FailOn.ERROR: {"error"}, FailOn.WARNING: {"error", "warning"}}[fail_on]
    if any(each.severity in fails for each in found):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def render(
    *,
    policy: PolicyFile = None,
    merge: Annotated[Path | None, typer.Option(help="A bootstrap that gets the blocks; the rest of it stays.")] = None,
    authz: Annotated[str, typer.Option(help="Where Envoy finds authz: HOST:PORT or unix:/PATH.")] = "127.0.0.1:9001",
    backend: Annotated[
        str, typer.Option(help="Without --merge: where the API is, such as http://127.0.0.1:8081.")
    ] = "127.0.0.1:8081",
    local_replies: Annotated[bool, typer.Option("--local-replies", help="Print local_reply_config only.")] = False,
) -> None:
    """Print Envoy's configuration for a policy: a whole one, or an existing bootstrap with the blocks in it.

    Envoy's own responses, header lists, settings for bodies and streams follow from the policy. Remarks and findings
    that remain go to standard error.
    """
    from authz.adapters.policy_file.loader import load_policy  # noqa: PLC0415 -- see the module's docstring
    from authz.core.envoy_rules.needs import needs_of  # noqa: PLC0415 -- the same
    from authz.edge.check.local_replies import local_reply_config  # noqa: PLC0415 -- the same

    settings = load_settings()
    loaded = load_policy(policy or settings.policy_file)
    if local_replies:
        write(local_reply_config(loaded).rstrip("\n"))
        return
    text, remarks = _rendered(loaded, _deadlines(settings), authz, backend, merge)
    write(text.rstrip("\n"))
    for remark in remarks:
        note(f"note: {remark}")
    for each in findings_of(text, needs_of(loaded, _deadlines(settings))):
        if each.severity != "note":
            note(f"{each.severity} {each.rule.id}: {each.what}")


def _rendered(
    policy: "Policy", deadlines: "Deadlines", authz: str, backend: str, merge: Path | None
) -> tuple[str, list[str]]:
    """Return the configuration, and remarks about what was left as it is."""
    from authz.adapters.envoy_config.backend import parsed_backend  # noqa: PLC0415 -- see the module's docstring
    from authz.adapters.envoy_config.document import UnreadableConfig  # noqa: PLC0415 -- the same
    from authz.cli.envoy.rendering import merged, rendered  # noqa: PLC0415 -- the same

    try:
        if merge is not None:
            return merged(policy, merge, authz, deadlines)
        return rendered(policy, parsed_backend(backend), address=authz, deadlines=deadlines), []
    except UnreadableConfig as error:
        raise typer.BadParameter(f"{merge}: {error}", param_hint="--merge") from None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--authz or --backend") from None


def findings_of(text: str, needs: "Needs", cluster: str = "") -> "list[Finding]":
    """Return the findings of a configuration, with their lines; raises `UnreadableConfig`."""
    from dataclasses import replace  # noqa: PLC0415 -- see the module's docstring

    from authz.adapters.envoy_config.document import UnreadableConfig, lines, parsed  # noqa: PLC0415 -- the same
    from authz.adapters.envoy_config.forms import sources_of, without_managers  # noqa: PLC0415 -- the same
    from authz.core.envoy_rules.model import configuration_of  # noqa: PLC0415 -- the same
    from authz.core.envoy_rules.registry import check as checked  # noqa: PLC0415 -- the same

    sources = sources_of(parsed(text))
    configuration = configuration_of(sources)
    if not configuration.managers:
        raise UnreadableConfig(without_managers(sources))
    found = checked(configuration, needs, cluster)
    located = lines(text, (each.path for each in found))
    return [replace(each, line=located.get(each.path, 0)) for each in found]


def _needs(policy: Path | None) -> "Needs":
    """Return what the policy needs; without one, what every policy needs."""
    from authz.adapters.policy_file.loader import load_policy  # noqa: PLC0415 -- see the module's docstring
    from authz.core.envoy_rules.needs import Needs, needs_of  # noqa: PLC0415 -- the same

    settings = load_settings()
    if policy is None and "policy_file" not in settings.model_fields_set:
        note("no policy: the key is taken to be in x-api-key, and rows with bodies and streams are not checked")
        return Needs(deadlines=_deadlines(settings), has_policy=False)
    return needs_of(load_policy(policy or settings.policy_file), _deadlines(settings))


def _deadlines(settings: Settings) -> "Deadlines":
    from authz.core.envoy_rules.needs import Deadlines  # noqa: PLC0415 -- see the module's docstring

    return Deadlines(settings.load_wait_s, settings.stream_heartbeat_s)


def _rules(names: list[str]) -> frozenset[str]:
    from authz.core.envoy_rules.registry import RULES  # noqa: PLC0415 -- see the module's docstring

    known = {rule.id for rule in RULES}
    given = frozenset(name.upper() for name in names)
    if unknown := sorted(given - known):
        raise typer.BadParameter(f"there is no rule {unknown[0]}", param_hint="--ignore")
    return given
