"""Reads which credentials an OpenAPI document demands: of an operation, and by which header.

An operation is free of them only by an empty list; what cannot be read counts as a demand.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from authz.adapters.api_files.references import Resolver, mapping, sequence
from authz.core.imports.operation import Security
from authz.core.policy.header_names import key_header_fault

_ALTERNATIVES_MAX = 50
_NAMES_MAX = 50
_NAME_CHARS_MAX = 200
_HEADER_CHARS_MAX = 64


def effective(root: Mapping[str, Any], operation: Mapping[str, Any]) -> tuple[Security, tuple[tuple[str, ...], ...]]:
    """Return what is in force for an operation: its own `security`, or else that of the document."""
    owner = operation if "security" in operation else root
    if "security" not in owner:
        return Security.UNDECLARED, ()
    value = owner["security"]
    if not isinstance(value, list) or not all(isinstance(it, dict) for it in value):
        return Security.UNREADABLE, ()
    if not value:
        return Security.NONE, ()
    needs = tuple(tuple(_names(it))[:_NAMES_MAX] for it in value[:_ALTERNATIVES_MAX])
    return (Security.OPTIONAL if () in needs else Security.REQUIRED), needs


def _names(requirement: Mapping[str, Any]) -> Iterator[str]:
    """Yield the scopes of a requirement, and the name of each scheme that has none."""
    for scheme, scopes in requirement.items():
        names = [it for it in sequence(scopes) if isinstance(it, str)]
        yield from (name[:_NAME_CHARS_MAX] for name in names or [scheme])


def key_header(root: Mapping[str, Any], resolver: Resolver) -> str:
    """Return the request header of API keys in lower case, or "" if there is none that a policy accepts."""
    for scheme in _schemes(root, resolver).values():
        name = scheme.get("name")
        if scheme.get("type") == "apiKey" and scheme.get("in") == "header" and isinstance(name, str):
            header = name.lower()
            plain = header.isascii() and header[:1].isalpha() and header.replace("-", "").isalnum()
            if plain and len(header) <= _HEADER_CHARS_MAX and key_header_fault(header) is None:
                return header
    return ""


def scope_descriptions(root: Mapping[str, Any], resolver: Resolver) -> dict[str, str]:
    """Return the descriptions of the scopes and the schemes, by name."""
    found: dict[str, str] = {}
    for name, scheme in _schemes(root, resolver).items():
        about = scheme.get("description")
        if isinstance(about, str):
            found.setdefault(name, about)
        flows = [scheme, *map(mapping, mapping(scheme.get("flows")).values())]
        for flow in flows:
            for scope, text in mapping(flow.get("scopes")).items():
                if isinstance(text, str):
                    found.setdefault(scope, text)
    return found


def _schemes(root: Mapping[str, Any], resolver: Resolver) -> dict[str, Mapping[str, Any]]:
    declared = root.get("securityDefinitions") or mapping(root.get("components")).get("securitySchemes")
    return {name: mapping(resolver.followed(it)) for name, it in mapping(declared).items()}
