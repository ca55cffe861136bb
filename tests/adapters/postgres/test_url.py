"""A libpq URL: what of it is honoured, what is refused by name, and that no fault quotes a password."""

import socket
from pathlib import Path

import pytest

from authz.adapters.postgres.pool import Postgres
from authz.adapters.postgres.url import Host, Keepalive, read_postgres_url
from authz.core.errors import StoreUnavailable
from authz.settings import Settings


async def assert_unavailable(postgres: Postgres, why: str) -> None:
    """Assert that the pool says why it cannot connect, without the password hunter2."""
    await postgres.start()
    with pytest.raises(StoreUnavailable, match=why) as raised:
        async with postgres.transaction():
            pass
    assert "hunter2" not in str(raised.value)
    await postgres.close()


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://u:p@db/authz", [Host("db", None)]),
        ("postgres://db:6000", [Host("db", 6000)]),
        ("postgresql://a:1,b:2,c/x", [Host("a", 1), Host("b", 2), Host("c", None)]),
        ("postgresql://u@[::1]:5433,[fe80::2]/x", [Host("::1", 5433), Host("fe80::2", None)]),
        ("postgresql:///x?host=/run/a,db2&port=1,2", [Host("/run/a", 1), Host("db2", 2)]),
        ("postgresql://u@/x?host=/run/a", [Host("/run/a", None)]),
        ("postgresql://a,b/x?port=7", [Host("a", 7), Host("b", 7)]),
        ("postgresql:///x", []),
        ("postgresql://:6000/x", [Host("localhost", 6000)]),
        ("postgresql://%2Frun%2Fa:5433,%2Frun%2Fb,c:1/x", [Host("/run/a", 5433), Host("/run/b", None), Host("c", 1)]),
        ("postgresql://[fe80::1%25eth0]:1/x", [Host("fe80::1%eth0", 1)]),
        (" postgresql://h:1/x\r\n", [Host("h", 1)]),
    ],
)
def test_the_servers_of_a_url_are_tried_one_by_one(url: str, hosts: list[Host]) -> None:
    assert list(read_postgres_url(url).hosts) == hosts


def test_what_the_driver_knows_reaches_it_and_the_rest_is_ours() -> None:
    url = read_postgres_url(
        "postgresql://u:p%2F%40@h/db?sslmode=verify-full&sslrootcert=/ca.pem&application_name=x&connect_timeout=3"
        "&keepalives_idle=7&keepalives_interval=8&keepalives_count=9&tcp_user_timeout=1000&target_session_attrs=primary"
        "&client_encoding=UTF8&gssencmode=disable&channel_binding=prefer&options=-c%20search_path%3Dauthz"
    )
    assert url.dsn == "postgresql://u:p%2F%40@h/db?sslmode=verify-full&sslrootcert=%2Fca.pem"
    assert url.startup == {"application_name": "x", "options": "-c search_path=authz"}
    assert url.keepalive == Keepalive(True, 7, 8, 9, 1000)
    assert url.connect_s == 3
    assert "p%2F" not in repr(url)


def test_a_plus_is_a_plus() -> None:
    url = read_postgres_url("postgresql://h/db?password=a+b&sslrootcert=/c++/ca.pem&application_name=x+y")
    assert url.dsn == "postgresql://h/db?password=a%2Bb&sslrootcert=%2Fc%2B%2B%2Fca.pem"
    assert url.startup["application_name"] == "x+y"


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("sslcrldir=/x", "sslcrldir is not supported"),
        ("require_auth=scram-sha-256", "require_auth is not supported"),
        ("hostaddr=10.0.0.1", "hostaddr is not supported"),
        ("statement_timeout=5", "statement_timeout is not supported; a server's setting is set with options"),
        ("target_session_attrs=standby", "target_session_attrs is supported with any, primary, read-write only"),
        ("target_session_attrs=prefer-standby", "target_session_attrs"),
        ("channel_binding=require", "channel_binding is supported with disable, prefer only"),
        ("gssencmode=require", "gssencmode"),
        ("load_balance_hosts=random", "load_balance_hosts"),
        ("sslrootcert=system", "sslrootcert must name a file"),
        ("sslmode=verify", "sslmode is supported with allow, disable"),
        ("sslnegotiation=first", "sslnegotiation is supported with direct, postgres only"),
        ("ssl_min_protocol_version=1.2", "ssl_min_protocol_version is supported with TLSv1"),
        ("user=a%00b", "%00 is no character"),
        ("connect_timeout=soon", "connect_timeout must be a whole number"),
        ("keepalives_idle=-1", "keepalives_idle must be a whole number"),
        ("keepalives_idle=32768", "keepalives_idle must be a whole number of at most 32767"),
        ("keepalives_count=128", "keepalives_count must be a whole number of at most 127"),
        ("application_name=a\nb", "a line end or another control character"),
        ("hunter2", "not of the form name=value"),
        ("Hunter2!=1", "the parameter … is not supported"),
    ],
)
def test_a_parameter_that_cannot_be_honoured_is_refused_by_name(parameter: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        read_postgres_url(f"postgresql://u:secret@h/db?{parameter}")
    assert "secret" not in str(raised.value)
    assert "unter2" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hun/ter2@h/db",
        "postgresql://u:hun#ter2@h/db",
        "postgresql://u:hun@ter2@h/db",
        "postgresql://u:hun?ter2@h/db",
        "postgresql://u:hun%ter2@h/db",
        "postgresql://u:hunter2%@h/db",
        "postgresql://u:12/34hunter2@h/db",
        "postgresql://u:12?34hunter2@h/db",
        "postgresql://u:hun:ter2/@h/db",
        "postgresql://u@h:hunter2/db",
        "postgresql://u:hunter2\u2100@h/db",
        "postgresql://u:[hunter2]@h/db",
        "postgresql://u:hunter2[@h/db",
    ],
)
def test_a_password_that_needs_escapes_is_explained_and_not_quoted(url: str) -> None:
    with pytest.raises(ValueError, match=r"percent-encode / as %2F|name=value") as raised:
        read_postgres_url(url)
    for part in ("hun", "ter2", "34"):
        assert part not in str(raised.value)


@pytest.mark.parametrize("url", ["host=db user=u password=hunter2", "mysql://u:hunter2@h", "", "hunter2"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must be postgresql://") as raised:
        read_postgres_url(url)
    assert "hunter2" not in str(raised.value)


def test_keepalives_are_set_on_tcp_and_left_alone_elsewhere() -> None:
    with socket.socket() as tcp:
        Keepalive(idle_s=7).apply(tcp)
        assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7
    with socket.socket(socket.AF_UNIX) as unix:
        Keepalive().apply(unix)
        assert not unix.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A service file that libpq would read."""
    file = tmp_path / "services"
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    file.write_text("# mine\n[authz]\nhost=standby,primary\nport=5433\nuser=u\npassword=50%hunter2\nsslmode=require\n")
    return file


def test_a_service_adds_what_the_url_leaves_out(services: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = read_postgres_url("postgresql:///db?service=authz&sslmode=verify-full")
    assert list(url.hosts) == [Host("standby", 5433), Host("primary", 5433)]
    assert url.dsn.endswith("/db?user=u&password=50%25hunter2&sslmode=verify-full")
    monkeypatch.setenv("PGSERVICE", "authz")
    assert list(read_postgres_url("postgresql://mine/db").hosts) == [Host("mine", 5433)]
    services.write_text("[authz]\npassword=hunter2\nsslcrldir=/x\n")
    with pytest.raises(ValueError, match="sslcrldir is not supported"):
        read_postgres_url("postgresql:///db?service=authz")


@pytest.mark.parametrize(("text", "why"), [("[another]\n", "not in the service file"), ("hunter2\n", "cannot be read")])
def test_a_service_that_cannot_be_read_is_a_fault_that_quotes_nothing(services: Path, text: str, why: str) -> None:
    services.write_text(text)
    with pytest.raises(ValueError, match=why) as raised:
        read_postgres_url("postgresql:///db?service=authz")
    assert "hunter2" not in str(raised.value)


def test_several_servers_of_the_environment_are_tried_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "a,b")
    monkeypatch.setenv("PGPORT", "1,2")
    assert list(read_postgres_url("postgresql:///db").hosts) == [Host("a", 1), Host("b", 2)]
    assert list(read_postgres_url("postgresql://:9/db").hosts) == [Host("a", 9), Host("b", 9)]


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("no.such.host.invalid", "the name of the host has no address"),
        ("a..b", "the name of the host cannot be one"),
        ("127.0.0.1:1", "Connection refused"),
        (f"/?host=/{'x' * 110}", "the path of the unix socket is too long"),
        ("127.0.0.1:1/db?sslmode=require&sslcert=/none", "No such file"),
    ],
)
async def test_why_a_connection_fails_is_said_without_a_value(where: str, why: str) -> None:
    at = "" if where.startswith("/") else "u:hunter2@"
    postgres = Postgres(f"postgresql://{at}{where}", deadline_s=1, pool_max=1)
    await assert_unavailable(postgres, why)


async def test_a_url_that_breaks_later_is_a_fault_without_its_value(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://u:hun#ter2@h/db")
    postgres = Postgres(file.read_text, deadline_s=1, pool_max=1)
    await postgres.start()
    with pytest.raises(StoreUnavailable, match="AUTHZ_POSTGRES_URL: the user or the password") as raised:
        async with postgres.transaction():
            pass
    assert not raised.value.transient
    assert "ter2" not in str(raised.value)
    file.unlink()
    with pytest.raises(StoreUnavailable, match=r"FileNotFoundError|percent-encode"):
        async with postgres.transaction():
            pass
    await postgres.close()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "AUTHZ_POSTGRES_URL_FILE: cannot be read: IsADirectoryError"),
        (b"\xff\xfep", "AUTHZ_POSTGRES_URL_FILE: cannot be read: UnicodeDecodeError"),
        (b"postgresql://u:hunter2@h/db\nmore", "AUTHZ_POSTGRES_URL: must be one line of text"),
        (b"", "AUTHZ_POSTGRES_URL: must be postgresql://"),
    ],
)
async def test_a_file_that_changes_into_something_else_is_named(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://u:hunter2@127.0.0.1:1/db")
    postgres = Postgres(Settings(postgres_url_file=file).reader("postgres_url"), deadline_s=1, pool_max=1)
    file.unlink()
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    await assert_unavailable(postgres, why)
