"""Seal messages with curve NKeys (`X…`), as a nats-server and the auth callout do for each other.

A sealed message is `xkv1`, a nonce, and a NaCl box.
"""

import base64
import binascii
import os

import nacl.exceptions
import nacl.public
import nacl.utils
import nkeys

from natsbridge.errors import InvalidClaims
from natsbridge.identity.nkeys import KeyPair

_CURVE = 23 << 3
_VERSION = b"xkv1"
_NONCE_LENGTH = nacl.public.Box.NONCE_SIZE


def generate() -> KeyPair:
    raw = os.urandom(32)
    # The first two bytes say that this is a seed, and of what kind.
    prefix = bytes([nkeys.PREFIX_BYTE_SEED | _CURVE >> 5, (_CURVE & 31) << 3])
    seed = _spelled(prefix + raw)
    return KeyPair(public=public_of(seed), seed=seed)


def public_of(seed: str) -> str:
    """Return the public key that belongs to the seed of a curve key, or raise InvalidClaims."""
    return _spelled(bytes([_CURVE]) + bytes(_private(seed).public_key))


def is_public_xkey(text: str) -> bool:
    raw = _read(text)
    return raw is not None and len(raw) == 33 and raw[0] == _CURVE


def seal(data: bytes, *, seed: str, recipient: str) -> bytes:
    """Encrypt `data` for the key `recipient`, and authenticate it by `seed`."""
    nonce = nacl.utils.random(_NONCE_LENGTH)
    return _VERSION + bytes(_box(seed, recipient).encrypt(data, nonce))


def unseal(data: bytes, *, seed: str, sender: str) -> bytes:
    """Decrypt what `sender` sealed for the holder of `seed`, or raise InvalidClaims."""
    if not data.startswith(_VERSION):
        raise InvalidClaims("not sealed: it does not begin with xkv1")
    try:
        return bytes(_box(seed, sender).decrypt(data[len(_VERSION) :]))
    except (nacl.exceptions.CryptoError, ValueError):
        raise InvalidClaims("sealed for another key, or by another key") from None


def _box(seed: str, public: str) -> nacl.public.Box:
    if not is_public_xkey(public):
        raise InvalidClaims("not the public half of a curve key")
    raw = _read(public) or b""
    return nacl.public.Box(_private(seed), nacl.public.PublicKey(raw[1:]))


def _private(seed: str) -> nacl.public.PrivateKey:
    raw = _read(seed)
    if raw is None or len(raw) != 34 or (raw[0] & 7) << 5 | raw[1] >> 3 != _CURVE:
        raise InvalidClaims("not the seed of a curve key")
    return nacl.public.PrivateKey(raw[2:])


def _spelled(raw: bytes) -> str:
    checksum: int = nkeys.crc16(raw)
    return base64.b32encode(raw + checksum.to_bytes(2, "little")).decode().rstrip("=")


def _read(text: str) -> bytes | None:
    """Return what comes before the checksum, or None if the checksum is wrong."""
    try:
        decoded = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        return None
    raw, checksum = decoded[:-2], decoded[-2:]
    expected: int = nkeys.crc16(raw)
    return raw if int.from_bytes(checksum, "little") == expected else None
