"""The extras of the installed package: names the one that a command needs where it is missing.

Which packages an extra holds is written in `pyproject.toml`.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class ExtraMissing(Exception):  # noqa: N818 -- named for the state it reports
    """A command needs packages that are not installed; the message names the extra that holds them."""


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Turn a failed import of another project's module into `ExtraMissing`; our own failed imports are errors."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "authz":
            raise
        raise ExtraMissing(f"this command needs the package {error.name}: pip install 'authz[{name}]'") from None
