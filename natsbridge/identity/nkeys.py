"""Make and use NKeys, the Ed25519 key pairs that sign everything at the broker."""

import base64
import binascii
import os
from dataclasses import dataclass, field
from typing import Literal

import nacl.exceptions
import nacl.signing
import nkeys

from natsbridge.errors import InvalidClaims

KeyKind = Literal["operator", "account", "user", "server"]

_PREFIX_BYTES: dict[KeyKind, int] = {
    "operator": nkeys.PREFIX_BYTE_OPERATOR,
    "account": nkeys.PREFIX_BYTE_ACCOUNT,
    "user": nkeys.PREFIX_BYTE_USER,
    "server": nkeys.PREFIX_BYTE_SERVER,
}
_PUBLIC_KEY_LENGTH = 56


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A public key and its seed, the private half, which is never shown in a log or a traceback."""

    public: str
    seed: str = field(repr=False)


def generate(kind: KeyKind) -> KeyPair:
    seed = nkeys.encode_seed(os.urandom(32), _PREFIX_BYTES[kind]).decode()
    return KeyPair(public=public_of(seed), seed=seed)


def public_of(seed: str) -> str:
    """Return the public key that belongs to a seed, or raise InvalidClaims."""
    public: str = _from_seed(seed).public_key.decode()
    return public


def sign(seed: str, data: bytes) -> bytes:
    """Return the raw Ed25519 signature of 64 bytes."""
    signature: bytes = _from_seed(seed).sign(data)
    return signature


def verify(public: str, data: bytes, signature: bytes) -> bool:
    """Return whether the private half of `public`, a key of any kind, signed `data`."""
    raw = _raw_public(public)
    if raw is None:
        return False
    try:
        nacl.signing.VerifyKey(raw[1:]).verify(data, signature)
    except (nacl.exceptions.BadSignatureError, nacl.exceptions.ValueError):
        return False
    return True


def is_public_key(text: str, kind: KeyKind) -> bool:
    """Return whether `text` is a public key of that kind, by its prefix, length and checksum."""
    raw = _raw_public(text)
    return raw is not None and raw[0] == _PREFIX_BYTES[kind]


def is_public_user_key(text: str) -> bool:
    return is_public_key(text, "user")


def _raw_public(text: str) -> bytes | None:
    """Return the prefix byte and the 32 bytes of the key, or None if the checksum is wrong."""
    if len(text) != _PUBLIC_KEY_LENGTH:
        return None
    try:
        decoded = base64.b32decode(text)
    except (binascii.Error, ValueError):
        return None
    raw, checksum = decoded[:-2], decoded[-2:]
    expected: int = nkeys.crc16(raw)
    return raw if int.from_bytes(checksum, "little") == expected else None


def _from_seed(seed: str) -> nkeys.KeyPair:
    try:
        pair = nkeys.from_seed(bytearray(seed, "ascii"))
        # The library accepts any checksum, but a mistyped seed must not become another key.
        prefix, raw = nkeys.decode_seed(bytearray(seed, "ascii"))
        if nkeys.encode_seed(bytes(raw), prefix).decode() != seed:
            raise InvalidClaims("not a seed: its checksum is wrong")
    except (nkeys.NkeysError, ValueError, nacl.exceptions.CryptoError):
        raise InvalidClaims("not a seed") from None
    return pair
