"""Valid values of AUTHZ_REDIS_URL, and error messages that never quote it."""

import asyncio

import pytest

from authz.adapters.redis.connection.primary import find_primary
from authz.adapters.redis.connection.url import Address, Form, read_url


def test_a_url_of_one_server_is_left_to_redis_py() -> None:
    for text in (
        "redis://127.0.0.1:6379/0",
        "rediss://u:p@h/1?ssl_ca_certs=/ca.pem",
        "unix:///run/a@b/redis.sock?db=1",
    ):
        assert (read_url(text).form, read_url(text).text) == (Form.SERVER, text)


def test_sentinels_and_what_they_lead_to_have_urls_of_their_own() -> None:
    url = read_url(
        "rediss+sentinel://u:p%40s@s1,s2:5000,[::1]:5001/main/3"
        "?sentinel_username=w&sentinel_password=a%2Fb%3F&ssl_ca_certs=/ca.pem"
    )
    assert (url.form, url.name) == (Form.SENTINEL, "main")
    assert url.nodes == (Address("s1", 26379), Address("s2", 5000), Address("::1", 5001))
    assert url.server_url(Address("10.0.0.1", 6379)) == "rediss://u:p%40s@10.0.0.1:6379/3?ssl_ca_certs=%2Fca.pem"
    assert url.sentinel_url(url.nodes[2]) == "rediss://w:a%2Fb%3F@[::1]:5001/0?ssl_ca_certs=%2Fca.pem"


def test_sentinels_are_not_given_the_password_of_the_servers() -> None:
    url = read_url("redis+sentinel://u:p@s1:5000/main")
    assert url.sentinel_url(url.nodes[0]) == "redis://s1:5000/0"
    assert url.server_url(Address("h", 1)) == "redis://u:p@h:1/0"


@pytest.mark.parametrize("end", ["", "/", "/0"])
def test_a_cluster_is_named_by_some_of_its_nodes(end: str) -> None:
    url = read_url(f"redis+cluster://:p@n1:7000,n2{end}")
    assert (url.form, url.nodes) == (Form.CLUSTER, (Address("n1", 7000), Address("n2", 6379)))
    assert url.server_url(Address("::1", 7002)) == "redis://:p@[::1]:7002/0"


def test_sentinels_never_get_the_credentials_of_the_servers() -> None:
    url = read_url("redis+sentinel://s1/main?username=u&password=hunter2&socket_timeout=1")
    assert url.sentinel_url(url.nodes[0]) == "redis://s1:26379/0?socket_timeout=1"
    assert url.server_url(url.nodes[0]) == "redis://s1:26379/0?username=u&password=hunter2&socket_timeout=1"


@pytest.mark.parametrize("text", ["redis://h:1/0\n", " redis+sentinel://h/main \r\n", "\tredis+cluster://a:1,b:2\n"])
def test_space_around_a_url_is_no_part_of_it(text: str) -> None:
    assert read_url(text) == read_url(text.strip())


def test_no_parameter_replaces_how_authz_speaks_to_redis() -> None:
    server = find_primary(read_url("redis://h/0?protocol=3&socket_timeout=1&client_name=mine"))
    connection = asyncio.run(server.connection())
    assert (connection.protocol, connection.socket_timeout, connection.client_name) == (2, None, "authz")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("http://hunter2", "must begin with one of redis://"),
        ("hunter2", "must begin with one of redis://"),
        ("redis://:hunter/2@h:6379/0", "cannot be read: in a password"),
        ("redis://h/0?socket_timeout=hunter2", "is no URL of a Redis"),
        ("redis://h/0?hunter=2", "a parameter that redis-py does not have"),
        ("redis+sentinel://h/main?hunter=2", "a parameter that redis-py does not have"),
        ("redis+cluster://h?hunter=2", "a parameter that redis-py does not have"),
        ("redis://h/0?hunter2", "cannot be read: in a password"),
        ("redis://:12/hunter2@h:6379/0", "cannot be read: in a password"),
        ("redis://u:12#hunter2@h:6379/0", "cannot be read: in a password"),
        ("redis://u:12?hunter2=@h:6379/0", "cannot be read: in a password"),
        ("redis://h:6379/hunter2", "must end in /db, a number"),
        ("redis://h:6379/1/2", "must end in /db, a number"),
        ("redis+sentinel://:hunter2@h:26379", "must end in /name"),
        ("redis+sentinel://:hunter2@h:26379/main/x", "must end in /name"),
        ("redis+sentinel://:hunter2@h:26379/main/0/1", "must end in /name"),
        ("redis+sentinel://:hunter2@/main", "must name its servers"),
        ("redis+sentinel://:hunter2@h:26379,/main", "must name its servers"),
        ("redis+sentinel://:hunter/2@h:26379/main", "cannot be read: in a password"),
        ("redis+cluster://:hunter2@h:7000/1", "must name no database"),
        ("redis+cluster://:hunter2@h:70000", "must name its servers"),
        ("redis+cluster://:hunter2@[::1:7000", "must name its servers"),
        ("redis+cluster://:hunter2@h:7000?socket_timeout=hunter2", "is no URL of a Redis"),
        ("redis://:hunter2\u2100@h/0", "is no URL of a Redis"),
        ("redis://:[hunter2]@h/0", "is no URL of a Redis"),
        ("redis://:hunter2@h/0\nredis://other/0", "a line end"),
        *(
            (f"{start}?{name}=hunter2", "or that authz does not support")
            for start in ("redis://h/0", "redis+sentinel://h/main", "redis+cluster://h")
            for name in ("retry", "decode_responses", "credential_provider", "redis_connect_func", "encoding", "host")
        ),
        ("redis+sentinel://:hunter2@h/main?db=3", "must name its database in its path"),
        ("redis+cluster://:hunter2@h?db=3", "must name its database in its path"),
    ],
)
def test_an_error_message_never_quotes_the_url(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault) as raised:
        read_url(text)
    assert "hunter" not in str(raised.value)
    assert raised.value.__context__ is None or raised.value.__suppress_context__


@pytest.mark.parametrize(
    "text",
    [
        "redis://:hunter2@h/0",
        "redis+sentinel://:hunter2@h/main?sentinel_password=hunter2",
        "redis+cluster://:hunter2@h",
    ],
)
def test_no_password_shows(text: str) -> None:
    assert "hunter2" not in repr(read_url(text))
