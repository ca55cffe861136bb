"""Takes the operations out of a protobuf FileDescriptorSet: each gRPC method, and each HTTP binding of it.

A descriptor says nothing about credentials, so no operation of one is public. Source of the bindings:
https://github.com/googleapis/googleapis/blob/master/google/api/http.proto.
"""

from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto
from google.protobuf.message import DecodeError

from authz._pb.http_rule_pb2 import HttpRule, MethodBindings
from authz.adapters.api_files.openapi import OPERATIONS_MAX, PATH_CHARS_MAX
from authz.adapters.api_files.plain import read_bounded
from authz.core.errors import PolicyError, Problem
from authz.core.imports.operation import READ_METHODS, Description, Operation
from authz.core.policy.template import ANY_DEPTH, Template, TemplateError, is_grpc

_READING = ("Get", "List", "Watch", "Search", "BatchGet", "Query", "Read", "Count", "Lookup")
_BINDINGS_MAX = 100


def read_descriptors(path: Path) -> Description:
    """Read a file; raises `PolicyError` with the fault."""
    try:
        return described(read_bounded(path))
    except PolicyError as error:
        raise PolicyError(error.problems, str(path)) from None


def described(data: bytes) -> Description:
    """Return the API that a FileDescriptorSet describes; raises `PolicyError` if it is none."""
    try:
        found = FileDescriptorSet.FromString(data)
    except DecodeError:
        raise _fault("no FileDescriptorSet") from None
    operations: list[Operation] = []
    doubts: list[str] = []
    packages = []
    for file in found.file:
        for service in file.service:
            packages.append(file.package)
            name = f"{file.package}.{service.name}" if file.package else service.name
            if not file.package:
                doubts.append(f"the service {name} has no package, and rows of gRPC need one")
            for operation in _of_service(name, service):
                operations.append(operation)
                if len(operations) > OPERATIONS_MAX:
                    raise _fault(f"has more than {OPERATIONS_MAX} operations")
    return Description(title=packages[0] if packages else "", operations=tuple(operations), doubts=tuple(doubts))


def _of_service(name: str, service: ServiceDescriptorProto) -> Iterator[Operation]:
    for method in service.method:
        try:
            rule = MethodBindings.FromString(method.options.SerializeToString()).http
        except DecodeError:
            rule = HttpRule()
        bindings = list(_bindings(rule))
        writes = not (method.name.startswith(_READING) or (bindings and bindings[0][0] in READ_METHODS))
        path = f"/{name}/{method.name}"
        doubts = () if is_grpc(path) else ("no package",)
        yield _operation("POST", path, name, method, (writes, doubts))
        for verb, template in bindings:
            written, more = _fitted(template)
            yield _operation(verb, written, name, method, (verb not in READ_METHODS, more))


def _operation(
    method: str, path: str, service: str, described_by: MethodDescriptorProto, facts: tuple[bool, tuple[str, ...]]
) -> Operation:
    writes, doubts = facts
    return Operation(
        method=method,
        path=path[:PATH_CHARS_MAX],
        tags=(service.rpartition(".")[2],),
        parameters=_parameters(path),
        is_deprecated=described_by.options.deprecated,
        streams=described_by.server_streaming,
        writes=writes,
        doubts=doubts,
        is_template=True,
    )


def _parameters(path: str) -> tuple[tuple[str, str], ...]:
    try:
        return tuple(("path", name) for name in Template.parse(path).names)
    except TemplateError:
        return ()


def _bindings(rule: HttpRule) -> Iterator[tuple[str, str]]:
    """Yield the methods and templates of a rule and of its additional bindings, which have none of their own."""
    for it in (rule, *rule.additional_bindings[:_BINDINGS_MAX]):
        kind = it.WhichOneof("pattern")
        if kind == "custom":
            yield it.custom.kind.upper(), it.custom.path
        elif kind is not None:
            yield kind.upper(), getattr(it, kind)


def _fitted(template: str) -> tuple[str, tuple[str, ...]]:
    """Return a template that a policy accepts; one with `**` before its end takes everything that follows."""
    try:
        Template.parse(template)
    except TemplateError:
        beginning, found, rest = template.partition(ANY_DEPTH)
        if found and rest not in {"", "}"}:
            wide = beginning + ANY_DEPTH + ("}" if beginning.count("{") > beginning.count("}") else "")
            return wide, (f"widened: {template} has ** before its end, and so this row takes everything that follows",)
    return template, ()


def _fault(message: str) -> PolicyError:
    return PolicyError([Problem((), message, 1, 1)])
