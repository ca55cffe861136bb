"""The section `error_template` of a policy file: the form of refusals that the operator writes.

The fields and their escapes are `core/bodies/template.py`.
"""

from pydantic import Field

from authz.adapters.policy_file.shape import Shape
from authz.core.bodies.template import BYTES_MAX, ErrorTemplate


class ErrorTemplateModel(Shape):
    """A template of the bodies of refusals."""

    content_type: str = Field(pattern=r"^[a-z]+/[a-z0-9.+-]+(; charset=utf-8)?$", max_length=100)
    """JSON, XML, HTML or `text/plain`: the values of fields are escaped for it."""
    body: str = Field(min_length=1, max_length=BYTES_MAX)
    """The body, with fields such as `${message}`; a dollar sign is `$$`."""
    documentation_url: str = Field(default="", pattern=r"^(https?://[!#-;=?-Z_a-z~\[\]@%]+)?$", max_length=1024)
    """The value of the field `documentation_url`."""

    def template(self) -> ErrorTemplate:
        """Return the core's value; raises `ValueError` for a template with a fault."""
        return ErrorTemplate(self.content_type, self.body, self.documentation_url)
