"""The shape of a file that a policy includes: rows and what they refer to. All else is in the policy's own file.

How files are put together is `including.py`.
"""

from typing import Annotated

from pydantic import Field

from authz.adapters.policy_file.document import FileName, Routes, Scopes, Streams
from authz.adapters.policy_file.shape import Hosts, Shape


class Fragment(Shape):
    """A file that a policy includes."""

    include: list[FileName] = Field(default=[], max_length=64)
    """Further files."""
    hosts: Annotated[Hosts | None, Field(default=None)] = None
    """The hosts of every group of this file that has none of its own."""
    scopes: Scopes = Field(default={})
    """Further scopes, by name."""
    streams: Streams = Field(default={})
    """Further stream classes, by name."""
    routes: list[Routes] = Field(default=[], min_length=1)
    """Further rows of the table."""
