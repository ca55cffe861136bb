"""Renders Envoy's configuration for a policy: a whole bootstrap, or blocks in an existing one.

How values are merged is `adapters/envoy_config/merge.py`.
"""

from pathlib import Path
from typing import Any

from authz.adapters.envoy_config.backend import Backend
from authz.adapters.envoy_config.base import base
from authz.adapters.envoy_config.merge import Addition, merge
from authz.adapters.envoy_config.round_trip import dumped, loaded
from authz.adapters.envoy_config.source import text_of
from authz.core.envoy_rules.needs import Deadlines, needs_of
from authz.core.policy.policy import Policy
from authz.demo.servers import shipped
from authz.edge.check.local_replies import local_reply_config

CHECKS = "127.0.0.1:9001"
"""The address at which `authz serve` listens by default."""


def rendered(policy: Policy, backend: Backend, *, address: str = CHECKS, deadlines: Deadlines = Deadlines()) -> str:  # noqa: B008 -- frozen
    """Return a whole configuration; `address` is that of authz. Raises `ValueError` for an address that is none."""
    config = base(shipped("envoy.yaml").read_text(encoding="utf-8"), backend, address, needs_of(policy, deadlines))
    return _with_policy(config, policy, address, deadlines)[0]


def merged(policy: Policy, bootstrap: Path, address: str, deadlines: Deadlines) -> tuple[str, list[str]]:
    """Return a bootstrap with the blocks of a policy, and remarks about what was left as it is.

    Raises `UnreadableConfig` for a bootstrap that cannot be read, and `ValueError` for an address that is none.
    """
    return _with_policy(loaded(text_of(str(bootstrap))), policy, address, deadlines)


def _with_policy(config: Any, policy: Policy, address: str, deadlines: Deadlines) -> tuple[str, list[str]]:  # noqa: ANN401 -- any YAML
    replies = loaded(local_reply_config(policy))["local_reply_config"]
    remarks = merge(config, Addition(needs_of(policy, deadlines), replies, address))
    return dumped(config), remarks
