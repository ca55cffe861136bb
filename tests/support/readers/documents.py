"""Models of JSON readers: which encodings, names, duplicates and relaxations of the syntax they accept."""

import codecs
import json
import re
from typing import Any

Members = list[tuple[str, Any]]


class _Object(list[tuple[str, Any]]):
    pass


def members(text: str | None) -> Members:
    """Return the members of a JSON object, duplicates included; none for anything else."""
    if text is None:
        return []
    try:
        document = json.loads(text, object_pairs_hook=_Object, strict=False)
    except (ValueError, RecursionError):
        return []
    return list(document) if isinstance(document, _Object) else []


def utf8(body: bytes) -> str | None:
    """Decode strictly, as PHP and protojson do."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def replaced(body: bytes) -> str:
    """Decode with replacements, as Go does."""
    return body.decode(errors="replace")


def guessed(body: bytes) -> str | None:
    """Decode by byte order mark or zero bytes (RFC 4627 section 3), as Python, Jackson and .NET do."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):  # fmt: skip
        if body.startswith(mark):
            return body.decode(encoding, "replace")
    if body[1:2] == b"\x00":
        return body.decode("utf-16-le", "replace")
    return body.decode("utf-16-be" if body[:1] == b"\x00" else "utf-8", "replace")


def dropped(body: bytes) -> str:
    """Decode and drop what is not UTF-8, as lenient C parsers in effect do."""
    return body.decode(errors="ignore")


def first_of_stream(text: str) -> str:
    """Return the first document, as Go's `Decoder` reads it, whatever follows."""
    try:
        _, end = json.JSONDecoder(strict=False).raw_decode(text.lstrip())
    except (ValueError, RecursionError):
        return text
    return text.lstrip()[:end]


def relaxed(text: str | None) -> str | None:
    """Accept comments, single quotes, bare names and trailing commas, as Newtonsoft, Gson and JSON5 do."""
    if text is None:
        return None
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
    text = re.sub(r"'([^'\"]*)'", r'"\1"', text)
    text = re.sub(r"([{,]\s*)([A-Za-z_]\w*)(\s*:)", r'\1"\2"\3', text)
    return re.sub(r",(\s*[}\]])", r"\1", text)


def flat(value: Any) -> list[str]:  # noqa: ANN401 -- any JSON value
    """Return every text inside of a value."""
    if isinstance(value, _Object):
        return [text for _, inner in value for text in flat(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in flat(inner)]
    return [value] if isinstance(value, str) else []
