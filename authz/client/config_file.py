"""Reads and writes `~/.truetick/config.json`, which only its owner can read at any time.

Environment variables and options that override it are `choices.py`.
"""

import fcntl
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from authz.client.faults import Fault

_FILE = "config.json"
_DRAFT = "config.json.new"
_FOLDER_MODE, _FILE_MODE = 0o700, 0o600
_FILE_BYTES_MAX = 65_536
_URL_FIELD, _KEY_FIELD = "baseUrl", "apiKey"
# Earlier versions of this command wrote these; a save replaces them.
_OLD_FIELDS = {_URL_FIELD: "api_url", _KEY_FIELD: "api_key"}
_SECRET_NAME = re.compile(r"key|token|secret|pass|pwd|credential|session|cookie|auth|bearer|jwt", re.IGNORECASE)
# An API key, a JSON web token, or a URL with a user or a password.
_SECRET_VALUE = re.compile(r"[A-Za-z]+_[0-9A-Za-z]{32,}|eyJ[\w-]+\.[\w-]+\.|://[^/\s]*@")
_KEY = re.compile(r"[\x21-\x7e]{1,512}")  # what a header can carry

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # opening a FIFO must not block
_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def is_key(text: str) -> bool:
    """Return whether a text can be sent as a key in a header."""
    return _KEY.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Saved:
    """The saved URL of the API and the key that it issued. Either may be empty."""

    url: str = ""
    api_key: str = field(default="", repr=False)


class ConfigFile:
    """The config file in its folder. Each method raises `Fault` for an error of the file system.

    Symbolic links are refused, so that another user cannot redirect a read or a write.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / _FILE

    def load(self) -> Saved:
        """Return the saved values; empty ones without a file."""
        with self._failing("read"):
            try:
                with self._opened() as folder:
                    fields = self._read(folder)
            except FileNotFoundError:
                return Saved()
        saved = _saved(fields)
        if saved is None:
            raise self._invalid()
        return saved

    def prepare(self) -> None:
        """Check that a key can be saved, before one is requested that is shown only once."""
        with self._locked() as folder:
            self._read(folder)
            _drafted(folder, b"")
            os.unlink(_DRAFT, dir_fd=folder)

    def save(self, saved: Saved) -> None:
        """Save a URL and a key, in place of the previous ones."""
        self._change(lambda fields: _migrated(fields) | {_URL_FIELD: saved.url, _KEY_FIELD: saved.api_key})

    def forget_secrets(self) -> Saved:
        """Delete the key and every field that may contain a secret, and return what was saved; other fields stay.

        Without a file, nothing is created. A file that other users can read is changed too, and is private afterwards.
        """
        with self._failing("write"):
            try:
                with self._opened() as folder:
                    fields = self._read(folder, private=False)
            except FileNotFoundError:
                return Saved()
        if _without_secrets(fields).keys() != fields.keys():
            self._change(_without_secrets, private=False)
        return _saved(fields) or Saved()

    def _change(self, change: Callable[[dict[str, Any]], dict[str, Any]], *, private: bool = True) -> None:
        """Replace the file atomically; unknown fields are kept."""
        with self._locked() as folder:
            text = json.dumps(change(self._read(folder, private=private)), indent=2) + "\n"
            try:
                _drafted(folder, text.encode())
                os.rename(_DRAFT, _FILE, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:  # also for Ctrl-C: no incomplete draft remains
                with suppress(FileNotFoundError):
                    os.unlink(_DRAFT, dir_fd=folder)
                raise
            os.fsync(folder)

    def _read(self, folder: int, *, private: bool = True) -> dict[str, Any]:
        """Return the fields of the file; with `private`, only of one that no other user can read."""
        try:
            file = os.open(_FILE, _READ_FLAGS, dir_fd=folder)
        except FileNotFoundError:
            return {}
        with os.fdopen(file, "rb") as opened:
            found = os.fstat(opened.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise Fault(f"{self.path} is not a file")
            if found.st_uid != os.geteuid():
                raise Fault(f"{self.path} belongs to another user")
            if private and found.st_mode & 0o077:
                raise Fault(
                    f"{self.path} can be read by other users: chmod 600 it, and revoke its key if somebody has read it"
                )
            content = opened.read(_FILE_BYTES_MAX)
        if not content.strip():
            return {}
        try:
            fields = json.loads(content)
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise self._invalid()
        return fields

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Create the folder if it is missing, and hold a lock against other commands."""
        with self._failing("write"):
            with suppress(FileExistsError):
                self._folder.mkdir(mode=_FOLDER_MODE)
            with self._opened() as folder:
                os.fchmod(folder, _FOLDER_MODE)
                fcntl.flock(folder, fcntl.LOCK_EX)
                yield folder

    @contextmanager
    def _opened(self) -> Iterator[int]:
        folder = os.open(self._folder, _FOLDER_FLAGS)
        try:
            if os.fstat(folder).st_uid != os.geteuid():
                raise Fault(f"{self._folder} belongs to another user")
            yield folder
        finally:
            os.close(folder)

    def _invalid(self) -> Fault:
        return Fault(f"{self.path} is invalid: remove it and log in again")

    @contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Fault(f"cannot {what} {self.path}: {error.strerror}") from error
        except RecursionError:
            raise self._invalid() from None


def _saved(fields: dict[str, Any]) -> Saved | None:
    """Return the URL and the key in these fields, or None if one is neither missing nor valid."""
    url, key = (fields.get(name) or fields.get(old) or "" for name, old in _OLD_FIELDS.items())
    if not isinstance(url, str) or not isinstance(key, str) or (key and not is_key(key)):
        return None
    return Saved(url, key)


def _migrated(fields: dict[str, Any]) -> dict[str, Any]:
    """Rename the fields of earlier versions; other fields, which the published command may know, stay."""
    new = {name: fields[old] for name, old in _OLD_FIELDS.items() if old in fields}
    return new | {name: value for name, value in fields.items() if name not in _OLD_FIELDS.values()}


def _without_secrets(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in _migrated(fields).items() if not _may_be_secret(name, value)}


def _may_be_secret(name: str, value: Any) -> bool:  # noqa: ANN401 -- any JSON
    left = [(name, value)]
    while left:
        inner, it = left.pop()
        if _SECRET_NAME.search(inner) or (isinstance(it, str) and _SECRET_VALUE.search(it)):
            return True
        if isinstance(it, dict):
            left += it.items()
        elif isinstance(it, list):
            left += [("", each) for each in it]
    return False


def _drafted(folder: int, content: bytes) -> None:
    """Write the draft to disk with mode 0600 from its creation; a draft left by a crash is removed."""
    with suppress(FileNotFoundError):
        os.unlink(_DRAFT, dir_fd=folder)
    with os.fdopen(os.open(_DRAFT, _WRITE_FLAGS, _FILE_MODE, dir_fd=folder), "wb") as draft:
        os.fchmod(draft.fileno(), _FILE_MODE)
        draft.write(content)
        draft.flush()
        os.fsync(draft.fileno())
