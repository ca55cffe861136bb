"""Cached header blocks mean the same as when they are parsed again."""

from collections.abc import Callable

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st
from support.clients.h2_peers import CHECK, HEADERS, METHODS, STREAM, block

from authz.edge.h2.blocks import HeaderBlocks
from authz.edge.h2.call import Call
from authz.edge.h2.wire import ConnectionFault, ErrorCode, StreamFault

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FREE = st.sampled_from(["traceparent", "tracestate", "x-b3-traceid", "user-agent", "x-forwarded-for", "accept"])
VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40) | st.sampled_from(
    [TRACE, "~" * 126, "~" * 127, "~" * 300, "a" * 200]
)


def stateless() -> HeaderBlocks:
    blocks = HeaderBlocks(METHODS, 16_384)
    blocks.forbid_table()
    blocks.call(block())
    assert blocks.is_stateless
    return blocks


def literal(name: bytes, value: bytes) -> bytes:
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def said(read: Callable[[bytes], Call | None], sent: bytes) -> tuple[object, ...] | ErrorCode | None:
    """Say what a block says, comparably; the code of the fault where it is one."""
    try:
        call = read(sent)
    except (ConnectionFault, StreamFault) as fault:
        return fault.code
    return call if call is None else (call.method, call.timeout_s, call.traceparent, call.content_length, call.refusal)


def encoded(fields: list[tuple[str, str]], huffman: list[bool]) -> bytes:
    encoder = Encoder()
    encoder.header_table_size = 0
    encoder.encode([])  # which announces it
    return b"".join(bytes(encoder.encode([field], huffman=kind)) for field, kind in zip(fields, huffman, strict=True))


@given(st.data(), st.lists(st.tuples(FREE, VALUES), max_size=5), st.integers(0, 3), st.sampled_from(["", "200m", "1S"]))
def test_remembered_block_says_what_it_says_anew(
    draw: st.DataObject, free: list[tuple[str, str]], place: int, timeout: str
) -> None:
    blocks = stateless()
    usual = [*HEADERS[4:], *([("grpc-timeout", timeout)] if timeout else [])]
    for _ in range(3):
        varied = [(name, draw.draw(st.just(value) | VALUES)) for name, value in free]
        fields = [*HEADERS[:4], *usual[:place], *varied, *usual[place:]]
        sent = encoded(fields, draw.draw(st.lists(st.booleans(), min_size=len(fields), max_size=len(fields))))
        anew = said(stateless().call, sent)
        assert said(blocks.match, sent) in (None, anew)
        assert said(blocks.known.get, sent) in (None, anew)
        assert said(blocks.call, sent) == anew
        assert said(blocks.known.get, sent) == anew


@given(st.binary(max_size=12), st.integers(0, 200), st.integers(0, 12))
def test_altered_block_is_recognised_only_where_it_says_the_same(noise: bytes, start: int, cut: int) -> None:
    blocks = stateless()
    sent = block(("traceparent", TRACE), ("x-b", "c"), ("grpc-timeout", "1S"), ("x-d", "e"))[1:]
    blocks.call(sent)
    altered = sent[:start] + noise + sent[start + cut :]
    call = blocks.match(altered)
    if call is not None:
        anew = said(stateless().call, altered)
        # Where reading anew finds a fault, it lies in a value that nobody reads.
        assert anew == said(lambda _: call, altered) or isinstance(anew, ErrorCode)
        assert (call.method, call.timeout_s) == (CHECK, 1.0)


def test_trace_is_carried_by_blocks_that_differ_in_nothing_else() -> None:
    blocks = stateless()
    blocks.call(block(("traceparent", TRACE), ("x-after", "1"))[1:])
    for number in range(20):
        trace = f"00-{number:032x}-{number:016x}-01"
        call = blocks.match(block(("traceparent", trace), ("x-after", "1"))[1:])
        assert call is not None
        assert (call.method, call.traceparent) == (CHECK, trace)


def test_block_without_a_trace_is_known_whole_the_second_time() -> None:
    blocks = stateless()
    blocks.call(block(("x-forwarded-for", "192.0.2.1"))[1:])
    sent = block(("x-forwarded-for", "198.51.100.77"))[1:]
    call = blocks.match(sent)
    assert call is not None
    assert blocks.known[sent] is call


@pytest.mark.parametrize("trace", ["", "0" * 127])
def test_trace_that_cannot_be_one_is_none(trace: str) -> None:
    blocks = stateless()
    assert blocks.call(block(("traceparent", trace))[1:]).traceparent == ""
    blocks.call(block(("traceparent", TRACE))[1:])
    call = blocks.match(block(("traceparent", trace))[1:])
    assert call is not None
    assert call.traceparent == ""


def test_trace_that_cannot_be_decoded_is_none() -> None:
    blocks = stateless()
    sent = block()[1:] + literal(b"traceparent", b"x")
    blocks.call(sent)
    call = blocks.match(sent[:-2] + b"\x82\xff\xff")
    assert call is not None
    assert call.traceparent == ""


@pytest.mark.parametrize(
    "odd",
    [
        b"\x0f\x2b\x07agent/1",
        b"\x0f\xab\x00\x07agent/1",
        b"\x7a\x07agent/1",
        b"\x00\x06x-long\x7f\x10" + b"y" * 143,
        b"\x00\x7f\x10" + b"n" * 143 + b"\x01v",
        literal(b"x-empty", b""),
    ],
    ids=["long index", "index longer than needed", "indexing literal", "long value", "long name", "empty value"],
)
def test_odd_encoding_is_read_and_remembered(odd: bytes) -> None:
    blocks = stateless()
    sent = b"\x20\x20" + block()[1:] + odd
    assert blocks.call(sent).method is CHECK
    assert blocks.known[sent].method is CHECK
    assert said(blocks.match, sent) in (None, said(stateless().call, sent))


def test_nothing_is_remembered_while_the_table_may_change() -> None:
    blocks = HeaderBlocks(METHODS, 16_384)
    encoder = Encoder()
    for _ in range(3):
        sent = bytes(encoder.encode(HEADERS))
        assert blocks.call(sent).method is CHECK
        assert blocks.match(sent) is None
    blocks.forbid_table()
    assert blocks.call(block()).method is CHECK
    assert blocks.known == {}


@pytest.mark.parametrize("path", [STREAM.path, "/no/Such"])
def test_only_plain_calls_are_remembered(path: str) -> None:
    blocks = stateless()
    sent = block(_path=path)
    blocks.call(sent)
    assert sent not in blocks.known
    assert blocks.match(sent) is None


def test_memory_is_bounded_whatever_a_peer_varies() -> None:
    blocks = stateless()
    for number in range(2_000):
        sent = block((f"x-{number}", "1"), ("grpc-timeout", f"{number}m"))[1:]
        assert (blocks.match(sent) or blocks.call(sent)).timeout_s == pytest.approx(number / 1_000)
        assert len(blocks.known) <= 256
        assert len(blocks._templates) <= 8  # noqa: SLF001 -- the bound itself
