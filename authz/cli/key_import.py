"""`authz keys import`: brings in keys of another system by their digests.

The rules are `service/keys/importing.py`.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from authz.adapters.key_file import read_keys
from authz.cli.output import AsJson, note, write
from authz.cli.session import open_importer
from authz.cli.use_cases import actor, perform
from authz.core.accounts import ForeignKey
from authz.core.errors import PolicyError, Problem
from authz.service.keys.importing import KeyImporter

_FAULTS_MAX = 100
_PROGRESS = 1_000


def import_keys(
    file: Annotated[
        Path, typer.Argument(help="CSV or JSON lines with digest, owner, name, scopes, and more; see docs/keys.md.")
    ],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every line, and store nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Import keys of another system by their SHA-256 digests; lines that are stored already are left alone.

    All lines are checked first, and a faulty line stops the import. After an interruption, run it again.
    """
    keys = read_keys(file)

    async def bring_in(importer: KeyImporter) -> tuple[int, int]:
        found = await importer.check(keys)
        if found.faults:
            raise PolicyError(
                [Problem((), message, line, 1) for line, message in found.faults[:_FAULTS_MAX]], str(file)
            )
        if not dry_run:
            await _store(importer, found.new)
        return len(found.new), found.present

    new, present = perform(open_importer(), bring_in)
    if as_json:
        write(json.dumps({"imported": 0 if dry_run else new, "new": new, "present": present, "dry_run": dry_run}))
    else:
        write(f"{new} keys {'to import' if dry_run else 'imported'}, {present} stored already")


async def _store(importer: KeyImporter, keys: list[ForeignKey]) -> None:
    by = actor()
    for count, key in enumerate(keys, 1):
        await importer.store(key, by)
        if count % _PROGRESS == 0:
            note(f"{count} of {len(keys)} keys")
