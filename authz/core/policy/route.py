"""One row of the policy table, as frozen values.

How rows are found by path is `router.py`; how they are read from a file is `adapters/policy_file.py`.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class Access(StrEnum):
    """What a route asks of its caller."""

    SCOPE = "scope"
    ANY = "any"
    PUBLIC = "public"
    SESSION = "session"
    BARRED = "barred"


class ErrorFormat(StrEnum):
    """How a route's refusals are written."""

    JSON = "json"
    TEXT = "text"


class BindingPlace(StrEnum):
    """Where in a request an account id travels."""

    PATH = "path"
    QUERY = "query"
    BODY = "body"


@dataclass(frozen=True, slots=True)
class AccountBinding:
    """One place where a request may name an account, e.g. `query:account_id`."""

    place: BindingPlace
    name: str


class _Kept:
    """What is kept with a row and says nothing about it: no field, so neither compared, nor shown, nor written down."""

    __slots__ = ("piece",)
    piece: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Route(_Kept):
    """One row of the table: a method and a template, and what it needs. It is equal to itself alone.

    `method` is an HTTP method or "*". `scope` is set where `access` is `SCOPE`. `cost` is in tokens. `piece` is for
    `edge/answers.py`, which keeps here what it once wrote of the row, as it does with callers (`core/check.py`).
    """

    method: str
    template: str
    access: Access
    scope: str = ""
    accounts: tuple[AccountBinding, ...] = ()
    cost: int = 1
    stream: str = ""
    needs_key: bool = field(init=False)
    # Up to here what every check reads, side by side in memory.
    account_required: bool = False
    yields_credential: bool = False
    errors: ErrorFormat = ErrorFormat.JSON
    shadow: bool = False

    def __post_init__(self) -> None:
        """Note whether a key is asked for, once for all checks."""
        object.__setattr__(self, "piece", b"")
        object.__setattr__(self, "needs_key", self.access not in {Access.PUBLIC, Access.SESSION})
