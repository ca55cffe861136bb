"""The state of files: what distinguishes it from every other one, without reading them.

Which files a policy consists of is `including.py`.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

State: TypeAlias = tuple[object, ...]
Signature: TypeAlias = tuple[tuple[Path, State], ...]
"""The states of some files, in their order."""


def signature(files: Iterable[Path]) -> Signature:
    """Return the present state of each file."""
    return tuple((file, state(file)) for file in files)


def state(file: Path) -> State:
    """Return the present state of a file: where its symbolic links lead, and what the file system says.

    A ConfigMap is replaced by renaming the symbolic link `..data`, so each of its files has another path then.
    """
    try:
        found = file.stat()
        real = os.path.realpath(file)
    except (OSError, RuntimeError) as error:  # RuntimeError: a cycle of links
        return (type(error).__name__,)
    return real, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
