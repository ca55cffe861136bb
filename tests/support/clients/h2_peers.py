"""Both ends of an HTTP/2 connection in memory, ours and python-hyper's as the client; and frames written by hand."""

from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from hpack import Encoder

from authz.edge.h2 import Cancelled, Connection, Ended, Limits, Method, Request, wire

CHECK = Method("/envoy.service.auth.v3.Authorization/Check")
STREAM = Method("/a.B/Stream", client_streaming=True)
METHODS = {method.path.encode(): method for method in (CHECK, STREAM)}

HEADERS = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", CHECK.path),
    (":authority", "authz"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
)
HELLO = wire.PREFACE + wire.settings({})
SETTLED = HELLO + wire.frame(wire.SETTINGS, wire.ACK, 0)


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4) + message


def block(*extra: tuple[str, str], without: str = "", **replaced: str) -> bytes:
    """Encode the usual header fields: pseudo-headers and others replaced by name (`_method`, `te`), one left out."""
    changed = {name.replace("_", ":", 1) if name.startswith("_") else name: text for name, text in replaced.items()}
    fields = [(name, changed.get(name, value)) for name, value in HEADERS if name != without]
    encoder = Encoder()
    encoder.header_table_size = 0  # right before and after the server's settings are acknowledged
    return bytes(encoder.encode([*fields, *extra]))


def headers(stream_id: int, payload: bytes | None = None, flags: int = wire.END_HEADERS) -> bytes:
    return wire.frame(wire.HEADERS, flags, stream_id, block() if payload is None else payload)


def data(stream_id: int, payload: bytes, flags: int = wire.END_STREAM) -> bytes:
    return wire.frame(wire.DATA, flags, stream_id, payload)


def call(stream_id: int, message: bytes = b"") -> bytes:
    return headers(stream_id) + data(stream_id, framed(message))


def frames(output: bytes) -> list[tuple[int, int, int, bytes]]:
    """Take output apart: kind, flags, stream id and payload of every frame."""
    found, position = [], 0
    while position < len(output):
        word, flags, stream_id = wire.FRAME_HEAD.unpack_from(output, position)
        end = position + wire.FRAME_HEAD_BYTES + (word >> 8)
        found.append((word & 0xFF, flags, stream_id, output[position + wire.FRAME_HEAD_BYTES : end]))
        position = end
    return found


def codes(output: bytes) -> tuple[dict[int, int], int | None]:
    """Read the error codes in an output: of each stream that was reset, and of the last GOAWAY."""
    found = frames(output)
    resets = {stream_id: int.from_bytes(payload) for kind, _, stream_id, payload in found if kind == wire.RST_STREAM}
    goaways = [int.from_bytes(payload[4:8]) for kind, _, _, payload in found if kind == wire.GOAWAY]
    return resets, goaways[-1] if goaways else None


@dataclass
class Peers:
    """A client and our server; bytes move only when a test calls `move` or `back`."""

    limits: Limits = field(default_factory=Limits)
    server: Connection = field(init=False)
    client: H2Connection = field(init=False)
    requests: list[Request] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    headers: dict[int, dict[str, str]] = field(default_factory=dict)
    answers: dict[int, bytes] = field(default_factory=dict)
    trailers: dict[int, dict[str, str]] = field(default_factory=dict)
    over: set[int] = field(default_factory=set)
    resets: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.server = Connection(METHODS, self.limits)
        self.client = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.client.initiate_connection()

    def move(self, *cuts: int) -> None:
        """Move all bytes; those of the client arrive in parts that end at `cuts`."""
        waiting = self.client.data_to_send()
        for start, end in zip([0, *cuts], [*cuts, len(waiting)], strict=True):
            self._take(waiting[start:end])
        self.back()

    def back(self) -> None:
        """Move the server's output to the client."""
        if out := self.server.take_output():
            for event in self.client.receive_data(out):
                self._note(event)

    def call(self, body: bytes, *extra: tuple[str, str]) -> int:
        """Begin and end a call."""
        stream_id: int = self.client.get_next_available_stream_id()
        self.client.send_headers(stream_id, [*HEADERS, *extra])
        self.client.send_data(stream_id, body, end_stream=True)
        return stream_id

    def _take(self, read: bytes) -> None:
        for event in self.server.receive(read, 0.0):
            match event:
                case Request():
                    self.requests.append(event)
                case Ended(stream_id):
                    self.ended.append(stream_id)
                case Cancelled(stream_id):
                    self.cancelled.append(stream_id)

    def _note(self, event: Event) -> None:
        match event:
            case DataReceived(stream_id=int(stream_id), data=bytes(received), flow_controlled_length=int(size)):
                self.answers[stream_id] = self.answers.get(stream_id, b"") + received
                self.client.acknowledge_received_data(size, stream_id)
            case ResponseReceived(stream_id=int(stream_id), headers=list(fields)):
                self.headers[stream_id] = {str(name): str(value) for name, value in fields}
            case TrailersReceived(stream_id=int(stream_id), headers=list(fields)):
                self.trailers[stream_id] = {str(name): str(value) for name, value in fields}
            case StreamEnded(stream_id=int(stream_id)):
                self.over.add(stream_id)
            case StreamReset(stream_id=int(stream_id), error_code=code):
                self.resets[stream_id] = int(code or 0)
