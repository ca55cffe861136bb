"""From a method and a path to its row, at a cost that depends on the path's length and not on the number of rows.

What a row then asks of its caller is `decision.py`; whether templates make sense together is `policy_rules.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from authz.core.path import Target
from authz.core.route import Access, Route
from authz.core.template import ANY_DEPTH, ONE, Template
from authz.core.value import Value

ANY_METHOD = "*"


class Match(Value):
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
    """The rows of one template by method, with the template where accounts are read out of it.

    `takes_colon` is False where a colon at the end means another place.
    """

    takes_colon: bool = False
    rows: dict[str, tuple[Match, Template | None]] = field(default_factory=dict)


@dataclass(slots=True)
class _Node:
    """One step in the tree of templates: what may come next, and the places that end here, by custom verb.

    `forks` where more than one of them may lead to a place.
    """

    literals: "dict[str, _Node]" = field(default_factory=dict)
    one: "_Node | None" = None
    any_depth: "_Node | None" = None
    places: dict[str, _Place] = field(default_factory=dict)
    forks: bool = False


_UNKNOWN = Match(None)


class Router:
    """All rows, indexed. Built once, never changed.

    Rows that bar a path are kept in a tree of their own and asked first: no other row, however specific, unlocks them.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._barred, self._open = _Tree(), _Tree()
        words: set[str] = set()
        for route in routes:
            template = Template.parse(route.template)
            barred = route.access is Access.BARRED
            if barred and not template.verb:
                words.add(template.word)
            place = (self._barred if barred else self._open).grow(template)
            place.takes_colon = barred or bool(template.verb) or template.parts[-1].endswith(ANY_DEPTH)
            place.rows[route.method] = (Match(route), template if route.accounts else None)
        # A path that is barred has one of these in it, unless it ends in a custom verb or is a gRPC method's.
        self._barred_words = frozenset(words)
        self._has_wordless = "" in words

    def match(self, method: str, target: Target) -> Match | None:
        """Find the row for a method and a path; None where another reading of the path leads to another row.

        Servers differ in whether they decode before they route, whether a colon begins a custom verb, and whether a
        slash at the end counts. One that reads the path in another way must arrive where we do, or nowhere.
        """
        segments = target.segments
        last = segments[-1]
        place = self._place(segments)
        if target.decoded is not segments and self._place(target.decoded) not in (None, place):
            return None
        if place is None or (":" in last and not place.takes_colon):
            return _UNKNOWN
        if not last and self._place(target.decoded[:-1]) not in (None, place):
            return None
        found = place.rows.get(method) or place.rows.get(ANY_METHOD)
        if found is None:
            return Match(None, tuple(sorted(place.rows)))
        match, template = found
        if template is None:
            return match
        return Match(match.route, (), template.variables(target.decoded))

    def _place(self, segments: tuple[str, ...]) -> _Place | None:
        last = segments[-1] if segments else ""
        if not last:
            # What is barred stays barred with a slash behind it.
            return self._barred.find(segments[:-1]) or self._open.find(segments)
        verb = last.rpartition(":")[2] if ":" in last else ""
        may_be_barred = (
            not self._barred_words.isdisjoint(segments)
            or verb in self._barred.verbs
            or self._has_wordless
            or "." in segments[0]
        )
        if verb:
            return (self._barred.find(segments) if may_be_barred else None) or self._open.find(segments)
        return (self._barred.walk(segments) if may_be_barred else None) or self._open.walk(segments)


class _Tree:
    """The templates of one kind, by their parts.

    `verbs` are the custom verbs that occur at all; `_packages` gRPC packages by name, of `_names_max` names at most.
    """

    def __init__(self) -> None:
        self._root = _Node()
        self.verbs: set[str] = set()
        self._packages: dict[str, _Node] = {}
        self._names_max = 0

    def grow(self, template: Template) -> _Place:
        """Make the place of a template, unless it is there."""
        node = self._root
        for part in template.parts:
            node = self._package(part) if part.endswith(f".{ANY_DEPTH}") else _grown(node, part)
        if template.verb:
            self.verbs.add(template.verb)
        return node.places.setdefault(template.verb, _Place())

    def find(self, segments: tuple[str, ...]) -> _Place | None:
        """Find the place of a path: of the custom verb behind its last colon, or else of the path as it stands."""
        if segments and ":" in segments[-1]:
            last, _, verb = segments[-1].rpartition(":")
            walk = self.walk if last else self._search
            spoken = walk((*segments[:-1], last), verb) if verb in self.verbs else None
            if spoken is not None:
                return spoken
        return self.walk(segments) if segments and segments[-1] else self._search(segments, "")

    def walk(self, segments: tuple[str, ...], verb: str = "") -> _Place | None:
        """Find the place of a path, without its verb, whose last segment is not empty.

        It is found here as long as there is one way to go, which is nearly always.
        """
        if self._packages and "." in segments[0]:
            return self._search(segments, verb)
        node = self._root
        for segment in segments:
            if node.forks:
                return self._search(segments, verb)
            following = node.literals.get(segment, node.one)
            if following is None:
                return None
            node = following
        return self._search(segments, verb) if node.forks else node.places.get(verb)

    def _search(self, segments: tuple[str, ...], verb: str) -> _Place | None:
        """Go the more specific way first: a literal, then one segment, then a package, then the rest.

        Ways not taken are kept with the depth they begin at, and tried, the latest first, where a way ends nowhere.
        """
        end = len(segments)
        untried: list[tuple[_Node, int]] = [(self._root, 0)]
        while untried:
            node, depth = untried.pop()
            if depth == end:
                place = node.places.get(verb)
                if place is not None:
                    return place
            if node.any_depth is not None:
                untried.append((node.any_depth, end))
            if depth == end:
                continue
            segment = segments[depth]
            if node is self._root and (package := self._packages_of(segment)):
                untried.append((package, end))
            if node.one is not None and segment:
                untried.append((node.one, depth + 1))
            if literal := node.literals.get(segment):
                untried.append((literal, depth + 1))
        return None

    def _package(self, part: str) -> _Node:
        package = part.removesuffix(f".{ANY_DEPTH}")
        self._names_max = max(self._names_max, package.count(".") + 1)
        return self._packages.setdefault(package, _Node())

    def _packages_of(self, segment: str) -> _Node | None:
        """Find the gRPC package that a service is in, the longest name first."""
        names = segment.split(".", self._names_max)
        parents = (".".join(names[:count]) for count in range(len(names) - 1, 0, -1))
        return next((self._packages[parent] for parent in parents if parent in self._packages), None)


def _grown(node: _Node, part: str) -> _Node:
    if part == ONE:
        following = node.one = node.one or _Node()
    elif part == ANY_DEPTH:
        following = node.any_depth = node.any_depth or _Node()
    else:
        following = node.literals.setdefault(part, _Node())
    node.forks = node.any_depth is not None or (node.one is not None and bool(node.literals))
    return following
