"""Tracing from the settings: nothing is imported and nothing is measured unless a collector is named.

The spans are in `adapters/tracing/`.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from authz.core.errors import SettingsError
from authz.core.traces.context import Traced
from authz.settings import Settings

if TYPE_CHECKING:
    from authz.adapters.tracing.checks import CheckSpans
    from authz.adapters.tracing.export import Exporter
    from authz.adapters.tracing.requests import RequestSpans

_CLOSE_S = 2.0
_NO_DROPS = {"queue_full": 0, "not_exported": 0}


class Traces:
    """The traces of one process, `service` by name. Raises `SettingsError` if the packages for them are missing."""

    def __init__(self, settings: Settings, service: str) -> None:
        self._service = service
        self._exporter: Exporter | None = None
        self._spans: CheckSpans | RequestSpans | None = None
        if settings.otlp_endpoint:
            try:
                from authz.adapters.tracing import export  # noqa: PLC0415 -- see the module's docstring
            except ModuleNotFoundError as error:
                text = f"AUTHZ_OTLP_ENDPOINT: needs the package {error.name}: pip install 'authz[otel]'"
                raise SettingsError(text) from None
            self._exporter = export.Exporter(settings.otlp_endpoint)

    def of_checks(
        self, masked: Callable[[str], str], on_traced: Callable[[float, Traced], None]
    ) -> "CheckSpans | None":
        """Create the tracer of checks; None without a collector."""
        if self._exporter is None:
            return None
        from authz.adapters.tracing.checks import CheckSpans  # noqa: PLC0415 -- see the module's docstring

        self._spans = spans = CheckSpans(self._service, self._exporter.send, masked, on_traced)
        return spans

    def of_requests(self, masked: Callable[[str], str]) -> "RequestSpans | None":
        """Create the tracer of the portal's requests; None without a collector."""
        if self._exporter is None:
            return None
        from authz.adapters.tracing.requests import RequestSpans  # noqa: PLC0415 -- see the module's docstring

        self._spans = spans = RequestSpans(self._service, self._exporter.send, masked)
        return spans

    def dropped(self) -> Mapping[str, int]:
        """Return the number of traced checks or requests whose spans were not exported, by cause."""
        return _NO_DROPS if self._spans is None else self._spans.dropped()

    def close(self) -> None:
        """Export what is queued, within two seconds; blocks."""
        if self._spans is not None:
            self._spans.close(_CLOSE_S)
