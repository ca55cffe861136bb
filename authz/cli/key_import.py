"""`authz keys import`: brings in keys of another system by their digests.

The rules are `service/keys/importing.py`.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from authz.adapters.key_file import read_keys
from authz.cli.extras import extra
from authz.cli.output import AsJson, note, write
from authz.cli.use_cases import actor, perform
from authz.core.accounts import ForeignKey
from authz.core.errors import PolicyError, Problem, Refused
from authz.service.keys.importing import Check, KeyImporter

_FAULTS_MAX = 100
_PROGRESS = 1_000


def import_keys(
    file: Annotated[
        Path, typer.Argument(help="CSV or JSON lines with digest, owner, name, scopes, and more; see docs/keys.md.")
    ],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every line, and store nothing.")] = False,
    create_accounts: Annotated[
        bool, typer.Option("--create-accounts", help="Create an account for each e-mail address that has none.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Import keys of another system by their SHA-256 digests; lines that are stored already are left alone.

    All lines are checked first, and a faulty line stops the import. After an interruption, run it again.
    """
    from authz.cli.session import open_importer  # noqa: PLC0415 -- as in `use_cases.py`

    keys = _addressed(read_keys(file), file)

    async def bring_in(importer: KeyImporter) -> Check:
        found = await importer.check(keys, create=create_accounts)
        if found.faults:
            raise _faulty(found.faults, file)
        if not dry_run:
            await _store(importer, found.new)
        return found

    done = perform(open_importer(), bring_in)
    new, present, accounts = len(done.new), done.present, done.accounts
    if as_json:
        fields = {"imported": 0 if dry_run else new, "new": new, "present": present, "dry_run": dry_run}
        write(json.dumps(fields | {"new_accounts": accounts}))
        return
    made = f"{accounts} accounts {'to create' if dry_run else 'created'}, " if accounts else ""
    write(f"{made}{new} keys {'to import' if dry_run else 'imported'}, {present} stored already")


def _addressed(keys: list[ForeignKey], file: Path) -> list[ForeignKey]:
    """Return the keys with the e-mail addresses of their owners in one form; raises `PolicyError`."""
    if not any("@" in key.account_id for key in keys):
        return keys
    with extra("portal"):
        from authz.adapters.email_addresses import normalised_email  # noqa: PLC0415 -- the sidecar's image lacks it
    known: dict[str, str] = {}
    found, faults = [], []
    for key in keys:
        owner = key.account_id
        try:
            if "@" in owner and owner not in known:
                known[owner] = normalised_email(owner)
        except Refused:
            faults.append((key.line, "owner is neither an account's id nor an e-mail address"))
            continue
        found.append(replace(key, account_id="", email=known[owner]) if owner in known else key)
    if faults:
        raise _faulty(faults, file)
    return found


def _faulty(faults: list[tuple[int, str]], file: Path) -> PolicyError:
    return PolicyError([Problem((), message, line, 1) for line, message in faults[:_FAULTS_MAX]], str(file))


async def _store(importer: KeyImporter, keys: list[ForeignKey]) -> None:
    by = actor()
    for count, key in enumerate(keys, 1):
        await importer.store(key, by)
        if count % _PROGRESS == 0:
            note(f"{count} of {len(keys)} keys")
