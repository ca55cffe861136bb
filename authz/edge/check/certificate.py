"""The end of the validity of certificates, read from their DER (RFC 5280, section 4.1).

Only the dates are read: the TLS library verifies everything else.
"""

import ssl
from datetime import UTC, datetime

FILE_BYTES_MAX = 1_048_576
"""The most bytes of a certificate file that are read."""

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_VERSION, _UTC_TIME, _LONG_LENGTH = 0xA0, 0x17, 0x80
_BEFORE_VALIDITY = 3  # the serial number, the algorithm and the issuer


def earliest_end_s(pem: bytes) -> float:
    """Return when the first certificate of a chain ends, in Unix time; raises `ValueError` if there is none."""
    blocks = pem[:FILE_BYTES_MAX].decode("latin-1").split(_BEGIN)[1:]
    ends = [_end_s(ssl.PEM_cert_to_DER_cert(f"{_BEGIN}{block.partition(_END)[0]}{_END}\n")) for block in blocks]
    if not ends:
        raise ValueError("no certificate")
    return min(ends)


def _end_s(der: bytes) -> float:
    _, certificate, _ = _element(der)
    _, fields, _ = _element(certificate)
    tag, _, rest = _element(fields)
    if tag == _VERSION:
        fields = rest
    for _ in range(_BEFORE_VALIDITY):
        _, _, fields = _element(fields)
    _, validity, _ = _element(fields)
    _, _, after = _element(validity)
    tag, text, _ = _element(after)
    digits = text.decode("ascii")
    if tag == _UTC_TIME:  # RFC 5280: years from 50 on are of the last century
        digits = f"{'19' if digits[:2] >= '50' else '20'}{digits}"
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """Return the tag and the content of the first element, and what follows it; raises `ValueError`."""
    if len(der) < 2:  # noqa: PLR2004 -- a tag and a length
        raise ValueError("a certificate ends too early")
    size, start = der[1], 2
    if size >= _LONG_LENGTH:
        start += size - _LONG_LENGTH
        size = int.from_bytes(der[2:start])
    if start + size > len(der):
        raise ValueError("a certificate ends too early")
    return der[0], der[start : start + size], der[start + size :]
