"""A configuration is read from a file, standard input or an address, with limits on time and size."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from authz.adapters.envoy_config import source
from authz.adapters.envoy_config.document import UnreadableConfig
from authz.adapters.envoy_config.source import text_of


@contextmanager
def serving(parts: list[bytes], status: int = 200, *, location: str = "", stall: bool = False) -> Iterator[str]:
    ended = threading.Event()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            if location:
                self.send_header("location", location)
            self.end_headers()
            with suppress(OSError):  # the client has enough
                for part in parts:
                    self.wfile.write(part)
                    if stall and ended.wait(0.1):
                        return

        def log_message(self, *_args: object) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/config_dump"
    finally:
        ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def refused(where: str, timeout_s: float = 5) -> str:
    with pytest.raises(UnreadableConfig) as caught:
        text_of(where, timeout_s)
    return str(caught.value)


def test_files_standard_input_and_addresses_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / "a.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: 1")
    assert text_of(str(file)) == "a: 1"
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"b: 2")))
    assert text_of("-") == "b: 2"
    with serving([b'{"configs": ', b"[]}"]) as url:
        assert text_of(url) == '{"configs": []}'


def test_faults_are_named(folder: Path) -> None:
    assert "no such file" in refused(str(folder / "missing"))
    (folder / "latin").write_bytes(b"\xe9")
    assert refused(str(folder / "latin")) == "not UTF-8"
    assert "is a directory" in refused(str(folder))
    for scheme in ("ftp", "file", "gopher"):
        assert "http://" in refused(f"{scheme}://127.0.0.1/etc/passwd")
    assert "cannot be fetched" in refused("http://127.0.0.1:1/")
    with serving([], 404) as url:
        assert refused(url) == "the server answered 404"


def test_a_redirect_is_not_followed() -> None:
    with serving([b"{}"]) as target, serving([], 302, location=target) as url:
        assert refused(url) == "the server answered 302"


def test_slow_and_large_answers_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving([b"a"] * 100, stall=True) as url:
        assert refused(url, 0.3) == "the server is too slow"
    monkeypatch.setattr(source, "TEXT_BYTES_MAX", 1000)
    with serving([b"a" * 600, b"a" * 600]) as url:
        assert "larger than" in refused(url)
