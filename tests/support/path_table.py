"""The table of path spellings in `data/paths.txt`, and a model of the most lenient backend."""

import re
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

_TABLE = Path(__file__).parents[1] / "data" / "paths.txt"


def spellings() -> list[tuple[str, str, str]]:
    """Every row as (method, spelling, canonical target)."""
    rows = (line.split() for line in _TABLE.read_text().splitlines() if not line.startswith("#"))
    return [(method, spelling.replace("\\s", " "), canonical) for method, spelling, canonical in rows]


def leniently_read(target: str) -> str:
    """Normalise a target like a backend that decodes repeatedly and then resolves all dot segments."""
    path = target.partition("?")[0].partition("#")[0]
    for _ in range(5):
        path = unquote_to_bytes(path).decode("latin-1")
    path = re.sub(r";[^/]*", "", path.replace("\\", "/"))
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in {"", "."}:
            segments.append(segment)
    return "/" + "/".join(quote(segment, safe=":$&'()*+,=@!", encoding="latin-1") for segment in segments)
