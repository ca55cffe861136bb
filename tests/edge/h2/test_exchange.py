"""Whole conversations with python-hyper's client, in any order, cut anywhere; and noise in place of conversations.

`H2_EXAMPLES` sets the number of examples.
"""

import os
import random
from dataclasses import dataclass, field

from h2.connection import H2Connection
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clients.h2_peers import CHECK, HEADERS, HELLO, METHODS, STREAM, Peers, call, framed

from authz.edge.h2 import Connection, Limits, Request, wire

EXAMPLES = int(os.environ.get("H2_EXAMPLES", "500"))
SIZES = st.sampled_from([0, 1, 5, 600, 16_379, 16_380, 40_000, 90_000])
MESSAGES = st.lists(st.lists(SIZES, max_size=3), min_size=1, max_size=8)
SEEDS = st.integers(0, 2**64)


@dataclass
class Exchange:
    """A client with calls to make, one list of messages each, and a server that answers them, all in random order.

    A call of exactly one message is unary, any other streams.
    """

    chance: random.Random
    calls: list[list[bytes]]
    peers: Peers = field(default_factory=lambda: Peers(Limits(stream_window_bytes=65_535)))
    messages: dict[int, list[bytes]] = field(default_factory=dict)
    bodies: dict[int, bytes] = field(default_factory=dict)
    sent: dict[int, bytes] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    is_tuning: bool = True

    @property
    def client(self) -> H2Connection:
        return self.peers.client

    def run(self) -> None:
        steps = [self.open, self.send, self.send, self.carry, self.answer, self.tune, self.drop]
        while self.calls or self.bodies or self.unanswered():
            self.chance.choice(steps)()
            if not self.calls:
                self.send()
                self.answer()
            if self.chance.random() < 0.3:
                self.carry()
        self.carry()

    def unanswered(self) -> set[int]:
        return self.messages.keys() - self.dropped - self.peers.over

    def open(self) -> None:
        if not self.calls:
            return
        messages = self.calls.pop()
        stream_id = self.client.get_next_available_stream_id()
        fields = {**dict(HEADERS), ":path": CHECK.path if len(messages) == 1 else STREAM.path}
        some = {"traceparent": f"00-{self.chance.getrandbits(128):032x}", "grpc-timeout": "200m", "x-a": "~" * 200}
        some |= {"x-large": "l" * self.chance.choice([1, 6_000]), "x-request-id": f"{stream_id}"}
        for name in self.chance.sample(list(some), self.chance.randrange(len(some))):
            fields[name] = some[name]
        body = b"".join(map(framed, messages))
        if self.chance.random() < 0.2:
            fields["content-length"] = str(len(body))
        self.client.send_headers(stream_id, list(fields.items()), end_stream=not body)
        self.messages[stream_id] = messages
        if body:
            self.bodies[stream_id] = body

    def send(self) -> None:
        if not self.bodies:
            return
        stream_id, body = self.chance.choice(list(self.bodies.items()))
        padding = self.chance.choice([None, None, 0, 9])
        room = min(self.client.local_flow_control_window(stream_id), self.client.max_outbound_frame_size)
        size = min(len(body), room - (padding or 0) - 1, self.chance.choice([0, 1, 4, 5, 7, 900, 16_384, 16_384]))
        if size < 0:
            self.carry()
            return
        self.client.send_data(stream_id, body[:size], end_stream=size == len(body), pad_length=padding)
        self.bodies[stream_id] = body[size:]
        if size == len(body):
            del self.bodies[stream_id]

    def carry(self) -> None:
        self.is_tuning = False
        waiting = len(self.client._data_to_send)  # noqa: SLF001 -- where to cut
        self.peers.move(*sorted(self.chance.randrange(waiting + 1) for _ in range(self.chance.randrange(4))))

    def answer(self) -> None:
        arrived = {request.stream_id for request in self.peers.requests if len(self.messages[request.stream_id]) == 1}
        ready = sorted({*arrived, *self.peers.ended} - self.sent.keys())
        if ready:
            stream_id = self.chance.choice(ready)
            self.sent[stream_id] = b"%d:" % stream_id + b"a" * self.chance.choice([0, 60, 20_000, 100_000])
            self.peers.server.respond(stream_id, self.sent[stream_id])

    def tune(self) -> None:
        if self.is_tuning:  # at one acknowledgement, this client takes all that wait for one as acknowledged
            return
        self.is_tuning = True
        name, values = self.chance.choice(
            [
                (SettingCodes.INITIAL_WINDOW_SIZE, [0, 40, 65_535, 65_535, 1_000_000]),
                (SettingCodes.HEADER_TABLE_SIZE, [0, 64, 4_096]),
            ]
        )
        self.client.update_settings({name: self.chance.choice(values)})
        self.client.ping(b"12345678")

    def drop(self) -> None:
        if self.chance.random() < 0.3 and (left := sorted(self.unanswered())):
            stream_id = self.chance.choice(left)
            self.client.reset_stream(stream_id)
            self.dropped.add(stream_id)
            self.bodies.pop(stream_id, None)


@settings(max_examples=EXAMPLES, deadline=None)
@given(SEEDS, MESSAGES)
def test_every_request_arrives_once_and_every_answer_reaches_its_stream(seed: int, sizes: list[list[int]]) -> None:
    chance = random.Random(seed)  # noqa: S311 -- a test's order
    calls = [[chance.randbytes(size) for size in call_sizes] for call_sizes in sizes]
    exchange = Exchange(chance, list(calls))
    exchange.run()
    peers = exchange.peers
    for stream_id, messages in exchange.messages.items():
        arrived = [request.message for request in peers.requests if request.stream_id == stream_id]
        if stream_id in exchange.dropped:
            assert arrived == messages[: len(arrived)]
        else:
            assert arrived == messages
            assert peers.answers[stream_id] == framed(exchange.sent[stream_id])
            assert peers.trailers[stream_id] == {"grpc-status": "0"}
    assert peers.resets == {}
    assert not peers.server.is_closed


def session(chance: random.Random) -> bytes:
    """Record what a client sends in a whole conversation."""
    exchange = Exchange(chance, [[b"m" * size] for size in (0, 9, 600, 700)] + [[b"s", b"t"]])
    recorded = b""

    def carry() -> None:
        nonlocal recorded
        exchange.is_tuning = False
        recorded += exchange.client._data_to_send  # noqa: SLF001 -- a look at what moves next
        exchange.peers.move()

    exchange.carry = carry  # type: ignore[method-assign]
    exchange.run()
    return recorded


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Flip, cut, repeat and move parts of a session."""
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 12)):
        place, length = chance.randrange(len(changed) + 1), chance.choice([1, 1, 1, 4, 9, 40])
        piece = changed[place : place + length]
        match chance.randrange(5):
            case 0:
                changed[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                del changed[place : place + length]
            case 2:
                changed[place:place] = piece
            case 3:
                target = chance.randrange(len(changed) + 1)
                changed[target:target] = piece
            case 4:
                changed[place:place] = chance.randbytes(length)
    return bytes(changed)


def endure(data: bytes, chance: random.Random) -> None:
    """Feed anything in, answer what comes of it, and expect neither an exception nor more output than is due."""
    connection = Connection(METHODS, Limits())
    out = len(connection.take_output())
    answers = position = 0
    while position < len(data):
        size = chance.choice([1, 9, 100, 5_000])
        for event in connection.receive(data[position : position + size], 0.0):
            if isinstance(event, Request):
                connection.respond(event.stream_id, b"x" * 50)
                answers += 1
        position += size
        out += len(connection.take_output())
    assert out <= 20 * len(data) + 150 * answers + 300
    if connection.is_closed:
        assert connection.receive(call(1), 0.0) == []
        assert connection.take_output() == b""


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.binary(max_size=2_000), SEEDS)
def test_noise_makes_neither_a_stumble_nor_a_hoard(noise: bytes, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 -- a test's cuts
    endure(noise, chance)
    endure(HELLO + noise, chance)
    head = wire.FRAME_HEAD.pack(len(noise) << 8 | chance.randrange(11), chance.randrange(256), chance.randrange(5))
    endure(HELLO + call(1) + head + noise, chance)


@settings(max_examples=EXAMPLES, deadline=None)
@given(SEEDS)
def test_broken_conversations_make_neither_a_stumble_nor_a_hoard(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 -- a test's mutations
    recorded = session(chance)
    for _ in range(5):
        endure(mutated(recorded, chance), chance)


def test_with_256_calls_in_flight_each_answer_reaches_its_own() -> None:
    chance = random.Random(7)  # noqa: S311 -- a test's order
    peers = Peers()
    expected: dict[int, bytes] = {}
    for _ in range(6):
        sent = {peers.call(framed(b"q%d" % number)): b"q%d" % number for number in range(256)}
        peers.move()
        assert {request.stream_id: request.message for request in peers.requests} == sent
        order = chance.sample(list(sent), len(sent))
        for stream_id in order[:50]:
            peers.client.reset_stream(stream_id)
        before, after = order[:25] + order[50:150], order[25:50] + order[150:]
        for stream_ids in (before, after):
            for stream_id in stream_ids:
                peers.server.respond(stream_id, b"%d " % stream_id + sent[stream_id])
            peers.move()
        expected |= {stream_id: framed(b"%d " % stream_id + sent[stream_id]) for stream_id in order[50:]}
        assert sorted(peers.cancelled) == sorted(order[25:50])
        peers.requests.clear()
        peers.cancelled.clear()
    assert {stream_id: peers.answers[stream_id] for stream_id in expected} == expected
    assert peers.answers.keys() == expected.keys()
