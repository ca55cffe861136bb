"""Models of how frameworks split and decode queries and forms; which names count is `frameworks.py`."""

import re
from collections.abc import Iterator

Pairs = list[tuple[str, str]]
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_WIDE_ESCAPE = re.compile("%u([0-9A-Fa-f]{4})")


def lenient(text: str, *, errors: str = "replace") -> str:
    """Decode what is an escape and leave the rest, as PHP, Python and .NET do."""
    raw = text.replace("+", " ").encode("latin-1", "replace")
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), raw).decode(errors=errors)


def overlong(text: str) -> str:
    """Decode as old decoders do that accept a letter in two bytes (C1 A1 for `a`)."""
    raw = _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), text.replace("+", " ").encode("latin-1", "replace"))
    return re.sub(rb"[\xc0\xc1]([\x80-\xbf])", lambda it: bytes([(it[0][0] & 1) << 6 | it[1][0] & 63]), raw).decode(
        "latin-1"
    )


def wide(text: str) -> str:
    """Decode `%u0061`, too, as classic ASP and `HttpUtility` do."""
    return lenient(_WIDE_ESCAPE.sub(lambda found: f"%{int(found[1], 16) % 256:02x}", text))


def strict(text: str) -> str | None:
    """Decode, or return None for a broken escape, as Go, Rack and Tomcat do."""
    if re.search("%(?![0-9A-Fa-f]{2})", text):
        return None
    return lenient(text)


def php(text: str) -> Iterator[tuple[str, str]]:
    """Yield names as `$_GET` has them: ends at NUL, `.` and blank become `_`, and so does a bracket left open."""
    for pair in text.split("&")[:1000]:
        raw, _, value = pair.partition("=")
        name = lenient(raw).split("\x00")[0].lstrip(" ")
        head, bracket, rest = name.partition("[")
        head = head.replace(".", "_").replace(" ", "_")
        yield (f"{head}_{rest}" if bracket and "]" not in rest else head), lenient(value)


def rack(text: str) -> Iterator[tuple[str, str]]:
    """Yield the top names of `params`: brackets around a name are dropped; older versions also split at `;`."""
    for separator in ("[&]", "[&;]"):
        for pair in re.split(f"{separator} *", text):
            raw, _, value = pair.partition("=")
            name, decoded = strict(raw), strict(value)
            found = None if name is None else re.match(r"[\[\]]*([^\[\]]+)\]*", name)
            if found and decoded is not None:
                yield found[1], decoded


def qs(text: str) -> Iterator[tuple[str, str]]:
    """Yield the top names of `req.query`, with dots allowed and prototypes reached where an application chose so."""
    for pair in text.split("&")[:1000]:
        mark = pair.find("]=")
        raw, value = (
            (pair[: mark + 1], pair[mark + 2 :]) if mark >= 0 else (pair.partition("=")[0], pair.partition("=")[2])
        )
        name = strict(raw) if strict(raw) is not None else raw.replace("+", " ")
        assert name is not None
        for key in (name, re.sub(r"\.([^.\[]+)", r"[\1]", name)):
            head, _, rest = key.partition("[")
            yield head, lenient(value)
            if head in {"__proto__", "constructor", "prototype"} or not head:
                for inner in re.findall(r"[^\[\]]+", rest):
                    yield inner, lenient(value)


def aspnet(text: str) -> Iterator[tuple[str, str]]:
    """Yield names as model binders compare them: without case, and without the brackets of jQuery."""
    for pair in text.split("&"):
        raw, _, value = pair.partition("=")
        for name in (lenient(raw), wide(raw)):
            yield re.sub(r"\[\d*\]", "", name).strip().casefold(), wide(value)


def spring(text: str) -> Iterator[tuple[str, str]]:
    """Yield names as data binders see them: `!name` sets a default, `name[0]` an element; broken pairs are dropped."""
    for pair in text.split("&"):
        raw, _, value = pair.partition("=")
        name, decoded = strict(raw), strict(value)
        if name is not None and decoded is not None:
            yield re.sub(r"\[.*?\]", "", name).removeprefix("!").removeprefix("_"), decoded
            yield name, decoded


def django(text: str) -> Iterator[tuple[str, str]]:
    """Yield names as `QueryDict` has them; older versions also split at `;`."""
    for separator in ("&", "[&;]"):
        for pair in re.split(separator, text):
            raw, _, value = pair.partition("=")
            yield lenient(raw), lenient(value)


def go(text: str) -> Iterator[tuple[str, str]]:
    """Yield names as `url.ParseQuery` has them: before Go 1.17 it split at `;`, since then such pairs are dropped."""
    old = re.split("[&;]", text)
    for pair in [*(pair for pair in text.split("&") if ";" not in pair), *old]:
        raw, _, value = pair.partition("=")
        name, decoded = strict(raw), strict(value)
        if name is not None and decoded is not None:
            yield name, decoded


def gateway(text: str) -> Iterator[tuple[str, str]]:
    """Yield fields as grpc-gateway fills them: `key[inner]=value` sets key to `inner` and `value`."""
    for name, value in go(text):
        found = re.fullmatch(r"(.*)\[(.*)\]", name, re.DOTALL)
        if found:
            yield found[1], found[2]
            yield found[1], value
        else:
            yield name, value


def proxy(text: str) -> Iterator[tuple[str, str]]:
    """Yield names of readers that decode before they split, decode twice, or decode overlong UTF-8."""
    for decoded in (lenient(text), lenient(lenient(text)), overlong(text)):
        for pair in re.split("[&;]", decoded):
            name, _, value = pair.partition("=")
            yield name.split("\x00")[0].strip(), value
