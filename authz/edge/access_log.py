"""Envoy's gRPC access log as stream reports: which stream is open, and which has ended.

Envoy reports only streams with a lease, by a filter on the metadata of the check response (`codec.lease_fields`). Only
that metadata is read. The effect of a report is in `service/check/leases.py`. The listeners transport the messages.
"""

import logging
import re
from collections.abc import Iterator
from typing import TypeAlias

from google.protobuf.message import DecodeError

from authz._pb.access_log_entry_pb2 import AccessLogCommon, AccessLogType
from authz._pb.access_log_pb2 import StreamAccessLogsMessage, StreamAccessLogsResponse
from authz.core.streams import Lease
from authz.service.check.leases import Leases

SERVICE = "envoy.service.accesslog.v3.AccessLogService"
METHOD = "StreamAccessLogs"
ANSWER = StreamAccessLogsResponse().SerializeToString()

_NAMESPACE = "envoy.filters.http.ext_authz"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")

Report: TypeAlias = tuple[Lease | None, int, bool]
"""A lease or None; when its stream was opened (Unix time in milliseconds); whether the stream has ended."""

_log = logging.getLogger("authz.streams")


class Reporter:
    """One access log call of one Envoy, until it ends or is aborted."""

    broken = 0  # in the whole process

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._has_warned = False

    def receive(self, message: bytes) -> bool:
        """Apply the reports of one message; return False where it cannot be parsed."""
        try:
            parsed = list(reports(message))
        except DecodeError:
            return False
        for lease, opened_at_ms, has_ended in parsed:
            if lease is None:
                self._warn()
            elif has_ended:
                self._leases.end(lease)
            else:
                self._leases.renew(lease, opened_at_ms, self)
        return True

    def abort(self) -> None:
        """Report that the call was aborted: its Envoy may have stopped."""
        Reporter.broken += 1
        self._leases.lose(self)

    def _warn(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            _log.warning("access log entry without a lease: check the access log filter in Envoy's configuration")


def reports(message: bytes) -> Iterator[Report]:
    """Parse the reports in a StreamAccessLogsMessage; raises `DecodeError`."""
    for entry in StreamAccessLogsMessage.FromString(message).http_logs.log_entry:
        common = entry.common_properties
        opened_at_ms = common.start_time.seconds * 1000 + common.start_time.nanos // 1_000_000
        yield _lease(common), opened_at_ms, common.access_log_type == AccessLogType.DownstreamEnd


def _lease(common: AccessLogCommon) -> Lease | None:
    fields = common.metadata.filter_metadata[_NAMESPACE].fields
    names = [fields[name].string_value for name in ("lease_id", "account_id", "key_id", "stream")]
    # They become parts of keys in Redis, where a brace or a blank has a meaning.
    return Lease(*names) if all(_NAME.fullmatch(word) for word in names) else None
