"""Writes docs/reference/ from the code: settings, metrics, commands, statuses and policy fields.

It holds no facts of its own but short explanations; what takes more than a line is in the guides beside it.
"""

import argparse
import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from authz.adapters.policy_file import document
from authz.cli.app import app as authz
from authz.client.command import app as truetick
from authz.core.envoy_rules.registry import RULES
from authz.core.errors import DENIALS, DenyReason, GrpcCode
from authz.settings_report import described
from docs.metrics_page import metrics_page
from docs.page_text import code, head, paragraph, sentence, table

ROOT: Final = Path(__file__).parents[1]
REFERENCE: Final = ROOT / "docs" / "reference"
SCHEMA: Final = Path(document.__file__).with_name("schema.json")
_HELP_COLUMNS = 110

_WHEN = {
    DenyReason.PATH_NOT_CANONICAL: "The path has more than one reading, or a form that is never accepted.",
    DenyReason.METHOD_REFUSED: "The policy's `methods` do not list the method.",
    DenyReason.METHOD_OVERRIDDEN: "A header names another method, such as `x-http-method-override`.",
    DenyReason.HEADER_ALIAS: "A header that backends may read as `x-authz-…` or as the key, or too many `x-authz-…`.",
    DenyReason.KEY_ON_SESSION_ROUTE: "A request with an API key on a route of the dashboard.",
    DenyReason.KEY_MISSING: "No key.",
    DenyReason.KEY_REPEATED: "Several keys.",
    DenyReason.KEY_MALFORMED: "The prefix, the length, the alphabet or the checksum is wrong.",
    DenyReason.KEY_UNKNOWN: "A well-formed key that does not exist.",
    DenyReason.KEY_REVOKED: "The key was revoked.",
    DenyReason.KEY_EXPIRED: "The key has expired.",
    DenyReason.KEY_DISABLED: "The key is disabled.",
    DenyReason.ACCOUNT_SUSPENDED: "The key's account is suspended.",
    DenyReason.ADDRESS_THROTTLED: "An invalid key, from an address that has sent too many of them.",
    DenyReason.RATE_LIMITED: "The key's bucket is empty.",
    DenyReason.BARRED: "The route is barred.",
    DenyReason.ROUTE_UNKNOWN: "No route has this path; the key is valid.",
    DenyReason.METHOD_UNKNOWN: "The route exists, but not with this method; the key is valid.",
    DenyReason.SCOPE_MISSING: "The key does not hold the route's scope.",
    DenyReason.ACCOUNT_MISMATCH: "The request names an account that is not the key's.",
    DenyReason.ACCOUNT_REPEATED: "The request names an account more than once.",
    DenyReason.ACCOUNT_ABSENT: "The request names no account, and the route requires one.",
    DenyReason.BODY_UNREADABLE: "The route reads an account from the body, which is not a whole JSON object.",
    DenyReason.STREAMS_OF_KEY: "The key has as many open streams of this class as it may have.",
    DenyReason.STREAMS_OF_ACCOUNT: "The account has as many open streams of this class as it may have.",
    DenyReason.STORE_UNAVAILABLE: "Redis or PostgreSQL is unavailable or too slow.",
    DenyReason.INTERNAL: "A failure inside authz.",
}


def main() -> None:
    """Write every page into the folder that the command line names, docs/reference unless given."""
    parser = argparse.ArgumentParser(description="Write the reference pages from the code.")
    parser.add_argument("folder", type=Path, nargs="?", default=REFERENCE)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    pages = {
        "settings": settings_page(),
        "metrics": asyncio.run(metrics_page(ROOT / "policies" / "truetick.yaml")),
        "commands": commands_page(),
        "statuses": statuses_page(),
        "policy-fields": policy_fields_page(),
        "envoy-rules": envoy_rules_page(),
    }
    for name, lines in pages.items():
        (folder / f"{name}.md").write_text("\n".join(lines).rstrip() + "\n")


def settings_page() -> list[str]:
    """Return the page of every `AUTHZ_*` variable."""
    text = "The processes read these environment variables at the start. `authz settings` prints the same list."
    rows = [(code(variable), code(default), meaning) for variable, default, meaning in described()]
    return [*head("Settings", text), *table(("variable", "default", "meaning"), rows)]


def commands_page() -> list[str]:
    """Return the page of what both commands print for `--help`."""
    text = "The help of every command of `authz`, for operators, and of `truetick`, for customers."
    lines = head("Commands", text)
    for name, app in (("authz", authz), ("truetick", truetick)):
        lines += [f"## {name}", ""]
        for path, about in _help_texts(name, get_command(app)):
            lines += [f"### {path}", "", "```", about, "```", ""]
    return lines


def statuses_page() -> list[str]:
    """Return the page of what a refused caller sees, for each reason."""
    rows = []
    for reason in DenyReason:
        denial = DENIALS[reason]
        when = _WHEN.get(reason, reason.value.replace("_", " ").capitalize() + ".")
        name = GrpcCode(denial.code).name
        rows.append((str(denial.http), name, code(denial.message), code(denial.line), code(reason.value), when))
    text = (
        "Each refusal has one reason. The caller sees the status and the message; the reason is only in the decision "
        "log and in the label `reason` of the metrics."
    )
    return [
        *head("Statuses", text),
        *table(("HTTP", "gRPC", "message in JSON", "line of text", "reason", "when"), rows),
        "",
        *paragraph(
            "A route's `errors` selects the body: JSON as grpc-gateway writes it (`code`, `message`, `details`), or "
            "one line of plain text. A native gRPC caller gets the code in `grpc-status` and `grpc-message`."
        ),
        "",
        *paragraph(
            "A 401 has `WWW-Authenticate`, a 405 has `Allow`, a 503 has `Retry-After`. A 429 has `Retry-After` where "
            "waiting helps, which is not the case for open streams. Allowed and rate-limited responses have the rate "
            "headers."
        ),
    ]


def policy_fields_page() -> list[str]:
    """Return the page of the fields of a policy file, from the JSON Schema."""
    schema = json.loads(SCHEMA.read_text())
    definitions: dict[str, Any] = schema["$defs"]
    text = "The fields of a policy file, from `authz policy schema`. [policy.md](../policy.md) explains them."
    lines = [*head("Policy fields", text), *_fields(schema, definitions)]
    for name, definition in definitions.items():
        if "properties" in definition:
            lines += ["", f"## {_title(name)}", "", definition.get("description", ""), ""]
            lines += _fields(definition, definitions)
    return lines


def envoy_rules_page() -> list[str]:
    """Return the page of the rules of `authz envoy check`."""
    rules = sorted(RULES, key=lambda rule: rule.id)
    text = (
        "`authz envoy check` reports these. The severity is the usual one: it is lower where another setting or authz "
        "itself prevents the damage. [envoy.md](../envoy.md#check-a-configuration) describes the command."
    )
    rows = [(f"[{it.id}](#{it.id.lower()})", it.severity.value, it.title) for it in rules]
    lines = [*head("Envoy rules", text), *table(("rule", "severity", "what holds"), rows)]
    for rule in rules:
        lines += ["", f"## {rule.id}", "", *paragraph(f"{sentence(rule.title)} {rule.why}")]
        lines += ["", "```yaml", *rule.fix.splitlines(), "```"] if ": " in rule.fix else ["", *paragraph(rule.fix)]
    return lines


def _help_texts(path: str, command: object) -> Iterator[tuple[str, str]]:
    """Yield each command's path and its help, as a terminal without colours shows it."""
    assert isinstance(command, TyperCommand | TyperGroup)  # noqa: S101 -- typer makes no others
    command.rich_markup_mode = None  # plain text instead of boxes
    context = command.make_context(path, [], resilient_parsing=True, terminal_width=_HELP_COLUMNS)
    yield path, command.get_help(context).strip()
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            if not inner.hidden:
                yield from _help_texts(f"{path} {name}", inner)


def _fields(schema: dict[str, Any], definitions: dict[str, Any]) -> list[str]:
    required = schema.get("required", [])
    rows = []
    for name, field in schema["properties"].items():
        default = "required" if name in required else code(json.dumps(field.get("default")).strip('"'))
        target = definitions.get(field.get("$ref", "").rpartition("/")[2], {})
        meaning = field.get("description") or target.get("description", "")
        rows.append((code(name), _type(field), "" if default == "`null`" else default, meaning))
    return table(("field", "type", "default", "meaning"), rows)


def _type(field: dict[str, Any]) -> str:
    """Name a field's type in words, with its bounds."""
    if "$ref" in field:
        title = _title(field["$ref"].rpartition("/")[2])
        return f"[{title}](#{title.lower().replace(' ', '-')})"
    if "anyOf" in field:
        return " or ".join(_type(one) for one in field["anyOf"] if one.get("type") != "null")
    if "enum" in field:
        return ", ".join(map(code, field["enum"]))
    if "const" in field:
        return code(json.dumps(field["const"]))
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    if field.get("type") == "object":
        values = [*field.get("patternProperties", {}).values(), field.get("additionalProperties")]
        return f"by name: {_type(next(value for value in values if value))}"
    return " ".join([str(field.get("type", "any")), *_bounds(field)])


def _bounds(field: dict[str, Any]) -> list[str]:
    signs = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    bounds = [f"{sign} {field[name]}" for name, sign in signs.items() if name in field]
    return [", ".join(bounds)] if bounds else []


def _title(name: str) -> str:
    """Put blanks between the words of a class name."""
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name.removesuffix("Model"))
    return words.strip().capitalize()


if __name__ == "__main__":
    main()
