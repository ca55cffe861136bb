"""The API key in a query parameter, read in one way only.

Which policies have such a parameter is `core/policy/policy.py`; the pairs of a query are read by `query.py`.
"""

from authz.core.bindings.query import bound_values
from authz.core.bindings.spellings import Ambiguous, BoundNames


class KeyParameter:
    """A query parameter that carries a key."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._names = BoundNames({name})

    def split(self, target: str) -> tuple[str, str | None]:
        """Return a target without the parameter, and the value; None if it has none.

        Raises `Ambiguous` for a parameter that occurs twice, that some backend may read under this name although it is
        spelled in another way, or whose value has an escape; and for a query that is too long to tell.
        """
        path, mark, query = target.partition("?")
        if not mark:
            return target, None
        values = bound_values(query, self._names)
        pairs = query.split("&")
        exact = [pair for pair in pairs if pair.partition("=")[0] == self._name]
        if len(exact) != len(values) or len(values) > 1:
            raise Ambiguous("a key's parameter in two forms")
        if not values:
            return target, None
        if values[0] != exact[0].partition("=")[2]:
            raise Ambiguous("an escaped key")
        rest = "&".join(pair for pair in pairs if pair is not exact[0])
        return (f"{path}?{rest}" if rest else path), values[0]
