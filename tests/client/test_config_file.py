"""The saved key is its owner's alone at every moment, whole at every moment, and goes where it should."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clients.terminal import names

from authz.client.choices import Choices
from authz.client.config_file import ConfigFile, Saved
from authz.client.faults import Fault

SAVED = Saved("https://api.example", "ttk_secret")
WRITER = """
import sys
from pathlib import Path
from authz.client.config_file import ConfigFile, Saved
config = ConfigFile(Path(sys.argv[1]))
for number in range(60):
    name = sys.argv[2] * 3000
    config.save(Saved(f"https://{name}", "k" + sys.argv[2]))
    assert config.load().api_key in ("ka", "kb", "kc")
"""


@pytest.fixture
def config(folder: Path) -> ConfigFile:
    return ConfigFile(folder / ".truetick")


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.usefixtures("no_umask")
def test_a_saved_key_is_its_owners_alone(config: ConfigFile) -> None:
    config.save(SAVED)
    assert (mode(config.path.parent), mode(config.path)) == (0o700, 0o600)
    assert config.load() == SAVED
    assert names(config.path.parent) == ["config.json"]
    assert "ttk_secret" not in repr(SAVED)


@pytest.mark.usefixtures("no_umask")
def test_at_no_moment_is_a_file_open_to_others(config: ConfigFile, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[tuple[str, int]] = set()
    for name in ("open", "fchmod", "fsync", "rename", "flock"):
        module = __import__("fcntl") if name == "flock" else os
        original = getattr(module, name)

        def watching(*given: object, original: object = original, **named: object) -> object:
            result = original(*given, **named)  # type: ignore[operator]  # one of the functions above
            seen.update((path.name, mode(path)) for path in config.path.parent.glob("*"))
            return result

        monkeypatch.setattr(module, name, watching)
    config.save(SAVED)
    config.save(SAVED)
    assert seen == {("config.json", 0o600), ("config.json.new", 0o600)}


@pytest.mark.usefixtures("no_umask")
def test_a_folder_that_is_open_to_others_is_closed(config: ConfigFile) -> None:
    config.path.parent.mkdir(mode=0o777)
    config.save(SAVED)
    assert mode(config.path.parent) == 0o700


def test_a_file_that_others_can_read_is_not_used(config: ConfigFile) -> None:
    config.save(SAVED)
    config.path.chmod(0o644)
    for use in (config.load, config.prepare):
        with pytest.raises(Fault, match="can be read by other users: chmod 600 it"):
            use()


def test_a_logout_deletes_the_key_of_a_file_that_others_can_read(config: ConfigFile) -> None:
    config.save(SAVED)
    config.path.chmod(0o644)
    assert config.forget_secrets() == SAVED
    assert (json.loads(config.path.read_text()), mode(config.path)) == ({"baseUrl": SAVED.url}, 0o600)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jwt", "x"),
        ("bearer", "x"),
        ("pwd", "x"),
        ("baseUrl", "https://ada:hunter2@api.example"),
        ("note", "eyJhbGciOiJub25lIn0.e30.x"),
        ("note", "TTK_" + "0" * 49),
        ("profiles", [[[{"work": {"refreshToken": "x"}}]]]),
        ("apiKey", 5),
    ],
)
def test_a_logout_leaves_no_secret_of_any_shape(config: ConfigFile, name: str, value: object) -> None:
    config.save(SAVED)
    config.path.write_text(json.dumps({name: value, "theme": "dark"}))
    config.forget_secrets()
    assert json.loads(config.path.read_text()) == {"theme": "dark"}


@pytest.mark.parametrize("content", [b"[" * 60_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000])
def test_a_file_that_nests_too_deep_is_invalid(config: ConfigFile, content: bytes) -> None:
    config.save(SAVED)
    config.path.write_bytes(content)
    for use in (config.load, config.prepare, lambda: config.save(SAVED), config.forget_secrets):
        with pytest.raises(Fault, match="is invalid: remove it and log in again"):
            use()


@pytest.mark.parametrize("content", [b"", b"\n"])
def test_an_empty_file_holds_nothing(config: ConfigFile, content: bytes) -> None:
    config.save(SAVED)
    config.path.write_bytes(content)
    assert config.load() == Saved()
    config.save(SAVED)
    assert config.load() == SAVED


def test_a_link_in_the_files_place_is_neither_read_nor_written_through(config: ConfigFile, folder: Path) -> None:
    target = folder / "elsewhere.json"
    target.write_text('{"api_url": "https://evil.example", "api_key": "ttk_evil"}')
    target.chmod(0o600)
    config.path.parent.mkdir()
    config.path.symlink_to(target)
    for use in (config.load, config.prepare):
        with pytest.raises(Fault, match="cannot"):
            use()
    with pytest.raises(Fault):
        config.save(SAVED)
    assert "ttk_evil" in target.read_text()


def test_a_link_in_the_drafts_place_gives_way(config: ConfigFile, folder: Path) -> None:
    target = folder / "precious"
    target.write_text("as it was")
    config.path.parent.mkdir()
    config.path.with_name("config.json.new").symlink_to(target)
    config.save(SAVED)
    assert (config.load(), target.read_text()) == (SAVED, "as it was")


def test_a_folder_that_is_a_link_is_refused(config: ConfigFile, folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    config.path.parent.symlink_to(folder / "elsewhere")
    for use in (config.load, config.prepare, lambda: config.save(SAVED)):
        with pytest.raises(Fault, match=r"cannot (read|write) .*config\.json"):
            use()
    assert not names(folder / "elsewhere")


def test_what_is_not_a_file_is_refused_without_waiting(config: ConfigFile) -> None:
    config.path.parent.mkdir()
    os.mkfifo(config.path, 0o600)
    with pytest.raises(Fault, match="is not a file"):
        config.load()


def test_what_belongs_to_somebody_else_is_refused(config: ConfigFile, monkeypatch: pytest.MonkeyPatch) -> None:
    config.save(SAVED)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    for use in (config.load, config.prepare, lambda: config.save(SAVED)):
        with pytest.raises(Fault, match="belongs to another user"):
            use()


def test_a_file_of_somebody_elses_in_ones_own_folder_is_refused(
    config: ConfigFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.save(SAVED)
    owners = iter([os.getuid(), os.getuid() + 1])
    monkeypatch.setattr(os, "geteuid", lambda: next(owners))
    with pytest.raises(Fault, match=r"config\.json belongs to another user"):
        config.load()


def test_without_a_home_there_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(Fault, match="there is no home folder: set HOME"):
        Choices().config()


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"\xff", b'{"api_key": 1}', b'{"api_key": "two words"}', b'{"api_key": "a\\nb: c"}']
)
def test_what_cannot_be_understood_is_said_to_be_so(config: ConfigFile, content: bytes) -> None:
    config.save(SAVED)
    config.path.write_bytes(content)
    with pytest.raises(Fault, match="is invalid: remove it and log in again"):
        config.load()


def test_without_a_file_nothing_is_saved(config: ConfigFile) -> None:
    assert config.load() == Saved()
    config.prepare()
    assert config.load() == Saved()
    assert names(config.path.parent) == []


def test_forgetting_the_key_keeps_the_rest(config: ConfigFile) -> None:
    config.save(SAVED)
    fields = json.loads(config.path.read_text()) | {"theme": "dark"}
    config.path.write_text(json.dumps(fields))
    config.forget_secrets()
    assert json.loads(config.path.read_text()) == {"baseUrl": SAVED.url, "theme": "dark"}
    config.save(SAVED)
    assert json.loads(config.path.read_text())["theme"] == "dark"


def test_a_write_that_is_interrupted_leaves_what_was_there(config: ConfigFile, monkeypatch: pytest.MonkeyPatch) -> None:
    config.save(SAVED)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for name in ("fsync", "rename"):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                config.save(Saved("https://other.example", "ttk_other"))
        assert config.load() == SAVED
        assert names(config.path.parent) == ["config.json"]


def test_a_disk_that_is_full_leaves_what_was_there(config: ConfigFile, monkeypatch: pytest.MonkeyPatch) -> None:
    config.save(SAVED)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Fault, match=r"cannot write .*: No space left on device"):
        config.save(Saved("https://other.example", "ttk_other"))
    assert config.load() == SAVED


def test_writers_at_the_same_time_leave_one_whole_file(config: ConfigFile) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, config.path.parent, name]) for name in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    saved = config.load()
    assert saved.url == f"https://{saved.api_key[1] * 3000}"
    assert names(config.path.parent) == ["config.json"]
