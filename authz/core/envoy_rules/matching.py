"""Whether Envoy's matchers match a sample: string matchers, path matches and header matches of routes.

A sample has a method, a path and the headers named here. A condition on anything else may match or not.
"""

import re
import warnings
from enum import Enum
from functools import lru_cache

from authz.core.envoy_rules.node import Node

_REGEX_CHARS_MAX = 4096
_SAMPLE_CHARS_MAX = 24
# A repetition of a repetition can take exponential time on a long text that does not match.
_NESTED = re.compile(r"[+*}]\)+[+*{]")
# The letters that every match begins with, if the expression has no alternatives.
_HEAD = re.compile(r"(?:[A-Za-z0-9/_-](?![?*+{]))*")


class Match(Enum):
    """Whether a sample matches; MAYBE if that depends on more than the sample."""

    NO = 0
    MAYBE = 1
    YES = 2

    def __and__(self, other: "Match") -> "Match":
        """Return the weaker one."""
        return self if self.value <= other.value else other

    @classmethod
    def of(cls, *, truth: bool | None) -> "Match":
        """Return YES, NO or, for None, MAYBE."""
        return cls.MAYBE if truth is None else (cls.YES if truth else cls.NO)


def regex_matches(regex: str, text: str) -> bool | None:
    """Tell whether a regular expression of RE2 matches a whole text; None if that is not known."""
    # Most routes of a large table differ from a sample in their first letters, and compiling is what takes time.
    if "|" not in regex and (head := _HEAD.match(regex)) and not text.startswith(head[0]):
        return False
    pattern = _compiled(regex)
    if pattern is None or (len(text) > _SAMPLE_CHARS_MAX and _NESTED.search(regex)):
        return None
    return pattern.fullmatch(text) is not None


def string_matches(matcher: Node, text: str) -> bool | None:
    """Tell whether a `StringMatcher` matches; None if that is not known."""
    ignores_case = matcher["ignore_case"].is_on
    folded = text.lower() if ignores_case else text
    for name, holds in (
        ("exact", lambda given: folded == given),
        ("prefix", folded.startswith),
        ("suffix", folded.endswith),
        ("contains", lambda given: given in folded),
    ):
        if (given := matcher[name].text) or matcher[name]:
            return bool(holds(given.lower() if ignores_case else given))
    if regex := matcher.at("safe_regex", "regex").text:
        return regex_matches(regex, text)
    return None


def any_matches(matchers: Node, text: str) -> bool:
    """Tell whether one matcher of a list surely matches."""
    return any(string_matches(matcher, text) for matcher in matchers)


def route_matches(match: Node, method: str, path: str, *, is_grpc: bool = False) -> Match:
    """Tell whether a `RouteMatch` matches a request without a query."""
    found = _path_matches(match, path)
    for header in match["headers"]:
        found &= _header_matches(header, method, path)
    others = ("query_parameters", "runtime_fraction", "tls_context", "dynamic_metadata", "filter_state", "cookies")
    if any(match[name] for name in others):
        found &= Match.MAYBE
    if match["grpc"] and not is_grpc:
        found = Match.NO
    return found


def _path_matches(match: Node, path: str) -> Match:
    ignores_case = match["case_sensitive"].value is False
    folded = path.lower() if ignores_case else path

    def given(name: str) -> str:
        return match[name].text.lower() if ignores_case else match[name].text

    if match["prefix"]:
        return Match.of(truth=folded.startswith(given("prefix")))
    if match["path"]:
        return Match.of(truth=folded == given("path"))
    if match["path_separated_prefix"]:
        prefix = given("path_separated_prefix")
        return Match.of(truth=folded == prefix or folded.startswith(f"{prefix}/"))
    if regex := match.at("safe_regex", "regex").text:
        return Match.of(truth=regex_matches(regex, path))
    return Match.NO if match["connect_matcher"] else Match.MAYBE


def _header_matches(header: Node, method: str, path: str) -> Match:
    value = {":method": method, ":path": path}.get(header["name"].text)
    if value is None:
        return Match.MAYBE
    matcher = header["string_match"] or header_matcher(header)
    found = string_matches(matcher, value)
    return Match.of(truth=found is not header["invert_match"].is_on if found is not None else None)


def header_matcher(header: Node) -> Node:
    """Return the older fields of a `HeaderMatcher` as a `StringMatcher`."""
    names = {"exact_match": "exact", "prefix_match": "prefix", "suffix_match": "suffix", "contains_match": "contains"}
    names["safe_regex_match"] = "safe_regex"
    return Node({new: header[old].value for old, new in names.items() if header[old]}, header.path)


@lru_cache(maxsize=1024)
def _compiled(regex: str) -> re.Pattern[str] | None:
    if len(regex) > _REGEX_CHARS_MAX:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return re.compile(regex, re.DOTALL)
    except (re.error, OverflowError, RecursionError):
        return None
