"""The scopes of imported rows: what they are made of, and names that a policy accepts.

Two different sources never share a name, because a key for one would then have the rights of the other.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from unicodedata import normalize

from authz.core.imports.operation import Operation

_FOREIGN = re.compile(r"[^a-z0-9]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SCOPE = re.compile(r"[a-z][a-z0-9-]*(:[a-z][a-z0-9-]*)?")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_VERSION = re.compile(r"api|v[0-9]+[a-z0-9]*")
_SCOPE_CHARS_MAX = 64
_SLUG_CHARS_MAX = 40
_HASH_CHARS = 6
_TEXT_CHARS_MAX = 160


class ScopeBy(StrEnum):
    """What a row's scope is made of."""

    TAG = "tag"
    SECURITY = "security"
    X_AUTHZ = "x-authz"
    METHOD = "method"


@dataclass(slots=True)
class ScopeDraft:
    """A scope that imported rows need."""

    description: str
    write: bool = False


def slug(text: str) -> str:
    """Shorten any text to lower-case words with hyphens that begin with a letter; `api` if nothing is left."""
    plain = normalize("NFKD", _CAMEL.sub("-", text)).encode("ascii", "ignore").decode().lower()
    words = _FOREIGN.sub("-", plain).strip("-")[:_SLUG_CHARS_MAX].strip("-")
    if not words:
        return "api"
    return words if words[0].isalpha() else f"s-{words}"


@dataclass(slots=True)
class ScopeNames:
    """Makes scopes for operations. `drafts` holds those made, by name, in the order of their first use."""

    by: ScopeBy
    tags: Mapping[str, str] = field(default_factory=dict)
    described: Mapping[str, str] = field(default_factory=dict)
    drafts: dict[str, ScopeDraft] = field(default_factory=dict)
    _sources: dict[str, str] = field(default_factory=dict)

    def scope(self, operation: Operation) -> tuple[str, tuple[str, ...]]:
        """Return the name of an operation's scope, and the doubts about it."""
        if self.by is ScopeBy.SECURITY and (operation.needs and any(operation.needs)):
            return self._of_security(operation)
        if self.by is ScopeBy.X_AUTHZ and operation.wish is not None and operation.wish.scope:
            return self._of_wish(operation, operation.wish.scope)
        doubts: tuple[str, ...] = ()
        if self.by is ScopeBy.X_AUTHZ and operation.wish is None:
            doubts = ("no x-authz here: the scope is made of the tag",)
        elif self.by is ScopeBy.SECURITY:
            doubts = ("the description names no security here: the scope is made of the method",)
        by_tag = self.by in {ScopeBy.TAG, ScopeBy.X_AUTHZ}
        return self._of_source(operation, _resource(operation) if by_tag else ""), doubts

    def _of_source(self, operation: Operation, source: str) -> str:
        """Return `resource:read` or `resource:write`."""
        action = "write" if operation.is_write else "read"
        name = self._distinct(f"{slug(source)}:{action}", f"resource {source}:{action}")
        about = _shortened(self.tags.get(source, "") or source or "the whole API")
        self._draft(name, f"{'Change' if operation.is_write else 'Read'}: {about}", operation)
        return name

    def _of_security(self, operation: Operation) -> tuple[str, tuple[str, ...]]:
        """Return one scope for the first alternative. All that it needs make one scope of their own."""
        doubts = []
        alternatives = [names for names in operation.needs if names]
        if len(operation.needs) > 1:
            others = " or ".join(" and ".join(names) or "nothing" for names in operation.needs)
            doubts.append(f"the description accepts {others}: a row has one scope")
        needed = alternatives[0]
        if len(needed) > 1:
            doubts.append(f"the description needs all of {', '.join(needed)}: one scope stands for all of them")
        name = self._distinct(_scope_name(needed), f"security {' '.join(needed)}")
        about = "; ".join(self.described.get(it, "") or it for it in needed)
        self._draft(name, _shortened(about), operation)
        return name, tuple(doubts)

    def _of_wish(self, operation: Operation, wished: str) -> tuple[str, tuple[str, ...]]:
        name = self._distinct(_scope_name((wished,)), f"wish {wished}")
        self._draft(name, _shortened(self.described.get(wished, "") or wished), operation)
        return name, () if name == wished else (f"x-authz has the scope {wished}, which is no scope's name",)

    def _distinct(self, name: str, source: str) -> str:
        if self._sources.setdefault(name, source) == source:
            return name
        beginning = name[: _SCOPE_CHARS_MAX - _HASH_CHARS - 1].rstrip(":-")
        name = f"{beginning}-{sha256(source.encode()).hexdigest()[:_HASH_CHARS]}"
        self._sources.setdefault(name, source)
        return name

    def _draft(self, name: str, description: str, operation: Operation) -> None:
        draft = self.drafts.setdefault(name, ScopeDraft(description))
        draft.write |= operation.is_write


def _resource(operation: Operation) -> str:
    """Return the first tag, or else the first word of the path that is neither a version nor of the base path."""
    if operation.tags:
        return operation.tags[0]
    own = operation.path.removeprefix(operation.base)
    words = (word for word in own.split("/") if _WORD.fullmatch(word) and not _VERSION.fullmatch(word))
    return next(words, "")


def _scope_name(names: tuple[str, ...]) -> str:
    """Return a valid scope name; a name that is one already stays."""
    if len(names) == 1 and _SCOPE.fullmatch(names[0]) and len(names[0]) <= _SCOPE_CHARS_MAX:
        return names[0]
    if len(names) > 1:
        return slug("-and-".join(names))
    return slug(names[0])


def _shortened(text: str) -> str:
    """Return the first line of a text in printable characters, at most `_TEXT_CHARS_MAX` of them."""
    line = "".join(char if char.isprintable() else " " for char in text[: 2 * _TEXT_CHARS_MAX].strip())
    line = " ".join(line.split())
    return line if len(line) <= _TEXT_CHARS_MAX else f"{line[: _TEXT_CHARS_MAX - 1]}…"
