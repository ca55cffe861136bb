"""From a method and a path to its row, at a cost that does not depend on the number of rows.

It depends on the path's length and on how many shapes the templates of that length have (`_Shapes`). What a
row then asks of its caller is `decision.py`; whether templates make sense together is `policy_rules.py`.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from functools import partial
from operator import itemgetter
from typing import TypeAlias

from authz.core.policy.path import SEGMENTS_MAX, Target
from authz.core.policy.route import Access, Route
from authz.core.policy.template import ANY_DEPTH, ONE, Template
from authz.core.value import Value, force_setattr

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


_UNKNOWN = Match(None)


class _Place(Match):
    """The rows of one template, and the templates by which accounts are read out of its paths, by method.

    Mostly there is one row: so a place is itself what the table says for `method`, the first one's, because every
    object that a check has to reach for costs it where there are thousands of rows. `takes_colon` is False where a
    colon at the end means another place.
    """

    route: Route | None = None
    method: str = ""
    takes_colon: bool = False
    others: dict[str, Match] | None = None
    templates: dict[str, Template] | None = None

    def add(self, route: Route, template: Template) -> None:
        """Add a row, while the table is built."""
        if self.route is None:
            force_setattr(self, "route", route)
            force_setattr(self, "method", route.method)
            barred = route.access is Access.BARRED
            takes_colon = barred or bool(template.verb) or template.parts[-1].endswith(ANY_DEPTH)
            force_setattr(self, "takes_colon", takes_colon)
        else:
            force_setattr(self, "others", {**(self.others or {}), route.method: Match(route)})
        if route.accounts:
            force_setattr(self, "templates", {**(self.templates or {}), route.method: template})

    def other(self, method: str) -> Match:
        """Find the row for a method that is not the first one's."""
        others = self.others or {}
        found = others.get(method) or others.get(ANY_METHOD)
        if found is not None or self.method == ANY_METHOD:
            return found or self
        return Match(None, tuple(sorted([self.method, *others])))


class _Kind(IntEnum):
    """What a template's part takes; the less that is, the sooner it is tried."""

    LITERAL = 0
    ONE = 1
    PACKAGE = 2
    REST = 3


_Literals: TypeAlias = str | tuple[str, ...]
_Read: TypeAlias = Callable[[tuple[str, ...]], _Literals]
_Shape: TypeAlias = tuple[_Read, Mapping[_Literals, _Place]]


class Router:
    """All rows, indexed. Built once, never changed.

    Rows that bar a path are kept apart and asked first: no other row, however specific, unlocks them.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._barred, self._open = _Templates(), _Templates()
        words: set[str] = set()
        for route in routes:
            template = Template.parse(route.template)
            barred = route.access is Access.BARRED
            if barred and not template.verb:
                words.add(template.word)
            (self._barred if barred else self._open).place(template).add(route, template)
        self._barred.arrange()
        self._open.arrange()
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
        if target.decoded is not segments and self._leads_elsewhere(target.decoded, place):
            return None
        if place is None or (":" in last and not place.takes_colon):
            return _UNKNOWN
        if not last and self._leads_elsewhere(target.decoded[:-1], place):
            return None
        match = place if place.method == method else place.other(method)
        route = match.route
        if route is None or not route.accounts or place.templates is None:
            return match
        return Match(route, (), place.templates[route.method].variables(target.decoded))

    def _leads_elsewhere(self, segments: tuple[str, ...], place: _Place | None) -> bool:
        other = self._place(segments)
        return other is not None and other is not place

    def _place(self, segments: tuple[str, ...]) -> _Place | None:
        last = segments[-1] if segments else ""
        if not last:
            # What is barred stays barred with a slash behind it.
            return self._barred.find(segments[:-1]) or self._open.find(segments)
        may_be_barred = not self._barred_words.isdisjoint(segments) or self._has_wordless or "." in segments[0]
        if ":" in last:
            may_be_barred = may_be_barred or last.rpartition(":")[2] in self._barred.by_verb
            return (self._barred.find(segments) if may_be_barred else None) or self._open.find(segments)
        return (self._barred.plain.find(segments) if may_be_barred else None) or self._open.plain.find(segments)


class _Templates:
    """The places of one kind of templates, by custom verb; `plain` are those without one."""

    def __init__(self) -> None:
        self.plain = _Shapes()
        self.by_verb: dict[str, _Shapes] = {}

    def place(self, template: Template) -> _Place:
        """Make the place of a template, unless it is there."""
        shapes = self.by_verb.setdefault(template.verb, _Shapes()) if template.verb else self.plain
        return shapes.place(template.parts)

    def arrange(self) -> None:
        """Make ready for finding, once all places are made."""
        for shapes in (self.plain, *self.by_verb.values()):
            shapes.arrange()

    def find(self, segments: tuple[str, ...]) -> _Place | None:
        """Find the place of a path: of the custom verb behind its last colon, or else of the path as it stands."""
        if segments and ":" in segments[-1]:
            last, _, verb = segments[-1].rpartition(":")
            spoken = self.by_verb[verb].find((*segments[:-1], last)) if verb in self.by_verb else None
            if spoken is not None:
                return spoken
        return self.plain.find(segments)


class _Shapes:
    """The places of templates by their shape, which says what kind of part is where.

    However many templates there are, their shapes are few. A path is looked up once in each that its length allows, by
    those of its segments that are literals there, until it is found; the more specific shapes come first.
    """

    def __init__(self) -> None:
        self._places: dict[tuple[_Kind, ...], dict[_Literals, _Place]] = {}
        # By length of the path; the second where its last segment is empty, which no variable takes.
        self._fitting: list[list[_Shape]] = []
        self._fitting_empty: list[list[_Shape]] = []

    def place(self, parts: tuple[str, ...]) -> _Place:
        """Make the place of a template's parts, unless it is there."""
        kinds = tuple(map(_kind, parts))
        literals = parts[0].removesuffix(f".{ANY_DEPTH}") if kinds[0] is _Kind.PACKAGE else _reader(kinds)(parts)
        return self._places.setdefault(kinds, {}).setdefault(literals, _Place())

    def arrange(self) -> None:
        """Put the shapes in their order, by length."""
        ordered = [(kinds, _shape(kinds, places)) for kinds, places in sorted(self._places.items())]
        for length in range(SEGMENTS_MAX + 1):
            fitting = [(kinds, shape) for kinds, shape in ordered if _fits(kinds, length)]
            self._fitting.append([shape for _, shape in fitting])
            self._fitting_empty.append(
                [shape for kinds, shape in fitting if kinds[length - 1 : length] != (_Kind.ONE,)]
            )

    def find(self, segments: tuple[str, ...]) -> _Place | None:
        """Find the place of a path, in the most specific shape that it fits."""
        fitting = self._fitting if segments and segments[-1] else self._fitting_empty
        for read, places in fitting[len(segments)]:
            place = places.get(read(segments))
            if place is not None:
                return place
        return None


def _kind(part: str) -> _Kind:
    if part == ONE:
        return _Kind.ONE
    if part == ANY_DEPTH:
        return _Kind.REST
    return _Kind.PACKAGE if part.endswith(f".{ANY_DEPTH}") else _Kind.LITERAL


def _fits(kinds: tuple[_Kind, ...], length: int) -> bool:
    """Tell whether paths of so many segments can have a shape; the rest may be none, a package is a whole segment."""
    if kinds[0] is _Kind.PACKAGE:
        return length > 0
    return length >= len(kinds) - 1 if kinds[-1] is _Kind.REST else length == len(kinds)


def _shape(kinds: tuple[_Kind, ...], places: Mapping[_Literals, _Place]) -> _Shape:
    if kinds[0] is not _Kind.PACKAGE:
        return _reader(kinds), places
    names_max = max(str(package).count(".") for package in places) + 1
    return partial(_package, places, names_max), places


def _reader(kinds: tuple[_Kind, ...]) -> _Read:
    """Make what reads out of a path's segments the literals of a shape."""
    literals = [position for position, kind in enumerate(kinds) if kind is _Kind.LITERAL]
    return itemgetter(*literals) if literals else _nothing


def _nothing(_segments: tuple[str, ...]) -> _Literals:
    return ""


def _package(packages: Mapping[_Literals, _Place], names_max: int, segments: tuple[str, ...]) -> _Literals:
    """Find the longest of the gRPC packages, of `names_max` names at most, that a service is in; empty if in none."""
    names = segments[0].split(".", names_max)
    parents = (".".join(names[:count]) for count in range(len(names) - 1, 0, -1))
    return next((parent for parent in parents if parent in packages), "")
