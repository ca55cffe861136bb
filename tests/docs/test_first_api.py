"""The README's path to one's own API: its policy loads, and its requests get the statuses that it states."""

import re
from pathlib import Path

import pytest

from authz.adapters.policy_file.loader import load_policy
from authz.core.check import Allow
from authz.core.errors import DENIALS
from authz.core.policy.policy import Policy
from authz.core.policy.simulation import Caller, decide
from authz.demo.servers import shipped

README = (Path(__file__).parents[2] / "README.md").read_text()

_POLICY = re.compile(r"```yaml\n(version: 1\n.*?)```", re.DOTALL)
_CURL = r"^curl -i (-X \w+ )?(-H 'x-api-key: note_…' )?"
_REQUEST = re.compile(_CURL + r"http://127\.0\.0\.1:8000(/\S*) +# (\d+)", re.MULTILINE)
_KEY = re.compile(r"authz keys create acct_… --name \w+ --scope (\S+)")


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    written = _POLICY.search(README)
    assert written
    file = tmp_path / "notes.yaml"
    file.write_text(written[1])
    return load_policy(file)


def test_the_readmes_requests_get_the_statuses_that_it_states(policy: Policy) -> None:
    key = _KEY.search(README)
    assert key
    requests = _REQUEST.findall(README)
    assert len(requests) == 5
    for option, with_key, path, status in requests:
        caller = Caller(frozenset({key[1]})) if with_key else None
        decision = decide(policy, option.removeprefix("-X ").strip() or "GET", path, caller)
        assert str(200 if isinstance(decision, Allow) else DENIALS[decision.reason].http) == status, path


def test_the_readmes_policy_uses_the_header_that_the_shipped_envoy_passes_on(policy: Policy) -> None:
    assert f"- exact: {policy.keys.header}\n" in shipped("envoy.yaml").read_text()


def test_the_readmes_last_request_empties_the_bucket(policy: Policy) -> None:
    sent = re.search(r"http://127\.0\.0\.1:8000/notes\?\[1-(\d+)\]", README)
    assert sent
    assert int(sent[1]) > policy.limit.capacity
