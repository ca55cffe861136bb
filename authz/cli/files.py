"""Writes files for operators: whole or not at all, and over nothing that exists unless it is requested.

What is in the files is decided by the commands.
"""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from authz.core.errors import PolicyError, Refused

T = TypeVar("T")


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise `Refused` for a file that exists, unless it is to be overwritten."""
    if path.exists() and not force:
        raise Refused(f"{path} exists; --force overwrites it")


def write_whole(path: Path, text: str, check: Callable[[Path], T]) -> T:
    """Write a file at once after `check` has accepted it under another name; returns what `check` does.

    The file keeps its mode. What `check` raises leaves the old file as it is. `OSError` if it cannot be written.
    """
    target = path.resolve()
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=target.suffix)
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            result = check(draft)
        except PolicyError as error:
            raise PolicyError(error.problems, str(path)) from None
        draft.chmod(mode)
        draft.replace(target)
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()
    return result


def accept(_path: Path) -> None:
    """Accept any file."""


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
