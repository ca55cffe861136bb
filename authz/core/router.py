"""From a method and a path to its row, at a cost that depends on the path's length and not on the number of rows.

What a row then asks of its caller is `decision.py`; whether templates make sense together is `policy_rules.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from authz.core.path import Target
from authz.core.route import Access, Route
from authz.core.template import ANY_DEPTH, ONE, Template
from authz.core.value import value

ANY_METHOD = "*"


@value
class Match:
    """What the table says about a method and a path.

    `route` is the row, None where none matched; then `methods` lists, sorted, what the path does accept (none: the
    path is unknown). `variables` holds the template's variables, percent-decoded,
    where the route reads accounts out of them.
    """

    route: Route | None
    methods: tuple[str, ...] = ()
    variables: dict[str, str] | None = None


@dataclass(slots=True, eq=False)
class _Place:
    """The rows of one template by method. `takes_colon` is False where a colon at the end means another place."""

    takes_colon: bool = False
    rows: dict[str, tuple[Route, Template]] = field(default_factory=dict)


@dataclass(slots=True)
class _Node:
    """One step in the tree of templates: what may come next, and the places that end here, by custom verb.

    `packages` are gRPC packages by name, of `package_names_max` names at most.
    """

    literals: "dict[str, _Node]" = field(default_factory=dict)
    packages: "dict[str, _Node]" = field(default_factory=dict)
    package_names_max: int = 0
    one: "_Node | None" = None
    any_depth: "_Node | None" = None
    places: dict[str, _Place] = field(default_factory=dict)


_UNKNOWN = Match(None)


class Router:
    """All rows, indexed. Built once, never changed.

    Rows that bar a path are kept in a tree of their own and asked first: no other row, however specific, unlocks them.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._barred, self._open = _Tree(), _Tree()
        for route in routes:
            template = Template.parse(route.template)
            barred = route.access is Access.BARRED
            place = (self._barred if barred else self._open).grow(template)
            place.takes_colon = barred or bool(template.verb) or template.parts[-1].endswith(ANY_DEPTH)
            place.rows[route.method] = (route, template)

    def match(self, method: str, target: Target) -> Match | None:
        """Find the row for a method and a path; None where another reading of the path leads to another row.

        Servers differ in whether they decode before they route, whether a colon begins a custom verb, and whether a
        slash at the end counts. One that reads the path in another way must arrive where we do, or nowhere.
        """
        place = self._place(target.segments)
        if target.decoded is not target.segments and self._place(target.decoded) not in (None, place):
            return None
        if place is None or (":" in target.segments[-1] and not place.takes_colon):
            return _UNKNOWN
        if not target.segments[-1] and self._place(target.decoded[:-1]) not in (None, place):
            return None
        found = place.rows.get(method) or place.rows.get(ANY_METHOD)
        if found is None:
            return Match(None, tuple(sorted(place.rows)))
        route, template = found
        return Match(route, (), template.variables(target.decoded) if route.accounts else None)

    def _place(self, segments: tuple[str, ...]) -> _Place | None:
        # What is barred stays barred with a slash behind it.
        bare = segments if not segments or segments[-1] else segments[:-1]
        return self._barred.find(bare) or self._open.find(segments)


class _Tree:
    """The templates of one kind, by their parts; `verbs` are the custom verbs that occur at all."""

    def __init__(self) -> None:
        self._root = _Node()
        self._verbs: set[str] = set()

    def grow(self, template: Template) -> _Place:
        """Make the place of a template, unless it is there."""
        node = self._root
        for part in template.parts:
            node = _grown(node, part)
        if template.verb:
            self._verbs.add(template.verb)
        return node.places.setdefault(template.verb, _Place())

    def find(self, segments: tuple[str, ...]) -> _Place | None:
        """Find the place of a path: of the custom verb behind its last colon, or else of the path as it stands."""
        if segments and ":" in segments[-1]:
            last, _, verb = segments[-1].rpartition(":")
            spoken = self._walk((*segments[:-1], last), verb) if verb in self._verbs else None
            if spoken is not None:
                return spoken
        return self._walk(segments, "")

    def _walk(self, segments: tuple[str, ...], verb: str) -> _Place | None:
        """Walk down, the more specific branch first: a literal, then one segment, then a package, then the rest.

        Branches not taken are kept with the depth they begin at, and tried, the latest first, where a walk ends
        nowhere.
        """
        untried: list[tuple[_Node, int]] = []
        node: _Node | None = self._root
        depth, end = 0, len(segments)
        while node is not None:
            if node.any_depth is not None:
                untried.append((node.any_depth, end))
            if depth == end:
                found = node.places.get(verb)
                if found is not None:
                    return found
                node = None
            else:
                segment = segments[depth]
                depth += 1
                if node.packages and (package := _package(node, segment)):
                    untried.append((package, end))
                one = node.one if segment else None
                node = node.literals.get(segment, one)
                if one is not None and node is not one:
                    untried.append((one, depth))
            if node is None and untried:
                node, depth = untried.pop()
        return None


def _grown(node: _Node, part: str) -> _Node:
    if part == ONE:
        node.one = node.one or _Node()
        return node.one
    if part == ANY_DEPTH:
        node.any_depth = node.any_depth or _Node()
        return node.any_depth
    if part.endswith(ANY_DEPTH):
        package = part.removesuffix(f".{ANY_DEPTH}")
        node.package_names_max = max(node.package_names_max, package.count(".") + 1)
        return node.packages.setdefault(package, _Node())
    return node.literals.setdefault(part, _Node())


def _package(node: _Node, segment: str) -> _Node | None:
    """Find the gRPC package that a service is in, the longest name first."""
    names = segment.split(".", node.package_names_max)
    for count in range(len(names) - 1, 0, -1):
        package = node.packages.get(".".join(names[:count]))
        if package:
            return package
    return None
