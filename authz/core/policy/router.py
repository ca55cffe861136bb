"""The index from a method and a path to its row, at a cost that does not depend on the number of rows.

The cost depends on the length of the path and on the number of shapes of its length (`_Shapes`). `decision.py` applies
the row; `rules.py` checks that templates fit together.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import IntEnum
from functools import partial
from operator import itemgetter
from typing import TypeAlias

from authz.core.policy.affixes import Affix
from authz.core.policy.path import SEGMENTS_MAX, Target
from authz.core.policy.route import Access, Route
from authz.core.policy.template import ANY_DEPTH, HOLE, ONE, Template
from authz.core.value import Value, force_setattr

ANY_METHOD = "*"
_GET, _HEAD = "GET", "HEAD"


class Match(Value):
    """The result of matching a method and a path.

    `route` is the row, or None; then `methods` lists, sorted, what the path accepts (none: the path is unknown).
    `template` is set if the route reads accounts from the path.
    """

    route: Route | None
    methods: tuple[str, ...] = ()
    template: Template | None = None


_UNKNOWN = Match(None)


class _Entry(Match):
    """An index entry: the rows of one template, by method.

    Most entries have one row, so an entry is itself the match for `method`, the method of its first row: with thousands
    of rows, every further object that a check loads costs a cache miss. `takes_colon` is False if a colon in the last
    segment means another entry.
    """

    route: Route | None = None
    method: str = ""
    takes_colon: bool = False
    others: dict[str, Match] | None = None

    def add(self, route: Route, template: Template) -> None:
        """Add a row; called only while the index is built."""
        reads_from = template if route.accounts else None
        if self.route is None:
            force_setattr(self, "route", route)
            force_setattr(self, "method", route.method)
            barred = route.access is Access.BARRED
            takes_colon = barred or bool(template.verb) or template.parts[-1].endswith(ANY_DEPTH)
            force_setattr(self, "takes_colon", takes_colon)
            force_setattr(self, "template", reads_from)
        else:
            force_setattr(self, "others", {**(self.others or {}), route.method: Match(route, (), reads_from)})

    def other(self, method: str, *, head_follows_get: bool) -> Match:
        """Find the row for a method that is not the first one's."""
        others = self.others or {}
        found = others.get(method) or others.get(ANY_METHOD)
        if found is not None or self.method == ANY_METHOD:
            return found or self
        methods = {self.method, *others}
        if head_follows_get and _GET in methods:
            if method == _HEAD:
                return self if self.method == _GET else others[_GET]
            methods.add(_HEAD)
        return Match(None, tuple(sorted(methods)))


class _PartKind(IntEnum):
    """What a part of a template matches, the most specific first."""

    LITERAL = 0
    AFFIX = 1
    ONE = 2
    PACKAGE = 3
    REST = 4


_TEXTS = frozenset({_PartKind.LITERAL, _PartKind.AFFIX})
_REST = (ANY_DEPTH, f"{ANY_DEPTH}}}")
_Literals: TypeAlias = str | tuple[str, ...]
_Read: TypeAlias = Callable[[tuple[str, ...]], _Literals]
_Shape: TypeAlias = tuple[_Read, Mapping[_Literals, _Entry]]


class Router:
    """All rows, indexed. Built once, never changed.

    Barred rows are in an index of their own that is searched first: no other row, however specific, overrides them.
    With `head_follows_get`, a HEAD request uses the GET row of a path that has no HEAD row (RFC 9110 section 9.3.2).
    With `ignores_slash`, a path with a trailing slash has the row of the path without it.
    """

    def __init__(self, routes: Iterable[Route], *, head_follows_get: bool = True, ignores_slash: bool = False) -> None:
        self._barred, self._open = _Templates(), _Templates()
        self.ignores_slash = ignores_slash
        self.head_follows_get = head_follows_get
        # The templates with a custom verb, without it: whether a verb may follow a path.
        self._before_verbs = _Shapes()
        words: set[str] = set()
        for route in routes:
            template = Template.parse(route.template)
            barred = route.access is Access.BARRED
            if barred and not template.verb:
                words.add(template.word)
            if template.verb:
                self._before_verbs.entry(template.parts)
            templates = self._barred if barred else self._open
            entry = templates.entry(template)
            entry.add(route, template)
            if ignores_slash and template.takes_slash:
                templates.plain.alias((*template.parts, ""), entry)
        self._before_verbs.arrange()
        self._barred.arrange()
        self._open.arrange()
        # Every barred path contains one of these, unless it ends in a custom verb or is a gRPC method.
        self._barred_words = frozenset(words)
        self._has_wordless = "" in words

    def match(self, method: str, target: Target) -> Match | None:
        """Find the row for a method and a path; return None if another reading of the path matches another row.

        Servers differ in whether they decode before they route, whether a colon begins a custom verb, and whether a
        trailing slash is significant. Every such reading must find the same row or none.
        """
        segments = target.segments
        last = segments[-1]
        entry = self._find(segments)
        if target.decoded is not segments and self._is_ambiguous(target, entry):
            return None
        if entry is None or (":" in last and not entry.takes_colon):
            return _UNKNOWN
        if not last and len(segments) > 1 and self._differs(target.decoded[:-1], entry):
            return None
        match = entry if entry.method == method else entry.other(method, head_follows_get=self.head_follows_get)
        if target.decoded is not segments and self._hides_verb(target, match.route):
            return None
        return match

    def dismantle(self) -> Iterator[None]:
        """Remove one entry at each step, for a router that nobody uses any more: to free all at once takes long."""
        for templates in (self._barred, self._open):
            for shapes in (templates.plain, *templates.by_verb.values()):
                for entries in shapes.entries.values():
                    while entries:
                        entries.popitem()
                        yield

    def _differs(self, segments: tuple[str, ...], entry: _Entry | None) -> bool:
        other = self._find(segments)
        return other is not None and other is not entry

    def _is_ambiguous(self, target: Target, entry: _Entry | None) -> bool:
        """Tell whether a path with escapes matches another row where it is decoded, or decoded and normalised."""
        if self._differs(target.decoded, entry):
            return True
        return any(not it.isascii() for it in target.decoded) and self._differs(target.compatible(), entry)

    def _hides_verb(self, target: Target, route: Route | None) -> bool:
        """Tell whether an encoded colon of the last segment begins a custom verb for who decodes first.

        Rows that take any depth have no custom verbs, and nothing lifts a bar.
        """
        raw, last = target.segments[-1], target.decoded[-1]
        if last.count(":") == raw.count(":"):
            return False
        if route is not None and (route.colon_ids or route.access is Access.BARRED or route.template.endswith(_REST)):
            return False
        parents = target.decoded[:-1]
        # An id that is empty counts as one, because other routers may match it.
        before = (last.partition(":")[0] or last, last.rpartition(":")[0] or last)
        return any(self._before_verbs.find((*parents, name)) is not None for name in before)

    def _find(self, segments: tuple[str, ...]) -> _Entry | None:
        last = segments[-1] if segments else ""
        if not last:
            # A trailing slash does not lift a bar.
            barred = self._barred.find(segments[:-1]) or (self._barred.find(segments) if len(segments) == 1 else None)
            return barred or self._open.find(segments)
        may_be_barred = not self._barred_words.isdisjoint(segments) or self._has_wordless or "." in segments[0]
        if ":" in last:
            may_be_barred = may_be_barred or last.rpartition(":")[2] in self._barred.by_verb
            return (self._barred.find(segments) if may_be_barred else None) or self._open.find(segments)
        return (self._barred.plain.find(segments) if may_be_barred else None) or self._open.plain.find(segments)


class _Templates:
    """The entries of the barred or of the other templates, by custom verb; `plain` has those without one."""

    def __init__(self) -> None:
        self.plain = _Shapes()
        self.by_verb: dict[str, _Shapes] = {}

    def entry(self, template: Template) -> _Entry:
        """Return the entry of a template; create it if needed."""
        shapes = self.by_verb.setdefault(template.verb, _Shapes()) if template.verb else self.plain
        return shapes.entry(template.parts)

    def arrange(self) -> None:
        """Prepare the search, after all entries were created."""
        for shapes in (self.plain, *self.by_verb.values()):
            shapes.arrange()

    def find(self, segments: tuple[str, ...]) -> _Entry | None:
        """Find the entry of a path: with the custom verb after its last colon, or else of the whole path."""
        if segments and ":" in segments[-1]:
            last, _, verb = segments[-1].rpartition(":")
            with_verb = self.by_verb[verb].find((*segments[:-1], last)) if verb in self.by_verb else None
            if with_verb is not None:
                return with_verb
        return self.plain.find(segments)


class _Shapes:
    """The entries of templates by shape: the sequence of the kinds of their parts.

    Thousands of templates have few shapes. A path is looked up in each shape of its length, by the segments that are
    literals in that shape, until it is found. More specific shapes come first.
    """

    def __init__(self) -> None:
        self.entries: dict[tuple[_PartKind, ...], dict[_Literals, _Entry]] = {}
        # By length of the path; the second list is for an empty last segment, which no variable matches.
        self._fitting: list[list[_Shape]] = []
        self._fitting_empty: list[list[_Shape]] = []

    def entry(self, parts: tuple[str, ...]) -> _Entry:
        """Return the entry of a template's parts; create it if needed."""
        kinds, literals = _indexed(parts)
        return self.entries.setdefault(kinds, {}).setdefault(literals, _Entry())

    def alias(self, parts: tuple[str, ...], entry: _Entry) -> None:
        """Find an entry under other parts as well."""
        kinds, literals = _indexed(parts)
        self.entries.setdefault(kinds, {})[literals] = entry

    def arrange(self) -> None:
        """Sort the shapes by length and specificity."""
        ordered = [(kinds, _shape(kinds, entries)) for kinds, entries in sorted(self.entries.items())]
        for length in range(SEGMENTS_MAX + 1):
            fitting = [(kinds, shape) for kinds, shape in ordered if _fits(kinds, length)]
            self._fitting.append([shape for _, shape in fitting])
            self._fitting_empty.append(
                [shape for kinds, shape in fitting if kinds[length - 1 : length] != (_PartKind.ONE,)]
            )

    def find(self, segments: tuple[str, ...]) -> _Entry | None:
        """Find the entry of a path in the most specific shape that has one."""
        fitting = self._fitting if segments and segments[-1] else self._fitting_empty
        for read, entries in fitting[len(segments)]:
            entry = entries.get(read(segments))
            if entry is not None:
                return entry
        return None


def _indexed(parts: tuple[str, ...]) -> tuple[tuple[_PartKind, ...], _Literals]:
    kinds = tuple(map(_kind, parts))
    literals = parts[0].removesuffix(f".{ANY_DEPTH}") if kinds[0] is _PartKind.PACKAGE else _reader(kinds)(parts)
    return kinds, literals


def _kind(part: str) -> _PartKind:
    if part == ONE:
        return _PartKind.ONE
    if part == ANY_DEPTH:
        return _PartKind.REST
    if HOLE in part:
        return _PartKind.AFFIX
    return _PartKind.PACKAGE if part.endswith(f".{ANY_DEPTH}") else _PartKind.LITERAL


def _fits(kinds: tuple[_PartKind, ...], length: int) -> bool:
    """Tell whether a path of `length` segments can have a shape. `**` may match none; a package is one segment."""
    if kinds[0] is _PartKind.PACKAGE:
        return length > 0
    return length >= len(kinds) - 1 if kinds[-1] is _PartKind.REST else length == len(kinds)


def _shape(kinds: tuple[_PartKind, ...], entries: Mapping[_Literals, _Entry]) -> _Shape:
    if kinds[-1] is _PartKind.AFFIX:
        routes = {key if isinstance(key, str) else key[-1]: entry.route for key, entry in entries.items()}
        affixes = tuple(
            Affix(text, is_barred=route is not None and route.access is Access.BARRED) for text, route in routes.items()
        )
        return partial(_affixed, entries, affixes, _reader(kinds)), entries
    if kinds[0] is not _PartKind.PACKAGE:
        return _reader(kinds), entries
    names_max = max(str(package).count(".") for package in entries) + 1
    return partial(_package, entries, names_max), entries


def _reader(kinds: tuple[_PartKind, ...]) -> _Read:
    """Return a function that reads the literals of a shape from the segments of a path."""
    literals = [position for position, kind in enumerate(kinds) if kind in _TEXTS]
    return itemgetter(*literals) if literals else _nothing


def _affixed(
    entries: Mapping[_Literals, _Entry], affixes: tuple[Affix, ...], read: _Read, segments: tuple[str, ...]
) -> _Literals:
    """Read the literals of a path whose last segment matches one of `affixes`; that one stands for the segment."""
    last = segments[-1]
    found = (read((*segments[:-1], affix.text)) for affix in affixes if affix.matches(last))
    return next((literals for literals in found if literals in entries), "")


def _nothing(_segments: tuple[str, ...]) -> _Literals:
    return ""


def _package(packages: Mapping[_Literals, _Entry], names_max: int, segments: tuple[str, ...]) -> _Literals:
    """Find the longest indexed gRPC package of a service, of at most `names_max` names; return "" if there is none."""
    names = segments[0].split(".", names_max)
    parents = (".".join(names[:count]) for count in range(len(names) - 1, 0, -1))
    return next((parent for parent in parents if parent in packages), "")
