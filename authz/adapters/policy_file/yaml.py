"""Reads a YAML file as the model of its shape, strictly, or says what is wrong with it, with line and column.

What the fields are is the model's; what they mean together is for whoever builds something of them.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from authz.core.errors import PolicyError, Problem

# What pydantic finds, in our words; anything else keeps its own.
_WORDS = {
    "missing": "{name} is missing",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "too_short": "must not be empty",
    "too_long": "must have at most {max_length} entries",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:,}",
    "less_than_equal": "must be at most {le:,}",
    "string_pattern_mismatch": "must match {pattern}",
    "value_error": "{error}",
}

# YAML 1.1 also reads 0120 as 80, 1:30 as 90, and knows infinity; people do not.
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_DEPTH_MAX = 64

Node = yaml.Node
Model = TypeVar("Model", bound=BaseModel)
T = TypeVar("T")


def load(path: Path, model: type[Model], build: Callable[[Model], T], names: Iterable[str]) -> T:
    """Read a file and build of it; raises `PolicyError` with every fault of the first kind that it meets.

    The kinds, in order: the file cannot be read, it is not plain YAML, its shape is wrong, `build` finds fault with it.
    `names` are the fields there are, to suggest one for a misspelt other.
    """
    try:
        return _built(path, model, build, names)
    except PolicyError as error:
        raise PolicyError(error.problems, str(path)) from None


def lines(path: Path, places: Iterable[tuple[str | int, ...]]) -> list[int]:
    """Find the lines at which places in a file begin; raises `PolicyError` as `load` does."""
    root = _composed(_text(path))
    return [_located(root, Problem(place, "")).line for place in places]


def read(text: str, model: type[Model], names: Iterable[str]) -> tuple[Node, Model]:
    """Parse a text as a model; raises `PolicyError` with every fault of its shape, located."""
    root = _composed(text)
    try:
        return root, model.model_validate(_plain(root, set()))
    except ValidationError as error:
        problems = [_translated(fault, names) for fault in error.errors(include_url=False)]
    raise PolicyError(located(root, problems))


def located(root: Node, problems: Iterable[Problem]) -> list[Problem]:
    """Find the line and column of each problem, and sort them by these."""
    return sorted((_located(root, problem) for problem in problems), key=lambda it: (it.line, it.column))


def text_of(path: Path, bytes_max: int) -> str:
    """Read a file; raises `OSError`, and `PolicyError` for one that is too long or no text."""
    with path.open("rb") as file:
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise PolicyError(
            [Problem((), f"the files of a policy have too many bytes: {bytes_max:,} are left for this one", 1, 1)]
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise PolicyError([Problem((), f"cannot be read: {error}")]) from None


def _built(path: Path, model: type[Model], build: Callable[[Model], T], names: Iterable[str]) -> T:
    root, content = read(_text(path), model, names)
    try:
        return build(content)
    except PolicyError as error:
        raise PolicyError(located(root, error.problems)) from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise PolicyError([Problem((), f"cannot be read: {(error.strerror or str(error)).lower()}")]) from None
    except UnicodeDecodeError as error:
        raise PolicyError([Problem((), f"cannot be read: {error}")]) from None


def rendered(error: PolicyError) -> str:
    """Write each fault on a line of its own, `FILE:LINE:COLUMN: message`, as compilers do."""
    return "\n".join(
        f"{problem.file or error.file}:{problem.line}:{problem.column}: {problem.message}" for problem in error.problems
    )


class _Loader(yaml.SafeLoader):
    """A loader that stops at a depth no policy needs, long before the limit of Python's stack."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401 -- any YAML value
        """Compose one node; raises `PolicyError` where it is nested too deeply."""
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise PolicyError([Problem((), "nested too deeply", mark.line + 1, mark.column + 1)])
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _composed(text: str) -> yaml.Node:
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise PolicyError([Problem((), f"not YAML: {error.problem}", line, column)]) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise PolicyError([Problem((), f"not YAML: {error.reason}", line, column)]) from None
    if root is None:
        raise PolicyError([Problem((), "the file is empty", 1, 1)])
    return root


def _plain(node: yaml.Node, seen: set[int]) -> Any:  # noqa: ANN401 -- any YAML value
    """Turn nodes into plain values. One meaning a document: no aliases, no repeated keys, no tags."""
    if id(node) in seen:
        raise _at(node, "aliases are not allowed")
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, seen) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, seen)
    try:
        value = yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError):
        raise _at(node, f"{node.tag} is not a plain value") from None
    if isinstance(value, int | float) and not isinstance(value, bool) and not _NUMBER.fullmatch(node.value):
        raise _at(node, f"{node.value!r} is not a plain number")
    if value is None or isinstance(value, str | int | float):
        return value
    raise _at(node, f"{node.tag.rpartition(':')[2]} is not a plain value; write it in quotes")


def _mapping(node: yaml.MappingNode, seen: set[int]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = _plain(key_node, seen)
        if not isinstance(key, str):
            raise _at(key_node, "a name must be text")
        if key in values:
            raise _at(key_node, f"{key} appears twice")
        values[key] = _plain(value_node, seen)
    return values


def _at(node: yaml.Node, message: str) -> PolicyError:
    return PolicyError([Problem((), message, node.start_mark.line + 1, node.start_mark.column + 1)])


def _translated(fault: Any, names: Iterable[str]) -> Problem:  # noqa: ANN401 -- pydantic's ErrorDetails, whose ctx is untyped
    where: tuple[str | int, ...] = tuple(part for part in fault["loc"] if part != "[key]")
    name = next((part for part in reversed(where) if isinstance(part, str)), "")
    if fault["type"] == "extra_forbidden":
        close = get_close_matches(name, names, 1)
        return Problem(where, f"unknown field {name}" + (f"; did you mean {close[0]}?" if close else ""))
    is_list = fault["type"] == "too_short" and fault["ctx"]["min_length"] > 1
    words = "must have at least {min_length} entries" if is_list else _WORDS.get(fault["type"])
    message = words.format(name=name, **fault.get("ctx", {})) if words else fault["msg"]
    return Problem(where, f"{name} {message}".strip() if message.startswith("must") else message)


def _located(root: yaml.Node, problem: Problem) -> Problem:
    """Find the deepest node on the way to a problem; a name's own place where it is the name that is wrong."""
    if problem.line:
        return problem
    node = mark_node = root
    for step in problem.where:
        if isinstance(node, yaml.MappingNode):
            pair = next(((key, value) for key, value in node.value if key.value == step), None)
            if pair is None:
                break
            mark_node, node = pair
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            mark_node = node = node.value[step]
        else:  # a lone value that stands for a list of one
            mark_node = node
            break
    mark = mark_node.start_mark
    return replace(problem, line=mark.line + 1, column=mark.column + 1)
