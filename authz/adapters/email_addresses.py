"""E-mail addresses in one spelling, by the rules of RFC 5321 and IDNA; whether one can be reached, mail will tell."""

from email_validator import EmailNotValidError, validate_email

from authz.core.errors import Refused


def normalised_email(address: str) -> str:
    """Return the one spelling of an address, all in lower case; raises `Refused` for what is none.

    RFC 5321 leaves the part before the @ to its host, but two people whose addresses differ in case only are rarer
    than one person who types it in two ways.
    """
    try:
        parts = validate_email(address.strip(), check_deliverability=False, allow_smtputf8=True)
    except EmailNotValidError:
        raise Refused("invalid email") from None
    return parts.normalized.lower()
