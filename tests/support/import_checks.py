"""Holds an import against what its description says, by the decisions of the policy that it writes."""

import json
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from support.apis import METHODS, needs_key

from authz.adapters.api_files.openapi import described
from authz.adapters.api_files.plain import parsed
from authz.adapters.policy_file.loader import load_policy
from authz.adapters.policy_writer.document import Identity, policy_text
from authz.adapters.policy_writer.expectations import sample_request
from authz.adapters.policy_writer.insertion import inserted
from authz.core.check import Allow
from authz.core.imports.merging import changed_rows, merge
from authz.core.imports.operation import Description
from authz.core.imports.rows import imported
from authz.core.imports.scopes import ScopeBy
from authz.core.policy.policy import Policy
from authz.core.policy.simulation import decide

IDENTITY = Identity("api", "api.example", "x-api-key", "k_")
_SCRATCH = Path(tempfile.mkdtemp(prefix="imports-"))


@lru_cache(maxsize=4)
def loaded(text: str) -> Policy:
    """Load a policy from its text; a check and the merge after it load the same one."""
    path = _SCRATCH / "policy.yaml"
    path.write_bytes(text.encode())
    return load_policy(path)


def described_by(document: object) -> Description:
    """Read a document as a file; raises `PolicyError`."""
    return described(parsed(json.dumps(document).encode()))


def check_import(document: dict[str, Any], by: ScopeBy) -> str:
    """Import a document and load the policy; return its text, or "" if nothing could be imported.

    Raises `PolicyError` for a document that is refused, and `AssertionError` if anything protected is open.
    """
    description = described_by(document)
    found = imported(description, by)
    if not found.rows:
        return ""
    text = policy_text(found, IDENTITY, "a\nfile")
    policy = loaded(text)
    open_requests = {
        f"{method} {path}"
        for method, path in map(sample_request, description.operations)
        if isinstance(decide(policy, method, path, None), Allow)
    }
    for operation in description.operations:
        request = " ".join(sample_request(operation))
        if _is_protected(document, operation.method, operation.path):
            assert request not in open_requests, (request, text)
    return text


def check_merge(text: str, document: dict[str, Any], by: ScopeBy) -> str:
    """Add a document to a policy and load the result; return its text. Raises as `check_import` does."""
    before = loaded(text)
    found = imported(described_by(document), by)
    merged = merge(before, found)
    if not (merged.rows or merged.refused):
        return text
    result = inserted(text, merged, "another")
    after = loaded(result)
    assert without_blocks(result) == without_blocks(text)
    assert changed_rows(before, after, found) == []
    return result


def without_blocks(text: str) -> str:
    """Return a policy without its marked blocks."""
    kept, inside = [], False
    for line in text.splitlines(keepends=True):
        inside = inside or "# BEGIN imported by" in line
        if not inside:
            kept.append(line)
        inside = inside and "# END imported by" not in line
    return "".join(kept)


def _is_protected(document: dict[str, Any], method: str, path: str) -> bool:
    """Tell whether any operation of a document that may be this one needs a key, whatever its base path is."""
    paths = document.get("paths")
    found = [
        needs_key(document, item[name])
        for written, item in (paths.items() if isinstance(paths, dict) else ())
        for name in METHODS
        if isinstance(item, dict) and name in item and name.upper() == method and path.endswith(written)
    ]
    return all(found)
