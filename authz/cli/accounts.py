"""`authz accounts`: create, list, suspend and reinstate accounts.

The rules are `service/keys/admin.py`.
"""

import json
from typing import Annotated

import typer

from authz.cli.extras import extra
from authz.cli.output import After, AsJson, PageRows, done, plain, show_page, write
from authz.cli.use_cases import actor, run
from authz.core.accounts import Account, AuditEvent
from authz.service.keys.admin import PAGE_ROWS, KeyAdmin

app = typer.Typer(no_args_is_help=True, help="Create, list, suspend and reinstate accounts.")

AccountId = Annotated[str, typer.Argument(help="The account's id.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="The name of the account.")],
    *,
    email: Annotated[str | None, typer.Option(help="The e-mail address of its owner.")] = None,
    as_json: AsJson = False,
) -> None:
    """Create an account and print its id."""
    address = None if email is None else _normalised(email)
    account = run(lambda admin: admin.create_account(name, address, actor()))
    write(json.dumps(plain(account)) if as_json else account.id)


@app.command("list")
def list_accounts(*, after: After = "", limit: PageRows = PAGE_ROWS, as_json: AsJson = False) -> None:
    """List accounts, oldest first, a page at a time."""

    async def listed(admin: KeyAdmin) -> list[Account]:
        accounts = await admin.accounts(after, limit + 1)
        if after and not accounts:
            await admin.account(after)
        return accounts

    show_page(run(listed), limit, ("id", "name", "created_at", "suspended_at"), as_json=as_json)


@app.command()
def suspend(account_id: AccountId, *, as_json: AsJson = False) -> None:
    """Suspend an account: no sidecar admits any of its keys."""
    _change(account_id, AuditEvent.ACCOUNT_SUSPENDED, "suspended", as_json=as_json)


@app.command()
def reinstate(account_id: AccountId, *, as_json: AsJson = False) -> None:
    """Reinstate a suspended account: its keys work again."""
    _change(account_id, AuditEvent.ACCOUNT_REINSTATED, "reinstated", as_json=as_json)


def _normalised(email: str) -> str:
    with extra("portal"):
        from authz.adapters.email_addresses import normalised_email  # noqa: PLC0415 -- the sidecar's image lacks it
    return normalised_email(email)


def _change(account_id: str, event: AuditEvent, change: str, *, as_json: bool) -> None:
    run(lambda admin: admin.change_account(account_id, event, actor()))
    done({"id": account_id, "done": change}, f"{account_id} {change}", as_json=as_json)
