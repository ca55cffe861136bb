"""Settings that Envoy lacks, as a check request shows: each is logged once in the process, and counted.

What is unsafe is refused where the decision is made: joined keys, aliases and incomplete bodies. The rules for a whole
configuration are in `core/envoy_rules/`.
"""

import logging
from collections import Counter
from enum import StrEnum

_log = logging.getLogger("authz.envoy")


class EnvoyGap(StrEnum):
    """What Envoy does not do."""

    RAW_HEADERS = "raw_headers"
    IDENTITY_HEADER = "identity_header"
    HEADER_ALIAS = "header_alias"
    BODY_TEXT = "body_text"
    BODY_PARTIAL = "body_partial"


_TEXTS = {
    EnvoyGap.RAW_HEADERS: "EA211: encode_raw_headers is not set: repeated headers arrive joined; such keys are refused",
    EnvoyGap.IDENTITY_HEADER: "EA221: a client's x-authz-* header has arrived: authz removes it, and Envoy should",
    EnvoyGap.HEADER_ALIAS: "EA223: another spelling of x-authz-* or of the key has arrived: it is refused",
    EnvoyGap.BODY_TEXT: "EA302: pack_as_bytes is not set: bodies with bytes that are not UTF-8 are refused",
    EnvoyGap.BODY_PARTIAL: "EA303: allow_partial_message is set: bodies that are not whole are refused",
}
_HINT = "; `authz envoy check` names all such settings"

seen: Counter[str] = Counter({gap.value: 0 for gap in EnvoyGap})
"""The number of check requests that showed a gap, in the whole process."""


def note(gap: EnvoyGap) -> None:
    """Count a gap; the first of each kind is logged."""
    seen[gap.value] += 1
    if seen[gap.value] == 1:
        _log.warning("%s%s", _TEXTS[gap], _HINT, extra={"gap": gap.value})


def note_reserved(*, is_refused: bool) -> None:
    """Count reserved headers of a client: they are refused if one is an alias."""
    note(EnvoyGap.HEADER_ALIAS if is_refused else EnvoyGap.IDENTITY_HEADER)
