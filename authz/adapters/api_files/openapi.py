"""Takes the operations out of OpenAPI 2, 3.0 and 3.1 documents: paths, security, tags, and what else rows are made of.

A part that cannot be read never makes an operation less protected: it becomes a doubt. References into the same
document are followed; others are doubts. `plain.py` reads the file.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from authz.adapters.api_files.plain import read_plain
from authz.adapters.api_files.references import Resolver, mapping, sequence
from authz.adapters.api_files.security import effective, key_header, scope_descriptions
from authz.adapters.api_files.servers import Bases, bases_of, without_slash
from authz.core.errors import PolicyError, Problem
from authz.core.imports.operation import Description, Operation, Security, Wish

OPERATIONS_MAX = 20_000
PATH_CHARS_MAX = 2_000
_PARAMETERS_MAX = 500
_TAGS_MAX = 20
_TEXT_CHARS_MAX = 200
_METHODS = ("get", "head", "post", "put", "patch", "delete", "options", "trace", "query")
_VERSION = re.compile(r"3\.[01](\.[0-9]+)?(-[A-Za-z0-9.]+)?")
_EVENTS = "text/event-stream"


def read_openapi(path: Path, base_path: str | None = None) -> Description:
    """Read a file; `base_path` replaces those of the document. Raises `PolicyError` with the fault."""
    document = read_plain(path)
    try:
        return described(document, base_path)
    except PolicyError as error:
        raise PolicyError(error.problems, str(path)) from None


def described(document: Any, base_path: str | None = None) -> Description:  # noqa: ANN401 -- any document
    """Return the API that a document describes; raises `PolicyError` if it is no OpenAPI document."""
    root = mapping(document)
    if not isinstance(document, dict) or not {"swagger", "openapi"} & root.keys():
        raise _fault("no OpenAPI document: it has neither openapi nor swagger")
    version = root.get("openapi", root.get("swagger"))
    if not (version == "2.0" if "openapi" not in root else isinstance(version, str) and _VERSION.fullmatch(version)):
        raise _fault(f"the version {str(version)[:20]} is not 2.0, 3.0 or 3.1")
    reader = _Reader(root, base_path, is_2="openapi" not in root)
    operations = tuple(reader.operations())
    info = mapping(root.get("info"))
    title = info.get("title")
    return Description(
        title=title[:_TEXT_CHARS_MAX] if isinstance(title, str) else "",
        operations=operations,
        host=reader.host,
        header=key_header(root, reader.resolver),
        tags=dict(_tags(root)),
        scopes=scope_descriptions(root, reader.resolver),
        doubts=tuple(dict.fromkeys(reader.doubts)),
    )


class _Reader:
    """Reads the operations of one document, and collects the doubts about the whole of it."""

    def __init__(self, root: Mapping[str, Any], base_path: str | None, *, is_2: bool) -> None:
        self.doubts: list[str] = []
        self.resolver = Resolver(root)
        self._root, self._is_2 = root, is_2
        self._fixed = None if base_path is None else without_slash(base_path)
        self._produces = sequence(root.get("produces"))
        self._bases = self._of_root()
        self.host = next(iter(self._bases.hosts), "")

    def operations(self) -> Iterator[Operation]:
        """Yield each operation in the order of the document; raises `PolicyError` above `OPERATIONS_MAX`."""
        paths = self._root.get("paths")
        if paths is not None and not isinstance(paths, dict):
            raise _fault("paths is not a mapping")
        count = 0
        for path, value in (paths or {}).items():
            if path.startswith("x-"):
                continue
            if len(path) > PATH_CHARS_MAX:
                raise _fault(f"a path has more than {PATH_CHARS_MAX} characters")
            for operation in self._of_path(path, value):
                count += 1
                if count > OPERATIONS_MAX:
                    raise _fault(f"has more than {OPERATIONS_MAX} operations")
                yield operation
        if self._root.get("webhooks") or self._root.get("x-webhooks"):
            self.doubts.append("webhooks are requests that the API sends, so they have no rows")

    def _of_path(self, path: str, value: Any) -> Iterator[Operation]:  # noqa: ANN401 -- any part of a document
        item = self.resolver.followed(value)
        if not isinstance(item, dict):
            self.doubts.append(f"the path {path} cannot be read, so it has no rows")
            return
        if isinstance(value, dict) and "$ref" in value:
            item = {**item, **{name: it for name, it in value.items() if name != "$ref"}}
        for method in _METHODS:
            if method in item:
                yield from self._operations(method, path, item)
        for method in mapping(item.get("additionalOperations")):
            self.doubts.append(f"the method {method} of {path} is none of HTTP's common ones, so it has no row")

    def _operations(self, method: str, path: str, item: Mapping[str, Any]) -> Iterator[Operation]:
        """Yield an operation of a path, once for each of its base paths."""
        value = self.resolver.followed(item[method])
        fields = mapping(value)
        bases = self._nearest(item, fields)
        security, needs = effective(self._root, fields)
        written = Operation(
            method=method.upper(),
            path=path,
            security=security if isinstance(value, dict) else Security.UNREADABLE,
            needs=needs,
            tags=tuple(it for it in sequence(fields.get("tags"))[:_TAGS_MAX] if isinstance(it, str)),
            parameters=tuple(self._parameters(item, fields)),
            is_deprecated=fields.get("deprecated") is True,
            streams=self._streams(fields),
            wish=_wish(fields.get("x-authz")),
            doubts=(*(() if isinstance(value, dict) else ("the operation cannot be read",)), *bases.doubts),
        )
        for base in bases.paths:
            whole = f"{base}{path if path.startswith('/') or not base else '/' + path}"
            yield replace(written, path=whole, base=base)

    def _nearest(self, item: Mapping[str, Any], fields: Mapping[str, Any]) -> Bases:
        """Return the bases of an operation: of its own servers, of those of its path, or of the document's."""
        found = None if self._is_2 else bases_of(fields) or bases_of(item)
        if found is None:
            return replace(self._bases, doubts=())
        foreign = tuple(f"another host in the description: {it}" for it in found.hosts if it not in self._bases.hosts)
        if self._fixed is not None:
            return Bases((self._fixed,), doubts=foreign)
        return replace(found, doubts=(*foreign, *found.doubts))

    def _of_root(self) -> Bases:
        """Return the bases of the document, and collect the doubts about them."""
        if self._is_2:
            base, host = self._root.get("basePath"), self._root.get("host")
            hosts = (host,) if isinstance(host, str) and host else ()
            found = Bases((without_slash(base) if isinstance(base, str) else "",), hosts)
        else:
            found = bases_of(self._root) or Bases()
        if self._fixed is not None:
            return Bases((self._fixed,), found.hosts)
        self.doubts += found.doubts
        return found

    def _parameters(self, item: Mapping[str, Any], fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        declared = (*sequence(item.get("parameters")), *sequence(fields.get("parameters")))
        for value in declared[:_PARAMETERS_MAX]:
            parameter = mapping(self.resolver.followed(value))
            location, name = parameter.get("in"), parameter.get("name")
            if location in {"path", "query"} and isinstance(name, str):
                yield str(location), name
            if location == "body":
                yield from self._members(parameter.get("schema"))
        body = mapping(self.resolver.followed(fields.get("requestBody")))
        content = mapping(mapping(body.get("content")).get("application/json"))
        yield from self._members(content.get("schema"))

    def _members(self, schema: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 -- any part of a document
        properties = mapping(mapping(self.resolver.followed(schema)).get("properties"))
        for name, _ in zip(properties, range(_PARAMETERS_MAX), strict=False):
            yield "body", name

    def _streams(self, fields: Mapping[str, Any]) -> bool:
        produces = sequence(fields.get("produces")) if "produces" in fields else self._produces
        if self._is_2:
            return any(_is_events(it) for it in produces)
        responses = mapping(fields.get("responses"))
        return any(
            _is_events(media)
            for value in responses.values()
            for media in mapping(mapping(self.resolver.followed(value)).get("content"))
        )


def _is_events(media: object) -> bool:
    return isinstance(media, str) and media.lower().startswith(_EVENTS)


def _wish(value: Any) -> Wish | None:  # noqa: ANN401 -- any part of a document
    if isinstance(value, str) and value:
        return Wish(scope=value[:_TEXT_CHARS_MAX])
    if not isinstance(value, dict):
        return None

    def text(name: str) -> str:
        found = value.get(name)
        return found[:_TEXT_CHARS_MAX] if isinstance(found, str) else ""

    return Wish(scope=text("scope"), access=text("access"))


def _tags(root: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for value in sequence(root.get("tags")):
        tag = mapping(value)
        name, about = tag.get("name"), tag.get("description")
        if isinstance(name, str) and isinstance(about, str):
            yield name, about[: 2 * _TEXT_CHARS_MAX]


def _fault(message: str) -> PolicyError:
    return PolicyError([Problem((), message, 1, 1)])
