"""Secrets at rest: hashed where they only have to be recognised, encrypted where they are read."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from tenants.errors import EncryptionKeyMissing


def new_token(prefix: str) -> str:
    """Return a token of 256 random bits, with a prefix that tells people and scanners its kind."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def digest(token: str, key: str) -> str:
    """Return a keyed hash of 64 hex digits. It is fast, so use it for random tokens only."""
    return hmac.new(key.encode(), token.encode(), hashlib.sha256).hexdigest()


def encrypt(plain: str, keys: Sequence[str]) -> str:
    """Encrypt with the first of `keys` (Fernet; URL-safe base64 of 32 bytes)."""
    return _cipher(keys).encrypt(plain.encode()).decode()


def decrypt(encrypted: str, keys: Sequence[str]) -> str:
    try:
        return _cipher(keys).decrypt(encrypted.encode()).decode()
    except InvalidToken as error:
        raise EncryptionKeyMissing(
            "FIELD_ENCRYPTION_KEY is not the key with which the stored broker keys were encrypted."
        ) from error


def _cipher(keys: Sequence[str]) -> MultiFernet:
    if not keys:
        raise EncryptionKeyMissing("FIELD_ENCRYPTION_KEY is not set. Broker keys need it.")
    return MultiFernet([Fernet(key) for key in keys])
