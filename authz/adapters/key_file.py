"""Reads a file of keys of another system: CSV with a header line, or one JSON object in each line.

The file holds digests, never keys, and no value of a line is repeated in a message: where somebody mistook the column,
keys must not appear on a screen. What may be stored is `service/keys/importing.py`.
"""

import base64
import csv
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from authz.core.accounts import ForeignKey
from authz.core.errors import PolicyError, Problem
from authz.core.limits import Limit

FILE_BYTES_MAX = 128 << 20
LINES_MAX = 500_000
LINE_CHARS_MAX = 10_000
_COLUMNS = frozenset({"digest", "owner", "name", "scopes", "capacity", "refill_per_s", "plan", "expires_at", "hint"})
_NEEDED = ("digest", "owner", "name", "scopes")
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{43}=?")
_NUMBER = re.compile(r"(0|[1-9][0-9]{0,9})(\.[0-9]{1,9})?")


def read_keys(path: Path) -> list[ForeignKey]:
    """Return the keys of a file; raises `PolicyError` with every faulty line."""
    try:
        return keys_of(_text(path))
    except PolicyError as error:
        raise PolicyError(error.problems, str(path)) from None


def keys_of(text: str) -> list[ForeignKey]:
    """Return the keys of a text; raises `PolicyError` with every faulty line."""
    keys: list[ForeignKey] = []
    problems: list[Problem] = []
    for line, fields in _records(text):
        try:
            keys.append(_key(line, fields))
        except ValueError as error:
            problems.append(Problem((), str(error), line, 1))
    if problems:
        raise PolicyError(problems)
    return keys


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise _fault(f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(data) > FILE_BYTES_MAX:
        raise _fault(f"has more than {FILE_BYTES_MAX >> 20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _fault("not UTF-8") from None


def _records(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each line that is not blank, with its number."""
    records = _json_records(text) if text.lstrip()[:1] == "{" else _csv_records(text)
    for count, record in enumerate(records):
        if count >= LINES_MAX:
            raise _fault(f"has more than {LINES_MAX} lines")
        yield record


def _json_records(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(io.StringIO(text), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line) if len(line) <= LINE_CHARS_MAX else None
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise _fault("not one JSON object", number)
        if unknown := sorted(value.keys() - _COLUMNS):
            raise _fault(f"unknown field {unknown[0][:40]!r}; known are {', '.join(sorted(_COLUMNS))}", number)
        yield number, value


def _csv_records(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    names: list[str] = []
    try:
        for row in reader:
            if not any(row):
                continue
            if not names:
                names = [name.strip().lower() for name in row]
                if set(names) - _COLUMNS or len(set(names)) < len(names) or set(_NEEDED) - set(names):
                    known = ", ".join(sorted(_COLUMNS))
                    raise _fault(f"the first line must name the columns: {', '.join(_NEEDED)} and some of {known}")
                continue
            if len(row) != len(names):
                raise _fault(f"has {len(row)} fields instead of {len(names)}", reader.line_num)
            yield reader.line_num, dict(zip(names, row, strict=True))
    except csv.Error as error:
        raise _fault(f"not CSV: {error}", reader.line_num) from None


def _key(line: int, fields: dict[str, Any]) -> ForeignKey:
    """Return the key of one line; raises `ValueError`."""
    return ForeignKey(
        line=line,
        digest=_digest(_word(fields, "digest")),
        account_id=_word(fields, "owner"),
        name=_word(fields, "name"),
        scopes=_scopes(fields.get("scopes")),
        limit=_limit(fields.get("capacity"), fields.get("refill_per_s")),
        expires_at=_time(fields.get("expires_at")),
        hint=_word(fields, "hint") if fields.get("hint") else "",
        plan=_word(fields, "plan") if fields.get("plan") else "",
    )


def _word(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is missing")
    if len(value) > LINE_CHARS_MAX:
        raise ValueError(f"{name} is too long")
    if "\0" in value or not _is_text(value):
        raise ValueError(f"{name} has a character that cannot be stored")
    return value.strip()


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, from an escape in JSON
        return False
    return True


def _digest(text: str) -> bytes:
    text = text.removeprefix("sha256:")
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    if _BASE64.fullmatch(text):
        return base64.urlsafe_b64decode(f"{text.rstrip('=').replace('+', '-').replace('/', '_')}=")
    raise ValueError("digest is not a SHA-256 in 64 hexadecimal digits or in base64; is it a key instead?")


def _scopes(value: object) -> frozenset[str]:
    if isinstance(value, str):
        return frozenset(re.split(r"[\s;,]+", value.strip())) - {""}
    if isinstance(value, list) and all(isinstance(it, str) for it in value):
        return frozenset(value)
    raise ValueError("scopes is neither a text nor a list of texts")


def _limit(capacity: object, refill_per_s: object) -> Limit | None:
    if _is_absent(capacity) and _is_absent(refill_per_s):
        return None
    whole, fraction = _number(capacity), _number(refill_per_s)
    if whole is None or fraction is None or whole != int(whole):
        raise ValueError("capacity and refill_per_s belong together: a whole number, and a number")
    return Limit(int(whole), fraction)


def _is_absent(value: object) -> bool:
    return value is None or value == ""


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = str(value).strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def _time(value: object) -> datetime | None:
    if _is_absent(value):
        return None
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
        if at is not None and at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError("expires_at is not a time with its zone, such as 2027-01-31T12:00:00Z")


def _fault(message: str, line: int = 1) -> PolicyError:
    return PolicyError([Problem((), message, line, 1)])
