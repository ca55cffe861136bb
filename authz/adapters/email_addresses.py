"""E-mail addresses in one canonical form, by RFC 5321 and IDNA. Delivery is not checked here."""

from email_validator import EmailNotValidError, validate_email

from authz.core.errors import Refused
from authz.core.text import is_bounded, is_visible

_BYTES_MAX = 1024  # RFC 5321 allows 254 octets; a decomposed spelling may be longer before it is normalised


def normalised_email(address: str) -> str:
    """Return the canonical form of an address in lower case; raises `Refused` for an invalid one.

    In RFC 5321 the part before the @ is case-sensitive. But one person who types an address in two ways is more
    frequent than two people whose addresses differ only in case.
    """
    if not is_bounded(address, _BYTES_MAX):
        raise Refused("invalid email")
    try:
        parts = validate_email(address.strip(), check_deliverability=False, allow_smtputf8=True)
    except EmailNotValidError:
        raise Refused("invalid email") from None
    if not is_visible(parts.local_part):
        raise Refused("invalid email")
    return parts.normalized.lower()
