"""Reads YAML or JSON as plain values, within bounds, and finds the lines of paths in it.

Aliases share values; their expanded size is bounded. What the values mean is `forms.py`.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from authz.core.envoy_rules.node import Path

TEXT_BYTES_MAX = 67_108_864
_DEPTH_MAX = 128
_VALUES_MAX = 6_000_000
_IGNORED = "!ignore"
_LINES_BYTES_MAX = 8_388_608

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(?:[0-9]{1,18}\.[0-9]{0,18}|\.[0-9]{1,18}|[0-9]{1,18}(?=[eE]))(?:[eE][-+]?[0-9]{1,2})?")
_NULL, _TRUE, _FALSE = {"", "~", "null", "Null", "NULL"}, {"true", "True", "TRUE"}, {"false", "False", "FALSE"}


class UnreadableConfig(Exception):  # noqa: N818 -- named for what it is
    """A text that is no configuration; the message says where and why."""


def parsed(text: str) -> Any:  # noqa: ANN401 -- any YAML
    """Return the value of a text in JSON or YAML; raises `UnreadableConfig`.

    Several YAML documents become a list of them.
    """
    if len(text) > TEXT_BYTES_MAX:
        raise UnreadableConfig(f"larger than {TEXT_BYTES_MAX >> 20} MiB")
    if text.lstrip()[:1] in {"{", "["}:
        try:
            return _bounded(json.loads(text, object_pairs_hook=_once))
        except RecursionError:
            raise UnreadableConfig("nested too deeply") from None
        except ValueError:
            pass  # a flow mapping of YAML
    documents = _Builder().documents(text)
    return documents[0] if len(documents) == 1 else documents


def lines(text: str, paths: Iterable[Path]) -> dict[Path, int]:
    """Find the lines at which values begin, at least those of the values around them; {} where there are none."""
    wanted = set(paths)
    if len(text) > _LINES_BYTES_MAX or not wanted:
        return {}
    prefixes = {path[:length] for path in wanted for length in range(len(path) + 1)}
    found: dict[Path, int] = {}
    try:
        for path, line in _located(text):
            if path in prefixes:
                found.setdefault(path, line)
    except yaml.YAMLError:
        return {}
    nearest = {path: next((path[:n] for n in range(len(path), -1, -1) if path[:n] in found), ()) for path in wanted}
    return {path: found[near] for path, near in nearest.items() if near in found}


@dataclass(slots=True)
class _Open:
    """A mapping or list under construction, with its anchor, its expanded size, and the key that waits for a value."""

    value: Any
    anchor: str | None
    size: int = 1
    key: str | None = None


@dataclass(slots=True)
class _Builder:
    """Builds values from the events of a parser, without recursion."""

    stack: list[_Open] = field(default_factory=list)
    anchors: dict[str, tuple[Any, int]] = field(default_factory=dict)
    total: int = 0

    def documents(self, text: str) -> list[Any]:
        """Return the documents of a text; raises `UnreadableConfig`."""
        found: list[Any] = []
        for event in _events(text):
            if isinstance(event, yaml.DocumentStartEvent):
                self.anchors.clear()
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self._open(event)
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                done = self.stack.pop()
                self._add(event, done.value, done.size, done.anchor, found)
            elif isinstance(event, yaml.ScalarEvent):
                self._add(event, _scalar(event), 1, event.anchor, found)
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor not in self.anchors:
                    raise _at(event, f"there is no anchor {event.anchor} before this")
                self._add(event, *self.anchors[event.anchor], None, found)
        if not found or found == [None]:
            raise UnreadableConfig("empty")
        return found

    def _open(self, event: yaml.CollectionStartEvent) -> None:
        if len(self.stack) >= _DEPTH_MAX:
            raise _at(event, "nested too deeply")
        value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        self.stack.append(_Open(value, event.anchor))

    def _add(self, event: yaml.Event, value: Any, size: int, anchor: str | None, found: list[Any]) -> None:  # noqa: ANN401 -- any YAML
        if anchor:
            self.anchors[anchor] = value, size
        if not self.stack:
            found.append(value)
            return
        parent = self.stack[-1]
        parent.size += size
        if parent.size > _VALUES_MAX:
            raise _at(event, f"more than {_VALUES_MAX:,} values")
        if isinstance(parent.value, list):
            parent.value.append(value)
        elif parent.key is None:
            parent.key = _key(event)
            if parent.key in parent.value:
                raise _at(event, f"{parent.key} appears twice")
        else:
            if parent.key != _IGNORED:
                parent.value[parent.key] = value
            parent.key = None


def _events(text: str) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UnreadableConfig(f"{where}neither JSON nor YAML: {error.problem}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UnreadableConfig(f"neither JSON nor YAML: {error}".splitlines()[0]) from None


def _located(text: str) -> Iterator[tuple[Path, int]]:
    """Iterate over the path of every value and the line of its key or, in a list, of itself."""
    stack: list[list[Any]] = []  # of each open collection: whether it is a mapping, and its key or index
    line = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            stack.pop()
            _advance(stack)
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        if stack and stack[-1][0] and stack[-1][1] is None:
            stack[-1][1], line = getattr(event, "value", ""), _mark(event)[0]
            if isinstance(event, yaml.CollectionStartEvent):
                return
            continue
        in_mapping = bool(stack) and stack[-1][0]
        yield tuple(step for _, step in stack), line if in_mapping else _mark(event)[0]
        if isinstance(event, yaml.CollectionStartEvent):
            is_mapping = isinstance(event, yaml.MappingStartEvent)
            stack.append([is_mapping, None if is_mapping else 0])
        else:
            _advance(stack)


def _advance(stack: list[list[Any]]) -> None:
    if stack:
        stack[-1][1] = None if stack[-1][0] else stack[-1][1] + 1


def _scalar(event: yaml.ScalarEvent) -> str | int | float | bool | None:
    text = event.value
    if not event.implicit[0] or event.style not in {None, ""}:
        return str(text)
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else str(text)


def _key(event: yaml.Event) -> str:
    if not isinstance(event, yaml.ScalarEvent):
        raise _at(event, "a name must be text")
    if event.tag == _IGNORED:  # Envoy's mark of a part that holds anchors only
        return _IGNORED
    if event.value == "<<" and event.implicit[0]:
        raise _at(event, "Envoy has no merge keys: resolve << first, for instance with yq 'explode(.)'")
    return str(event.value)


def _at(event: yaml.Event, message: str) -> UnreadableConfig:
    line, column = _mark(event)
    return UnreadableConfig(f"line {line}, column {column}: {message}")


def _mark(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise UnreadableConfig(f"{next(name for name in names if names.count(name) > 1)} appears twice")
    return found


def _bounded(value: Any) -> Any:  # noqa: ANN401 -- any JSON
    """Return a value of JSON that is neither too deep nor too large."""
    waiting, count = [(value, 0)], 0
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if depth > _DEPTH_MAX:
            raise UnreadableConfig("nested too deeply")
        if count > _VALUES_MAX:
            raise UnreadableConfig(f"more than {_VALUES_MAX:,} values")
        children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        waiting += [(child, depth + 1) for child in children]
    return value
