"""The names of the fields of log lines: our own, those of the Elastic Common Schema, or those of OpenTelemetry.

The sources are https://www.elastic.co/docs/reference/ecs, and https://opentelemetry.io/docs/specs/otel/logs/data-model/
with its semantic conventions. Only names and the shape of a line change; its writer decides which fields it has.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, TypeAlias

Rename: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]
"""Returns the fields of a line under other names."""

_ECS_VERSION: Final = "8.11.0"
_ECS: Final = {
    "timestamp": "@timestamp",
    "level": "log.level",
    "logger": "log.logger",
    "event": "message",
    "request_id": "http.request.id",
    "method": "http.request.method",
    "source_address": "source.address",
    "account_id": "user.id",
    "reason": "event.reason",
    "trace_id": "trace.id",
    "span_id": "span.id",
    "error": "error.message",
    "exception": "error.stack_trace",
}
_OTEL: Final = {
    "timestamp": "Timestamp",
    "level": "SeverityText",
    "event": "Body",
    "trace_id": "TraceId",
    "span_id": "SpanId",
}
_OTEL_ATTRIBUTES: Final = {
    "method": "http.request.method",
    "route": "http.route",
    "source_address": "client.address",
    "account_id": "user.id",
    "error": "exception.message",
    "exception": "exception.stacktrace",
}
# https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber
_SEVERITIES: Final = {"debug": 5, "info": 9, "warning": 13, "error": 17, "critical": 21}


class LogFields(StrEnum):
    """Whose names the fields have."""

    AUTHZ = "authz"
    ECS = "ecs"
    OTEL = "otel"


def rename_to(names: LogFields) -> Rename | None:
    """Return what renames the fields of a line; None where they have our own names."""
    return {LogFields.AUTHZ: None, LogFields.ECS: _to_ecs, LogFields.OTEL: _to_otel}[names]


def _to_ecs(fields: Mapping[str, Any]) -> dict[str, Any]:
    renamed: dict[str, Any] = {"ecs.version": _ECS_VERSION}
    for name, value in fields.items():
        renamed[_ECS.get(name) or f"labels.{name}"] = value
    return renamed


def _to_otel(fields: Mapping[str, Any]) -> dict[str, Any]:
    renamed: dict[str, Any] = {"SeverityNumber": _SEVERITIES.get(fields.get("level", ""), 0)}
    attributes: dict[str, Any] = {}
    for name, value in fields.items():
        if name in _OTEL:
            renamed[_OTEL[name]] = value
        elif name == "logger":
            renamed["InstrumentationScope"] = {"Name": value}
        else:
            attributes[_OTEL_ATTRIBUTES.get(name) or f"authz.{name}"] = value
    renamed["Attributes"] = attributes
    return renamed
