"""From a method and a path to its row, at a cost that depends on the path's length and not on the number of rows.

What a row then asks of its caller is `decision.py`; whether templates make sense together is `policy_rules.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from authz.core.path import Target
from authz.core.route import Access, Route
from authz.core.template import ANY_DEPTH, ONE, Template

ANY_METHOD = "*"

_Rows: TypeAlias = dict[str, tuple[Route, Template]]
"""The rows of one path, by method."""


@dataclass(frozen=True, slots=True)
class Match:
    """What the table says about a method and a path.

    `route` is the row, None where none matched; then `methods` lists, sorted, what the path does accept (none: the
    path is unknown). `variables` holds the template's variables, percent-decoded.
    """

    route: Route | None
    methods: tuple[str, ...] = ()
    variables: dict[str, str] | None = None


@dataclass(slots=True)
class _Node:
    """One place in the tree of templates: what may come next, and the rows that end here, by custom verb."""

    literals: "dict[str, _Node]" = field(default_factory=dict)
    packages: "dict[str, _Node]" = field(default_factory=dict)
    one: "_Node | None" = None
    any_depth: "_Node | None" = None
    rows: dict[str, _Rows] = field(default_factory=dict)


_UNKNOWN = Match(None)
_NO_VERB = ":"  # what follows a colon at the very end: not the empty verb of rows without one


class Router:
    """All rows, indexed. Built once, never changed.

    Rows that bar a path are kept in a tree of their own and asked first: no other row, however specific, unlocks them.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._barred, self._open = _Node(), _Node()
        for route in routes:
            template = Template.parse(route.template)
            node = self._barred if route.access is Access.BARRED else self._open
            for part in template.parts:
                node = _grown(node, part)
            node.rows.setdefault(template.verb, {})[route.method] = (route, template)

    def match(self, method: str, target: Target) -> Match | None:
        """Find the row for a method and a path; None where the path's once-decoded spelling would match another row."""
        rows = self._rows(target.segments)
        if target.decoded is not target.segments:
            # A backend that decodes before it routes must arrive where we do, or nowhere.
            other = self._rows(target.decoded)
            if other is not None and other is not rows:
                return None
        if rows is None:
            return _UNKNOWN
        found = rows.get(method) or rows.get(ANY_METHOD)
        if found is None:
            return Match(None, tuple(sorted(rows)))
        route, template = found
        return Match(route, (), template.variables(target.decoded) if route.accounts else None)

    def _rows(self, segments: tuple[str, ...]) -> _Rows | None:
        # A literal colon in the last segment always begins a custom verb: ids that hold one arrive encoded.
        verb = ""
        if ":" in segments[-1]:
            last, _, verb = segments[-1].rpartition(":")
            segments, verb = (*segments[:-1], last), verb or _NO_VERB
        return _find(self._barred, segments, 0, verb) or _find(self._open, segments, 0, verb)


def _grown(node: _Node, part: str) -> _Node:
    if part == ONE:
        node.one = node.one or _Node()
        return node.one
    if part == ANY_DEPTH:
        node.any_depth = node.any_depth or _Node()
        return node.any_depth
    if part.endswith(ANY_DEPTH):
        return node.packages.setdefault(part.removesuffix(ANY_DEPTH), _Node())
    return node.literals.setdefault(part, _Node())


def _find(node: _Node, segments: tuple[str, ...], depth: int, verb: str) -> _Rows | None:
    """Walk down, the more specific branch first: a literal, then one segment, then a package, then the rest."""
    if depth == len(segments):
        return node.rows.get(verb) or _rest(node, verb)
    segment = segments[depth]
    literal = node.literals.get(segment)
    found = _find(literal, segments, depth + 1, verb) if literal else None
    if not found and node.one and segment:
        found = _find(node.one, segments, depth + 1, verb)
    if not found and node.packages:
        found = _in_package(node, segment)
    return found or _rest(node, verb)


def _rest(node: _Node, verb: str) -> _Rows | None:
    """Find the rows for whatever follows, colons included unless a row names the verb."""
    return (node.any_depth.rows.get(verb) or node.any_depth.rows.get("")) if node.any_depth else None


def _in_package(node: _Node, segment: str) -> _Rows | None:
    """Find the rows for every service in a gRPC package, the longest name first."""
    end = segment.rfind(".")
    while end >= 0:
        package = node.packages.get(segment[: end + 1])
        if package:
            return package.rows.get("")
        end = segment.rfind(".", 0, end)
    return None
