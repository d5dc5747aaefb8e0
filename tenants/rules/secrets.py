"""Pure: secrets at rest. What cannot be guessed is hashed, what must be read back is encrypted."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from tenants.errors import EncryptionKeyMissing


def new_token(prefix: str) -> str:
    """A token of 256 random bits; the prefix says to a person (or a scanner) what it is."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def digest(token: str, key: str) -> str:
    """A keyed hash of a random token, 64 hex digits. Fast, which is right only for random ones."""
    return hmac.new(key.encode(), token.encode(), hashlib.sha256).hexdigest()


def encrypt(plain: str, keys: Sequence[str]) -> str:
    """Encrypted under the first of `keys` (Fernet, url-safe base64 of 32 bytes)."""
    return _cipher(keys).encrypt(plain.encode()).decode()


def decrypt(encrypted: str, keys: Sequence[str]) -> str:
    try:
        return _cipher(keys).decrypt(encrypted.encode()).decode()
    except InvalidToken as error:
        raise EncryptionKeyMissing(
            "FIELD_ENCRYPTION_KEY is not the key that encrypted the stored broker keys."
        ) from error


def _cipher(keys: Sequence[str]) -> MultiFernet:
    if not keys:
        raise EncryptionKeyMissing("FIELD_ENCRYPTION_KEY is not set; broker keys need it.")
    return MultiFernet([Fernet(key) for key in keys])
