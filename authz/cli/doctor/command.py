"""`authz doctor`: runs every check and prints what was found, as lines or as JSON.

The checks are in the modules beside this one. No secret leaves this module: settings are masked, and what drivers say
is searched for the secrets of the settings.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import typer

from authz.cli.admin_listeners import AdminListeners
from authz.cli.doctor.findings import Finding, State
from authz.cli.doctor.local import local_findings, versions
from authz.cli.doctor.running import running_findings
from authz.cli.doctor.stores import postgres_findings, redis_findings
from authz.cli.failures import EXIT_FAILED
from authz.cli.output import safe, write
from authz.core.errors import SettingsError
from authz.masked_urls import Scrubber
from authz.settings import Settings, load, secrets_of, unknown_variables
from authz.settings_report import SettingInForce, in_force

ADDRESSES_MAX = 64


def examine(listeners: AdminListeners, addresses: Sequence[str], *, as_json: bool) -> None:
    """Print the findings; exits with 1 if something is wrong."""
    try:
        settings = load()
    except SettingsError as error:
        found, listed = [versions(), Finding("settings", State.WRONG, str(error))], list[SettingInForce]()
    else:
        found = _scrubbed(settings, [_settings_finding(), *_findings(settings, listeners, addresses)])
        listed = in_force(settings, strict=True)
    is_wrong = any(finding.state is State.WRONG for finding in found)
    if as_json:
        settings_listed = [{name: asdict(one)[name] for name in ("variable", "value", "source")} for one in listed]
        write(json.dumps({"ok": not is_wrong, "findings": [asdict(one) for one in found], "settings": settings_listed}))
    else:
        _print(found, listed)
    if is_wrong:
        raise typer.Exit(EXIT_FAILED)


def _findings(settings: Settings, listeners: AdminListeners, addresses: Sequence[str]) -> list[Finding]:
    local = list(local_findings(settings))
    digest = next((str(one.facts.get("digest", "")) for one in local if one.name == "policy"), "")

    async def of_stores() -> list[Finding]:
        return [*await redis_findings(settings), *await postgres_findings(settings)]

    found = [*local, *asyncio.run(of_stores())]
    return [*found, *(finding for address in addresses for finding in running_findings(listeners, address, digest))]


def _settings_finding() -> Finding:
    unknown = [name for name, _ in unknown_variables()]
    if unknown:
        return Finding("settings", State.WARNING, f"no settings: {', '.join(unknown)}", {"unknown": unknown})
    return Finding("settings", State.OK, "valid")


def _scrubbed(settings: Settings, found: Sequence[Finding]) -> list[Finding]:
    scrub = Scrubber(secrets_of(settings))

    def clean(value: Any) -> Any:  # noqa: ANN401 -- any JSON
        match value:
            case str():
                return scrub(value)
            case dict():
                return {name: clean(inner) for name, inner in value.items()}
            case list() | tuple():
                return [clean(inner) for inner in value]
            case _:
                return value

    return [Finding(one.name, one.state, scrub(one.detail), clean(one.facts)) for one in found]


def _print(found: Sequence[Finding], listed: Sequence[SettingInForce]) -> None:
    for finding in found:
        write(safe(f"{finding.state:<8} {finding.name}: {' / '.join(finding.detail.splitlines())}"))
        if finding.name == "versions":
            others = (f"{name} {text}" for name, text in finding.facts.items() if name not in {"authz", "python"})
            write(safe(f"         {', '.join(others)}"))
    for one in listed:
        if one.source != "default":
            write(safe(f"setting  {one.variable}={one.value} ({one.source})"))
    write(f"         {sum(one.source == 'default' for one in listed)} settings have their defaults")
