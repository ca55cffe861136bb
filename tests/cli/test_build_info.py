"""`authz --version` names the commit that the image's build recorded, and the grammar that the parser reads."""

import json
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from authz import __version__, build_info
from authz.adapters.policy_file.document import Document


def test_the_grammar_is_the_one_that_the_parser_reads() -> None:
    assert max(get_args(get_type_hints(Document)["version"])) == build_info.POLICY_GRAMMAR


def test_a_checkout_has_no_recorded_commit() -> None:
    assert build_info.version_line() == f"{__version__} (commit unknown, policy grammar 2)"


def test_the_recorded_commit_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "build-info.json").write_text(json.dumps({"commit": "1a2b3c"}))
    monkeypatch.setattr(build_info, "files", lambda _package: tmp_path)
    assert build_info.version_line() == f"{__version__} (commit 1a2b3c, policy grammar 2)"
