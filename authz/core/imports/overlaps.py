"""An index of templates that finds those which match some request that another one matches, too.

`router.py` finds the one row that decides; this module finds every row that could.
"""

from collections.abc import Iterable, Iterator

from authz.core.errors import PolicyError, Problem
from authz.core.policy.template import ANY_DEPTH, ONE

_Shape = tuple[tuple[str, ...], str]
_ANY_METHOD = "*"
_STEPS_MAX = 2_000_000
"""The work of all searches in one index; many times what the largest public descriptions need."""


class _Node:
    """A position in the tree of parts: the next parts, and the templates that end here by method and verb."""

    __slots__ = ("ends", "next")

    def __init__(self) -> None:
        self.next: dict[str, _Node] = {}
        self.ends: list[tuple[str, str, str]] = []


class Overlaps:
    """The index. `rows` are methods, shapes and the templates that are returned.

    Searches raise `PolicyError` when they have taken `_STEPS_MAX` steps together.
    """

    def __init__(self, rows: Iterable[tuple[str, _Shape, str]]) -> None:
        self._root = _Node()
        self._steps = 0
        for method, (parts, verb), template in rows:
            node = self._root
            for part in parts:
                node = node.next.setdefault(part, _Node())
            node.ends.append((method, verb, template))

    def of(self, method: str, sought: _Shape) -> Iterator[str]:
        """Yield the templates whose rows share a request with a row; the row itself is one of them.

        A row for GET answers HEAD as well, so it shares requests with rows for HEAD.
        """
        parts, verb = sought
        methods = {method, _ANY_METHOD} | ({"HEAD"} if method == "GET" else set())
        # A custom verb is part of the last segment, so a variable without one does not match it; `**` does.
        for node, is_rest in self._reached(parts):
            for other_method, other_verb, template in node.ends:
                verbs_meet = verb == other_verb or is_rest
                if verbs_meet and (method == _ANY_METHOD or other_method in methods):
                    yield template

    def _reached(self, parts: tuple[str, ...]) -> Iterator[tuple[_Node, bool]]:
        """Yield each end that the parts can lead to, and whether a `**` of either side is involved."""
        waiting: list[tuple[_Node, int]] = [(self._root, 0)]
        while waiting:
            node, position = waiting.pop()
            self._step()
            rest = node.next.get(ANY_DEPTH)
            if rest is not None:
                yield rest, True
            if position == len(parts):
                yield node, False
                continue
            part = parts[position]
            if part == ANY_DEPTH:
                for below in _below(node):
                    self._step()
                    if below is not rest:
                        yield below, True
            elif part == ONE:
                waiting += [(below, position + 1) for name, below in node.next.items() if name != ANY_DEPTH]
            else:
                waiting += [(node.next[name], position + 1) for name in (part, ONE) if name in node.next]

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _STEPS_MAX:
            raise PolicyError([Problem((), "has too many rows with variables to compare them", 1, 1)])


def _below(node: _Node) -> Iterator[_Node]:
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += node.next.values()
