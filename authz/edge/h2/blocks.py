"""Header blocks into calls: RFC 7541 by the `hpack` library, with a memory of the blocks that come again.

Blocks are remembered only once the peer has given up its dynamic table, for until then the same bytes may mean
something else the next time. What the fields say is `call.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from hpack import Decoder, HPACKError, OversizedHeaderListError

from authz.edge.h2.call import READ, TRACE, Call, Method, call_from
from authz.edge.h2.wire import ConnectionFault, ErrorCode, StreamFault

_KNOWN_MAX = 256
_TEMPLATES_MAX = 8
_LONG = 0x7F  # the length of a string that goes on in a second byte


@dataclass(frozen=True, slots=True)
class _Template:
    """A block with gaps: constant `pieces`, each followed by a value that may change; then `tail`.

    A piece ends where a value's length begins and a value ends where a field does, so a block that fits has the same
    fields with other values in the gaps. `traced` is the index of the gap that holds the trace context, -1 without.
    """

    pieces: tuple[bytes, ...]
    tail: bytes
    call: Call
    traced: int

    def fit(self, block: bytes) -> Call | None:
        start = trace_start = trace_stop = 0
        size = len(block)
        for index, piece in enumerate(self.pieces):
            stop = start + len(piece)
            if not block.startswith(piece, start) or stop >= size:
                return None
            length = block[stop] & 0x7F
            if length == _LONG:
                return None
            start = stop + 1 + length
            if index == self.traced:
                trace_start, trace_stop = stop, start
        if block[start:] != self.tail or start > size:
            return None
        if not trace_stop:
            return self.call
        return Call(self.call.method, self.call.timeout_s, block[trace_start:trace_stop], self.call.content_length)


class HeaderBlocks:
    """The decoder of one connection. `known` maps whole blocks to plain calls, for the fastest look."""

    __slots__ = ("_decoder", "_list_bytes_max", "_methods", "_templates", "known")

    def __init__(self, methods: Mapping[bytes, Method], list_bytes_max: int) -> None:
        self.known: dict[bytes, Call] = {}
        self._templates: list[_Template] = []
        self._methods = methods
        self._list_bytes_max = list_bytes_max
        self._decoder = Decoder(list_bytes_max)

    @property
    def is_stateless(self) -> bool:
        """Tell whether the peer's dynamic table is gone for good: what blocks mean no longer depends on their order."""
        return self._decoder.max_allowed_table_size == 0 and self._decoder.header_table_size == 0

    def forbid_table(self) -> None:
        """Note that the peer has acknowledged a table of size 0; its next block must say so (RFC 7541 section 4.2)."""
        self._decoder.max_allowed_table_size = 0

    def fields(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """Decode a block; raises `ConnectionFault` where the decoder's state is lost, `StreamFault` where it is not."""
        is_stateless = self.is_stateless
        if is_stateless and len(block) > self._list_bytes_max:
            raise StreamFault(ErrorCode.ENHANCE_YOUR_CALM, "header list too large")
        try:
            return [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except OversizedHeaderListError as error:
            fault = StreamFault if is_stateless else ConnectionFault
            raise fault(ErrorCode.ENHANCE_YOUR_CALM, "header list too large") from error
        except HPACKError as error:
            # The library's text may quote the block: not for the peer's eyes nor for a log.
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "header block unreadable") from error

    def seen(self, block: bytes) -> Call | None:
        """Find the plain call of a block that differs from an earlier one only in values nobody reads."""
        for template in self._templates:
            call = template.fit(block)
            if call is not None:
                if not call.trace:  # which never comes twice
                    self._remember(block, call)
                return call
        return None

    def call(self, block: bytes) -> Call:
        """Decode a request's block; raises as `fields` does, and `StreamFault` where it is malformed."""
        was_stateless = self.is_stateless
        fields = self.fields(block)
        call = call_from(fields, self._methods)
        if was_stateless and call.is_plain:
            self._remember(block, call)
            templates = _templates(block, [name for name, _ in fields], call)
            self._templates = [*templates, *self._templates][:_TEMPLATES_MAX]
        return call

    def _remember(self, block: bytes, call: Call) -> None:
        if len(self.known) >= _KNOWN_MAX:
            self.known.clear()
        self.known[block] = call


def _templates(block: bytes, names: list[bytes], call: Call) -> list[_Template]:
    """Make the template that tracing needs, which is quick to fit, and the one with every gap there is."""
    spans = _value_spans(block)
    if spans is None:
        return []
    gaps = [(span, name == TRACE) for name, span in zip(names, spans, strict=True) if span and name not in READ]
    return [_template(block, some, call) for some in ([gap for gap in gaps if gap[1]], gaps) if some]


def _template(block: bytes, gaps: list[tuple[range, bool]], call: Call) -> _Template:
    starts = [0, *(span.stop for span, _ in gaps)]
    pieces = tuple(block[start : span.start] for start, (span, _) in zip(starts, gaps, strict=False))
    traced = [is_trace for _, is_trace in gaps]
    return _Template(pieces, block[starts[-1] :], call, traced.index(True) if True in traced else -1)


def _value_spans(block: bytes) -> list[range] | None:
    """Find where each field's value lies, its length byte included, in a stateless block that has been decoded.

    An indexed field has an empty span. None where a length or an index takes more bytes than it does in practice.
    """
    spans = []
    position = 0
    while position < len(block):
        first = block[position]
        position += 1
        if first & 0x80:
            spans.append(range(0))
            continue
        if first & 0xE0 == 0x20:  # noqa: PLR2004 -- a table size: no field, and always 0 here, which is one byte
            continue
        if not first & (0x3F if first & 0x40 else 0x0F):  # a name of its own
            length = block[position] & 0x7F
            position += 1 + length
        else:
            length = 0
            if first & 0x4F == 0x0F:  # noqa: PLR2004 -- the rest of an index over 14
                length = _LONG if block[position] & 0x80 else 0
                position += 1
        if _LONG in (length, block[position] & 0x7F):
            return None
        spans.append(range(position, position + 1 + (block[position] & 0x7F)))
        position = spans[-1].stop
    return spans
