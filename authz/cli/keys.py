"""`authz keys`: create, list, change and revoke API keys.

The rules are `service/keys/admin.py`.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from authz.cli.output import AsJson, actor, not_done_yet, plain, run, show
from authz.core.accounts import AuditEvent
from authz.core.limits import Limit
from authz.service.keys.admin import KeyRequest

app = typer.Typer(no_args_is_help=True, help="Create, list, change and revoke API keys.")

KeyId = Annotated[str, typer.Argument(help="The id of the key, not the key itself.")]
Capacity = Annotated[int | None, typer.Option(help="The capacity of the bucket, in requests.")]
Refill = Annotated[float | None, typer.Option(help="The refill of the bucket, in requests per second.")]

_COLUMNS = ("id", "name", "hint", "scopes", "created_at", "last_used_at", "expires_at", "disabled_at", "revoked_at")
_DAYS = re.compile(r"([1-9][0-9]{0,4})d")
_DURATION = re.compile(r"([0-9]{1,6})([smhd]?)")
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


@app.command()
def create(
    account_id: Annotated[str, typer.Argument(help="The account of the key; it cannot be changed later.")],
    *,
    name: Annotated[str, typer.Option(help="The name of the key.")],
    scope: Annotated[list[str], typer.Option(help="A scope of the key; may be repeated.")],
    expires: Annotated[str | None, typer.Option(help="When it ends: 2027-01-31T12:00:00Z, or 30d from now.")] = None,
    capacity: Capacity = None,
    refill_per_s: Refill = None,
    as_json: AsJson = False,
) -> None:
    """Create a key and print its secret, which is shown only once and not stored."""
    request = KeyRequest(account_id, name, frozenset(scope), _limit(capacity, refill_per_s), _expiry(expires))
    made = run(lambda admin: admin.create_key(request, actor()))
    if as_json:
        typer.echo(json.dumps({**plain(made.key), "api_key": made.secret}))
    else:
        typer.echo(made.secret)
        typer.echo(f"{made.key.id}: the secret is shown only once; store it now", err=True)


@app.command("list")
def list_keys(
    account_id: Annotated[str, typer.Argument(help="The account of the keys.")], *, as_json: AsJson = False
) -> None:
    """List the keys of an account."""
    show(run(lambda admin: admin.keys(account_id)), _COLUMNS, as_json=as_json)


@app.command("show")
def show_key(key_id: KeyId, *, as_json: AsJson = False) -> None:
    """Show one key."""
    key = run(lambda admin: admin.key(key_id))
    if as_json:
        typer.echo(json.dumps(plain(key)))
    else:
        show([key], _COLUMNS, as_json=False)


@app.command()
def rotate(
    key_id: KeyId,
    *,
    overlap: Annotated[str, typer.Option(help="How long the old key continues to work: 0, 30m, 1h, 7d.")],
    as_json: AsJson = False,
) -> None:
    """Replace a key by a new one with the same name, scopes, limit and lifetime, and print its secret once."""
    overlap_s = _duration_s(overlap)
    rotation = run(lambda admin: admin.rotate(key_id, overlap_s, actor()))
    made, old = rotation.made, rotation.old
    if as_json:
        typer.echo(json.dumps({**plain(made.key), "api_key": made.secret, "old": plain(old)}))
    else:
        end = "is revoked" if old.revoked_at else f"works until {plain(old.expires_at)}"
        typer.echo(made.secret)
        typer.echo(f"{made.key.id}: the secret is shown only once; store it now; {old.id} {end}", err=True)
    if rotation.pending:
        raise not_done_yet(rotation.pending)


@app.command()
def revoke(key_id: KeyId, *, as_json: AsJson = False) -> None:
    """Revoke a key; when this command succeeds, no sidecar admits the key."""
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
def reconcile(
    *,
    everything: Annotated[bool, typer.Option("--all", help="Write the record of every key again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write changes to Redis that are not effective there yet."""
    count = run(lambda admin: admin.reconcile(everything=everything))
    typer.echo(json.dumps({"written": count}) if as_json else f"{count} keys written")


def _change(key_id: str, event: AuditEvent, done: str, own: Limit | None = None, *, as_json: bool) -> None:
    run(lambda admin: admin.change_key(key_id, event, actor(), own))
    typer.echo(json.dumps({"id": key_id, "done": done}) if as_json else f"{key_id} {done}")


def _limit(capacity: int | None, refill_per_s: float | None) -> Limit | None:
    if capacity is None and refill_per_s is None:
        return None
    if capacity is None or refill_per_s is None:
        raise typer.BadParameter("--capacity and --refill-per-s belong together")
    return Limit(capacity, refill_per_s)


def _duration_s(text: str) -> int:
    found = _DURATION.fullmatch(text)
    if found is None or (not found[2] and int(found[1])):
        raise typer.BadParameter(f"{text!r} is not a duration such as 0, 30m, 1h or 7d")
    return int(found[1]) * _UNITS_S[found[2]]


def _expiry(text: str | None) -> datetime | None:
    if text is None:
        return None
    if days := _DAYS.fullmatch(text):
        return datetime.now(UTC) + timedelta(days=int(days[1]))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a time such as 2027-01-31T12:00:00Z nor days such as 30d"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
