"""The names of environment variables: which are no settings, and what may have been meant.

The settings, and the environment itself, are `settings.py`.
"""

import re
from collections.abc import Collection, Iterable

_SIMILARITY_MIN = 0.6
# What the demo uses, and what Kubernetes sets for a service named authz.
_OTHERS = re.compile(r"AUTHZ_(DEMO_\w+|([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT\w*|PORT(_[0-9]+_(TCP|UDP)\w*)?))")


def not_among(known: Collection[str], names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the names that are no settings, sorted, each with the nearest known one or ""."""
    from difflib import get_close_matches  # noqa: PLC0415 -- rarely needed

    unknown = sorted(name for name in names if name.upper() not in known and not _OTHERS.fullmatch(name))
    return [(name, (get_close_matches(name.upper(), known, 1, _SIMILARITY_MIN) or [""])[0]) for name in unknown]
