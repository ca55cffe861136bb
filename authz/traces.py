"""Tracing from the settings: nothing is imported and nothing is measured unless a collector is named.

The spans are in `adapters/tracing.py`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from authz.core.errors import SettingsError
from authz.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from authz.adapters.tracing import CheckSpans, RequestSpans

_CLOSE_MS = 2_000


class Traces:
    """The traces of one process, `service` by name. Raises `SettingsError` if the packages for them are missing."""

    def __init__(self, settings: Settings, service: str) -> None:
        self._provider: TracerProvider | None = None
        if settings.otlp_endpoint:
            try:
                from authz.adapters.tracing import tracer_provider  # noqa: PLC0415 -- see the module's docstring
            except ModuleNotFoundError as error:
                text = f"AUTHZ_OTLP_ENDPOINT: needs the package {error.name}: pip install 'authz[otel]'"
                raise SettingsError(text) from None
            self._provider = tracer_provider(settings.otlp_endpoint, service)

    def of_checks(self, masked: Callable[[str], str], on_traced: Callable[[float, str], None]) -> "CheckSpans | None":
        """Return the tracer of checks; None without a collector."""
        if self._provider is None:
            return None
        from authz.adapters.tracing import CheckSpans  # noqa: PLC0415 -- see the module's docstring

        return CheckSpans(self._provider, masked, on_traced)

    def of_requests(self, masked: Callable[[str], str]) -> "RequestSpans | None":
        """Return the tracer of the portal's requests; None without a collector."""
        if self._provider is None:
            return None
        from authz.adapters.tracing import RequestSpans  # noqa: PLC0415 -- see the module's docstring

        return RequestSpans(self._provider, masked)

    def close(self) -> None:
        """Export what is queued, within some seconds; blocks."""
        if self._provider is not None:
            self._provider.force_flush(_CLOSE_MS)
            self._provider.shutdown()
