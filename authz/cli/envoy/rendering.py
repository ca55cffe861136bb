"""Renders Envoy's configuration for a policy: a whole bootstrap, or blocks in an existing one.

How values are merged is `adapters/envoy_config/merge.py`.
"""

from pathlib import Path

from authz.adapters.envoy_config.merge import Addition, merge
from authz.adapters.envoy_config.round_trip import dumped, loaded
from authz.adapters.envoy_config.skeleton import skeleton
from authz.adapters.envoy_config.source import text_of
from authz.core.envoy_rules.needs import Needs
from authz.core.policy.policy import Policy
from authz.edge.check.local_replies import local_reply_config

_HEAD = "# Written by `authz envoy render`; envoy.yaml of authz names the reason of each setting.\n"


def rendered(policy: Policy, needs: Needs, address: str, backend: str, base: Path | None) -> tuple[str, list[str]]:
    """Return the configuration, and remarks about what was left as it is.

    `base` is the bootstrap that gets the blocks; without one, a bootstrap for `backend` is written. Raises
    `UnreadableConfig` for a base that cannot be read, and `ValueError` for an address that is none.
    """
    config = skeleton(backend) if base is None else loaded(text_of(str(base)))
    replies = loaded(local_reply_config(policy))["local_reply_config"]
    remarks = merge(config, Addition(needs, replies, address))
    text = dumped(config)
    return (_HEAD + text if base is None else text), remarks
