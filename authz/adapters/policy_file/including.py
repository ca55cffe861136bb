"""Puts a policy together of its file and the files that it includes, and finds the file and line of a place in it.

What the fields are is `document.py` and `fragment.py`; what they mean together is `loader.py`.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from stat import S_ISREG

from authz.adapters.policy_file import yaml
from authz.adapters.policy_file.document import Document, Routes, field_names
from authz.adapters.policy_file.fragment import Fragment
from authz.adapters.policy_file.states import Signature, State, signature, state
from authz.core.errors import PolicyError, Problem

FILES_MAX = 64
"""The most files of a policy."""

BYTES_MAX = 16 * 1024 * 1024
"""The most bytes of all files of a policy together."""

DEPTH_MAX = 8
"""The longest chain of files that include one another."""

_ATTEMPTS = 3
_GROUPS, _NAMED = "routes", ("scopes", "streams")
_Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class _File:
    """One file: its parsed text, and the state that it had before it was read."""

    path: Path
    root: yaml.Node
    content: Document | Fragment


@dataclass(slots=True)
class Files:
    """The files of one policy in the order of their inclusion, as they were read; `document` is all of them together.

    `states` has the state of every file that was looked at, also of one that cannot be read.
    """

    top: Path
    document: Document | None = None
    states: dict[Path, State] = field(default_factory=dict)
    _read: list[_File] = field(default_factory=list)
    _real: dict[str, Path] = field(default_factory=dict)
    _bytes: int = 0
    _origins: dict[_Place, tuple[_File, _Place]] = field(default_factory=dict)

    @property
    def signature(self) -> Signature:
        """The states of all files before they were read."""
        return tuple(self.states.items())

    def located(self, problems: Iterable[Problem]) -> list[Problem]:
        """Find the file, line and column of each problem of the whole document; those of one file are sorted."""
        found = []
        for problem in problems:
            origin = next((it for it in map(self._origins.get, _beginnings(problem.where)) if it), None)
            file, where = origin or (self._read[0], ())
            rest = problem.where[len(where) :] if origin else problem.where
            found.append((self._read.index(file), self._placed(file, replace(problem, where=(*where, *rest)))))
        return [problem for _, problem in sorted(found, key=lambda it: (it[0], it[1].line, it[1].column))]

    def place(self, where: _Place) -> str:
        """Return FILE:LINE of a place in the whole document."""
        (problem,) = self.located([Problem(where, "")])
        return f"{problem.file or self.top}:{problem.line}"

    def _placed(self, file: _File, problem: Problem) -> Problem:
        (placed,) = yaml.located(file.root, [problem])
        return placed if file is self._read[0] else replace(placed, file=str(file.path))

    def read(self) -> None:
        """Read all files; raises `PolicyError` with every fault of the first file that has any."""
        self._open(self.top, ())
        if signature(self.states) != self.signature:
            raise _ChangedError([Problem((), "the file changed while it was read", 1, 1)])
        self._put_together()

    def _open(self, path: Path, chain: tuple[Path, ...]) -> None:
        self.states[path] = state(path)
        self._real[os.path.realpath(path)] = path
        model: type[Document | Fragment] = Fragment if chain else Document
        try:
            text = yaml.text_of(path, BYTES_MAX - self._bytes)
            self._bytes += len(text.encode())
            root, content = yaml.read(text, model, field_names())
        except PolicyError as error:
            raise self._in(path, error) from None
        file = _File(path, root, content)
        self._read.append(file)
        for number, name in enumerate(content.include):
            included = self._included(file, name, chain, ("include", number))
            try:
                self._open(included, (*chain, path))
            except OSError as error:
                message = f"{included} cannot be read: {(error.strerror or str(error)).lower()}"
                raise self._fault(file, ("include", number), message) from None

    def _included(self, file: _File, name: str, chain: tuple[Path, ...], where: _Place) -> Path:
        """Return the path of an included file; raises `PolicyError` for one that must not be included."""
        path = Path(os.path.normpath(file.path.parent / name))
        folder = _absolute(self.top).parent
        real = os.path.realpath(path)
        if Path(name).is_absolute() or not _absolute(path).is_relative_to(folder):
            fault = "is outside of the folder of the policy"
        elif not Path(real).is_relative_to(os.path.realpath(folder)):
            fault = "leads outside of the folder of the policy"
        elif real in self._real:
            is_open = path in chain or path == file.path or self._real[real] in (*chain, file.path)
            fault = "includes itself, directly or by others" if is_open else "is included already"
        elif len(self._real) >= FILES_MAX:
            fault = f"is one file too many: {FILES_MAX} are the most"
        elif len(chain) + 1 >= DEPTH_MAX:
            fault = f"is included by a chain of {DEPTH_MAX} files, the longest that there may be"
        else:
            return self._checked(path, file, where)
        raise self._fault(file, where, f"{name} {fault}")

    def _checked(self, path: Path, file: _File, where: _Place) -> Path:
        """Return a path; raises `PolicyError` unless it is that of a plain file, whose reading ends."""
        self.states[path] = state(path)  # also of a file that is missing, so that its arrival is seen
        try:
            is_plain = S_ISREG(path.stat().st_mode)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or "a cycle of links"
            raise self._fault(file, where, f"{path} cannot be read: {reason.lower()}") from None
        if not is_plain:
            raise self._fault(file, where, f"{path} is no file")
        return path

    def _fault(self, file: _File, where: _Place, message: str) -> PolicyError:
        return PolicyError([self._placed(file, Problem(where, message))])

    def _in(self, path: Path, error: PolicyError) -> PolicyError:
        if path == self.top:
            return error
        return PolicyError([replace(it, file=it.file or str(path)) for it in error.problems])

    def _put_together(self) -> None:
        top, *others = self._read
        assert isinstance(top.content, Document)  # noqa: S101 -- it was read as one
        groups: list[Routes] = []
        named: dict[str, dict[str, object]] = {name: {} for name in _NAMED}
        for file in self._read:
            for number, group in enumerate(file.content.routes):
                self._origins[_GROUPS, len(groups)] = file, (_GROUPS, number)
                hosts = file.content.hosts if file is not top else None
                is_given = hosts is None or group.hosts is not None or group.access == "barred"
                groups.append(group if is_given else group.model_copy(update={"hosts": hosts}))
            for section in _NAMED:
                self._add(section, getattr(file.content, section), file, named[section])
        if not groups:
            raise PolicyError([Problem((), "routes is missing", 1, 1)])
        changed = {_GROUPS: groups, **named} if others else {}
        self.document = top.content.model_copy(update=changed)

    def _add(self, section: str, added: Mapping[str, object], file: _File, found: dict[str, object]) -> None:
        for name, value in added.items():
            if name in found:
                first = self._origins[section, name][0].path
                raise self._fault(file, (section, name), f"{name} is declared in {first}, too")
            self._origins[section, name] = file, (section, name)
            found[name] = value


class _ChangedError(PolicyError):
    """The files changed while they were read, so that what was read may be a mixture."""


def read_files(path: Path) -> Files:
    """Read a policy's file and all that it includes; raises `PolicyError`, which has the states of the files, too."""
    for _ in range(_ATTEMPTS):
        files = Files(path)
        try:
            files.read()
        except _ChangedError as error:
            fault: PolicyError = error
            continue
        except PolicyError as error:
            fault = error
        except OSError as error:
            fault = PolicyError([Problem((), f"cannot be read: {(error.strerror or str(error)).lower()}")])
        else:
            return files
        break
    raise PolicyError(fault.problems, str(path), files.signature) from None


def _absolute(path: Path) -> Path:
    """Return a path as it is named, because the links of a ConfigMap lead to another folder at each change."""
    return Path(os.path.abspath(path))  # noqa: PTH100 -- `resolve` follows links


def _beginnings(where: _Place) -> Iterator[_Place]:
    return (where[:length] for length in range(min(len(where), 2), 0, -1))
