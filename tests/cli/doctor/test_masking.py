"""No part of a URL that may hold a secret is printed, whatever its spelling."""

import json
import os
import subprocess
import sys
from urllib.parse import quote

import pytest

from authz.masked_urls import Scrubber, masked_url

SECRET = "s3cr%t/x"
QUOTED = quote(SECRET, safe="")

WITH_SECRETS = [
    f"redis://{QUOTED}@127.0.0.1:1/0",
    f"redis://:{QUOTED}@127.0.0.1:1/0",
    f"redis://u:{QUOTED}@127.0.0.1:1/0",
    f"redis://u:s3cr%25t?{QUOTED}@127.0.0.1:1/0",
    f"redis://127.0.0.1:1/0?password={QUOTED}",
    f"redis://127.0.0.1:1/0?username={QUOTED}&password={QUOTED}",
    f"redis://127.0.0.1:1/0?PASSWORD={QUOTED}&ssl_password={QUOTED}",
    f"redis://127.0.0.1:1/0#{QUOTED}",
    f"redis://127.0.0.1:1/{QUOTED}",
    f"rediss://u:{QUOTED}@127.0.0.1:1/0?ssl_keyfile={QUOTED}",
    f"unix:///tmp/none.sock?password={QUOTED}",
    f"redis+sentinel://u:{QUOTED}@127.0.0.1:1,127.0.0.1:2/mymaster?sentinel_password={QUOTED}",
    f"redis+cluster://:{QUOTED}@127.0.0.1:1,127.0.0.1:2",
    f"postgresql://u:{QUOTED}@127.0.0.1:1/db",
    f"postgresql://{QUOTED}@127.0.0.1:1/db",
    f"postgresql://127.0.0.1:1/db?password={QUOTED}&user={QUOTED}",
    f"postgresql://127.0.0.1:1/{QUOTED}?sslpassword={QUOTED}&options={QUOTED}",
    f"postgresql://u:a%40b{QUOTED}@127.0.0.1:1,127.0.0.1:2/db?passfile={QUOTED}",
]


@pytest.mark.parametrize("url", WITH_SECRETS)
def test_a_strictly_masked_url_has_no_secret(url: str) -> None:
    shown = masked_url(url, strict=True)
    assert "s3cr" not in shown
    assert "none.sock" in shown or "127.0.0.1" in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("postgresql://u:p@h/x", "postgresql://u:***@h/x"),
        ("postgresql://h/x?sslmode=verify-full&sslpassword=p", "postgresql://h/x?sslmode=verify-full&sslpassword=***"),
        ("redis://token@h:1/0", "redis://***@h:1/0"),
        ("nonsense", "***"),
        ("", ""),
    ],
)
def test_what_is_no_secret_stays(url: str, shown: str) -> None:
    assert masked_url(url) == shown


@pytest.mark.parametrize("url", WITH_SECRETS)
def test_texts_that_quote_a_secret_are_scrubbed(url: str) -> None:
    scrub = Scrubber([url])
    for text in (f"cannot use {url}", f"invalid password {QUOTED!r}", f"role {SECRET} does not exist"):
        if text.startswith("cannot") or "/s3cr" not in url:  # a database is no secret
            assert "s3cr" not in scrub(text)
    assert scrub("no connection within 5 s") == "no connection within 5 s"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", range(0, len(WITH_SECRETS), 3))
def test_the_doctor_prints_no_secret_of_any_url(number: int) -> None:
    redis = [url for url in WITH_SECRETS if url.startswith(("redis", "unix"))]
    postgres = [url for url in WITH_SECRETS if url.startswith("postgres")]
    env = {name: value for name, value in os.environ.items() if not name.startswith("AUTHZ_")} | {
        "AUTHZ_REDIS_URL": redis[number % len(redis)],
        "AUTHZ_POSTGRES_URL": postgres[number % len(postgres)],
        "AUTHZ_PORTAL_PROXY_SECRET": SECRET * 5,
        "AUTHZ_MAIL_URL": f"smtp://u:{QUOTED}@127.0.0.1:1",
    }
    command = [sys.executable, "-m", "authz", "doctor", "--json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "s3cr" not in done.stdout + done.stderr
    found = json.loads(done.stdout)
    wrong = {finding["name"] for finding in found["findings"] if finding["state"] == "wrong"}
    assert wrong in ({"redis", "postgres"}, {"settings"}), found
