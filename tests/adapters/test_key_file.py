"""Files of keys from another system: both formats, every fault by line, and no value of a line in a message."""

import base64
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from authz.adapters import key_file
from authz.adapters.key_file import keys_of, read_keys
from authz.core.errors import PolicyError
from authz.core.limits import Limit

SECRET = "sk_live_" + "s3cr3t" * 6
DIGEST = hashlib.sha256(SECRET.encode()).digest()
HEAD = "digest,owner,name,scopes,capacity,refill_per_s,expires_at,hint\n"


def test_csv_and_json_lines_give_the_same_keys() -> None:
    csv = f'{HEAD}\n{DIGEST.hex()},acct_1,"a, b",x:read;x:write,10,0.5,2030-01-01T01:00:00+01:00,…abcd\n'
    line = (
        f'{{"digest": "{DIGEST.hex().upper()}", "owner": "acct_1", "name": "a, b", "scopes": ["x:write", "x:read"],'
        ' "capacity": 10, "refill_per_s": 0.5, "expires_at": "2030-01-01T00:00:00Z", "hint": "…abcd"}\n'
    )
    (one,), (other,) = keys_of(csv), keys_of(line)
    assert (one.digest, one.account_id, one.name, one.hint) == (DIGEST, "acct_1", "a, b", "…abcd")
    assert one.scopes == other.scopes == frozenset({"x:read", "x:write"})
    assert one.limit == other.limit == Limit(10, 0.5)
    assert one.expires_at == other.expires_at == datetime(2030, 1, 1, tzinfo=UTC)
    assert (one.line, other.line) == (3, 1)


@pytest.mark.parametrize(
    "text",
    [
        DIGEST.hex(),
        f"sha256:{DIGEST.hex()}",
        base64.b64encode(DIGEST).decode(),
        base64.urlsafe_b64encode(DIGEST).decode().rstrip("="),
    ],
)
def test_a_digest_is_read_in_each_encoding(text: str) -> None:
    (key,) = keys_of(f"digest,owner,name,scopes\n{text},a,n,s\n")
    assert key.digest == DIGEST
    assert key.limit is None
    assert key.expires_at is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"{SECRET},a,n,s,,,,", "digest is not a SHA-256"),
        (f"{DIGEST.hex()}00,a,n,s,,,,", "digest is not a SHA-256"),
        (f"{DIGEST.hex()},,n,s,,,,", "owner is missing"),
        (f"{DIGEST.hex()},a,n,s,1,,,", "belong together"),
        (f"{DIGEST.hex()},a,n,s,1.5,1,,", "belong together"),
        (f"{DIGEST.hex()},a,n,s,inf,1,,", "belong together"),
        (f"{DIGEST.hex()},a,n,s,,,2030-01-01,", "with its zone"),
        (f"{DIGEST.hex()},a,n,s,,,tomorrow,", "with its zone"),
        (f"{DIGEST.hex()},a,n,s", "has 4 fields instead of 8"),
        (f'{DIGEST.hex()},a,"n', "not CSV"),
    ],
)
def test_a_faulty_line_is_named_and_not_repeated(row: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message) as caught:
        keys_of(f"{HEAD}{row}\n")
    assert caught.value.problems[0].line in {2, 3}
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '{"digest": 1}',
        '{"digest": "x", "owner": ["a"], "name": {}, "scopes": 1}',
        '{"secret": "x"}',
        "{",
        "{}\n[]",
        '{"a":' * 5_000,
        "key,owner\n",
        "digest,digest,owner,name,scopes\n",
        '{"digest": "' + "a" * 64 + '", "owner": "a", "name": "n", "scopes": {"a": 1}}',
        '{"digest": "' + "a" * 64 + '", "owner": "a", "name": "n", "scopes": "s", "capacity": [1], "refill_per_s": {}}',
        '{"digest": "' + "a" * 64 + '", "owner": "a", "name": "n", "scopes": "s", "expires_at": 7}',
    ],
)
def test_any_other_text_is_an_error(text: str) -> None:
    with pytest.raises(PolicyError):
        keys_of(text)


@pytest.mark.parametrize("name", ["owner", "name", "plan", "hint"])
@pytest.mark.parametrize("char", ["\\u0000", "\\ud800"])
def test_what_postgres_cannot_store_is_a_fault_of_its_line(name: str, char: str) -> None:
    fields = {"digest": DIGEST.hex(), "owner": "a", "name": "n", "scopes": "s", name: "CHAR"}
    with pytest.raises(PolicyError, match=f"{name} has a character that cannot be stored"):
        keys_of(json.dumps(fields).replace("CHAR", f"a{char}"))


def test_an_empty_file_has_no_keys() -> None:
    assert keys_of("") == []


def test_files_are_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "keys.csv"
    path.write_text(f"digest,owner,name,scopes\n{DIGEST.hex()},a,n,s\n{DIGEST.hex()},a,n,s\n")
    monkeypatch.setattr(key_file, "LINES_MAX", 1)
    with pytest.raises(PolicyError, match="more than 1 lines"):
        read_keys(path)
    monkeypatch.setattr(key_file, "FILE_BYTES_MAX", 10)
    with pytest.raises(PolicyError, match="MiB"):
        read_keys(path)
    path.write_bytes(b"\xff")
    with pytest.raises(PolicyError, match="not UTF-8"):
        read_keys(path)
    with pytest.raises(PolicyError, match="cannot be read"):
        read_keys(tmp_path / "none")
