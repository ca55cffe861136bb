"""Tokens for browsers in which an owner has logged in before (the "device cookie" of OWASP).

A token only separates the owner's attempts from those of strangers in `throttling.py`; it grants no access.
"""

import hmac
import secrets
from hashlib import sha256

_NONCE_BYTES = 12
_PURPOSE = b"familiar browser"
_TOKEN_CHARS_MAX = 128


class FamiliarBrowsers:
    """Creates and checks tokens. `secret` is shared by all processes of the portal."""

    def __init__(self, secret: bytes) -> None:
        # With an empty secret, tokens of this process are valid in this process only.
        self._secret = hmac.digest(secret or secrets.token_bytes(32), _PURPOSE, "sha256")

    def token(self, email: str) -> str:
        """Return a new token for the owner of an e-mail address, in its normal form."""
        nonce = secrets.token_hex(_NONCE_BYTES)
        return f"{nonce}.{self._mac(nonce, email)}"

    def nonce(self, token: str, email: str) -> str:
        """Return the id of the browser that has a token for this address; empty if the token is not valid for it."""
        if not email or len(token) > _TOKEN_CHARS_MAX or not token.isascii():
            return ""
        nonce, _, mac = token.partition(".")
        return nonce if hmac.compare_digest(mac, self._mac(nonce, email)) else ""

    def _mac(self, nonce: str, email: str) -> str:
        return hmac.new(self._secret, f"{nonce} {email}".encode(), sha256).hexdigest()
