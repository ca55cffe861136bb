"""Both ends of an HTTP/2 connection in memory: ours, and python-hyper's as the client."""

from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, StreamReset, TrailersReceived

from authz.edge.h2 import Connection, Limits, Method, Request

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


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4) + message


@dataclass
class Peers:
    """A client and our server; bytes move when told to."""

    limits: Limits = field(default_factory=Limits)
    server: Connection = field(init=False)
    client: H2Connection = field(init=False)
    requests: list[Request] = field(default_factory=list)
    answers: dict[int, bytes] = field(default_factory=dict)
    trailers: dict[int, dict[str, str]] = field(default_factory=dict)
    resets: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.server = Connection(METHODS, self.limits)
        self.client = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.client.initiate_connection()
        self.move()
        self.move()

    def move(self, *cuts: int) -> None:
        """Carry everything over, from the client in pieces that end at `cuts`."""
        data = self.client.data_to_send()
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            events = self.server.receive(data[start:end], 0.0)
            self.requests += [event for event in events if isinstance(event, Request)]
        self.back()

    def back(self) -> None:
        """Carry what the server has to say to the client."""
        if out := self.server.take_output():
            for event in self.client.receive_data(out):
                self._note(event)

    def call(self, body: bytes, *extra: tuple[str, str]) -> int:
        """Begin and end a call."""
        stream_id: int = self.client.get_next_available_stream_id()
        self.client.send_headers(stream_id, [*HEADERS, *extra])
        self.client.send_data(stream_id, body, end_stream=True)
        return stream_id

    def _note(self, event: Event) -> None:
        if isinstance(event, DataReceived) and event.data is not None and event.stream_id is not None:
            self.answers[event.stream_id] = self.answers.get(event.stream_id, b"") + event.data
            self.client.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        elif isinstance(event, TrailersReceived) and event.stream_id is not None:
            self.trailers[event.stream_id] = dict(event.headers or [])  # type: ignore[arg-type]  # decoded to text
        elif isinstance(event, StreamReset) and event.stream_id is not None:
            self.resets[event.stream_id] = int(event.error_code or 0)
