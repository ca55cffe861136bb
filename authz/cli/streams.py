"""`authz streams`: list the open streams of an account, and release a slot.

The rules are `service/keys/stream_admin.py`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer

from authz.cli.output import AsJson, done, show
from authz.cli.use_cases import perform, run
from authz.core.streams import OpenStream

app = typer.Typer(no_args_is_help=True, help="List open streams and release their slots.")

AccountId = Annotated[str, typer.Option("--account", help="The account of the streams.")]

_COLUMNS = ("lease_id", "stream", "key_id", "state", "opened_at", "seen_at", "expires_at")


@dataclass(frozen=True)
class _Row:
    """`state` is opening until the first heartbeat, then open, and stopped when the key no longer works."""

    lease_id: str
    stream: str
    key_id: str
    state: str
    opened_at: datetime
    seen_at: datetime | None
    expires_at: datetime


@app.command("list")
def list_streams(account_id: AccountId, *, as_json: AsJson = False) -> None:
    """List the open streams of an account, oldest first; streams of stopped keys no longer count."""
    from authz.cli.session import open_streams  # noqa: PLC0415 -- as in `use_cases.py`

    streams = perform(open_streams(), lambda admin: admin.streams(account_id))
    if not streams:
        run(lambda admin: admin.account(account_id))
    show([_row(stream) for stream in streams], _COLUMNS, as_json=as_json)


@app.command()
def release(
    lease_id: Annotated[str, typer.Argument(help="The id of the lease, as listed.")],
    account_id: AccountId,
    *,
    as_json: AsJson = False,
) -> None:
    """Release a slot. A stream that is still open is not ended, and acquires a slot again at its next heartbeat."""
    from authz.cli.session import open_streams  # noqa: PLC0415 -- as in `use_cases.py`

    perform(open_streams(), lambda admin: admin.release(account_id, lease_id))
    done({"lease_id": lease_id, "done": "released"}, f"{lease_id} released", as_json=as_json)


def _row(stream: OpenStream) -> _Row:
    seen_at = _moment(stream.seen_at_ms) if stream.seen_at_ms else None
    state = "stopped" if stream.is_stopped else "open" if seen_at else "opening"
    lease, opened_at, expires_at = stream.lease, _moment(stream.opened_at_ms), _moment(stream.expires_at_ms)
    return _Row(lease.lease_id, lease.stream, lease.key_id, state, opened_at, seen_at, expires_at)


def _moment(unix_ms: int) -> datetime:
    return datetime.fromtimestamp(unix_ms / 1000, UTC)
