"""Header blocks to calls: RFC 7541 by the `hpack` library, with a cache of repeated blocks.

Blocks are cached only after the peer has set its dynamic table to size 0. Before that the same bytes may have another
meaning the next time. The meaning of the fields is in `call.py`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hpack import Decoder, HPACKError, OversizedHeaderListError

from authz.edge.h2.call import READ, TRACE, Call, Method, call_from, sampled
from authz.edge.h2.wire import ConnectionFault, ErrorCode, StreamFault

_KNOWN_MAX = 256
_TEMPLATES_MAX = 8
_LONG = 0x7F  # a string length that needs a second byte
# The library decodes as many changes of the table size as a block has bytes; more than two are an error
# (RFC 7541 section 4.2).
_THREE_SIZES = re.compile(rb"(?:[\x20-\x3e]|\x3f[\x80-\xff]{0,5}[\x00-\x7f]){3}")


@dataclass(frozen=True, slots=True)
class _Template:
    """A header block with variable values: constant `fragments`, each followed by a variable value; then `tail`.

    A fragment ends before the length byte of a value, and a value ends where its field ends. So a block that matches
    has the same fields with other variable values. `traced` is the index of the value with the trace context, or -1.
    """

    fragments: tuple[bytes, ...]
    tail: bytes
    call: Call
    traced: int

    def match(self, block: bytes) -> Call | None:
        start = trace_start = trace_stop = 0
        size = len(block)
        for index, fragment in enumerate(self.fragments):
            stop = start + len(fragment)
            if not block.startswith(fragment, start) or stop >= size:
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
        call, trace = self.call, block[trace_start:trace_stop]
        return Call(call.method, call.timeout_s, trace, call.content_length, None, sampled(trace))


class HeaderBlocks:
    """The decoder of one connection. `known` maps complete blocks to plain calls: the fastest lookup."""

    __slots__ = ("_decoder", "_list_bytes_max", "_methods", "_templates", "fields_count", "known")

    def __init__(self, methods: Mapping[bytes, Method], list_bytes_max: int) -> None:
        self.known: dict[bytes, Call] = {}
        self._templates: list[_Template] = []
        self.fields_count = 0  # of the block decoded last
        self._methods = methods
        self._list_bytes_max = list_bytes_max
        self._decoder = Decoder(list_bytes_max)

    @property
    def is_stateless(self) -> bool:
        """Whether the peer's dynamic table has size 0 for good: the meaning of a block depends on no other block."""
        return self._decoder.max_allowed_table_size == 0 and self._decoder.header_table_size == 0

    def forbid_table(self) -> None:
        """Apply the acknowledged table size 0; the peer's next block must confirm it (RFC 7541 section 4.2)."""
        self._decoder.max_allowed_table_size = 0

    def fields(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """Decode a block; raises `ConnectionFault` where the decoder's state is lost, otherwise `StreamFault`."""
        fault = StreamFault if self.is_stateless else ConnectionFault
        if len(block) > self._list_bytes_max:  # no field is shorter than its bytes in a block
            raise fault(ErrorCode.ENHANCE_YOUR_CALM, "header list too large")
        if _THREE_SIZES.match(block):
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "header block unreadable")
        try:
            return [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except OversizedHeaderListError as error:
            raise fault(ErrorCode.ENHANCE_YOUR_CALM, "header list too large") from error
        except HPACKError as error:
            # The library's text may quote the block; it must appear neither in a GOAWAY nor in a log.
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "header block unreadable") from error

    def match(self, block: bytes) -> Call | None:
        """Return the plain call of a block that differs from a cached one only in values that are never read."""
        for template in self._templates:
            call = template.match(block)
            if call is not None:
                if not call.trace:  # trace contexts do not repeat
                    self._remember(block, call)
                return call
        return None

    def call(self, block: bytes) -> Call:
        """Decode the block of a request; raises as `fields` does, and `StreamFault` where it is malformed."""
        was_stateless = self.is_stateless
        fields = self.fields(block)
        self.fields_count = len(fields)
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
    """Make a template with the trace context as the only variable value, and one with all variable values."""
    spans = _value_spans(block)
    if spans is None:
        return []
    variables = [(span, name == TRACE) for name, span in zip(names, spans, strict=True) if span and name not in READ]
    return [
        _template(block, some, call)
        for some in ([variable for variable in variables if variable[1]], variables)
        if some
    ]


def _template(block: bytes, variables: list[tuple[range, bool]], call: Call) -> _Template:
    starts = [0, *(span.stop for span, _ in variables)]
    fragments = tuple(block[start : span.start] for start, (span, _) in zip(starts, variables, strict=False))
    traced = [is_trace for _, is_trace in variables]
    return _Template(fragments, block[starts[-1] :], call, traced.index(True) if True in traced else -1)


def _value_spans(block: bytes) -> list[range] | None:
    """Return the span of each field's value with its length byte, in a stateless block that was decoded.

    An indexed field has an empty span. Returns None where a length or an index needs more bytes than usual.
    """
    spans = []
    position = 0
    while position < len(block):
        first = block[position]
        position += 1
        if first & 0x80:
            spans.append(range(0))
            continue
        if first & 0xE0 == 0x20:  # noqa: PLR2004 -- a table size update: no field, always 0 here, one byte
            continue
        if not first & (0x3F if first & 0x40 else 0x0F):  # a literal name
            length = block[position] & 0x7F
            position += 1 + length
        else:
            length = 0
            if first & 0x4F == 0x0F:  # noqa: PLR2004 -- the second byte of an index over 14
                length = _LONG if block[position] & 0x80 else 0
                position += 1
        if _LONG in (length, block[position] & 0x7F):
            return None
        spans.append(range(position, position + 1 + (block[position] & 0x7F)))
        position = spans[-1].stop
    return spans
