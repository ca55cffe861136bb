"""The operations of a described API, as the import reads them.

`adapters/api_files/` reads files; `rows.py` makes rows of operations.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""The methods that a policy may list."""

READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Security(StrEnum):
    """What a description says about the credentials of an operation.

    Only `NONE`, an empty list that is in force for the operation, says that no credential is needed.
    """

    UNDECLARED = "undeclared"
    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Wish:
    """The `x-authz` extension of an operation: a scope or an access."""

    scope: str = ""
    access: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `path` includes the base path, `base`.

    `needs` holds alternatives: one of them suffices, and all names of one are needed. `parameters` are pairs of a
    location (path, query, body) and a name. `is_template` is set where the path is a policy's template already.
    """

    method: str
    path: str
    security: Security = Security.UNDECLARED
    needs: tuple[tuple[str, ...], ...] = ()
    tags: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()
    is_deprecated: bool = False
    streams: bool = False
    writes: bool | None = None
    wish: Wish | None = None
    doubts: tuple[str, ...] = ()
    is_template: bool = False
    base: str = ""

    @property
    def name(self) -> str:
        """Return the operation as a description writes it."""
        return f"{self.method} {self.path}" if self.method else self.path

    @property
    def is_write(self) -> bool:
        """Tell whether the operation changes something, as far as its method says."""
        return self.method not in READ_METHODS if self.writes is None else self.writes


@dataclass(frozen=True, slots=True)
class Description:
    """A whole API. `header` is the request header of its keys if it names one. `doubts` are about the whole file."""

    title: str
    operations: tuple[Operation, ...]
    host: str = ""
    header: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    scopes: Mapping[str, str] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
