"""Templates by shape: the sequence of the kinds of their parts. One lookup for each shape finds the rows of a path.

Which of the rows of a path decides is `router.py`.
"""

from collections.abc import Callable, Mapping
from enum import IntEnum
from functools import partial
from operator import itemgetter
from typing import TypeAlias

from authz.core.policy.affixes import Affix
from authz.core.policy.path import SEGMENTS_MAX
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


class Entry(Match):
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
_Literals: TypeAlias = str | tuple[str, ...]
_Read: TypeAlias = Callable[[tuple[str, ...]], _Literals]
_Shape: TypeAlias = tuple[_Read, Mapping[_Literals, Entry]]


class Shapes:
    """The entries of templates by shape: the sequence of the kinds of their parts.

    Thousands of templates have few shapes. A path is looked up in each shape of its length, by the segments that are
    literals in that shape, until it is found. More specific shapes come first.
    """

    def __init__(self) -> None:
        self.entries: dict[tuple[_PartKind, ...], dict[_Literals, Entry]] = {}
        # By length of the path; the second list is for an empty last segment, which no variable matches.
        self._fitting: list[list[_Shape]] = []
        self._fitting_empty: list[list[_Shape]] = []

    def entry(self, parts: tuple[str, ...]) -> Entry:
        """Return the entry of a template's parts; create it if needed."""
        kinds, literals = _indexed(parts)
        return self.entries.setdefault(kinds, {}).setdefault(literals, Entry())

    def alias(self, parts: tuple[str, ...], entry: Entry) -> None:
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

    def find(self, segments: tuple[str, ...]) -> Entry | None:
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


def _shape(kinds: tuple[_PartKind, ...], entries: Mapping[_Literals, Entry]) -> _Shape:
    if _PartKind.AFFIX in kinds:
        return _affixed_shape(kinds, entries), entries
    if kinds[0] is not _PartKind.PACKAGE:
        return _reader(kinds), entries
    names_max = max(str(package).count(".") for package in entries) + 1
    return partial(_package, entries, names_max), entries


def _reader(kinds: tuple[_PartKind, ...]) -> _Read:
    """Return a function that reads the literals of a shape from the segments of a path."""
    literals = [position for position, kind in enumerate(kinds) if kind in _TEXTS]
    return itemgetter(*literals) if literals else _nothing


_Affixes: TypeAlias = tuple[tuple[int, Affix], ...]
"""The segments with variables and text of some templates, by position."""


def _affixed_shape(kinds: tuple[_PartKind, ...], entries: Mapping[_Literals, Entry]) -> _Read:
    texts = [position for position, kind in enumerate(kinds) if kind in _TEXTS]
    combinations: dict[tuple[tuple[int, str], ...], _Affixes] = {}
    for key, entry in entries.items():
        literals = zip(texts, (key,) if isinstance(key, str) else key, strict=True)
        found = tuple((position, text) for position, text in literals if kinds[position] is _PartKind.AFFIX)
        is_barred = entry.route is not None and entry.route.access is Access.BARRED
        combinations[found] = tuple((position, Affix(text, is_barred=is_barred)) for position, text in found)
    return partial(_affixed, entries, tuple(combinations.values()), _reader(kinds))


def _affixed(
    entries: Mapping[_Literals, Entry], combinations: tuple[_Affixes, ...], read: _Read, segments: tuple[str, ...]
) -> _Literals:
    """Read the literals of a path whose segments match all of some affixes, which stand for these segments."""
    for affixes in combinations:
        if all(affix.matches(segments[position]) for position, affix in affixes):
            parts = list(segments)
            for position, affix in affixes:
                parts[position] = affix.text
            literals = read(tuple(parts))
            if literals in entries:
                return literals
    return ""


def _nothing(_segments: tuple[str, ...]) -> _Literals:
    return ""


def _package(packages: Mapping[_Literals, Entry], names_max: int, segments: tuple[str, ...]) -> _Literals:
    """Find the longest indexed gRPC package of a service, of at most `names_max` names; return "" if there is none."""
    names = segments[0].split(".", names_max)
    parents = (".".join(names[:count]) for count in range(len(names) - 1, 0, -1))
    return next((parent for parent in parents if parent in packages), "")
