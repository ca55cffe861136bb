"""Request targets: the one spelling of a path that is accepted, and everything else refused."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A canonical request target: raw path segments (percent encodings as sent) and the raw query without its `?`."""

    segments: tuple[str, ...]
    query: str = ""


def parse(target: str) -> Target | None:
    """Split a request target; None where its path has more than one reading (RFC 3986 section 6, spec'd refusals)."""
    raise NotImplementedError(target)
