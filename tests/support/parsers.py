"""Everything on the path of a check that reads what a client chose, as functions of one text, to measure their cost.

How inputs are searched for is `longrun/worst_case.py`.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any

import orjson
from google.protobuf.message import DecodeError
from hpack import Encoder
from support.builders import KEY, KEYS, policy, record, request, take

from authz._pb.base_pb2 import HeaderMap, HeaderValue
from authz._pb.check_pb2 import CheckRequest
from authz.adapters.decision_log import DecisionLog
from authz.adapters.logs import KeyMask
from authz.adapters.policy_file.loader import load_policy
from authz.core.check import Allow, Bucket, Deny, KeyRecord, Lookup, Principal, RequestAttributes, Take, TakeOutcome
from authz.core.decision import conclude, plan
from authz.core.errors import DenyReason
from authz.core.policy.policy import Policy
from authz.demo.servers import shipped
from authz.edge.check.attributes import AttributesReader
from authz.edge.check.responses import ResponseWriter
from authz.edge.h2.blocks import HeaderBlocks
from authz.edge.h2.limits import Limits
from authz.edge.h2.wire import ConnectionFault, StreamFault

KIB = 1024
Run = Callable[[], object]

_MAP_ENTRIES_MAX = 1000
_SHIPPED = load_policy(shipped("policies/truetick.yaml"))
_NUMBERS = count()
_NAMES = (
    b"account_id accountId Account-Id _method method account id & ; = + % %61 %26 %00 %e2%84%80 %c3%a9 [ ] . \\ a x=1&"
)


@dataclass(frozen=True)
class Parser:
    """One parser. `prepare` makes what is measured of a text of at most `bytes_max` bytes, built of the atoms."""

    name: str
    bytes_max: int
    atoms: tuple[bytes, ...]
    prepare: Callable[[bytes], Run]


def _decide(table: Policy, attributes: RequestAttributes) -> Allow | Deny:
    planned = plan(table, attributes)
    if not isinstance(planned, Lookup):
        return planned
    keyed = KeyRecord(record().state, 1, "key_1", "acct_1", frozenset(table.scopes))
    return conclude(planned, Take(TakeOutcome.GRANTED, keyed, Bucket.of(table.limit, 100)))


def _target(method: str, form: str, table: Policy = _SHIPPED) -> Callable[[bytes], Run]:
    def prepare(text: bytes) -> Run:
        attributes = request(method, form.format(text.decode("latin-1")), KEY)
        return lambda: _decide(table, attributes)

    return prepare


def _body(text: bytes) -> Run:
    attributes = request("POST", "/v1/servers", KEY, body=text, has_body=True)
    return lambda: _decide(_SHIPPED, attributes)


def _key(text: bytes) -> Run:
    attributes = request("GET", "/v1/whoami", text.decode("latin-1"))
    return lambda: _decide(_SHIPPED, attributes)


def _keys(text: bytes) -> Run:
    attributes = request("GET", "/v1/whoami", *[it.decode("latin-1") for it in text.split(b"\n")])
    return lambda: _decide(_SHIPPED, attributes)


def _method(text: bytes) -> Run:
    attributes = request(text.decode("latin-1"), "/v1/whoami", KEY)
    return lambda: _decide(_SHIPPED, attributes)


def _headers(text: bytes, *, raw: bool) -> Run:
    """A line of the text is a header, `name:value`."""
    pairs = [line.partition(b":")[::2] for line in text.split(b"\n")]
    sent = CheckRequest()
    http = sent.attributes.request.http
    if raw:
        headers = [HeaderValue(key=name.decode("latin-1"), raw_value=value) for name, value in pairs]
        http.header_map = HeaderMap(headers=headers).SerializeToString()
    else:
        # Repeated names are joined already. Envoy accepts 100 headers by default; protobuf itself takes long for many.
        for number, (name, value) in enumerate(pairs[:_MAP_ENTRIES_MAX]):
            http.headers[f"{name.decode('latin-1')}{number:x}"] = value.decode("latin-1")
    message, reader = sent.SerializeToString(), AttributesReader(KEYS)

    def read() -> None:
        with suppress(DecodeError):
            reader.read(CheckRequest.FromString(message))

    return read


def _answer(text: bytes) -> Run:
    attributes = request("GET", "/v1/whoami", KEY)
    name = text.decode("latin-1")
    deny = Deny(
        DenyReason.SCOPE_MISSING, None, Principal(name[:128], name[:128], frozenset({"a"})), take().bucket, (name,)
    )
    return lambda: ResponseWriter(policy()).write(attributes, deny)


def _log(text: bytes) -> Run:
    attributes, mask = request(text.decode("latin-1"), "/v1/whoami", KEY), KeyMask(KEYS.format.pattern)

    def write(fields: dict[str, Any]) -> None:
        mask(orjson.dumps(fields))

    def run() -> None:
        # A log of its own for each run: later denials of the same kind are suppressed.
        log = DecisionLog(write, sample=1, chance=lambda: 0)
        log.decided([(1, attributes, Deny(DenyReason.METHOD_REFUSED))], 0.001)

    return run


def _block(text: bytes) -> Run:
    """A line of the text is a field, encoded as Envoy does without a table."""
    encoder = Encoder()
    encoder.header_table_size = 0
    fields = [line.partition(b":")[::2] for line in text.split(b"\n")]
    return _raw_block(bytes(encoder.encode(fields, huffman=next(_NUMBERS) % 2 == 0)))


def _raw_block(block: bytes) -> Run:
    limits = Limits()

    def decode() -> None:
        blocks = HeaderBlocks({}, limits.header_list_bytes_max)
        blocks.forbid_table()
        try:
            blocks.fields(block)
        except (StreamFault, ConnectionFault):
            return

    return decode


def _atoms(text: bytes, *others: bytes) -> tuple[bytes, ...]:
    return (*text.split(), *others)


_SEGMENTS = _atoms(rb"/ . : a %61 %3A %e2%84%80 %cc%81 %f0%9f%98%80 v1 servers .a / ~ %")
_SERVICES = _atoms(rb". a truetick admin v1 truetick. / : A.")
_PAIRS = _atoms(
    rb"account_id accountId Account-Id _method method account id & ; = + % %61 %26 %00 %e2%84%80 %c3%a9 [ ] . \ a x=1&"
)
_JSON = _atoms(
    rb"""{ } [ ] , : " \ 0 9 1e9 1. -1 true null {}, [], "", 0, "a":0, "accountId" "a" \u0061 \ud800 ' account {"":
    "accountId":"a", [[ {"a":{ \n 1e9, [[]], {"a":{}}, "\u0041", 9999999999999999999, {"a":[{},{}]}, 1e-300,""",
    b" ",
    b"\n",
)
_FIELDS = _atoms(
    rb"a x-api-key : content-type:application/json x_y: transfer-encoding:chunked cookie: x-envoy-external-address:",
    *(b"\n", b"\n:\n", b"a:b\n", b"x-original-url:/\n", b"content-type:a\n", b"x_http_method:\n", b"\xff"),
)
_BLOCKS = (b"\x82", b"\x00\x01a\x01b", b"\x00", b"\x20", b"\xff", b"\x7f", b"\x00\x81\x1f\x81\x1f")
_OWN_BODY = b'{"accountId": "acct_1", '

PARSERS = (
    Parser("path", 8 * KIB + 2, _SEGMENTS, _target("GET", "/{}")),
    Parser("gRPC path", 8 * KIB + 2, _SERVICES, _target("POST", "/truetick.{}")),
    Parser("path of 60 KiB", 60 * KIB, _SEGMENTS, _target("GET", "/{}")),
    Parser("bound path", 8 * KIB, _SEGMENTS, _target("GET", "/v1/accounts/{}/wallet")),
    Parser("bound query", 8 * KIB, _PAIRS, _target("GET", "/v1/servers?account_id={}")),
    Parser("bound query of 60 KiB", 60 * KIB, _PAIRS, _target("GET", "/v1/servers?{}")),
    Parser("other query", 60 * KIB, _PAIRS, _target("GET", "/v1/regions?{}")),
    Parser("public query", 60 * KIB, _PAIRS, _target("POST", "/v1/public/login?{}")),
    Parser("body", 64 * KIB, _JSON, lambda text: _body(b'{"a":' + text)),
    Parser("array in a body", 64 * KIB, _JSON, lambda text: _body(_OWN_BODY + b'"a":[' + text[:-64] + b"0]}")),
    Parser("names in a body", 64 * KIB, _JSON, lambda text: _body(_OWN_BODY + text[:-64] + b'"b":0}')),
    Parser("key", 60 * KIB, (b"ttk_", b"a", b"0", b"\xff", KEY.encode()), _key),
    Parser("keys", 60 * KIB, (b"ttk_", b"\n", KEY.encode(), b"\xff"), _keys),
    Parser("method", 60 * KIB, (b"GET", b"a", b"\xff"), _method),
    Parser("header map", 64 * KIB, _FIELDS, lambda text: _headers(text, raw=True)),
    Parser("headers as text", 64 * KIB, _FIELDS, lambda text: _headers(text, raw=False)),
    Parser("answer", 4 * KIB, (b"a", b"\xff", b'"', b"\\", b"{scope}"), _answer),
    Parser("decision log line", 60 * KIB, (b"GET", b"ttk_", b"\xff", b'"', b"a", b"ttk_0", b"0" * 48 + b"!"), _log),
    Parser("HTTP/2 fields", 64 * KIB, _FIELDS, _block),
    Parser("HTTP/2 block", 64 * KIB, _BLOCKS, _raw_block),
)
