"""Envoy's access log over gRPC as signs of life: which stream lives, and which has ended.

Envoy reports only streams that hold a lease, by a filter on the metadata that their checks were answered with
(`codec.lease_fields`); of each entry only that is read. What follows from a sign is `service/leases.py`; the listeners
carry the messages.
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
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,128}")

Sign: TypeAlias = tuple[Lease | None, int, bool]
"""A lease, None where there is none; when its stream was opened (Unix time in milliseconds); whether it has ended."""

_log = logging.getLogger("authz.streams")


class Reporter:
    """One call of one Envoy, which reports streams until it ends or breaks off."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._has_complained = False

    def receive(self, message: bytes) -> bool:
        """Pass on the signs in one message; returns False where it cannot be read."""
        try:
            found = list(signs(message))
        except DecodeError:
            return False
        for lease, opened_at_ms, has_ended in found:
            if lease is None:
                self._complain()
            elif has_ended:
                self._leases.end(lease)
            else:
                self._leases.renew(lease, opened_at_ms, self)
        return True

    def break_off(self) -> None:
        """Note that the call ended without being asked to: its Envoy may be gone."""
        self._leases.lose(self)

    def _complain(self) -> None:
        if not self._has_complained:
            self._has_complained = True
            _log.warning("an access log entry without a lease: check the filter in Envoy's configuration")


def signs(message: bytes) -> Iterator[Sign]:
    """Read the signs of life in a StreamAccessLogsMessage; raises `DecodeError`."""
    for entry in StreamAccessLogsMessage.FromString(message).http_logs.log_entry:
        common = entry.common_properties
        opened_at_ms = common.start_time.seconds * 1000 + common.start_time.nanos // 1_000_000
        yield _lease(common), opened_at_ms, common.access_log_type == AccessLogType.DownstreamEnd


def _lease(common: AccessLogCommon) -> Lease | None:
    fields = common.metadata.filter_metadata[_NAMESPACE].fields
    words = [fields[name].string_value for name in ("lease_id", "account_id", "key_id", "stream")]
    # They become parts of names in the store, where a brace or a blank would mean something.
    return Lease(*words) if all(_WORD.fullmatch(word) for word in words) else None
