"""Entries of Envoy's access log, as it sends them for streams that hold a lease."""

from google.protobuf.struct_pb2 import Struct

from authz._pb.access_log_entry_pb2 import AccessLogType, HTTPAccessLogEntry
from authz._pb.access_log_pb2 import StreamAccessLogsMessage
from authz.core.streams import Lease

ALIVE, END = AccessLogType.DownstreamPeriodic, AccessLogType.DownstreamEnd
OPENED_MS = 1_700_000_000_250


def lease(number: int = 1) -> Lease:
    return Lease(f"1181544587297969{number}", "acct_1", "key_1", "logs")


def fields(one: Lease) -> dict[str, str]:
    return {
        "lease_id": one.lease_id, "account_id": one.account_id, "key_id": one.key_id, "stream": one.stream,
        "decision": "allow", "route": "/v1/servers/{id}/logs/stream",
    }  # fmt: skip


def entry(described: dict[str, str], kind: AccessLogType) -> HTTPAccessLogEntry:
    made = HTTPAccessLogEntry()
    made.common_properties.access_log_type = kind
    made.common_properties.start_time.FromMilliseconds(OPENED_MS)
    metadata = Struct()
    metadata.update(described)
    made.common_properties.metadata.filter_metadata["envoy.filters.http.ext_authz"].CopyFrom(metadata)
    return made


def message(*entries: HTTPAccessLogEntry) -> bytes:
    made = StreamAccessLogsMessage()
    made.http_logs.log_entry.extend(entries)
    return made.SerializeToString()


def report(one: Lease, kind: AccessLogType = ALIVE) -> bytes:
    return message(entry(fields(one), kind))


class RecordedReports:
    """Replaces the leases and records the reports."""

    def __init__(self) -> None:
        self.signs: list[tuple[str, Lease]] = []
        self.lost = 0

    def renew(self, one: Lease, opened_at_ms: int, reporter: object) -> None:
        assert opened_at_ms == OPENED_MS
        assert reporter is not None
        self.signs.append(("alive", one))

    def end(self, one: Lease) -> None:
        self.signs.append(("end", one))

    def lose(self, _reporter: object) -> None:
        self.lost += 1
