"""The equivalence classes of paths under a set of templates, with one sample of each.

Two paths are in one class if each template matches both or neither, in every way that the router reads them. So what is
true of the samples is true of all paths, except for percent-encoded spellings. `router.py` finds the row of a path.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from authz.core.policy.affixes import Affix
from authz.core.policy.path import DOTS
from authz.core.policy.template import ANY_DEPTH, HOLE, ONE, Template

_FILLERS = "xyzwvutsrqponmlkjihgfedcbaXYZ0123456789_-~"


@dataclass(frozen=True, slots=True)
class PathClass:
    """A sample path of the class, and its form for people: `*` for a segment that no template names."""

    sample: str
    shown: str


@dataclass(slots=True, eq=False)
class _Node:
    """A trie node; one that `stays` accepts every further segment."""

    literals: "dict[str, _Node]" = field(default_factory=dict)
    one: "_Node | None" = None
    rest: "_Node | None" = None
    packages: "dict[str, _Node]" = field(default_factory=dict)
    affixes: "dict[tuple[str, bool], tuple[Affix, _Node]]" = field(default_factory=dict)
    verbs: set[str] = field(default_factory=set)
    stays: bool = False


_State = frozenset[_Node]
"""All nodes that a path may be at."""


def path_classes(templates: Iterable[Template], barred: Iterable[Template] = ()) -> Iterator[PathClass]:
    """Find every class, shorter paths first. Their number grows with the number of templates, not with its products.

    Except for segments with variables and text: each pair of them that some segment matches has a sample. `barred` are
    further templates, whose variables in such segments may be empty.
    """
    return _Classes(list(templates), list(barred)).all()


class _Classes:
    def __init__(self, templates: list[Template], barred: list[Template]) -> None:
        self._root = _Node()
        words = {word for template in (*templates, *barred) for word in (*template.parts, template.verb)}
        self._other = _unlike("x", words)
        # No text of a template contains it, so a sample matches no more than it has to.
        texts = "".join(word.replace(HOLE, "") for word in words if HOLE in word)
        self._filler = next((char for char in _FILLERS if char not in texts), self._other)
        for template in templates:
            self._grow(template, is_barred=False)
        for template in barred:
            self._grow(template, is_barred=True)

    def _grow(self, template: Template, *, is_barred: bool) -> None:
        node = self._root
        for part in template.parts:
            if part == ANY_DEPTH:
                node.rest = node = node.rest or _Node(stays=True)
            elif part == ONE:
                node.one = node = node.one or _Node()
            elif part.endswith(f".{ANY_DEPTH}"):
                node = node.packages.setdefault(part.removesuffix(f".{ANY_DEPTH}"), _Node(stays=True))
            elif HOLE in part:
                affix = Affix(part, is_barred=is_barred)
                _, node = node.affixes.setdefault((part, is_barred), (affix, _Node()))
            else:
                node = node.literals.setdefault(part, _Node())
        node.verbs.add(template.verb)

    def all(self) -> Iterator[PathClass]:
        start = _closed({self._root})
        visited, ahead = {start}, [(start, PathClass("", ""))]
        for state, so_far in ahead:  # grows during the iteration
            yield from self._ends(_stepped(state, ""), PathClass(f"{so_far.sample}/", f"{so_far.shown}/"))
            for segment, shown in self._segments(state):
                following = _stepped(state, segment)
                path = PathClass(f"{so_far.sample}/{segment}", f"{so_far.shown}/{shown}")
                # A colon that begins no verb changes the last segment, and its effect depends on the state before it.
                # So ends are computed for each step, not for each state.
                yield from self._ends(following, path)
                if following not in visited:
                    visited.add(following)
                    ahead.append((following, path))

    def _segments(self, state: _State) -> Iterator[tuple[str, str]]:
        """Yield each segment that leads to a state of its own, in its real and its displayed form."""
        for literal in sorted({literal for node in state for literal in node.literals if literal}):
            yield literal, literal
        for segment in self._affixed(state):
            yield segment, segment
        for package in sorted({package for node in state for package in node.packages}):
            yield f"{package}.{self._other}", f"{package}.*"
        if state:
            yield self._other, "*"

    def _affixed(self, state: _State) -> list[str]:
        """Return a segment for each part with variables and text, with empty variables too, and for each two parts."""
        found = {affix.text: affix for node in state for affix, _ in node.affixes.values()}
        affixes = [found[text] for text in sorted(found)]
        samples: dict[str, None] = {}
        for number, affix in enumerate(affixes):
            holes = affix.text.count(HOLE)
            for empty in range(2**holes):
                sample = affix.text
                for hole in range(holes):
                    sample = sample.replace(HOLE, "" if empty >> hole & 1 else self._filler, 1)
                samples[sample] = None
            for other in affixes[number + 1 :]:
                if affix.overlaps(other):
                    samples[affix.common(other, self._filler)] = None
        return [sample for sample in samples if sample not in DOTS]

    def _ends(self, state: _State, path: PathClass) -> Iterator[PathClass]:
        yield path
        for verb in sorted({verb for node in state for verb in node.verbs if verb}):
            yield PathClass(f"{path.sample}:{verb}", f"{path.shown}:{verb}")
        yield PathClass(f"{path.sample}:{self._other}", f"{path.shown}:*")


def _stepped(state: _State, segment: str) -> _State:
    following: set[_Node] = set()
    for node in state:
        if node.stays:
            following.add(node)
        if segment and node.one is not None:
            following.add(node.one)
        if segment in node.literals:
            following.add(node.literals[segment])
        following |= {inner for affix, inner in node.affixes.values() if affix.matches(segment)}
        following |= {inner for package, inner in node.packages.items() if segment.startswith(f"{package}.")}
    return _closed(following)


def _closed(nodes: set[_Node]) -> _State:
    """Add the nodes that need no further segment, because `**` matches none, too."""
    return frozenset(nodes | {node.rest for node in nodes if node.rest is not None})


def _unlike(word: str, words: set[str]) -> str:
    while word in words:
        word += "x"
    return word
