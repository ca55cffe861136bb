"""Every kind of path that a set of templates can tell apart, with one example of each.

Two paths are of a kind when each template matches both or neither, whichever way the router reads them. So whatever is
true of the examples is true of all paths, percent-encoded spellings aside. What rows say to a path is `router.py`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from authz.core.policy.template import ANY_DEPTH, ONE, Template


@dataclass(frozen=True, slots=True)
class PathKind:
    """A path of this kind, and the same as people read it: `*` for what no template names."""

    sample: str
    shown: str


@dataclass(slots=True, eq=False)
class _Node:
    """A step in the templates; one that `stays` takes every further segment."""

    literals: "dict[str, _Node]" = field(default_factory=dict)
    one: "_Node | None" = None
    rest: "_Node | None" = None
    packages: "dict[str, _Node]" = field(default_factory=dict)
    verbs: set[str] = field(default_factory=set)
    stays: bool = False


_State = frozenset[_Node]
"""Where a path may stand in the templates, all at once."""


def path_kinds(templates: Iterable[Template]) -> Iterator[PathKind]:
    """Find every kind, shorter paths first. Their number grows with the templates' and not with their products."""
    return _Kinds(templates).all()


class _Kinds:
    def __init__(self, templates: Iterable[Template]) -> None:
        self._root = _Node()
        words: set[str] = set()
        for template in templates:
            words |= {*template.parts, template.verb}
            self._grow(template)
        self._other = _unlike("x", words)

    def _grow(self, template: Template) -> None:
        node = self._root
        for part in template.parts:
            if part == ANY_DEPTH:
                node.rest = node = node.rest or _Node(stays=True)
            elif part == ONE:
                node.one = node = node.one or _Node()
            elif part.endswith(f".{ANY_DEPTH}"):
                node = node.packages.setdefault(part.removesuffix(f".{ANY_DEPTH}"), _Node(stays=True))
            else:
                node = node.literals.setdefault(part, _Node())
        node.verbs.add(template.verb)

    def all(self) -> Iterator[PathKind]:
        start = _closed({self._root})
        met, ahead = {start}, [(start, PathKind("", ""))]
        for state, so_far in ahead:  # grows while it is walked through
            yield from self._ends(_stepped(state, ""), PathKind(f"{so_far.sample}/", f"{so_far.shown}/"))
            for segment, shown in self._segments(state):
                following = _stepped(state, segment)
                path = PathKind(f"{so_far.sample}/{segment}", f"{so_far.shown}/{shown}")
                # A colon that begins no verb makes another segment of the last one, which hangs on where it came from:
                # ends are told apart by step, not by where it leads.
                yield from self._ends(following, path)
                if following not in met:
                    met.add(following)
                    ahead.append((following, path))

    def _segments(self, state: _State) -> Iterator[tuple[str, str]]:
        """Yield each segment that leads elsewhere than others, as it is and as it is shown."""
        for literal in sorted({literal for node in state for literal in node.literals}):
            yield literal, literal
        for package in sorted({package for node in state for package in node.packages}):
            yield f"{package}.{self._other}", f"{package}.*"
        if state:
            yield self._other, "*"

    def _ends(self, state: _State, path: PathKind) -> Iterator[PathKind]:
        yield path
        for verb in sorted({verb for node in state for verb in node.verbs if verb}):
            yield PathKind(f"{path.sample}:{verb}", f"{path.shown}:{verb}")
        yield PathKind(f"{path.sample}:{self._other}", f"{path.shown}:*")


def _stepped(state: _State, segment: str) -> _State:
    following: set[_Node] = set()
    for node in state:
        if node.stays:
            following.add(node)
        if segment and node.one is not None:
            following.add(node.one)
        if segment in node.literals:
            following.add(node.literals[segment])
        following |= {inner for package, inner in node.packages.items() if segment.startswith(f"{package}.")}
    return _closed(following)


def _closed(nodes: set[_Node]) -> _State:
    """Add what a path stands at without a further segment: `**` takes none, too."""
    return frozenset(nodes | {node.rest for node in nodes if node.rest is not None})


def _unlike(word: str, words: set[str]) -> str:
    while word in words:
        word += "x"
    return word
