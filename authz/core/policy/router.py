"""The index from a method and a path to its row, at a cost that does not depend on the number of rows.

The cost depends on the length of the path and on the number of shapes of its length (`shapes.py`). `decision.py`
applies the row; `rules.py` checks that templates fit together.
"""

from collections.abc import Iterable, Iterator

from authz.core.policy.path import Target
from authz.core.policy.route import Access, Route
from authz.core.policy.shapes import ANY_METHOD, Entry, Match, Shapes
from authz.core.policy.template import ANY_DEPTH, Template

__all__ = ["ANY_METHOD", "Match", "Router"]

_UNKNOWN = Match(None)
_REST = (ANY_DEPTH, f"{ANY_DEPTH}}}")


class Router:
    """All rows, indexed. Built once, never changed.

    Barred rows are in an index of their own that is searched first: no other row, however specific, overrides them.
    With `head_follows_get`, a HEAD request uses the GET row of a path that has no HEAD row (RFC 9110 section 9.3.2).
    With `ignores_slash`, a path with a trailing slash has the row of the path without it.
    """

    has_hosts = False

    @property
    def has_rows(self) -> bool:
        """Whether it has any rows."""
        return any(it.plain.entries or it.by_verb for it in (self._barred, self._open))

    def __init__(self, routes: Iterable[Route], *, head_follows_get: bool = True, ignores_slash: bool = False) -> None:
        self._barred, self._open = _Templates(), _Templates()
        self.ignores_slash = ignores_slash
        self.head_follows_get = head_follows_get
        # The templates with a custom verb, without it: whether a verb may follow a path.
        self._before_verbs = Shapes()
        words: set[str] = set()
        for route in routes:
            template = Template.parse(route.template)
            barred = route.access is Access.BARRED
            if barred and not template.verb:
                words.add(template.word)
            if template.verb:
                self._before_verbs.entry(template.parts)
            templates = self._barred if barred else self._open
            entry = templates.entry(template)
            entry.add(route, template)
            if ignores_slash and template.takes_slash:
                templates.plain.alias((*template.parts, ""), entry)
        self._before_verbs.arrange()
        self._barred.arrange()
        self._open.arrange()
        # Every barred path contains one of these, unless it ends in a custom verb or is a gRPC method.
        self._barred_words = frozenset(words)
        self._has_wordless = "" in words

    def match(self, method: str, target: Target) -> Match | None:
        """Find the row for a method and a path; return None if another reading of the path matches another row.

        Servers differ in whether they decode before they route, whether a colon begins a custom verb, and whether a
        trailing slash is significant. Every such reading must find the same row or none.
        """
        segments = target.segments
        last = segments[-1]
        entry = self._find(segments)
        if target.decoded is not segments and self._is_ambiguous(target, entry):
            return None
        if entry is None or (":" in last and not entry.takes_colon):
            return _UNKNOWN
        if not last and len(segments) > 1 and self._differs(target.decoded[:-1], entry):
            return None
        match = entry if entry.method == method else entry.other(method, head_follows_get=self.head_follows_get)
        if target.decoded is not segments and self._hides_verb(target, match.route):
            return None
        return match

    def match_at(self, _authority: str, _method: str, _target: Target) -> Match | None:
        """Find the row of a request that `match` has not found; none where hosts do not matter."""
        return None

    def for_host(self, _authority: str) -> "Router":
        """Return the router of a host: this one, for every host."""
        return self

    def dismantle(self) -> Iterator[None]:
        """Remove one entry at each step, for a router that nobody uses any more: to free all at once takes long."""
        for templates in (self._barred, self._open):
            for shapes in (templates.plain, *templates.by_verb.values()):
                for entries in shapes.entries.values():
                    while entries:
                        entries.popitem()
                        yield

    def _differs(self, segments: tuple[str, ...], entry: Entry | None) -> bool:
        other = self._find(segments)
        return other is not None and other is not entry

    def _is_ambiguous(self, target: Target, entry: Entry | None) -> bool:
        """Tell whether a path with escapes matches another row where it is decoded, or decoded and normalised."""
        if self._differs(target.decoded, entry):
            return True
        return any(not it.isascii() for it in target.decoded) and self._differs(target.compatible(), entry)

    def _hides_verb(self, target: Target, route: Route | None) -> bool:
        """Tell whether an encoded colon of the last segment begins a custom verb for who decodes first.

        Rows that take any depth have no custom verbs, and nothing lifts a bar.
        """
        raw, last = target.segments[-1], target.decoded[-1]
        if last.count(":") == raw.count(":"):
            return False
        if route is not None and (route.colon_ids or route.access is Access.BARRED or route.template.endswith(_REST)):
            return False
        parents = target.decoded[:-1]
        # An id that is empty counts as one, because other routers may match it.
        before = (last.partition(":")[0] or last, last.rpartition(":")[0] or last)
        return any(self._before_verbs.find((*parents, name)) is not None for name in before)

    def _find(self, segments: tuple[str, ...]) -> Entry | None:
        last = segments[-1] if segments else ""
        if not last:
            # A trailing slash does not lift a bar.
            barred = self._barred.find(segments[:-1]) or (self._barred.find(segments) if len(segments) == 1 else None)
            return barred or self._open.find(segments)
        may_be_barred = not self._barred_words.isdisjoint(segments) or self._has_wordless or "." in segments[0]
        if ":" in last:
            may_be_barred = may_be_barred or last.rpartition(":")[2] in self._barred.by_verb
            return (self._barred.find(segments) if may_be_barred else None) or self._open.find(segments)
        return (self._barred.plain.find(segments) if may_be_barred else None) or self._open.plain.find(segments)


class _Templates:
    """The entries of the barred or of the other templates, by custom verb; `plain` has those without one."""

    def __init__(self) -> None:
        self.plain = Shapes()
        self.by_verb: dict[str, Shapes] = {}

    def entry(self, template: Template) -> Entry:
        """Return the entry of a template; create it if needed."""
        shapes = self.by_verb.setdefault(template.verb, Shapes()) if template.verb else self.plain
        return shapes.entry(template.parts)

    def arrange(self) -> None:
        """Prepare the search, after all entries were created."""
        for shapes in (self.plain, *self.by_verb.values()):
            shapes.arrange()

    def find(self, segments: tuple[str, ...]) -> Entry | None:
        """Find the entry of a path: with the custom verb after its last colon, or else of the whole path."""
        if segments and ":" in segments[-1]:
            last, _, verb = segments[-1].rpartition(":")
            with_verb = self.by_verb[verb].find((*segments[:-1], last)) if verb in self.by_verb else None
            if with_verb is not None:
                return with_verb
        return self.plain.find(segments)
