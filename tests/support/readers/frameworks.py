"""The frameworks: which of the names that they find count as the account, in the query, a form and a JSON body."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from support.readers import documents, pairs

_EXACT = frozenset({"account_id", "accountId"})
_Split = Callable[[str], Iterable[tuple[str, str]]]


@dataclass(frozen=True)
class Reader:
    """One framework. `split` finds pairs in queries and forms, `texts` decodes a JSON body in every way it may."""

    name: str
    split: _Split
    texts: Callable[[bytes], Iterable[str | None]]
    is_account: Callable[[str], bool] = _EXACT.__contains__
    merges: bool = False

    def read(self, query: str, content_type: str, body: bytes) -> list[str]:
        """Return every account id that a handler may get."""
        found = [value for name, value in self.split(query) if self.is_account(name)]
        if content_type.startswith("application/x-www-form-urlencoded"):
            return found + [value for name, value in self.split(body.decode("latin-1")) if self.is_account(name)]
        if content_type.startswith("multipart/"):
            return found + re.findall(r'name="?account_?[iI]d"?\r\n\r\n([^\r]*)', body.decode("latin-1"))
        return found + list(self._in_json(body))

    def _in_json(self, body: bytes) -> Iterator[str]:
        for text in self.texts(body):
            for name, value in documents.members(text):
                if self.is_account(name):
                    yield from documents.flat(value)
                elif name == "__proto__" and self.merges:
                    yield from documents.flat([it for key, it in _members(value) if self.is_account(key)])


def _members(value: Any) -> list[tuple[str, Any]]:  # noqa: ANN401 -- any JSON value
    return [item for item in value if isinstance(item, tuple)] if isinstance(value, list) else []


def _any_case(name: str) -> bool:
    return name.upper().casefold() in {"account_id", "accountid"}


def _php_name(name: str) -> bool:
    return name.split("\x00", maxsplit=1)[0] in _EXACT


READERS = (
    Reader("PHP", pairs.php, lambda body: [documents.utf8(body)], _php_name),
    Reader("Rails", pairs.rack, lambda body: [documents.utf8(body), documents.relaxed(documents.utf8(body))]),
    Reader("Express", pairs.qs, lambda body: [documents.guessed(body), documents.replaced(body)], merges=True),
    Reader(
        "ASP.NET",
        pairs.aspnet,
        lambda body: [documents.guessed(body), documents.relaxed(documents.guessed(body))],
        _any_case,
    ),
    Reader("Spring", pairs.spring, lambda body: [documents.guessed(body), documents.relaxed(documents.guessed(body))]),
    Reader("Spring, any case", pairs.spring, lambda body: [documents.guessed(body)], _any_case),
    Reader("Django", pairs.django, lambda body: [documents.guessed(body)]),
    Reader(
        "Go",
        pairs.go,
        lambda body: [documents.replaced(body), documents.first_of_stream(documents.replaced(body))],
        _any_case,
    ),
    Reader("grpc-gateway", pairs.gateway, lambda body: [documents.utf8(body)]),
    Reader("lenient", pairs.proxy, lambda body: [documents.dropped(body), documents.relaxed(documents.dropped(body))]),
)
