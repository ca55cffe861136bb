"""Shared values of tests of the whole stack: keys with large buckets, and all scopes."""

from dataclasses import dataclass

from authz.core.limits import Limit

ROOMY = Limit(capacity=1_000_000, refill_per_s=1_000)
ALL_SCOPES = ("servers:read", "servers:write", "console", "files:read", "files:write", "backups", "billing:read")


@dataclass(frozen=True)
class Keys:
    """Keys of the stack's account whose buckets no test empties."""

    reader: str
    all_scopes: str
