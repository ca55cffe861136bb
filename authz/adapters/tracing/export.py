"""The export of spans over OTLP/HTTP by OpenTelemetry's exporter: a bounded queue, and the thread that empties it.

A collector that is slow, gone or hostile costs spans, which are counted, and never a check. Which spans there are is
`checks.py` and `requests.py`.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeAlias, TypeVar

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

QUEUE_MAX: Final = 2_048
_BATCH_MAX: Final = 512
_INTERVAL_S: Final = 5.0
_EXPORT_S: Final = 5.0
_PATH: Final = "/v1/traces"
_BODY_BYTES_MAX: Final = 65_536

QUEUE_FULL, NOT_EXPORTED = "queue_full", "not_exported"

# Their lines quote the URL, and a header of OTEL_EXPORTER_OTLP_HEADERS that cannot be parsed: both may be credentials.
for _name in ("opentelemetry", "urllib3"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

_log = logging.getLogger("authz.traces")

Send: TypeAlias = Callable[[bytes], bool]
"""Sends an encoded `ExportTraceServiceRequest`; returns whether the collector accepted it."""

T = TypeVar("T")


class Exporter(OTLPSpanExporter):
    """OpenTelemetry's exporter to the collector with this base URL, which may answer what it wants.

    The headers of `OTEL_EXPORTER_OTLP_HEADERS` and its other variables apply, as everywhere.
    """

    def __init__(self, endpoint: str) -> None:
        url = endpoint.rstrip("/")
        target = url if url.endswith(_PATH) else url + _PATH
        super().__init__(endpoint=target, timeout=_EXPORT_S, session=_Session())

    def send(self, request: bytes) -> bool:
        """Send an `ExportTraceServiceRequest`; return whether the collector accepted it. Blocks for some seconds."""
        result = self._client.export(request)
        if not result.success:
            cause = "timeout" if result.error is None else type(result.error).__name__
            _log.warning("spans not exported", extra={"status": result.status_code, "error": cause})
        return bool(result.success)


class SpanQueue(Generic[T]):
    """Spans that wait for their export by `export`, which returns whether it succeeded, on a thread.

    At most 2,048 wait. `dropped` counts those that were not exported, by cause.
    """

    def __init__(self, export: Callable[[Sequence[T]], bool]) -> None:
        self._export = export
        self._waiting: deque[T] = deque()
        self._is_due = threading.Event()
        self._is_closed = False
        self._dropped = {QUEUE_FULL: 0, NOT_EXPORTED: 0}
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> Mapping[str, int]:
        """The number of dropped spans by cause."""
        return self._dropped

    def put(self, span: T) -> None:
        """Queue a span, or drop it. Never blocks; called on one thread."""
        if self._is_closed or len(self._waiting) >= QUEUE_MAX:
            self._dropped[QUEUE_FULL] += 1
            return
        self._waiting.append(span)
        if len(self._waiting) == _BATCH_MAX:
            self._is_due.set()

    def close(self, deadline_s: float) -> None:
        """Export what waits, as far as that is possible within `deadline_s`; blocks."""
        self._is_closed = True
        self._is_due.set()
        self._thread.join(deadline_s)

    def _run(self) -> None:
        while not self._is_closed:
            self._is_due.wait(_INTERVAL_S)
            self._is_due.clear()
            self._export_some()
            while len(self._waiting) >= _BATCH_MAX:  # fewer are not worth a request of their own yet
                self._export_some()
        while self._waiting:
            self._export_some()

    def _export_some(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(_BATCH_MAX, len(self._waiting)))]
        if not batch:
            return
        try:
            is_exported = self._export(batch)
        except Exception:  # noqa: BLE001 -- the next batch may succeed
            _log.exception("spans cannot be exported")
            is_exported = False
        if not is_exported:
            self._dropped[NOT_EXPORTED] += len(batch)


class _Session(requests.Session):
    """A session that follows no redirect, and reads only short bodies, without decompressing them.

    The library would read a body of any size, and a small one can decompress to more than there is memory. A redirect
    counts as a success to the exporter.
    """

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return None, because there is no redirect to follow."""
        del resp
        return None

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # noqa: ANN401 -- as the library has it
        """Send one request; raises `requests.RequestException`, also for a redirect."""
        response = super().send(request, **(options | {"stream": True}))
        length = response.headers.get("content-length", "")
        if length.isdecimal() and int(length) <= _BODY_BYTES_MAX:
            response.raw.read(_BODY_BYTES_MAX, decode_content=False)  # the connection can be used again
            response.raw.release_conn()
        else:
            response.close()
        response._content = b""  # noqa: SLF001 -- nobody may read the rest of it
        if response.is_redirect or response.is_permanent_redirect or 300 <= response.status_code < 400:  # noqa: PLR2004 -- HTTP
            raise requests.TooManyRedirects(f"the collector redirects, status {response.status_code}")
        return response
