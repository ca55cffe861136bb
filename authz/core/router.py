"""From a method and a path to its row, at a cost that does not depend on the number of rows."""

from collections.abc import Iterable
from dataclasses import dataclass

from authz.core.path import Target
from authz.core.route import Route


@dataclass(frozen=True, slots=True)
class Match:
    """What the table says about a method and a path.

    `route` is the row, None where none matched; then `methods` lists, sorted, what the path does accept (none: the
    path is unknown). `variables` holds the template's variables, percent-decoded.
    """

    route: Route | None
    methods: tuple[str, ...] = ()
    variables: dict[str, str] | None = None


class Router:
    """All rows, indexed. Built once, never changed."""

    def __init__(self, routes: Iterable[Route]) -> None: ...

    def match(self, method: str, target: Target) -> Match | None:
        """Find the row for a method and a path; None where the path's once-decoded spelling would match another row."""
        raise NotImplementedError
