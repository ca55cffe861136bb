"""Reads a JSON or YAML file of any origin into plain values, within bounds.

A validating OpenAPI parser takes minutes for the largest public descriptions and refuses those that deviate in details
which do not matter here, so this module reads values only, and `openapi.py` takes from them what rows are made of. Both
formats are refused where readers differ: a name that appears twice, an alias that contains itself.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from authz.core.errors import PolicyError, Problem

FILE_BYTES_MAX = 64 << 20
DEPTH_MAX = 150
NODES_MAX = 6_000_000

_HALF = re.compile(r"\\u[dD][89A-Fa-f]")
_MERGE = "<<"
_WORDS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NULLS = {"", "~", "null", "Null", "NULL"}
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_plain(path: Path) -> Any:  # noqa: ANN401 -- any document
    """Return the values of a file; raises `PolicyError` with the fault."""
    try:
        return parsed(read_bounded(path))
    except PolicyError as error:
        raise PolicyError(error.problems, str(path)) from None


def read_bounded(path: Path) -> bytes:
    """Return the bytes of a file of at most `FILE_BYTES_MAX`; raises `PolicyError`."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise _fault(f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    except ValueError as error:
        raise _fault(f"cannot be read: {error}") from None
    if len(data) > FILE_BYTES_MAX:
        raise _fault(f"has more than {FILE_BYTES_MAX >> 20} MiB")
    return data


def parsed(data: bytes) -> Any:  # noqa: ANN401 -- any document
    """Return the values of a document: JSON if it begins as an object does, else YAML; raises `PolicyError`."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _fault(f"not UTF-8: {error.reason} at byte {error.start}") from None
    if text.lstrip()[:1] == "{":
        try:
            return _json(text)
        except json.JSONDecodeError as error:
            fault = _fault(f"not JSON: {error.msg}", error.lineno, error.colno)
        # YAML has objects in braces, too.
        try:
            return _yaml(text)
        except PolicyError:
            raise fault from None
    return _yaml(text)


def _json(text: str) -> Any:  # noqa: ANN401 -- any document
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_int=str, parse_float=str)
    except RecursionError:
        raise _fault("nested too deeply") from None
    _check_depth(value)
    if _HALF.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise _fault("not UTF-8: half of a surrogate pair") from None
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object; a repeated name has two meanings."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in found if names.count(name) > 1)
        raise _fault(f"{repeated[:80]} appears twice in one object")
    return found


def _check_depth(value: Any) -> None:  # noqa: ANN401 -- any document
    level = [value]
    for _ in range(DEPTH_MAX):
        level = [inner for it in level for inner in _inner(it) if isinstance(inner, dict | list)]
        if not level:
            return
    raise _fault("nested too deeply")


def _inner(value: Any) -> Any:  # noqa: ANN401 -- any document
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _yaml(text: str) -> Any:  # noqa: ANN401 -- any document
    try:
        return _Composer(yaml.parse(text, Loader=_Loader)).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise _fault(f"not YAML: {error.problem}", *place) from None
    except (yaml.YAMLError, ValueError) as error:
        reason = getattr(error, "reason", "") or str(error)
        raise _fault(f"not YAML: {str(reason).splitlines()[0] if reason else 'unreadable'}") from None


class _Composer:
    """Builds values from YAML events. Aliases share their value, so that no document grows while it is read."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._anchors: dict[str, Any] = {}
        self._nodes = 0

    def document(self) -> Any:  # noqa: ANN401 -- any document
        """Return the first document's values."""
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                value = self._value(next(self._events), 0)
                next(self._events)
                if not isinstance(next(self._events), yaml.StreamEndEvent):
                    raise _fault("has more than one document")
                return value
        raise _fault("the file is empty")

    def _value(self, event: Any, depth: int) -> Any:  # noqa: ANN401 -- yaml.Event, any value
        self._nodes += 1
        if depth > DEPTH_MAX or self._nodes > NODES_MAX:
            raise _at(event, "nested too deeply" if depth > DEPTH_MAX else "too large")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise _at(event, f"the alias {event.anchor} names nothing that precedes it, or itself")
            return self._anchors[event.anchor]
        build: Callable[[Any, int], Any]
        if isinstance(event, yaml.MappingStartEvent):
            build = self._mapping
        elif isinstance(event, yaml.SequenceStartEvent):
            build = self._sequence
        else:
            build = _scalar
        self._anchors.pop(event.anchor, None)
        value = build(event, depth)
        if event.anchor:
            self._anchors[event.anchor] = value
        return value

    def _sequence(self, _event: Any, depth: int) -> list[Any]:  # noqa: ANN401 -- yaml.Event
        values = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            values.append(self._value(event, depth + 1))
        return values

    def _mapping(self, _event: Any, depth: int) -> dict[str, Any]:  # noqa: ANN401 -- yaml.Event
        values: dict[str, Any] = {}
        merged: list[Any] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            name = self._name(event, depth + 1)
            value = self._value(next(self._events), depth + 1)
            if name == _MERGE and isinstance(event, yaml.ScalarEvent) and event.implicit[0]:
                merged += value if isinstance(value, list) else [value]
                continue
            if name in values:
                raise _at(event, f"{name[:80]} appears twice")
            values[name] = value
        return self._with_merged(values, merged, event)

    def _name(self, event: Any, depth: int) -> str:  # noqa: ANN401 -- yaml.Event
        """Return a mapping's key as text: status codes are numbers, and 2.0 is a version."""
        if isinstance(event, yaml.ScalarEvent):
            self._value(event, depth)
            return str(event.value)
        value = self._value(event, depth) if isinstance(event, yaml.AliasEvent) else None
        if not isinstance(value, str):
            raise _at(event, "a name must be text")
        return value

    def _with_merged(self, values: dict[str, Any], merged: list[Any], event: Any) -> dict[str, Any]:  # noqa: ANN401 -- the same
        for other in merged:
            if not isinstance(other, dict):
                raise _at(event, "<< merges mappings only")
            self._nodes += len(other)
            if self._nodes > NODES_MAX:
                raise _at(event, "too large")
            for name, value in other.items():
                values.setdefault(name, value)
        return values


def _scalar(event: Any, _depth: int) -> Any:  # noqa: ANN401 -- yaml.Event; text, true, false or None
    """Return a scalar: numbers stay text, because no row is made of a number."""
    text: str = event.value
    if not event.implicit[0]:  # in quotes, or with a tag
        return text
    if text in _NULLS:
        return None
    return _WORDS.get(text, text)


def _at(event: Any, message: str) -> PolicyError:  # noqa: ANN401 -- yaml.Event
    return _fault(message, event.start_mark.line + 1, event.start_mark.column + 1)


def _fault(message: str, line: int = 1, column: int = 1) -> PolicyError:
    return PolicyError([Problem((), message, line, column)])
