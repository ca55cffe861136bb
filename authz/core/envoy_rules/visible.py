"""Which headers of a client authz sees, and which are removed before ext_authz.

What follows from that is for the rules.
"""

from collections.abc import Iterator

from authz.core.envoy_rules.finding import Severity
from authz.core.envoy_rules.guarded import Guarded
from authz.core.envoy_rules.matching import any_matches, string_matches
from authz.core.envoy_rules.node import Node


def is_visible(guarded: Guarded, name: str) -> bool:
    """Tell whether Envoy sends a header to authz."""
    config = guarded.authz.config
    if any_matches(config.at("disallowed_headers", "patterns"), name):
        return False
    return not config["allowed_headers"] or any_matches(config.at("allowed_headers", "patterns"), name)


def is_hidden(guarded: Guarded, name: str) -> bool:
    """Tell whether a header of a client passes by authz: Envoy neither sends it to authz nor removes it before."""
    return not is_visible(guarded, name) and not is_removed_early(guarded, name)


def advice(guarded: Guarded) -> Severity:
    """Return the severity of a setting that authz makes up for where it sees every header."""
    return Severity.WARNING if guarded.authz.config["allowed_headers"] else Severity.NOTE


def is_removed_early(guarded: Guarded, name: str) -> bool:
    """Tell whether Envoy removes a header of a client, or refuses the request, before ext_authz."""
    if "_" in name and underscores_refused(guarded):
        return True
    internal = [each.text for table in guarded.manager.tables for each in table["internal_only_headers"]]
    return name in internal or any(_removes(mutation, name) for mutation in _early_mutations(guarded))


def underscores_refused(guarded: Guarded) -> bool:
    """Tell whether Envoy refuses or drops headers with underscores."""
    action = guarded.config.at("common_http_protocol_options", "headers_with_underscores_action").text
    return action in {"REJECT_REQUEST", "DROP_HEADER"}


def _early_mutations(guarded: Guarded) -> Iterator[Node]:
    for extension in guarded.config["early_header_mutation_extensions"]:
        yield from extension["typed_config"].message["mutations"]
    for each in guarded.before:
        if each.short == "header_mutation":
            yield from each.config.at("mutations", "request_mutations")


def _removes(mutation: Node, name: str) -> bool:
    if mutation["remove"].text.lower() == name:
        return True
    matcher = mutation.at("remove_on_match", "key_matcher")
    return bool(matcher) and string_matches(matcher, name) is True
