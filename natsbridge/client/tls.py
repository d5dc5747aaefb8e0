"""Make TLS contexts for clients, and check certificates, keys and CAs."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from natsbridge.errors import BridgeError


def trusting(ca_file: Path | None) -> ssl.SSLContext:
    """Return a context that trusts this CA alone, or the system's CAs if none is given.

    Raise OSError if the file cannot be read or has no certificate.
    """
    return ssl.create_default_context(cafile=ca_file)


def check_ca(ca_file: Path) -> None:
    """Raise BridgeError if the file cannot be used as a CA."""
    try:
        trusting(ca_file)
    except OSError as error:
        raise BridgeError(
            f"{ca_file} is not a file of certificates in PEM: {_reason(error)}"
        ) from error


def check_pair(certificate: Path, key: Path) -> None:
    """Raise BridgeError unless a server can use the two files, both in PEM, today."""
    try:
        leaf = x509.load_pem_x509_certificates(_content(certificate))[0]
    except ValueError as error:
        raise BridgeError(f"{certificate} holds no certificate in PEM") from error
    try:
        private = load_pem_private_key(_content(key), password=None)
    except TypeError as error:
        raise BridgeError(f"{key} is protected by a password, which nats-server cannot give") from (
            error
        )
    except ValueError as error:
        raise BridgeError(f"{key} holds no private key in PEM") from error
    public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public != leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        raise BridgeError(f"{key} is not the key of {certificate}")
    if leaf.not_valid_after_utc < datetime.now(UTC):
        raise BridgeError(f"{certificate} expired on {leaf.not_valid_after_utc:%d %B %Y}")


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BridgeError(f"cannot read {file}: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
