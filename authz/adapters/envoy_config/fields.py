"""Reads and writes fields of a mapping by their snake case name, in the spelling that the mapping has.

Envoy accepts a field in snake or camel case, but not in both.
"""

from typing import Any

from authz.adapters.envoy_config.document import UnreadableConfig
from authz.core.envoy_rules.node import Node


def spelled(mapping: Any, name: str) -> Any:  # noqa: ANN401 -- any YAML
    """Return a field, or None."""
    return Node(mapping)[name].value


def put(mapping: Any, name: str, value: Any) -> None:  # noqa: ANN401 -- any YAML
    """Set a field; one that has the value already keeps its comments."""
    if (spelling := _spelling(mapping, name)) not in mapping or mapping[spelling] != value:
        mapping[spelling] = value


def put_missing(mapping: Any, name: str, value: Any) -> Any:  # noqa: ANN401 -- any YAML
    """Set a field that is missing or of another kind than a mapping or list that is needed; returns what is there."""
    current = spelled(mapping, name)
    if current is None or (isinstance(value, dict | list) and not isinstance(current, type(value))):
        put(mapping, name, value)
        return value
    return current


def removed(mapping: Any, name: str) -> None:  # noqa: ANN401 -- any YAML
    """Remove a field if it is there."""
    mapping.pop(_spelling(mapping, name), None)


def _spelling(mapping: Any, name: str) -> Any:  # noqa: ANN401 -- any YAML
    """Return the name as the mapping has it; the given one where it is missing. Raises `UnreadableConfig`."""
    if not isinstance(mapping, dict):
        raise UnreadableConfig(f"there should be a mapping with {name}")
    return Node(mapping)[name].path[-1] if name not in mapping and spelled(mapping, name) is not None else name
