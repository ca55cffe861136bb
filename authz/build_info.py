"""What `authz --version` prints: the version, the commit, and the grammar of policies.

The image's build writes the commit into `build-info.json` beside this file. Elsewhere there is none.
"""

import json
from importlib.resources import files

from authz import __version__

POLICY_GRAMMAR = 2
"""The newest grammar; older ones are read as well."""


def version_line() -> str:
    """Return the version on one line, such as `0.2.0 (commit 1a2b3c4d5e6f, policy grammar 2)`."""
    return f"{__version__} (commit {_commit()}, policy grammar {POLICY_GRAMMAR})"


def _commit() -> str:
    file = files("authz").joinpath("build-info.json")
    return str(json.loads(file.read_text())["commit"]) if file.is_file() else "unknown"
