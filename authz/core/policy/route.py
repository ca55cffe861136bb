"""One row of the policy table, as frozen values.

`router.py` finds rows by path; `adapters/policy_file/` reads them from a file.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from authz.core.limits import NamedLimit


class Access(StrEnum):
    """What a route requires of its caller."""

    SCOPE = "scope"
    ANY = "any"
    OPTIONAL = "optional"
    PUBLIC = "public"
    SESSION = "session"
    BARRED = "barred"


class ErrorFormat(StrEnum):
    """The body format of a route's refusals."""

    JSON = "json"
    PROBLEM = "problem"
    TEXT = "text"
    TEMPLATE = "template"


WITHOUT_BODY = frozenset({"GET", "HEAD"})
"""The methods whose rows bind no body, because not every backend reads one (RFC 9110 section 9.3.1)."""


class BindingLocation(StrEnum):
    """The part of a request that contains an account id."""

    PATH = "path"
    QUERY = "query"
    BODY = "body"


@dataclass(frozen=True, slots=True)
class AccountBinding:
    """One location where a request may name an account, e.g. `query:account_id`."""

    location: BindingLocation
    name: str


class _Cached:
    """Data cached on a row that is not part of it: not a field, so it is not compared, displayed or serialised."""

    __slots__ = ("fragment",)
    fragment: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Route(_Cached):
    """One row of the table: a method, a template, and what it requires. A row is equal only to itself.

    `method` is an HTTP method or "*". `scope` is set if `access` is `SCOPE`. If a row needs several scopes, `scopes`
    lists each sufficient set of them, and `scope` describes them, such as `a:read and b:read`, which is no scope.
    `hosts` are the patterns of the hosts that have the row; none for every host that the policy serves.
    `cost` is in tokens, taken also from the buckets of `limits`, which each key has for the rows that name them.
    `colon_ids` admits encoded colons in ids where the path could also end in a custom verb. `fragment` belongs to
    `edge/check/responses.py`, which caches a response fragment here, as it does on `Principal`.
    """

    method: str
    template: str
    access: Access
    scope: str = ""
    accounts: tuple[AccountBinding, ...] = ()
    cost: int = 1
    stream: str = ""
    needs_key: bool = field(init=False)
    # The fields above are read by every check, so they are adjacent in memory.
    account_required: bool = False
    yields_credential: bool = False
    colon_ids: bool = False
    errors: ErrorFormat = ErrorFormat.JSON
    shadow: bool = False
    scopes: tuple[tuple[str, ...], ...] = ()
    hosts: tuple[str, ...] = ()
    limits: tuple[NamedLimit, ...] = ()

    @property
    def alternatives(self) -> tuple[tuple[str, ...], ...]:
        """Return each set of scopes that suffices; none if the row needs no scope."""
        return self.scopes or (((self.scope,),) if self.access is Access.SCOPE else ())

    def __post_init__(self) -> None:
        """Compute once whether a key is required."""
        object.__setattr__(self, "fragment", b"")
        object.__setattr__(self, "needs_key", self.access not in {Access.PUBLIC, Access.SESSION, Access.OPTIONAL})
