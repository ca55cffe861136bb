"""`authz keys`: create, list, find, change and revoke API keys.

The rules are `service/keys/admin.py`.
"""

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from authz.cli.failures import NotShown
from authz.cli.key_import import import_keys
from authz.cli.output import After, AsJson, PageRows, done, moment, note, plain, show, show_page, write
from authz.cli.times import duration_s, expiry
from authz.cli.use_cases import actor, run
from authz.core.accounts import ApiKey, AuditEvent, NewApiKey
from authz.core.errors import NotEffectiveYet, Refused, StoreUnavailable
from authz.core.limits import Limit
from authz.service.keys.admin import PAGE_ROWS, KeyAdmin, KeyRequest

app = typer.Typer(no_args_is_help=True, help="Create, list, find, change and revoke API keys.")
app.command("import")(import_keys)

KeyId = Annotated[str, typer.Argument(help="The id of the key, not the key itself.")]
Capacity = Annotated[int | None, typer.Option(help="The capacity of the bucket, in requests.")]
Refill = Annotated[float | None, typer.Option(help="The refill of the bucket, in requests per second.")]

_COLUMNS = ("id", "name", "hint", "scopes", "created_at", "last_used_at", "expires_at", "disabled_at", "revoked_at")
_FOUND = ("id", "account_id", *_COLUMNS[1:])
_STDIN = "-"
_SECRET_CHARS_MAX = 512


@dataclass(frozen=True, slots=True)
class _PlanRow:
    """A plan of keys: how many have it, and whether the policy has it."""

    plan: str
    keys: int
    in_policy: bool


@app.command()
def create(  # noqa: PLR0913 -- options, each by its name
    account_id: Annotated[str, typer.Argument(help="The account of the key; it cannot be changed later.")],
    *,
    name: Annotated[str, typer.Option(help="The name of the key.")],
    scope: Annotated[list[str], typer.Option(help="A scope of the key; may be repeated.")],
    expires: Annotated[
        str | None,
        typer.Option(
            help="When it expires: 30m, 2h, 30d or 1w from now; 2027-01-31 (the end of that day in UTC); "
            "or 2027-01-31T12:00:00Z."
        ),
    ] = None,
    capacity: Capacity = None,
    refill_per_s: Refill = None,
    plan: Annotated[str, typer.Option(help="A plan of the policy, instead of its usual limits.")] = "",
    environment: Annotated[str, typer.Option(help="The environment, where the policy's prefixes have some.")] = "",
    as_json: AsJson = False,
) -> None:
    """Create a key and print its secret, which is shown only once and not stored."""
    expires_at = expiry(expires, datetime.now(UTC), "--expires")
    own = _limit(capacity, refill_per_s)
    request = KeyRequest(account_id, name, frozenset(scope), own, expires_at, environment, plan)
    _check_output()
    made = run(lambda admin: admin.create_key(request, actor()))
    _show_secret(made, {**plain(made.key), "api_key": made.secret}, as_json=as_json)
    if not as_json:
        end = f"; it expires {moment(made.key.expires_at)}" if made.key.expires_at else ""
        note(f"{made.key.id}: the secret is shown only once; store it now{end}")


@app.command("list")
def list_keys(
    account_id: Annotated[str, typer.Argument(help="Whose keys.")],
    *,
    after: After = "",
    limit: PageRows = PAGE_ROWS,
    live: Annotated[bool, typer.Option("--live", help="Only keys that are neither revoked nor expired.")] = False,
    as_json: AsJson = False,
) -> None:
    """List an account's keys, oldest first, a page at a time."""

    async def listed(admin: KeyAdmin) -> list[ApiKey]:
        keys = (await admin.live_keys(account_id))[::-1] if live else await admin.keys(account_id, after, limit + 1)
        if not keys:
            await admin.account(account_id)
            if after:
                await admin.key(after)
        return keys

    if live:
        show(run(listed), _COLUMNS, as_json=as_json)
    else:
        show_page(run(listed), limit, _COLUMNS, as_json=as_json)


@app.command("show")
def show_key(key_id: KeyId, *, as_json: AsJson = False) -> None:
    """Show one key."""
    key = run(lambda admin: admin.key(key_id))
    if as_json:
        write(json.dumps(plain(key)))
    else:
        show([key], _COLUMNS, as_json=False)


@app.command()
def find(
    what: Annotated[
        str,
        typer.Argument(
            metavar="ID|HINT|-", help="An id, a hint such as ttk_…abcd, or - for a secret on standard input."
        ),
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Find keys by id, by hint, or by the secret on standard input."""
    sought = _secret_from_stdin() if what == _STDIN else what
    show(run(lambda admin: admin.find(sought, is_secret=what == _STDIN)), _FOUND, as_json=as_json)


@app.command()
def rotate(
    key_id: KeyId,
    *,
    overlap: Annotated[str, typer.Option(help="How long the old key continues to work: 0, 30m, 1h, 7d.")],
    as_json: AsJson = False,
) -> None:
    """Replace a key by a new one with the same name, scopes, limit and lifetime, and print its secret once."""
    overlap_s = duration_s(overlap, "--overlap")
    _check_output()
    rotation = run(lambda admin: admin.rotate(key_id, overlap_s, actor()))
    made, old = rotation.made, rotation.old
    _show_secret(made, {**plain(made.key), "api_key": made.secret, "old": plain(old)}, as_json=as_json)
    if not as_json:
        end = "is revoked" if old.revoked_at or old.expires_at is None else f"works until {moment(old.expires_at)}"
        note(f"{made.key.id}: the secret is shown only once; store it now; {old.id} {end}")
    if rotation.pending:
        raise NotEffectiveYet(rotation.pending)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="The id of the key, not the key itself.")] = "",
    *,
    secret: Annotated[
        str, typer.Option(metavar="-", help="Instead of an id: - reads the secret from standard input.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Revoke a key; when this command succeeds, no sidecar admits the key."""
    if bool(key_id) == bool(secret):
        raise typer.BadParameter("give the id of the key, or --secret -", param_hint="KEY_ID")
    if secret and secret != _STDIN:
        raise typer.BadParameter("only - is allowed: other users can see the command line", param_hint="--secret")
    if secret:
        presented = _secret_from_stdin()
        found = run(lambda admin: admin.find(presented, is_secret=True))
        key_id = found[0].id
    _change(key_id, AuditEvent.KEY_REVOKED, "revoked", as_json=as_json)


@app.command()
def disable(key_id: KeyId, *, as_json: AsJson = False) -> None:
    """Disable a key until it is enabled again."""
    _change(key_id, AuditEvent.KEY_DISABLED, "disabled", as_json=as_json)


@app.command()
def enable(key_id: KeyId, *, as_json: AsJson = False) -> None:
    """Enable a disabled key."""
    _change(key_id, AuditEvent.KEY_ENABLED, "enabled", as_json=as_json)


@app.command()
def limit(key_id: KeyId, *, capacity: Capacity = None, refill_per_s: Refill = None, as_json: AsJson = False) -> None:
    """Set the limit of a key; without options, the default of the policy. It applies to the next request."""
    own = _limit(capacity, refill_per_s)
    _change(key_id, AuditEvent.KEY_LIMITED, "limited", own, as_json=as_json)


@app.command()
def set_plan(
    key_id: KeyId,
    plan: Annotated[str, typer.Argument(help="A plan of the policy; without it the key has its usual limits.")] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Give a key a plan, or none; it applies to the next request."""
    _change(key_id, AuditEvent.KEY_PLAN_SET, f"has the plan {plan}" if plan else "has no plan", plan, as_json=as_json)


@app.command()
def plans(*, as_json: AsJson = False) -> None:
    """List the plans of keys that are neither revoked nor expired; exit with 1 if the policy lacks one."""
    found = run(lambda admin: admin.plans())
    rows = [_PlanRow(plan, count, is_known) for plan, count, is_known in found]
    show(rows, ("plan", "keys", "in_policy"), as_json=as_json)
    if not all(row.in_policy for row in rows):
        note("keys of a plan that the policy lacks have the limits of a key without a plan")
        raise typer.Exit(1)


@app.command()
def reconcile(
    *,
    everything: Annotated[bool, typer.Option("--all", help="Write the record of every key again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write changes to Redis that are not effective there yet."""
    count = run(lambda admin: admin.reconcile(everything=everything))
    done({"written": count}, f"{count} records written", as_json=as_json)


def _change(key_id: str, event: AuditEvent, change: str, to: Limit | str | None = None, *, as_json: bool) -> None:
    run(lambda admin: admin.change_key(key_id, event, actor(), to))
    done({"id": key_id, "done": change}, f"{key_id} {change}", as_json=as_json)


def _check_output() -> None:
    if sys.stdout is None:
        raise NotShown("standard output is closed, and the secret of a new key is shown only there")


def _show_secret(made: NewApiKey, fields: dict[str, Any], *, as_json: bool) -> None:
    """Write the secret before anything else; a key whose secret nobody has seen is revoked."""
    try:
        write(json.dumps(fields) if as_json else made.secret)
    except OSError as error:
        raise NotShown(f"the secret cannot be written ({error.strerror or error}), so {_revoked(made)}") from None


def _revoked(made: NewApiKey) -> str:
    try:
        run(lambda admin: admin.change_key(made.key.id, AuditEvent.KEY_REVOKED, actor()))
    except (Refused, StoreUnavailable) as error:
        return f"revoke the key {made.key.id} by hand: {error}"
    except NotEffectiveYet:
        return f"the key {made.key.id} is being revoked"
    return f"the key {made.key.id} is revoked"


def _secret_from_stdin() -> str:
    if sys.stdin is None:
        raise typer.BadParameter("standard input is closed", param_hint="-")
    if sys.stdin.isatty():
        import getpass  # noqa: PLC0415 -- only a terminal needs it

        return getpass.getpass("Key: ").strip()
    return sys.stdin.readline(_SECRET_CHARS_MAX).strip()


def _limit(capacity: int | None, refill_per_s: float | None) -> Limit | None:
    if capacity is None and refill_per_s is None:
        return None
    if capacity is None or refill_per_s is None:
        raise typer.BadParameter("--capacity and --refill-per-s belong together", param_hint="--capacity")
    return Limit(capacity, refill_per_s)
